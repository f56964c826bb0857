"""A window that slides over a video sees what a file cut to it would show, in flat memory."""

import itertools
import threading
import weakref

import numpy as np
import pytest
from video_files import frames_of_noise, write_video

from pst_jax.data.clips import load_view
from pst_jax.data.decode import open_video
from pst_jax.data.encode import writing_mp4
from pst_jax.data.frames import VideoError
from pst_jax.data.transforms import ClipSpec
from pst_jax.predict import timeline as module
from pst_jax.predict.timeline import timeline

RATE = 10
SPEC = ClipSpec(num_frames=4, size_px=16, short_side_px=20, sampling="dense", stride_frames=3)


class Recorder:
    """A model that remembers its clips."""

    def __init__(self):
        self.clips = []

    def __call__(self, clips):
        assert clips.shape[0] == 1 and clips.dtype == np.uint8
        self.clips.append(clips[0])
        return np.array([[0.25, 0.75]], np.float32)


def numbered_frames(num_frames, height=16, width=16):
    """Frame n is grey, of value 4 n: a lossy codec keeps them apart."""
    values = (4 * np.arange(num_frames, dtype=np.uint8))[:, None, None, None]
    return np.broadcast_to(values, (num_frames, height, width, 3)).copy()


def write_times(path, times):
    with writing_mp4(path) as write:
        for time_s, frame in zip(times, numbered_frames(len(times))):
            write(time_s, frame)
    return path


def seen(path, spec=None, **lengths):
    """(start, end, numbers of the frames) of every window; takes every frame of a window."""
    recorder = Recorder()
    spec = spec or ClipSpec(4, 16, 16, sampling="dense", stride_frames=1)
    segments = list(timeline(path, spec, recorder, **lengths))
    numbers = [
        np.rint(clip.mean(axis=(1, 2, 3)) / 4).astype(int).tolist() for clip in recorder.clips
    ]
    return [(s.start_s, s.end_s, n) for s, n in zip(segments, numbers)]


@pytest.mark.parametrize("sampling", ["dense", "linspace", "uniform"])
def test_a_window_is_predicted_as_a_file_cut_to_it(sampling, tmp_path):
    spec = ClipSpec(4, 16, 20, sampling=sampling, stride_frames=3)
    path = write_video(tmp_path / "a.mp4", frames_of_noise(31, 46, 60), rate=RATE, num_b_frames=2)
    recorder = Recorder()
    segments = list(timeline(path, spec, recorder))
    with open_video(path) as video:
        frames = video.read(range(31))
    starts = [0, 12, 19]  # the last reaches back
    assert [s.start_s for s in segments] == pytest.approx([start / RATE for start in starts])
    assert [s.end_s for s in segments] == pytest.approx([(start + 12) / RATE for start in starts])
    for start, clip, segment in zip(starts, recorder.clips, segments, strict=True):
        np.testing.assert_array_equal(clip, load_view(frames[start : start + 12], spec))
        assert segment.probabilities.dtype == np.float32
        assert segment.probabilities.tolist() == [0.25, 0.75]


def test_a_cut_file_itself_is_predicted_alike(tmp_path):
    frames = frames_of_noise(24, 46, 60)
    lossless = dict(codec="ffv1", rate=RATE)
    whole = write_video(tmp_path / "a.mkv", frames, **lossless)
    part = write_video(tmp_path / "b.mkv", frames[12:24], **lossless)
    recorder = Recorder()
    list(timeline(whole, SPEC, recorder))
    np.testing.assert_array_equal(recorder.clips[1], load_view(part, SPEC))


def test_by_default_windows_follow_each_other_and_the_last_reaches_back(tmp_path):
    path = write_times(tmp_path / "a.mp4", np.arange(10) / RATE)
    assert seen(path) == [(0, 0.4, [0, 1, 2, 3]), (0.4, 0.8, [4, 5, 6, 7]), (0.6, 1, [6, 7, 8, 9])]


