"""All views of a video are its views one by one, of a file that is opened once."""

import numpy as np
import pytest
from video_files import frames_of_noise, write_video

from pst_jax.data import clips
from pst_jax.data.clips import load_view, load_views
from pst_jax.data.decode import Video
from pst_jax.data.transforms import ClipSpec

SPEC = ClipSpec(4, 16, 16, sampling="dense", stride_frames=3)


@pytest.mark.parametrize("num_crops", [1, 3])
def test_all_views_are_the_single_ones_of_a_file_opened_once(num_crops, tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", frames_of_noise(31, 46, 60))
    views = [load_view(path, SPEC, view, 3, num_crops) for view in range(3 * num_crops)]
    opened, most, open_record = [], [], clips.open_record
    monkeypatch.setattr(clips, "open_record", lambda *a: opened.append(0) or open_record(*a))
    read = Video.read
    monkeypatch.setattr(
        Video,
        "read",
        lambda self, indices, each: most.append(len(indices)) or read(self, indices, each),
    )
    np.testing.assert_array_equal(load_views(path, SPEC, 3, num_crops), views)
    assert opened == [0]
    assert most == [4] * 3  # clip by clip: all frames at the file's size would not fit
