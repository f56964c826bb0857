import io
import os
import pathlib
import subprocess
import sys

import jax.numpy as jnp
import matplotlib
import numpy as np
import PIL.Image
import pytest

from pst_jax import ops
from pst_jax.explain import patterns

ROOT = pathlib.Path(__file__).parents[2]
TILES = ["A", "B", "C", "D", ((0,),), ((0, 1), (1, 0)), ((5,), (-40,))]


def command(*arguments):
    line = [sys.executable, "-m", "pst_jax.explain.patterns", *map(str, arguments)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    return subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True)


def picture(content):
    return PIL.Image.open(io.BytesIO(content))


def test_pattern_a_by_hand():
    # ((0, 1), (-1, 0)): the cells of +1 come from the frame before, those of -1 from the one after.
    seen = patterns.seen_cells("A", (3, 3), num_frames=5, frame=2)
    assert seen.dtype == bool
    assert seen.astype(int).tolist() == [
        [[0, 0, 0], [0, 0, 0], [0, 0, 0]],
        [[0, 1, 0], [0, 0, 0], [0, 1, 0]],
        [[1, 0, 1], [0, 1, 0], [1, 0, 1]],
        [[0, 0, 0], [1, 0, 1], [0, 0, 0]],
        [[0, 0, 0], [0, 0, 0], [0, 0, 0]],
    ]


@pytest.mark.parametrize("num_frames", [1, 4, 16])
@pytest.mark.parametrize("pattern", TILES)
def test_every_cell_is_seen_once_and_it_is_what_patch_shift_brings(pattern, num_frames):
    numbers = np.broadcast_to(np.arange(num_frames)[:, None, None], (num_frames, 7, 5))
    shifted = ops.patch_shift(jnp.asarray(numbers)[None, ..., None], pattern)[0, ..., 0]
    for frame in range(num_frames):
        seen = patterns.seen_cells(pattern, (7, 5), num_frames, frame)
        assert (seen.sum(axis=0) == 1).all()
        np.testing.assert_array_equal(seen.argmax(axis=0), shifted[frame])


def test_a_pattern_without_offsets_sees_its_own_frame_alone():
    seen = patterns.seen_cells(((0,),), (7, 7), num_frames=6, frame=4)
    assert seen.all(axis=(1, 2)).tolist() == [False, False, False, False, True, False]
    assert patterns.sight(((0,),), (7, 7), 6, 4) == (49, 0, 1, 0, 0, 0)


def test_counts_by_hand():
    # A on 3 x 3: 5 zeros, 2 of +1, 2 of -1.
    assert patterns.sight("A", (3, 3), num_frames=5, frame=2) == (9, 4, 3, 1, 1, 0)
    # B on 2 x 2: 0, +1, -1, +2; in frame 1 of 3 the +2 names frame -1, which is frame 2.
    assert patterns.sight("B", (2, 2), num_frames=3, frame=1) == (4, 3, 3, 2, 1, 1)
    # In frame 2, the last one, the -1 names frame 3, which is frame 0.
    assert patterns.sight("B", (2, 2), num_frames=3, frame=2) == (4, 3, 3, 2, 1, 1)
    # An offset of the clip's length wraps to the frame itself: nothing is from another frame.
    assert patterns.sight(((3,),), (2, 2), num_frames=3, frame=0) == (4, 0, 1, 3, 0, 4)


def test_captions_say_the_counts():
    text = patterns.caption(patterns.Sight(9, 4, 3, 1, 2, 0))
    assert text == (
        "9 cells from 3 different frames: 5 stay, 4 (44 %) come from others; reach 1 back, 2 ahead"
    )
    wrapped = patterns.caption(patterns.Sight(4, 0, 1, 3, 0, 4))
    assert wrapped.startswith("4 cells from 1 frame: 4 stay, 0 (0 %)")
    assert wrapped.endswith("; 4 wrap at the clip's ends")


@pytest.mark.parametrize(
    ("pattern", "cell"), [("A", (3, 3)), ("B", (2, 2)), ("C", (4, 4)), (((9, -2),), (3, 3))]
)
def test_the_query_is_the_most_central_of_the_cells_that_move_least(pattern, cell):
    assert patterns.query_cell(pattern, (7, 7)) == cell


