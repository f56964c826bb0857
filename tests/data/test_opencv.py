"""OpenCV gives the frames that PyAV gives, or an error that says so: never others."""

import os
import subprocess
import sys
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from video_files import decode_all, frames_of_noise, write_video

from pst_jax.data import decode, loader, opencv
from pst_jax.data.frames import VideoError
from pst_jax.data.records import Record

VIDEOS = Path(__file__).parents[3] / "shared/videos"
NUM_FRAMES = 24
# Codec -> containers that PyAV writes and reads it in.
HOLDS = {
    "libx264": "mp4 mov mkv avi flv mpg ts 3gp",
    "libx265": "mp4 mov mkv flv mpg ts",
    "mpeg4": "mp4 mov mkv avi wmv mpg ts 3gp",
    "libvpx": "mkv webm avi wmv ogv",
    "libvpx-vp9": "mp4 mkv webm avi flv wmv",
    "mpeg2video": "mp4 mov mkv avi wmv mpg ts",
    "mpeg1video": "mp4 mov mkv avi wmv mpg ts",
    "flv": "avi flv wmv",
    "wmv2": "avi wmv",
    "msmpeg4": "mov mkv avi wmv",
    "ffv1": "mp4 mkv avi wmv",
}
WITH_B_FRAMES = ("libx264", "libx265", "mpeg4", "mpeg2video")
FILES = [
    (codec, suffix, num_b_frames)
    for codec in HOLDS
    for suffix in HOLDS[codec].split()
    for num_b_frames in ((0, 2) if codec in WITH_B_FRAMES else (0,))
]


def read(open_video, path, indices=None):
    with open_video(path) as video:
        return video.read(np.arange(video.num_frames) if indices is None else indices)


@pytest.mark.parametrize(("codec", "suffix", "num_b_frames"), FILES)
def test_frames_equal_pyavs(codec, suffix, num_b_frames, tmp_path):
    options = dict(codec=codec, num_b_frames=num_b_frames, rate=25)
    path = write_video(
        tmp_path / f"a.{suffix}", frames_of_noise(NUM_FRAMES, 96, 128, seed=3), **options
    )
    expected = read(decode.open_video, path)
    with decode.open_video(path) as listed, opencv.open_video(path) as video:
        assert video.num_frames == listed.num_frames == NUM_FRAMES
        np.testing.assert_array_equal(video.times_s, listed.times_s)
        for indices in (range(NUM_FRAMES), [0], [NUM_FRAMES - 1], [9, 2, 9, 17], [11, 12]):
            np.testing.assert_array_equal(video.read(indices), expected[list(indices)])


@pytest.mark.skipif(not VIDEOS.is_dir(), reason="the real files are not here")
@pytest.mark.parametrize("name", ["arm_wrestling.mp4", "part_0.mp4", "test.avi"])
def test_frames_of_real_files_equal_pyavs(name):
    path = VIDEOS / name
    np.testing.assert_array_equal(read(opencv.open_video, path), decode_all(path))


