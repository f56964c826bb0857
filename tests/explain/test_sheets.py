"""Contact sheets show the training's clips, and nothing but what the model sees of them."""

import io
import pathlib
import re

import matplotlib.image
import numpy as np
import pytest
from video_files import frames_of_noise, write_video

from pst_jax.data import inspect, loader
from pst_jax.data.records import Listing, Record
from pst_jax.data.transforms import ClipSpec
from pst_jax.explain import sheets
from pst_jax.ops.augment import Augmentation

CLIP = ClipSpec(num_frames=4, size_px=16, short_side_px=24, flip="all")
NAMES = ("pushing <one> & another", "pulling")


@pytest.fixture(scope="module")
def listing(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    records = [
        Record(write_video(folder / f"{k}.mp4", frames_of_noise(9, 32, 40, k)), k % 2, f"v/{k}.mp4")
        for k in range(6)
    ]
    return Listing(tuple(records), NAMES)


def recipe(**changes):
    return sheets.Recipe(clip=CLIP, batch_size=4, **changes)


def test_the_frames_are_those_of_the_training_stream_to_the_bit(listing):
    batches = sheets.training_rows(listing, recipe(seed=3), num_batches=3)
    stream = loader.train_batches(listing.records, CLIP, batch_size=4, num_epochs=2, seed=3)
    assert len(batches) == 3
    for rows, batch in zip(batches, stream, strict=True):
        np.testing.assert_array_equal([row.frames for row in rows], batch["video"])
        for row, label, index in zip(rows, batch["label"], batch["index"], strict=True):
            assert row.labels == ((NAMES[label], 1.0),)
            assert row.video_id == listing.records[index].video_id


def test_of_long_clips_eight_frames_are_shown(listing):
    long = sheets.Recipe(clip=ClipSpec(32, 16, 24), batch_size=2)
    (rows,) = sheets.training_rows(listing, long)
    batch = next(
        loader.train_batches(listing.records, long.clip, batch_size=2, num_epochs=1, seed=0)
    )
    np.testing.assert_array_equal(rows[0].frames, batch["video"][0, 2::4])


def test_what_is_erased_on_the_device_shows_as_the_mean_colour(listing):
    (plain,) = sheets.training_rows(listing, recipe())
    (erased,) = sheets.training_rows(listing, recipe(augmentation=Augmentation(erase=1.0)))
    for before, after in zip(plain, erased, strict=True):
        is_changed = (before.frames != after.frames).any(axis=-1)
        assert 0 < is_changed.mean() < 0.5
        colours = after.frames[is_changed]
        assert (colours == np.rint(sheets.Recipe().mean)).all()


def test_mixed_clips_have_both_labels_with_their_shares(listing):
    mixing = recipe(augmentation=Augmentation(cutmix=1.0), seed=1)
    rows = [row for rows in sheets.training_rows(listing, mixing, 3) for row in rows]
    mixed = [row for row in rows if len(row.labels) == 2]
    assert mixed and all(abs(sum(share for _, share in row.labels) - 1) < 1e-5 for row in rows)
    assert all(row.labels[0][1] >= row.labels[1][1] > 0 for row in mixed)


def test_missing_videos_are_left_out_and_unreadable_ones_replaced_with_a_note(listing, tmp_path):
    (tmp_path / "text.mp4").write_text("no video")
    missing = Record(str(tmp_path / "gone.mp4"), 0, "gone.mp4")
    damaged = Record(str(tmp_path / "text.mp4"), 0, "text.mp4")
    records = (listing.records[0], missing, damaged)
    rows = sheets.training_rows(Listing(records, NAMES, (missing,)), recipe())[0]
    assert {row.video_id for row in rows} == {"v/0.mp4"}
    assert any(row.note.startswith(f"in place of {damaged.path}: is not a video") for row in rows)
    assert not any("gone" in row.note for row in rows)


def test_a_picture_is_drawn_whose_frames_no_text_covers(listing, tmp_path):
    wide = Listing(listing.records, ("W" * 200, "W " * 100))
    for path, records in ((tmp_path / "a.png", listing), (tmp_path / "b.PNG", wide)):
        sheets.draw(records, recipe(), path, num_batches=2)
    first, second = (
        matplotlib.image.imread(io.BytesIO(path.read_bytes()), format="png")
        for path in (tmp_path / "a.png", tmp_path / "b.PNG")
    )
    assert first.shape == second.shape
    left = round((sheets._MARGIN + sheets._TEXT) * sheets._DPI) + 2
    rows = slice(round((sheets._MARGIN + sheets._HEAD) * sheets._DPI) + 2, None)
    side = round(sheets._SIDE * sheets._DPI) - 4
    np.testing.assert_array_equal(*(p[rows, left : left + side][:side] for p in (first, second)))
    assert (first[rows, left : left + side][:side, :, :3] != 1).any()


def test_a_page_needs_no_other_file_and_names_labels_and_videos(listing, tmp_path):
    sheets.draw(listing, recipe(), tmp_path / "a.html")
    page = (tmp_path / "a.html").read_text()
    assert "pushing &lt;one&gt; &amp; another" in page and "<one>" not in page
    sources = re.findall('(?:src|href)="(.{12})', page)
    assert sources == ["data:image/j"] * 4
    (rows,) = sheets.training_rows(listing, recipe())
    assert all(row.video_id in page for row in rows)


def test_the_seed_decides_which_clips_are_shown(listing):
    shown = [sheets.training_rows(listing, recipe(seed=seed))[0] for seed in (0, 0, 1)]
    stacks = [np.stack([row.frames for row in rows]) for rows in shown]
    np.testing.assert_array_equal(stacks[0], stacks[1])
    assert (stacks[0] != stacks[2]).any()


def test_a_recipe_is_read_from_a_config_with_its_argument(tmp_path):
    (tmp_path / "labels.txt").write_text("".join(f"class of {k}\n" for k in range(16)))
    read = sheets.read_recipe("configs/motion.py:twin", seed=5, root=str(tmp_path))
    assert (read.clip.num_frames, read.clip.size_px, read.clip.policy_seed) == (8, 28, 5)
    assert (read.seed, read.num_classes, read.batch_size) == (5, 16, 16)
    assert read.class_names[15] == "class of 15"


def test_a_batch_larger_than_a_sheet_keeps_whole_repeats(tmp_path):
    (tmp_path / "config.py").write_text(
        "from configs import common\n"
        "def get_config():\n"
        "    config = common.pst_something()\n"
        "    config.clip.num_repeats = 3\n"
        "    return config\n"
    )
    assert sheets.read_recipe(str(tmp_path / "config.py")).batch_size == 18


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "does not exist: give a file"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def get_config(): return 1 / 0", "ZeroDivisionError"),
        (
            "from configs import common\n"
            "def get_config():\n"
            "    config = common.base()\n"
            "    config.model.name = 'pst_testing'\n"
            "    config.augment.erase = 2.0\n"
            "    return config\n",
            "config.augment.erase=2.0",
        ),
    ],
)
def test_a_config_that_cannot_be_used_is_one_line(text, message, tmp_path):
    file = pathlib.Path(tmp_path, "config.py")
    if text:
        file.write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        sheets.read_recipe(str(file))
    assert "\n" not in str(error.value)


def test_a_label_beyond_the_models_classes_is_refused(listing):
    with pytest.raises(ValueError, match="label 1 is not below the 1 classes of no config"):
        sheets.training_rows(listing, recipe(num_classes=1))


def test_the_command_draws_the_training_split(listing, tmp_path, capsys):
    for name, records in (("train", listing.records[:4]), ("test", listing.records[4:])):
        lines = (f"{record.path},{record.label}\n" for record in records)
        (tmp_path / f"{name}.csv").write_text("".join(lines))
    root = pathlib.Path(listing.records[0].path).parent
    arguments = [str(tmp_path), "--root", str(root), "--quick", "--num_workers", "1"]
    arguments += ["--sheet", str(tmp_path / "sheet.html"), "--seed", "2", "--batches", "2"]
    assert not inspect.main(inspect.make_parser().parse_args(arguments))
    page = (tmp_path / "sheet.html").read_text()
    assert page.count("<img") == 2 * sheets.MAX_CLIPS and "no config, seed 2" in page
    shown = set(re.findall(r'class="id">([^<]*)<', page))
    assert shown == {pathlib.Path(record.path).name for record in listing.records[:4]}
