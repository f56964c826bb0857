"""What is written reads back at its times, in its colours, whole or not at all."""

import io

import av
import numpy as np
import pytest
from video_files import frames_of_noise

from pst_jax.data.decode import open_video, stream_frames
from pst_jax.data.encode import encode_mp4, writing_mp4


def write(path, frames, times):
    with writing_mp4(path) as append:
        for time_s, frame in zip(times, frames, strict=True):
            append(time_s, frame)
    return path


def read(path):
    times, frames = zip(*stream_frames(path))
    return np.array(times), np.stack(frames)


def duration_s(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return float(stream.duration * stream.time_base)


def test_frames_read_back_in_their_order(tmp_path):
    frames = frames_of_noise(40, 64, 96)
    times, decoded = read(write(tmp_path / "a.mp4", frames, np.arange(40) / 25))
    assert decoded.shape == frames.shape
    distance = np.abs(decoded[:, None].astype(int) - frames[None]).mean(axis=(2, 3, 4))
    assert distance.argmin(axis=1).tolist() == list(range(40))
    assert distance.diagonal().max() < 20  # colour at half the resolution


@pytest.mark.parametrize("rate", [24, 25, 30000 / 1001, 24000 / 1001, 7.3])
def test_times_and_duration_are_kept(rate, tmp_path):
    path = write(tmp_path / "a.mp4", frames_of_noise(60, 32, 32), np.arange(60) / rate)
    np.testing.assert_allclose(read(path)[0], np.arange(60) / rate, atol=1e-5)
    assert duration_s(path) == pytest.approx(60 / rate, abs=1e-5)


def test_a_variable_rate_is_kept(tmp_path):
    times = np.array([0, 0.1, 0.15, 0.9, 0.9001, 2.5, 3.0])
    path = write(tmp_path / "a.mp4", frames_of_noise(7, 32, 32), times)
    np.testing.assert_allclose(read(path)[0], times, atol=1e-5)
    assert duration_s(path) == pytest.approx(3.5, abs=1e-5)


def test_frames_of_one_time_are_all_kept(tmp_path):
    path = write(tmp_path / "a.mp4", frames_of_noise(3, 32, 32), [0.5, 0.5, 0.5])
    assert len(read(path)[0]) == 3


def test_a_single_frame_is_a_video(tmp_path):
    path = write(tmp_path / "a.mp4", frames_of_noise(1, 32, 32), [0])
    assert len(read(path)[1]) == 1 and duration_s(path) == pytest.approx(0.04)


def test_odd_sides_are_padded_by_their_last_row_and_column(tmp_path):
    frame = np.zeros((33, 47, 3), np.uint8)
    frame[-1], frame[:, -1] = 250, 250
    decoded = read(write(tmp_path / "a.mp4", [frame] * 3, [0, 1, 2]))[1]
    assert decoded.shape == (3, 34, 48, 3)
    assert decoded[:, -2:].min() > 200 and decoded[:, :, -2:].min() > 200  # one, and its copy
    assert decoded[:, :-4, :-4].max() < 50


def test_colours_are_those_of_the_standard_that_the_file_names(tmp_path):
    colours = np.array([[200, 30, 40], [30, 200, 60], [40, 60, 220], [240, 240, 240]], np.uint8)
    frame = colours.repeat(32, axis=0)[:, None].repeat(64, axis=1)
    path = write(tmp_path / "a.mp4", [frame] * 3, [0, 1, 2])
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.colorspace, codec.color_primaries, codec.color_trc) == (1, 1, 1)  # BT.709
    decoded = read(path)[1][-1, 16::32, 32].astype(int)
    np.testing.assert_allclose(decoded, colours.astype(int), atol=4)


def test_a_block_that_fails_leaves_what_there_was(tmp_path):
    path = tmp_path / "a.mp4"
    for before in (None, b"an earlier file"):
        if before:
            path.write_bytes(before)
        with pytest.raises(ZeroDivisionError), writing_mp4(path) as append:
            append(0.0, frames_of_noise(1, 32, 32)[0])
            raise ZeroDivisionError
        assert [file.read_bytes() for file in tmp_path.iterdir()] == ([before] if before else [])


@pytest.mark.parametrize("name", ["a.avi", "a", "missing/a.mp4", "folder.mp4"])
def test_a_name_that_cannot_be_written_is_refused_first(name, tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(ValueError, match=f"{name}.*(named .mp4|a folder that exists)"):
        with writing_mp4(tmp_path / name):
            raise AssertionError("too late")


def test_what_is_no_frame_is_refused(tmp_path):
    path, frame = tmp_path / "a.mp4", frames_of_noise(1, 32, 32)[0]
    with pytest.raises(ValueError, match="no frame was written"), writing_mp4(path):
        pass
    for other in (frame[:30], frame.astype(float), frame[..., 0]):
        with pytest.raises(ValueError, match=r"must be uint8 \[32, 32, 3\]"):
            write(path, [frame, other], [0, 1])
    for times in ([1, 0.5], [-1, 0]):
        with pytest.raises(ValueError, match="time_s=.* must be at least [01]"):
            write(path, [frame, frame], times)
    assert not list(tmp_path.iterdir())


def test_a_video_in_memory_is_decoded_from_any_keyframe():
    frames, times = frames_of_noise(40, 64, 96), np.arange(40) / 25
    data = encode_mp4(zip(times, frames), crf=20, gop=12)
    with av.open(io.BytesIO(data)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        assert not container.streams.video[0].codec_context.has_b_frames
    assert [n for n, packet in enumerate(packets) if packet.is_keyframe] == [0, 12, 24, 36]
    assert [packet.pts for packet in packets] == [packet.dts for packet in packets]
    with open_video("a.mp4", data) as video:
        np.testing.assert_allclose(video.times_s, times, atol=1e-5)
        for wanted in ([0], [23], [39, 12], range(40)):
            distance = np.abs(video.read(wanted).astype(int) - frames[wanted]).mean()
            assert distance < 20  # colour at half the resolution
    assert encode_mp4(zip(times, frames), crf=20, gop=12) == data
    assert len(encode_mp4(zip(times, frames), crf=40, gop=12)) < len(data) / 2


def test_a_video_in_memory_needs_frames_of_one_size():
    with pytest.raises(ValueError, match="no frame was written"):
        encode_mp4([], crf=20, gop=12)
    with pytest.raises(ValueError, match=r"must be uint8 \[32, 32, 3\]"):
        encode_mp4(enumerate([np.zeros((32, 32, 3), np.uint8)] * 2 + [np.zeros(3)]), crf=20, gop=12)