def test_a_whole_number_of_windows_needs_none_that_reaches_back(tmp_path):
    path = write_times(tmp_path / "a.mp4", np.arange(8) / RATE)
    expected = [(0, 0.4, [0, 1, 2, 3]), (0.4, 0.8, [4, 5, 6, 7])]
    assert seen(path) == seen(path, window_s=0.4) == seen(path, hop_s=0.4) == expected


def test_a_video_shorter_than_a_window_is_one_as_it_is(tmp_path):
    path = write_times(tmp_path / "a.mp4", np.arange(3) / RATE)
    expected = [(0, 0.3, [0, 1, 2, 0])]  # as `dense` fills up
    assert seen(path) == seen(path, window_s=99) == seen(path, hop_s=0.1) == expected
    assert seen(write_times(tmp_path / "b.mp4", [0])) == [(0, 0, [0, 0, 0, 0])]


@pytest.mark.parametrize("lengths", [dict(hop_s=0.2), dict(window_s=0.4, hop_s=0.2)])
def test_windows_overlap_by_a_shorter_hop(lengths, tmp_path):
    path = write_times(tmp_path / "a.mp4", np.arange(9) / RATE)
    assert seen(path, **lengths) == [
        (0, 0.4, [0, 1, 2, 3]),
        (0.2, 0.6, [2, 3, 4, 5]),
        (0.4, 0.8, [4, 5, 6, 7]),
        (0.5, 0.9, [5, 6, 7, 8]),
    ]


def test_a_longer_hop_leaves_frames_out_but_not_the_end(tmp_path):
    path = write_times(tmp_path / "a.mp4", np.arange(17) / RATE)
    starts = [start for start, _, _ in seen(path, window_s=0.4, hop_s=0.7)]
    assert starts == [0, 0.7, 1.3]


def test_products_of_floats_move_no_frame(tmp_path):
    path = write_times(tmp_path / "a.mp4", np.arange(60) / RATE)
    for window_s in (0.1, 0.3, 0.6):
        windows = seen(path, window_s=window_s)
        assert len(windows) == round(6 / window_s)
        assert [start for start, _, _ in windows] == pytest.approx(
            window_s * np.arange(len(windows))
        )


def test_a_window_is_as_long_as_asked_for_under_a_variable_rate(tmp_path):
    times = [0, 0.1, 0.2, 0.3, 0.9, 1.0, 3.1, 3.2, 3.7]  # none from 2 to 3
    spec = ClipSpec(9, 16, 16, sampling="dense", stride_frames=1)
    path = write_times(tmp_path / "a.mp4", times)

    def windows(window_s):
        found = seen(path, spec, window_s=window_s)
        return [(start, end, sorted(set(numbers))) for start, end, numbers in found]

    assert windows(1.0) == [(0, 1.0, [0, 1, 2, 3, 4]), (1.0, 3.1, [5]), (3.1, 4.2, [6, 7, 8])]
    assert windows(1.2) == [
        (0, 3.1, [0, 1, 2, 3, 4, 5]),
        (3.1, 3.7, [6, 7]),
        (3.1, 4.2, [6, 7, 8]),  # from 1.2 s before the end, 3.7 + 0.5
    ]


def test_the_last_window_reaches_back_from_the_end_of_the_last_frame(tmp_path):
    times = [*np.arange(11) / RATE, 1.9]  # until 2.8
    spec = ClipSpec(11, 16, 16, sampling="dense", stride_frames=1)
    windows = seen(write_times(tmp_path / "a.mp4", times), spec, window_s=1.5)
    assert windows == [(0, 1.9, [*range(11)]), (1.9, 2.8, [11] * 11)]


def test_a_window_that_falls_between_frames_is_passed_over(tmp_path):
    times = [0, 0.1, 0.2, 1.5, 1.6, 2.0, 2.1, 2.2]  # none from 1 to 1.2
    spec = ClipSpec(2, 16, 16, sampling="dense", stride_frames=1)
    windows = seen(write_times(tmp_path / "a.mp4", times), spec, window_s=0.2, hop_s=1)
    assert windows == [(0, 0.2, [0, 1]), (2.0, 2.2, [5, 6]), (2.1, 2.3, [6, 7])]


