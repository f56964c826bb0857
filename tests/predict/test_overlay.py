"""The labels of each time are drawn into its frames; bad names are refused first."""

import os

import numpy as np
import pytest
from video_files import write_video

from pst_jax.data import encode
from pst_jax.data.decode import open_video, stream_frames
from pst_jax.data.encode import writing_mp4
from pst_jax.data.frames import VideoError
from pst_jax.predict import overlay as module
from pst_jax.predict.overlay import check, draw, overlay, to_ascii
from pst_jax.predict.timeline import Segment

LABELS = ["sit", "stand", "walk"]


def segment(start_s, end_s, *probabilities):
    return Segment(start_s, end_s, np.array(probabilities, np.float32))


@pytest.fixture
def video(tmp_path):
    frames = np.full((20, 128, 160, 3), 200, np.uint8)
    return write_video(tmp_path / "in.mp4", frames, rate=10)


@pytest.fixture
def drawn(monkeypatch):
    """What was drawn into every frame, in turn."""
    rows = []
    monkeypatch.setattr(
        module, "draw", lambda frame, given: rows.append(given) or draw(frame, given)
    )
    return rows


def test_every_frame_shows_the_segment_that_holds_its_time(video, tmp_path, drawn):
    segments = [segment(0, 1, 0.1, 0.7, 0.2), segment(1, 2, 0.5, 0.2, 0.3)]
    overlay(video, tmp_path / "out.mp4", segments, LABELS, topk=2)
    names = [[name for name, _ in rows] for rows in drawn]
    assert names == [["stand", "walk"]] * 10 + [["sit", "walk"]] * 10
    assert [share for _, share in drawn[0]] == pytest.approx([0.7, 0.2])
    times, frames = zip(*stream_frames(tmp_path / "out.mp4"))
    assert times == tuple(time_s for time_s, _ in stream_frames(video))
    changed = np.abs(np.stack(frames).astype(int) - 200).max(axis=-1) > 60
    assert changed[:, 95:].any(axis=(1, 2)).all() and not changed[:, :80].any()


def test_segments_that_overlap_share_what_they_have_in_common(video, tmp_path, drawn):
    segments = [segment(0.8, 2.0, 0, 0, 1), segment(0, 1.2, 1, 0, 0)]  # in any order
    overlay(video, tmp_path / "out.mp4", segments, LABELS, topk=1)
    assert [rows[0][0] for rows in drawn] == ["sit"] * 10 + ["walk"] * 10


def test_a_time_without_a_segment_shows_none(video, tmp_path, drawn):
    segments = [segment(0, 0.5, 1, 0, 0), segment(1.5, 2, 0, 0, 1)]
    overlay(video, tmp_path / "out.mp4", segments, LABELS, topk=1)
    assert [rows[0][0] for rows in drawn] == ["sit"] * 5 + ["walk"] * 5
    assert len(list(stream_frames(tmp_path / "out.mp4"))) == 20


def test_a_single_frame_shows_its_segment(tmp_path, drawn):
    path = write_video(tmp_path / "in.mp4", np.zeros((1, 128, 128, 3), np.uint8))
    overlay(path, tmp_path / "out.mp4", [segment(0, 0, 1, 0, 0)], LABELS)
    assert len(drawn) == 1


def test_small_frames_are_enlarged_by_a_whole_factor(tmp_path):
    path = write_video(tmp_path / "in.mp4", np.full((2, 28, 40, 3), 200, np.uint8))
    overlay(path, tmp_path / "out.mp4", [segment(0, 9, 1, 0, 0)], LABELS)
    with open_video(tmp_path / "out.mp4") as opened:
        assert opened.read([0]).shape == (1, 140, 200, 3)


