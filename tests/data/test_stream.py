"""A stream gives the frames that reading by index gives, with their times, and tells of damage."""

import contextlib
import os
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from video_files import frames_of_noise, write_audio, write_video

from pst_jax.data.decode import open_video, stream_frames
from pst_jax.data.frames import VideoError

VIDEOS = Path(__file__).parents[3] / "shared/videos"
FORMATS = {
    "h264 mp4, B-frames": ("a.mp4", dict(num_b_frames=3, gop=10)),
    "h264 mkv, B-frames": ("c.mkv", dict(num_b_frames=2, gop=7)),
    "h264 ts": ("g.ts", dict(num_b_frames=2)),
    "vp9 webm": ("d.webm", dict(codec="libvpx-vp9")),
    "vp8 webm": ("e.webm", dict(codec="libvpx", gop=15)),
    "mpeg4 avi": ("f.avi", dict(codec="mpeg4")),
    "h264 avi, B-frames": ("f.avi", dict(num_b_frames=2)),
    "flv": ("h.flv", dict(codec="flv")),
    "wmv": ("i.wmv", dict(codec="wmv2")),
}


def assert_streams_as_it_reads(path):
    """Returns the frames' times."""
    times, count = [], 0
    with open_video(path) as video:
        for rank, (time_s, frame) in enumerate(stream_frames(path)):
            assert frame.dtype == np.uint8
            np.testing.assert_array_equal(frame, video.read([rank])[0], err_msg=f"{path}: {rank}")
            times.append(time_s)
            count += 1
        assert count == video.num_frames
    return times


@pytest.mark.parametrize("name", FORMATS)
def test_a_stream_gives_the_frames_of_reading_by_index_at_their_times(name, tmp_path):
    file, options = FORMATS[name]
    path = write_video(tmp_path / file, frames_of_noise(43, 46, 60), rate=16, **options)
    times = assert_streams_as_it_reads(path)
    np.testing.assert_allclose(times, np.arange(43) / 16, atol=0.001)  # some count milliseconds


@pytest.mark.skipif(not VIDEOS.is_dir(), reason="the real files are not here")
@pytest.mark.parametrize("name", ["part_0.mp4", "test.avi"])
def test_real_files_stream_as_they_read(name):
    times = assert_streams_as_it_reads(VIDEOS / name)
    assert times[0] == 0 and (np.diff(times) > 0).all()


@pytest.mark.skipif(not VIDEOS.is_dir(), reason="the real files are not here")
def test_a_longer_real_file_streams_as_it_reads():
    path = VIDEOS / "arm_wrestling.mp4"
    with open_video(path) as video:
        whole = video.read(range(video.num_frames))
    np.testing.assert_array_equal(np.stack([frame for _, frame in stream_frames(path)]), whole)


def test_times_of_a_variable_rate_are_the_file_s(tmp_path):
    ticks = [3, 4, 9, 10, 30, 31, 33]
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for tick, array in zip(ticks, frames_of_noise(7, 32, 32)):
            frame = av.VideoFrame.from_ndarray(array, format="rgb24")
            frame.pts, frame.time_base = tick, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    times = [time_s for time_s, _ in stream_frames(path)]
    assert times == [0, 0.1, 0.6, 0.7, 2.7, 2.8, 3.0]


def test_hidden_vp8_frames_are_no_frames_of_the_stream(tmp_path):
    path = Path(write_video(tmp_path / "a.webm", frames_of_noise(20, 46, 60), codec="libvpx"))
    with open_video(path) as video:
        hidden = [bytes(video._packets[place]) for place in (5, 11)]
    data = path.read_bytes()
    for packet in hidden:
        data = data.replace(packet, bytes([packet[0] & ~0x10]) + packet[1:])
    path.write_bytes(data)
    assert len(assert_streams_as_it_reads(path)) == 18


def zero_packet(path, place):
    with open_video(path) as video:
        start, size = video._packets[place].pos, video._packets[place].size
    data = bytearray(path.read_bytes())
    data[start : start + size] = bytes(size)
    path.write_bytes(data)