def write_timed(path, ticks, pix_fmt="yuv420p", **codec):
    """Writes an h264 video of frames at times in milliseconds, with B-frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1000)
        stream.height, stream.width, stream.pix_fmt = 64, 80, pix_fmt
        stream.codec_context.max_b_frames, stream.codec_context.gop_size = 2, 8
        for name, value in codec.items():
            setattr(stream.codec_context, name, value)
        for pixels, tick in zip(frames_of_noise(len(ticks), 64, 80), ticks):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = tick, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return str(path)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "flv"])
@pytest.mark.parametrize("start", [0, 5000])
def test_frames_of_a_variable_rate_from_any_start_equal_pyavs(start, suffix, tmp_path):
    ticks = [start + 3 * k * k + 20 * k for k in range(NUM_FRAMES)]
    path = write_timed(tmp_path / f"a.{suffix}", ticks)
    expected = read(decode.open_video, path)
    for indices in (np.arange(NUM_FRAMES), [5, 6, 21]):
        np.testing.assert_array_equal(read(opencv.open_video, path, indices), expected[indices])


@pytest.mark.parametrize(
    "codec", [dict(colorspace=1), dict(colorspace=9), dict(color_range=2)], ids=str
)
def test_colours_follow_the_files_matrix_and_range(codec, tmp_path):
    path = write_timed(tmp_path / "a.mp4", range(0, 400, 40), **codec)
    np.testing.assert_array_equal(
        read(opencv.open_video, path), read(decode.open_video, path), err_msg="needs OpenCV >= 4.13"
    )


def test_more_than_eight_bits_per_colour_differ_by_a_few_levels(tmp_path):
    path = write_timed(tmp_path / "a.mp4", range(0, 400, 40), pix_fmt="yuv420p10le")
    difference = read(opencv.open_video, path).astype(int) - read(decode.open_video, path)
    assert 0 < np.abs(difference).mean() < 5  # colour is interpolated in another way


def test_rotation_in_the_metadata_is_not_applied(tmp_path):
    path = Path(write_video(tmp_path / "a.mp4", frames_of_noise(5, 32, 48)))
    upright = read(opencv.open_video, path)
    data = path.read_bytes()
    place = data.index(b"tkhd") + 44
    a_quarter = [0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30]
    matrix = b"".join(value.to_bytes(4, "big", signed=True) for value in a_quarter)
    path.write_bytes(data[:place] + matrix + data[place + 36 :])
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).rotation in (90, -90)
    for open_video in (opencv.open_video, decode.open_video):
        np.testing.assert_array_equal(read(open_video, path), upright)


# What is lost is told, or, in the last two, concealed: up to the next keyframe, in its place.
DAMAGED = {
    "h264 mp4": ("a.mp4", {}),
    "h264 mp4, B-frames": ("a.mp4", dict(num_b_frames=2)),
    "h264 mkv": ("a.mkv", {}),
    "h264 flv": ("a.flv", {}),
    "mpeg4 avi": ("a.avi", dict(codec="mpeg4")),
    "mpeg4 avi, B-frames": ("a.avi", dict(codec="mpeg4", num_b_frames=2)),
    "h264 mkv, keyframes only": ("a.mkv", dict(gop=1)),
    "vp9 webm": ("a.webm", dict(codec="libvpx-vp9")),
    "vp8 webm": ("a.webm", dict(codec="libvpx")),
    "ffv1 mkv": ("a.mkv", dict(codec="ffv1")),
}
CONCEALED = ("vp8 webm", "ffv1 mkv")


@pytest.mark.parametrize("place", [0, 10, 13, NUM_FRAMES - 1])
@pytest.mark.parametrize("name", DAMAGED)
def test_of_a_lost_frame_no_other_takes_the_place(name, place, tmp_path):
    file, options = DAMAGED[name]
    options = dict(gop=10) | options
    whole = write_video(tmp_path / f"whole {file}", frames_of_noise(NUM_FRAMES, 64, 64), **options)
    expected = read(decode.open_video, whole)
    path = with_zeros(whole, tmp_path / file, place)
    next_keyframe = (place // 10 + 1) * 10
    num_errors = 0
    with opencv.open_video(path) as video:
        assert video.num_frames == NUM_FRAMES
        for index in range(NUM_FRAMES):
            try:
                clip = video.read([index])
            except VideoError as error:
                assert "use decoder='pyav'" in error.reason
                num_errors += 1
                continue
            if name not in CONCEALED or not place <= index < next_keyframe:
                np.testing.assert_array_equal(clip[0], expected[index], err_msg=str(index))
    assert num_errors or name in CONCEALED


def with_zeros(whole, path, place):
    """Writes a video again, one of its packets emptied but for its first byte."""
    with av.open(whole) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = (packet for packet in source.demux(video=0) if packet.size)
        for number, packet in enumerate(packets):
            if number == place:
                emptied = av.Packet(bytes(packet)[:1] + bytes(packet.size - 1))
                for name in ("pts", "dts", "time_base", "duration", "is_keyframe"):
                    setattr(emptied, name, getattr(packet, name))
                packet = emptied
            packet.stream = stream
            target.mux(packet)
    return str(path)


def test_a_file_that_lists_more_than_it_holds_is_told(tmp_path):
    path = write_video(tmp_path / "a.avi", frames_of_noise(12, 32, 32), codec="mpeg4")
    with opencv.open_video(path) as video:
        video.num_frames, video.times_s = 13, np.append(video.times_s, 12 / 16)
        assert video.read([11]).shape == (1, 32, 32, 3)
        with pytest.raises(VideoError, match="decodes 12 frames, the file lists 13"):
            video.read([12])
        video.times_s += 0.01  # where times tell nothing, the count must
        with pytest.raises(VideoError, match="decodes 12 frames, the file lists 13"):
            video.read([5])


def test_what_opencv_cannot_decode_is_named_with_the_remedy(tmp_path):
    try:
        path = write_video(tmp_path / "a.mp4", frames_of_noise(8, 64, 64), codec="libsvtav1")
    except (av.error.FFmpegError, ValueError):
        pytest.skip("no AV1 encoder here")
    with opencv.open_video(path) as video, pytest.raises(VideoError, match="use decoder='pyav'"):
        video.read([0])


def test_a_name_that_is_no_utf8_is_refused_with_the_remedy(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames_of_noise(5, 32, 32))
    odd = os.path.join(os.fsencode(tmp_path), b"\xff.mp4")
    os.rename(path, odd)
    with opencv.open_video(os.fsdecode(odd)) as video, pytest.raises(VideoError, match="rename"):
        video.read([0])


PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nwhole.ts\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("list.m3u8", PLAYLIST, "is not a video"),
        ("a.mp4", "", "is empty"),
        ("gone.mp4", None, "does not exist"),
        ("http://localhost/a.mp4", None, "does not exist"),
    ],
)
def test_what_pyav_refuses_is_refused(name, text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_video("whole.ts", frames_of_noise(5, 32, 32))
    if text is not None:
        Path(name).write_text(text)
    with pytest.raises(VideoError, match=message) as caught, opencv.open_video(name):
        pass
    assert caught.value.path == name


def test_opencv_itself_follows_no_playlist(tmp_path):
    write_video(tmp_path / "whole.ts", frames_of_noise(5, 32, 32))
    (tmp_path / "list.m3u8").write_text(PLAYLIST)
    # In a process of its own: another use of OpenCV's in this one would decide.
    program = (
        "import sys; from pst_jax.data import opencv\n"
        "for path in sys.argv[1:]:\n"
        "  try:\n    with opencv._capturing(path) as capture: print(capture.grab())\n"
        "  except ValueError as error: print(error.reason)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "whole.ts", tmp_path / "list.m3u8"],
        cwd=Path(opencv.__file__).parents[2],
        capture_output=True,
        text=True,
    )
    first, second = result.stdout.splitlines()
    assert first == "True" and "cannot open it" in second


def test_the_file_is_closed_even_after_an_error(tmp_path, monkeypatch):
    def fail(frame):
        raise ZeroDivisionError

    def count():
        return len(os.listdir("/proc/self/fd"))

    path = write_video(tmp_path / "a.mp4", frames_of_noise(5, 32, 32))
    with opencv.open_video(path) as video:
        before = count()
        for _ in range(3):
            with pytest.raises(ZeroDivisionError):
                video.read([0], fail)
            monkeypatch.setattr("pst_jax.data.frames.MAX_CLIP_BYTES", 5000)
            with pytest.raises(VideoError, match="take 6144 bytes, more than 5000"):
                video.read([0, 4])
        assert count() == before


@pytest.mark.parametrize("indices", [[], [5], [-1], [0.5], [[1, 2]]])
def test_indices_outside_the_video_are_refused(indices, tmp_path):
    path = write_video(tmp_path / "a.mp4", frames_of_noise(5, 32, 32))
    with opencv.open_video(path) as video, pytest.raises(ValueError, match="indices"):
        video.read(indices)


def test_training_batches_are_those_of_pyav(tmp_path):
    paths = [write_video(tmp_path / f"{k}.mp4", frames_of_noise(12, 32, 40, k)) for k in range(4)]
    with open(paths[2], "r+b") as file:
        file.truncate(900)
    records = [Record(path, 0, path) for path in paths]
    batches = []
    for decoder in ("pyav", "opencv"):
        spec = loader.ClipSpec(num_frames=4, size_px=16, short_side_px=20, decoder=decoder)
        options = dict(batch_size=4, num_epochs=1, seed=0, num_threads=0)
        with closing(loader.train_batches(records, spec, **options)) as stream:
            batches.append(next(stream))
    assert sum(problem != "" for problem in batches[0]["problem"]) == 1
    for name in batches[0]:
        np.testing.assert_array_equal(batches[0][name], batches[1][name])