@pytest.mark.parametrize("height, width", [(128, 128), (256, 340), (1080, 1920), (128, 1000)])
def test_bars_are_as_long_as_the_probabilities(height, width):
    frame = np.full((height, width, 3), 255, np.uint8)
    before = frame.copy()
    picture = draw(frame, [("a", 0.75), ("b", 0.25), ("c", 0.0)])
    np.testing.assert_array_equal(frame, before)
    row_px = 8 + min(height, width) // 24
    lines = picture[height - 2 * (row_px // 5) - 3 * row_px :: row_px][:3]  # the first of each row
    box = (lines != 255).any(axis=-1).sum(axis=1) - 2 * (row_px // 5)
    first = (lines[0] == module._FIRST_BAR).all(axis=-1).sum()
    second = (lines[1] == module._BAR).all(axis=-1).sum()
    assert first == pytest.approx(0.75 * box[0], abs=1)
    assert second == pytest.approx(0.25 * box[1], abs=1)
    assert (lines[2] < 70).any(axis=-1).sum() == box[2] + 2 * (row_px // 5)  # nothing but backing


def letters(picture):
    """Where white stands on the dark backing or a bar, [H, W]."""
    return (picture > 180).all(axis=-1)


@pytest.mark.parametrize("height, width", [(128, 128), (256, 340), (1080, 1920)])
def test_a_long_label_is_cut_ahead_of_its_probability(height, width):
    frame = np.zeros((height, width, 3), np.uint8)
    rows = [("W" * 99, 0.5), ("", 0.5)]
    picture = draw(frame, rows)
    row_px = 8 + min(height, width) // 24
    top = height - 2 * (row_px // 5) - 2 * row_px
    long, none = (letters(picture[top + k * row_px :][:row_px]) for k in (0, 1))
    share = np.nonzero(none.any(axis=0))[0]
    np.testing.assert_array_equal(long[:, share[0] :], none[:, share[0] :])  # the share is free
    assert long[:, : share[0]].any() and not long[:, share[0] - row_px // 5 : share[0]].any()


def test_more_labels_than_fit_are_left_out():
    picture = draw(np.full((128, 128, 3), 255, np.uint8), [("a", 0.1)] * 99)
    assert picture.shape == (128, 128, 3) and (picture[0] == 255).all()


def test_what_the_font_lacks_is_replaced():
    assert to_ascii("Ça va, Ñandú ﬁt") == "Ca va, Nandu fit"
    assert to_ascii("跳舞\t(dance)\n") == "?? (dance)"
    assert to_ascii("plain {text} ~") == "plain {text} ~"


def test_names_that_cannot_be_written_are_refused_before_anything_is_read(video, tmp_path):
    os.link(video, tmp_path / "linked.mp4")
    os.symlink(video, tmp_path / "symbolic.mp4")
    (tmp_path / "folder.mp4").mkdir()
    refused = {
        video: "is the video itself",
        tmp_path / "linked.mp4": "is the video itself",
        tmp_path / "symbolic.mp4": "is the video itself",
        tmp_path / "missing" / "out.mp4": "a folder that exists",
        tmp_path / "folder.mp4": "a folder that exists",
        tmp_path / "out.avi": "must be named .mp4",
    }
    for out, message in refused.items():
        with pytest.raises(ValueError, match=message):
            check(video, out)
        with pytest.raises(ValueError, match=message):
            overlay(video, out, [segment(0, 2, 1, 0, 0)], LABELS)
    check(video, tmp_path / "out.mp4")
    check("missing.mp4", tmp_path / "out.mp4")  # told when it is read


def test_arguments_that_do_not_fit_are_refused(video, tmp_path):
    out, one = tmp_path / "out.mp4", [segment(0, 2, 1, 0, 0)]
    with pytest.raises(ValueError, match="labels has 2 names for 3 classes"):
        overlay(video, out, one, LABELS[:2])
    with pytest.raises(ValueError, match="topk=0"):
        overlay(video, out, one, LABELS, topk=0)
    with pytest.raises(ValueError, match="segments is empty"):
        overlay(video, out, [], LABELS)
    overlay(video, out, one, LABELS, topk=99)


def test_a_video_that_breaks_leaves_no_file(video, tmp_path):
    with open_video(video) as opened:
        start, size = opened._packets[12].pos, opened._packets[12].size
    with open(video, "r+b") as file:
        file.seek(start)
        file.write(bytes(size))
    with pytest.raises(VideoError, match="breaks off after 12 frames"):
        overlay(video, tmp_path / "out.mp4", [segment(0, 2, 1, 0, 0)], LABELS)
    assert [file.name for file in tmp_path.iterdir()] == ["in.mp4"]


def test_a_frame_is_written_before_the_next_is_read(tmp_path, monkeypatch):
    with writing_mp4(tmp_path / "in.mp4") as write:
        for number in range(30):
            write(number / 10, np.full((128, 128, 3), number, np.uint8))
    events, stream, append = [], module.stream_frames, encode._Writer.write

    def streaming(path):
        for item in stream(path):
            events.append("read")
            yield item

    def writing(self, time_s, frame):
        events.append("write")
        append(self, time_s, frame)

    monkeypatch.setattr(module, "stream_frames", streaming)
    monkeypatch.setattr(encode._Writer, "write", writing)
    overlay(tmp_path / "in.mp4", tmp_path / "out.mp4", [segment(0, 3, 1, 0, 0)], LABELS)
    assert events == ["read", "write"] * 30
