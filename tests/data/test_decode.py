"""Frames by index are those of a sequential decode, and damage is told, never passed over."""

import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from video_files import decode_all, frames_of_noise, write_audio, write_video

from pst_jax.data import decode
from pst_jax.data.decode import open_video
from pst_jax.data.encode import writing_mp4
from pst_jax.data.frames import VideoError

VIDEOS = Path(__file__).parents[3] / "shared/videos"
FORMATS = {
    "h264 mp4, B-frames": ("a.mp4", dict(num_b_frames=3, gop=10)),
    "h264 mp4, one keyframe": ("b.mp4", dict(gop=1000)),
    "h264 mkv, B-frames": ("c.mkv", dict(num_b_frames=2, gop=7)),
    "vp9 webm": ("d.webm", dict(codec="libvpx-vp9")),
    "vp8 webm": ("e.webm", dict(codec="libvpx", gop=15)),
    "mpeg4 avi": ("f.avi", dict(codec="mpeg4")),
}


def index_sets(num_frames):
    last = num_frames - 1
    rng = np.random.default_rng(0)
    yield np.arange(num_frames)
    yield np.array([0])
    yield np.array([last])
    yield np.array([last, 0, last // 2, 0, last])  # neither sorted nor unique
    yield np.linspace(0, last, 5).astype(int)
    yield np.arange(last - 4, num_frames)
    for _ in range(3):
        yield rng.integers(0, num_frames, 7)


def assert_reads_as_sequential(path):
    reference = decode_all(path)
    with open_video(path) as video:
        assert video.num_frames == len(reference)
        for indices in index_sets(len(reference)):
            clip = video.read(indices)
            assert clip.dtype == np.uint8 and clip.shape == (len(indices), *reference.shape[1:])
            np.testing.assert_array_equal(clip, reference[indices], err_msg=f"{path}: {indices}")


@pytest.mark.parametrize("name", FORMATS)
def test_frames_by_index_equal_a_sequential_decode(name, tmp_path):
    file, options = FORMATS[name]
    path = write_video(tmp_path / file, frames_of_noise(43, 46, 60), **options)
    assert_reads_as_sequential(path)
    with open_video(path) as video:
        assert video.num_frames == 43


def test_frames_keep_their_order(tmp_path):
    frames = frames_of_noise(9, 32, 32)
    path = write_video(tmp_path / "a.mp4", frames, num_b_frames=2)
    with open_video(path) as video:
        clip = video.read(range(9)).astype(int)
    distance = np.abs(clip[:, None] - frames[None].astype(int)).mean(axis=(2, 3, 4))
    assert distance.argmin(axis=1).tolist() == list(range(9))


@pytest.mark.skipif(not VIDEOS.is_dir(), reason="the real files are not here")
@pytest.mark.parametrize("name", ["arm_wrestling.mp4", "part_0.mp4", "test.avi"])
def test_real_files_read_as_sequential(name):
    assert_reads_as_sequential(VIDEOS / name)


def test_only_the_needed_part_is_decoded(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", frames_of_noise(60, 32, 32), gop=10)
    with open_video(path) as video:
        converted = []
        monkeypatch.setattr(video, "_to_rgb", lambda frame: converted.append(0) or np.zeros((1,)))
        fed = []
        decoder = video._decoder

        class Counting:
            flush_buffers = staticmethod(decoder.flush_buffers)

            @staticmethod
            def decode(packet):
                fed.append(packet)
                return decoder.decode(packet)

        video._decoder = Counting
        video.read([52, 53, 12])
    assert len(converted) == 3
    assert len(fed) < 20  # two groups of ten, not sixty


def damaged(tmp_path, kind):
    """A file that must be refused, and what the message must say."""
    path = tmp_path / "video.mp4"
    whole = Path(write_video(tmp_path / "whole.mp4", frames_of_noise(40, 64, 64), gop=10))
    fast = Path(
        write_video(
            tmp_path / "fast.mp4", frames_of_noise(40, 64, 64), options={"movflags": "faststart"}
        )
    )
    if kind == "missing":
        return path, "does not exist"
    if kind == "folder":
        path.mkdir()
        return path, "is no plain file: correct the path"
    if kind == "empty":
        path.touch()
        return path, "0 bytes.*download it again"
    if kind == "text":
        path.write_text("not a video\n" * 500)
        return path, "is not a video.*replace it by an mp4"
    if kind == "web page":
        path.write_text("<!DOCTYPE html><html><body>404 Not Found</body></html>")
        return path, "is not a video"
    if kind == "picture":
        path.write_bytes(cv2.imencode(".jpg", frames_of_noise(1, 64, 64)[0])[1])
        return path, "is not a video"
    if kind == "truncated":
        path.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        return path, "is cut off"
    if kind == "truncated, index first":
        data = fast.read_bytes()
        assert data.index(b"moov") < data.index(b"mdat")
        path.write_bytes(data[: len(data) * 9 // 10])
        return path, "is cut off"
    if kind == "sound only":
        return Path(write_audio(path)), "no video stream"
    if kind == "hls":
        path = tmp_path / "list.m3u8"
        path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{whole}\n#EXT-X-ENDLIST\n")
        return path, "is not a video"
    assert kind == "concat"
    path = tmp_path / "list.ffconcat"
    path.write_text("ffconcat version 1.0\nfile whole.mp4\n")
    return path, "is not a video"


KINDS = ["missing", "folder", "empty", "text", "web page", "picture"]
KINDS += ["truncated", "truncated, index first", "sound only", "hls", "concat"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_refused_by_name(kind, tmp_path):
    path, message = damaged(tmp_path, kind)
    with pytest.raises(VideoError, match=message) as caught, open_video(path):
        pass
    assert caught.value.path == str(path) and str(path) in str(caught.value)


CONTAINERS = {
    "mp4": ("a.mp4", {}),
    "mp4, index first": ("a.mp4", dict(options={"movflags": "faststart"})),
    "mp4 in fragments": ("a.mp4", dict(gop=10, options={"movflags": "frag_keyframe+empty_moov"})),
    "mov": ("a.mov", {}),
    "mkv": ("a.mkv", {}),
    "mkv, live": ("a.mkv", dict(options={"live": "1"})),
    "webm": ("a.webm", dict(codec="libvpx-vp9")),
    "webm, live": ("a.webm", dict(codec="libvpx-vp9", options={"live": "1"})),
    "avi": ("a.avi", dict(codec="mpeg4")),
    "flv": ("a.flv", dict(codec="flv")),
    "wmv": ("a.wmv", dict(codec="wmv2")),
    "ts": ("a.ts", {}),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_file_cut_anywhere_is_refused_where_ffmpeg_reads_on(name, tmp_path):
    file, options = CONTAINERS[name]
    path = Path(write_video(tmp_path / file, frames_of_noise(40, 64, 64), **options))
    data = path.read_bytes()
    with open_video(path) as video:
        assert video.num_frames == len(video.read(range(40)))
    for share in (0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(VideoError) as caught, open_video(path):
            pass
        assert share < 0.5 or "is cut off" in caught.value.reason


def test_a_title_that_is_no_utf8_is_no_damage(tmp_path):
    path = Path(write_video(tmp_path / "a.mp4", frames_of_noise(5, 32, 32), title="TITLE"))
    data = path.read_bytes()
    assert data.count(b"TITLE") == 1
    path.write_bytes(data.replace(b"TITLE", b"T\xcfTLE"))
    with open_video(path) as video:
        assert video.num_frames == 5


def test_what_pyav_trips_over_is_told_of_the_file(tmp_path, monkeypatch):
    # Its demuxer does where a damaged ts file brings up another stream.
    path = write_video(tmp_path / "a.ts", frames_of_noise(5, 32, 32))
    monkeypatch.setattr(decode, "_is_shown", lambda *_: [][0])
    with pytest.raises(VideoError, match=r"a\.ts: has packets of a stream"), open_video(path):
        pass


def test_something_appended_is_no_damage(tmp_path):
    path = Path(write_video(tmp_path / "a.mp4", frames_of_noise(5, 32, 32)))
    path.write_bytes(path.read_bytes() + b"\x7f\xff\xff\xffjunk" + bytes(20))
    with open_video(path) as video:
        assert video.num_frames == 5


def test_zeroed_frames_are_reported(tmp_path):
    path = Path(write_video(tmp_path / "a.mp4", frames_of_noise(40, 64, 64)))
    with open_video(path) as video:
        start, size = video._packets[20].pos, video._packets[20].size
    data = bytearray(path.read_bytes())
    data[start : start + size] = bytes(size)
    path.write_bytes(data)
    with open_video(path) as video, pytest.raises(VideoError, match="decoded"):
        video.read(range(40))


def test_hidden_vp8_frames_are_not_counted(tmp_path):
    path = Path(write_video(tmp_path / "a.webm", frames_of_noise(20, 46, 60), codec="libvpx"))
    with open_video(path) as video:
        hidden = [bytes(video._packets[place]) for place in (5, 11)]
    data = path.read_bytes()
    for packet in hidden:  # as the encoder's look-ahead would: decoded, referred to, not shown
        assert data.count(packet) == 1
        data = data.replace(packet, bytes([packet[0] & ~0x10]) + packet[1:])
    path.write_bytes(data)
    with open_video(path) as video:
        assert (len(video._packets), video.num_frames) == (20, 18)
    assert_reads_as_sequential(path)


def test_fewer_frames_than_listed_are_reported(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames_of_noise(12, 32, 32))
    with open_video(path) as video:
        del video._packets[8:]
        with pytest.raises(VideoError, match="only 1 of 2 frames"):
            video.read([3, 11])


def test_packets_flagged_as_key_where_no_decoder_can_start_are_no_damage(tmp_path):
    # x264 makes a plain I slice of a cut that follows a keyframe soon.
    rng, path = np.random.default_rng(0), tmp_path / "a.mp4"
    with writing_mp4(path) as write:
        for rank in range(40):
            write(rank / 10, rng.integers(0, 255, (48, 64, 3), dtype=np.uint8))
    reference = decode_all(path)
    for indices in (np.arange(10, 26, 2), np.array([30]), np.arange(40)):
        with open_video(path) as video:
            assert len(video._keyframes) > 30
            np.testing.assert_array_equal(video.read(indices), reference[indices])
    with open_video(path) as video:
        del video._packets[20:]
        with pytest.raises(VideoError, match="only 5 of 8 frames asked for"):
            video.read(np.arange(10, 26, 2))


@pytest.mark.parametrize("indices", [[], [5], [-1], [0.5], [[1, 2]]])
def test_indices_outside_the_video_are_refused(indices, tmp_path):
    path = write_video(tmp_path / "a.mp4", frames_of_noise(5, 32, 32))
    with open_video(path) as video, pytest.raises(ValueError, match="indices"):
        video.read(indices)


def test_the_file_is_closed_even_after_an_error(tmp_path):
    def count():
        return len(os.listdir("/proc/self/fd"))

    path = write_video(tmp_path / "a.mp4", frames_of_noise(5, 32, 32))
    before = count()
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), open_video(path) as video:
            video.read([0])
            raise ZeroDivisionError
    assert count() == before


def test_the_error_survives_a_process_border():
    error = pickle.loads(pickle.dumps(VideoError("a.mp4", "is cut off")))
    assert (error.path, error.reason, str(error)) == ("a.mp4", "is cut off", "a.mp4: is cut off")


def test_a_decoder_takes_one_thread(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames_of_noise(4, 16, 16))
    with decode.open_stream(path) as stream:  # its own threads: half as fast again per core
        assert stream.codec_context.thread_count == 1
        assert str(stream.codec_context.thread_type).endswith("NONE")