def test_draws_a_png_and_the_same_one_again():
    first, second = (patterns.draw(["A", ((0, 1), (1, 0))], (7, 7), 16) for _ in range(2))
    assert first == second
    image = picture(first)
    assert image.format == "PNG" and image.info.keys() <= {"dpi"}
    assert image.size[0] == 2000 and 800 < image.size[1] < 1400
    assert first != patterns.draw(["A", ((0, 1), (0, 1))], (7, 7), 16)


def test_a_users_own_style_changes_nothing():
    plain = patterns.draw(["A"], (4, 6), 4)
    with matplotlib.rc_context(
        {"font.weight": "bold", "axes.facecolor": "black", "path.sketch": (9, 9, 9)}
    ):
        assert patterns.draw(["A"], (4, 6), 4) == plain


@pytest.mark.parametrize(
    ("tiles", "side", "num_frames"),
    [
        ("ABCD", 7, 16),
        (["D", ((0, 999, -999),)], 16, 31),
        ([((0, 16), (-15, 1))], 7, 32),
        ([((-14,),)], 2, 29),
    ],
)
def test_texts_stay_inside_the_picture_and_apart(monkeypatch, tiles, side, num_frames):
    monkeypatch.setattr(patterns, "_as_png", lambda figure: figure)
    figure = patterns.draw(tiles, (side, side), num_frames)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    assert len(boxes) > side**2
    edges = np.array([box.extents for box in boxes])  # left, bottom, right, top
    assert (edges[:, :2] >= 0).all() and (edges[:, 2:] <= figure.bbox.extents[2:]).all()
    # Boxes that share more than rounding in both directions overlap.
    shared = np.minimum(edges[:, None, 2:], edges[:, 2:]) - np.maximum(
        edges[:, None, :2], edges[:, :2]
    )
    np.fill_diagonal(shared[..., 0], 0)
    assert not (shared > 0.5).all(axis=-1).any()


@pytest.mark.parametrize(
    ("pattern", "window", "num_frames", "message"),
    [
        ("E", (7, 7), 16, "pattern='E' is unknown"),
        (((1, 2), (3,)), (7, 7), 16, "rectangle"),
        ("C", (2, 7), 16, "pattern='C' is 3x3 cells, larger than the window of 2x7"),
        ("B", (7, 1), 16, "larger than the window of 7x1"),
        (((0, 1000),), (7, 7), 16, "beyond 999"),
        (((0, 10**30),), (7, 7), 16, "rectangle of integers"),
        (((0, 32),), (7, 7), 100, "reach over 33 frames and at most 32"),
    ],
)
def test_refuses_what_it_cannot_draw(pattern, window, num_frames, message):
    with pytest.raises(ValueError, match=message):
        patterns.draw([pattern], window, num_frames)


def test_the_command_writes_the_picture(tmp_path):
    tile = ((0, 1), (1, 0))
    out = tmp_path / "out.png"
    options = ["--num_frames", 8, "--window", 6, "--out", out]
    result = command("--pattern", "C", "--pattern", "((0,1),(1,0))", *options)
    assert result.returncode == 0 and result.stdout.strip() == str(out)
    assert out.read_bytes() == patterns.draw(["C", tile], (6, 6), 8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pattern", "E"], "error: pattern='E' is unknown"),
        (["--pattern", "((0,1"], "error: pattern='((0,1' is unknown"),
        (["--pattern", "D", "--window", 3], "error: pattern='D' is 4x4 cells, larger"),
        (["--out", "no_such_folder/x.png"], "error: out='no_such_folder/x.png' cannot be written"),
    ],
)
def test_a_mistake_is_one_line(arguments, message):
    result = command(*arguments)
    assert result.returncode == 1
    assert result.stderr.startswith(message) and result.stderr.count("\n") == 1


def test_the_picture_of_the_readme_is_what_the_command_draws():
    file = ROOT / "docs" / "patterns.png"
    drawn = picture(patterns.draw(list(patterns.PATTERNS), (7, 7), 16))
    stored = picture(file.read_bytes())
    assert stored.size == drawn.size and file.stat().st_size < 200_000
    # In blocks of 40 pixels: another version of matplotlib draws letters and edges otherwise.
    blocks = [i.convert("RGB").resize((50, 45), PIL.Image.Resampling.BOX) for i in (stored, drawn)]
    np.testing.assert_allclose(*(np.asarray(b, float) for b in blocks), rtol=0, atol=25)