def test_a_file_that_breaks_in_its_middle_says_how_far_it_came(tmp_path):
    path = Path(write_video(tmp_path / "a.mp4", frames_of_noise(40, 64, 64), rate=16))
    zero_packet(path, 20)
    frames = []
    with pytest.raises(
        VideoError, match=r"a\.mp4: breaks off after 20 frames \(1\.19 s\)"
    ) as caught:
        frames.extend(stream_frames(path))
    assert len(frames) == 20
    assert "damaged" in caught.value.reason and "download it again" in caught.value.reason


@pytest.mark.parametrize(
    "suffix, reason",
    [("mkv", "0 frames .*next cannot"), ("avi", "13 frames .*8 more are listed")],
)
def test_frames_that_the_decoder_leaves_out_are_missed(suffix, reason, tmp_path):
    # As of a recording that begins between two keyframes: ffmpeg passes over what it cannot decode.
    whole = write_video(tmp_path / f"a.{suffix}", frames_of_noise(24, 32, 32), num_b_frames=2)
    path = tmp_path / f"b.{suffix}"
    with av.open(whole) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for place, packet in enumerate(source.demux(video=0)):
            if packet.size and place > 2:
                packet.stream = stream
                target.mux(packet)
    with pytest.raises(VideoError, match=f"breaks off after {reason}.*damaged"):
        list(stream_frames(path))


def test_a_packet_that_is_not_whole_is_told(tmp_path):
    path = Path(write_video(tmp_path / "a.flv", frames_of_noise(40, 64, 64), codec="flv"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 10])
    with pytest.raises(VideoError, match="breaks off after 2[0-9] frames .*a packet is not whole"):
        list(stream_frames(path))


def test_frames_that_change_their_size_are_refused(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuvj420p"
        for rank, side in enumerate((64, 64, 64, 32)):
            packet = av.Packet(
                cv2.imencode(".jpg", np.zeros((side, side, 3), np.uint8))[1].tobytes()
            )
            packet.pts = packet.dts = rank
            packet.stream, packet.time_base = stream, Fraction(1, 10)
            container.mux(packet)
    with pytest.raises(VideoError, match="breaks off after 3 frames .*change their size"):
        list(stream_frames(path))


def test_what_cannot_be_opened_cannot_be_streamed(tmp_path):
    whole = Path(write_video(tmp_path / "whole.mp4", frames_of_noise(40, 64, 64)))
    half = tmp_path / "half.mp4"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    playlist = tmp_path / "list.ffconcat"
    playlist.write_text("ffconcat version 1.0\nfile whole.mp4\n")
    refused = {
        half: "is cut off",
        playlist: "is not a video",
        tmp_path / "none.mp4": "does not exist",
        Path(write_audio(tmp_path / "sound.mp4")): "no video stream",
    }
    for path, message in refused.items():
        with pytest.raises(VideoError, match=message):
            next(stream_frames(path))


def test_a_stream_left_early_closes_its_file(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames_of_noise(9, 32, 32))
    before = len(os.listdir("/proc/self/fd"))
    with contextlib.closing(stream_frames(path)) as frames:
        next(frames)
        assert len(os.listdir("/proc/self/fd")) > before
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_stream_reads_no_further_than_it_must(tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (60, 128, 128, 3), dtype=np.uint8)
    path = write_video(tmp_path / "a.mp4", frames)
    with contextlib.closing(stream_frames(path)) as stream:
        next(stream)
        (descriptor,) = (fd for fd in os.listdir("/proc/self/fd") if leads_to(fd, path))
        assert 0 < os.lseek(int(descriptor), 0, os.SEEK_CUR) < os.path.getsize(path) / 2


def leads_to(descriptor, path):
    with contextlib.suppress(OSError):  # that of the listing itself is gone
        return os.readlink(f"/proc/self/fd/{descriptor}") == path
