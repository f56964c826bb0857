"""The picture of augmentations: every one has its row, and the file is what the command draws."""

import io
import pathlib
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
from video_files import frames_of_noise, write_video

from pst_jax.data import policies
from pst_jax.explain import augmentations

ROOT = pathlib.Path(__file__).parents[2]
SHAPE = (augmentations.NUM_FRAMES, augmentations.SIZE_PX, augmentations.SIZE_PX, 3)


@pytest.fixture(scope="module")
def rows():
    return dict(augmentations.rows(*augmentations.generated()))


def test_every_augmentation_has_a_row_that_shows_it(rows):
    expected = {name.replace("_", " ") for name in policies.RAND_RELEASED}
    expected |= {"random crop", "flip", "reversal"}
    expected |= {"colour jitter", "random erasing", "mixup", "cutmix"}
    assert set(rows) == expected | {"as it is"}
    for name, video in rows.items():
        assert (video.shape, video.dtype) == (SHAPE, np.uint8)
        if name != "as it is":
            assert (video != rows["as it is"]).mean() > 0.02, name


def test_the_picture_in_the_docs_is_small_and_what_is_drawn():
    path = ROOT / "docs" / "augmentations.png"
    assert path.stat().st_size < 400_000
    drawn = augmentations.draw(*augmentations.generated())
    there, here = (np.asarray(PIL.Image.open(f), int) for f in (path, io.BytesIO(drawn)))
    # Fonts and rounding differ between machines.
    assert there.shape == here.shape and (np.abs(there - here) > 8).mean() < 0.02


def test_the_command_draws_a_video_and_tells_what_is_wrong(tmp_path):
    video = write_video(tmp_path / "a.mp4", frames_of_noise(8, 160, 160))
    run = lambda *flags: subprocess.run(  # noqa: E731
        [sys.executable, "-m", "pst_jax.explain.augmentations", *map(str, flags)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    done = run("--video", video, "--out", tmp_path / "a.png")
    assert done.returncode == 0, done.stderr
    assert PIL.Image.open(tmp_path / "a.png").size[0] > 800
    wrong = run("--video", tmp_path / "b.mp4", "--out", tmp_path / "b.png")
    assert wrong.returncode == 1 and "b.mp4" in wrong.stderr and "Traceback" not in wrong.stderr