@pytest.mark.parametrize("lengths", [dict(), dict(window_s=1.2), dict(hop_s=0.3)])
def test_frames_that_are_done_with_are_let_go(lengths, tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", frames_of_noise(120, 32, 32), rate=RATE)
    whole, small, most = weakref.WeakSet(), weakref.WeakSet(), {"whole": 0, "small": 0}

    class Frame(np.ndarray):  # unlike np.ndarray, takes weak references in a set
        __hash__ = object.__hash__

    stream, make_small = module.stream_frames, module._small

    def streaming(path):
        for time_s, frame in stream(path):
            frame = frame.view(Frame)
            whole.add(frame)
            most["whole"] = max(most["whole"], len(whole))
            yield time_s, frame

    def making_small(frame, spec):
        made = make_small(frame, spec)
        assert made.base is None  # no view, which would keep the whole frame
        made = made.view(Frame)
        small.add(made)
        most["small"] = max(most["small"], len(small))
        return made

    monkeypatch.setattr(module, "stream_frames", streaming)
    monkeypatch.setattr(module, "_small", making_small)
    for _ in timeline(path, SPEC, Recorder(), **lengths):
        pass
    assert most["whole"] <= 2
    assert 12 <= most["small"] <= 14  # a window, one just made, one by rounding of times


def test_the_next_window_is_decoded_while_the_model_is_at_work(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", frames_of_noise(36, 32, 32), rate=RATE)
    count, is_ahead, make_small = itertools.count(1), threading.Event(), module._small

    def counting(frame, spec):
        if next(count) == 24:
            is_ahead.set()
        return make_small(frame, spec)

    monkeypatch.setattr(module, "_small", counting)

    def predict(clips):
        assert is_ahead.wait(timeout=20)
        return np.ones((1, 1))

    assert len(list(timeline(path, SPEC, predict))) == 3


def test_closing_early_stops_the_thread_within_a_window(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", frames_of_noise(60, 32, 32), rate=RATE)
    count, go_on, make_small = itertools.count(1), threading.Event(), module._small
    made = []

    def counting(frame, spec):
        made.append(next(count))
        if len(made) == 18:  # in the middle of the second window
            go_on.wait(timeout=20)
        return make_small(frame, spec)

    monkeypatch.setattr(module, "_small", counting)
    before = threading.active_count()
    segments = timeline(path, SPEC, Recorder())
    next(segments)
    threading.Timer(0.2, go_on.set).start()
    segments.close()
    assert len(made) <= 19
    assert threading.active_count() <= before + 1  # the timer may not be gone


def test_errors_come_over_after_what_could_be_predicted(tmp_path):
    path = tmp_path / "a.mp4"
    write_video(path, frames_of_noise(60, 64, 64), rate=RATE)
    with open_video(path) as video:
        start, size = video._packets[40].pos, video._packets[40].size
    data = bytearray(path.read_bytes())
    data[start : start + size] = bytes(size)
    path.write_bytes(data)
    segments = []
    with pytest.raises(VideoError, match=r"a\.mp4: breaks off after 40 frames"):
        segments.extend(timeline(path, SPEC, Recorder()))
    assert len(segments) == 3
    with pytest.raises(ValueError, match="size_px=70 must lie in"):
        list(timeline(path, ClipSpec(4, 70, 60), Recorder()))


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["window_s", "hop_s"])
def test_lengths_that_are_none_are_refused_at_once(name, value):
    with pytest.raises(ValueError, match=f"{name}=.* above 0"):
        timeline("none.mp4", SPEC, Recorder(), **{name: value})


def test_a_model_of_another_shape_is_refused(tmp_path):
    path = write_times(tmp_path / "a.mp4", np.arange(20) / RATE)
    with pytest.raises(ValueError, match=r"returned shape \[3\] for one clip"):
        next(timeline(path, SPEC, lambda clips: np.ones(3)))
