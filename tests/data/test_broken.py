"""Each kind of broken input has one outcome: when opened, in training and in evaluation.

What is refused raises a `VideoError` when opened or read; training replaces it, always by the same
video, and says so; evaluation keeps its row, under a false mask, and says so. What only looks
broken is read. How each container is cut, and more of what is refused when opened, is in
test_decode.py; the outcome for more than one process and thread, in general, in test_loader.py.
"""

import hashlib
import os
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from video_files import decode_all, frames_of_noise, write_video

from pst_jax.data import decode, frames, loader
from pst_jax.data.frames import VideoError, as_it_is
from pst_jax.data.records import Record
from pst_jax.data.sources import open_record

SPEC = loader.ClipSpec(num_frames=4, size_px=16, short_side_px=16)
NUM_GOOD = 12
FORMATS = {
    "mp4": ("a.mp4", {}),
    "webm": ("a.webm", dict(codec="libvpx-vp9")),
    "mkv": ("a.mkv", dict(num_b_frames=2)),
    "avi": ("a.avi", dict(codec="mpeg4")),
    "ts": ("a.ts", {}),
    "flv": ("a.flv", {}),
}

WHOLE = {name: frames_of_noise(24, 48, 64, seed) for seed, name in enumerate(FORMATS)}


def write_whole(folder, name="mp4"):
    file, options = FORMATS[name]
    return Path(write_video(folder / file, WHOLE[name], **options))


def first_packet(path):
    """Where the first packet lies in its file, and its size."""
    with av.open(str(path)) as container:
        packet = next(container.demux(video=0))
    return packet.pos, packet.size


def write_text(folder, name, text):
    write_whole(folder)  # what it refers to is there, so that only the reader's refusal counts
    (folder / name).write_text(text)
    return folder / name


def write_jpeg(path, pixels, claims=None):
    """Writes a JPEG; `claims` is the size, in px, that its header gives for height and width."""
    data = bytearray(cv2.imencode(".jpg", pixels)[1].tobytes())
    if claims:
        start = data.index(b"\xff\xc0") + 5
        data[start : start + 4] = claims.to_bytes(2, "big") * 2
    path.write_bytes(data)
    return path


def write_mjpeg(path, images):
    """Writes JPEG files as the frames of an mkv, as they are; its header says 4096 x 2048 px."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.height, stream.width, stream.pix_fmt = 2048, 4096, "yuvj420p"
        for number, image in enumerate(images):
            packet = av.Packet(image.read_bytes())
            packet.pts = packet.dts = number
            packet.time_base, packet.is_keyframe = Fraction(1, 10), True
            packet.stream = stream
            container.mux(packet)
    return path


def write_claims(folder, num_true, side_px):
    """Writes an mkv whose frames, and with no true one its header, claim to be that large."""
    true = write_jpeg(folder / "true.jpg", WHOLE["mp4"][0])
    false = write_jpeg(folder / "false.jpg", WHOLE["mp4"][0], claims=side_px)
    path = write_mjpeg(folder / "huge.mkv", [true] * num_true + [false] * (12 - num_true))
    if not num_true:
        data = path.read_bytes()
        for element, told in ((b"\xb0\x82", 4096), (b"\xba\x82", 2048)):  # width, height
            assert data.count(element + told.to_bytes(2, "big")) == 1
            data = data.replace(
                element + told.to_bytes(2, "big"), element + side_px.to_bytes(2, "big")
            )
        path.write_bytes(data)
    return path


def write_folder(folder, numbers):
    (folder / "frames").mkdir()
    for number in numbers:
        write_jpeg(folder / "frames" / f"{number:05d}.jpg", WHOLE["mp4"][0])
    return folder / "frames"


def write_forbidden(folder):
    path = write_whole(folder)
    path.chmod(0)
    return path


def with_odd_name(folder, share):
    """Writes a video, cut off or not, whose name is no UTF-8."""
    data = write_whole(folder).read_bytes()
    path = Path(os.fsdecode(os.fsencode(folder) + b"/\xff\xfe\n.mp4"))
    path.write_bytes(data[: int(len(data) * share)])
    return path


def part(folder, start_s, end_s, **more):
    path = str(write_whole(folder))
    return Record(path, 1, "part", start_s, end_s, **more)


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\na.mp4\n#EXT-X-ENDLIST\n"
DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static">'
    '<Period><AdaptationSet mimeType="video/mp4"><Representation id="1" bandwidth="1">'
    "<BaseURL>a.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>"
)
SDP = "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n"
CONCAT = "ffconcat version 1.0\nfile a.mp4\n"

# What it is -> makes it in a folder, and the reason given.
REFUSED = {
    "missing": (lambda d: d / "gone.mp4", "does not exist"),
    "empty file": (lambda d: write_text(d, "b.mp4", ""), "is empty"),
    "no permission": (write_forbidden, "cannot be read: .*Permission"),
    "folder in place of a file": (lambda d: d, "holds no numbered image"),
    "jpg named mp4": (lambda d: write_jpeg(d / "b.jpg", WHOLE["mp4"][0]).rename(d / "b.mp4"),)
    + ("is not a video",),
    "hls": (lambda d: write_text(d, "b.m3u8", HLS), "is not a video"),
    "hls named mp4": (lambda d: write_text(d, "b.mp4", HLS), "is not a video"),
    "dash": (lambda d: write_text(d, "b.mpd", DASH), "is not a video"),
    "sdp": (lambda d: write_text(d, "b.sdp", SDP), "is not a video"),
    "concat script": (lambda d: write_text(d, "b.ffconcat", CONCAT), "is not a video"),
    "url": (lambda d: "http://localhost:9/a.mp4", "does not exist"),
    "ffmpeg protocol": (lambda d: f"concat:{write_whole(d)}|{d}/a.mp4", "does not exist"),
    "12000 x 12000 px": (lambda d: write_claims(d, 0, 12_000), "12000 x 12000 px, more than"),
    "60000 x 60000 px": (lambda d: write_claims(d, 0, 60_000), "cannot be decoded"),  # by ffmpeg
    "60000 x 60000 px, later": (lambda d: write_claims(d, 2, 60_000), "cannot be decoded"),
    "odd name, cut": (lambda d: with_odd_name(d, 0.5), "is cut off"),
    "part of no length": (lambda d: part(d, 0.5, 0.5), "no frame from 0.5 s to 0.5 s"),
    "part behind the end": (lambda d: part(d, 9.0, None), "no frame from 9.0 s to its end"),
    "part that ends before it starts": (lambda d: part(d, 0.9, 0.2), "no frame from 0.9 s"),
    "fewer frames than the manifest's": (
        lambda d: part(d, 0.0, None, num_frames=25),
        "has 24 frames, 25 by its list",
    ),
    "frame folder with a gap": (lambda d: write_folder(d, (1, 2, 4)), "image 3 is missing"),
    "part of a frame folder": (
        lambda d: Record(str(write_folder(d, (1, 2))), 1, "f", 0.1, 0.2),
        "has no times",
    ),
}
# What it is -> makes it in a folder, and the number of frames.
READ = {
    "mp4 named avi": (lambda d: write_whole(d).rename(d / "b.avi"), 24),
    "webm named mp4": (lambda d: write_whole(d, "webm").rename(d / "b.mp4"), 24),
    "mp4 named m3u8": (lambda d: write_whole(d).rename(d / "b.m3u8"), 24),
    "mp4 named like a protocol": (lambda d: write_whole(d).rename(d / "concat:b|c.mp4"), 24),
    "mp4 named like a pattern": (lambda d: write_whole(d).rename(d / "b%03d.mp4"), 24),
    "odd name": (lambda d: with_odd_name(d, 1.0), 24),
    "one frame": (lambda d: write_video(d / "b.mp4", WHOLE["mp4"][:1]), 1),
    "one image": (lambda d: write_folder(d, (1,)), 1),
    "part of one frame": (lambda d: part(d, 0.5, 0.5 + 1 / 16), 1),
}


def as_record(made):
    return made if isinstance(made, Record) else Record(str(made), 1, os.path.basename(made))


def skip_as_root(name):
    if name == "no permission" and os.geteuid() == 0:
        pytest.skip("root may read everything")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    paths = [write_video(folder / f"{k}.mp4", frames_of_noise(9, 24, 32, k)) for k in range(3)]
    return [Record(paths[k % 3], 0, str(k)) for k in range(NUM_GOOD)]


def train(records, **options):
    options = dict(batch_size=len(records), num_epochs=1, seed=3, num_threads=0) | options
    with closing(loader.train_batches(records, SPEC, **options)) as batches:
        return list(batches)


def evaluate(records, **options):
    options = dict(batch_size=len(records), num_threads=0) | options
    with closing(loader.eval_batches(records, SPEC, **options)) as batches:
        return list(batches)


def read_whole(record):
    with open_record(record) as video:
        return video.read(np.arange(video.num_frames), as_it_is)


def assert_refused(record, reason, good):
    """Reading raises, training replaces, evaluation masks: each names the file and the reason."""
    with pytest.raises(VideoError, match=reason) as caught:
        read_whole(record)
    assert caught.value.path.startswith(record.path) and "\n" not in caught.value.reason
    problem = str(caught.value)
    (batch,) = train([record, *good])
    row = list(batch["problem"] != "").index(True)
    assert [text for text in batch["problem"] if text] == [problem]
    assert batch["index"][row] != 0 and batch["label"][row] == 0 and batch["mask"].all()
    assert batch["video"][row].any()
    (again,) = train([record, *good])
    np.testing.assert_array_equal(again["index"], batch["index"])
    (batch,) = evaluate([record, *good])
    assert batch["problem"].tolist() == [problem] + [""] * len(good)
    assert batch["mask"].tolist() == [False] + [True] * len(good)
    assert batch["index"].tolist() == list(range(1 + len(good))) and batch["label"][0] == 1
    assert not batch["video"][0].any()


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_told_replaced_in_training_and_masked_in_evaluation(
    name, good, tmp_path
):
    skip_as_root(name)
    make, reason = REFUSED[name]
    record = as_record(make(tmp_path))
    assert_refused(record, reason, good)


@pytest.mark.parametrize("name", READ)
def test_what_only_looks_broken_is_read(name, good, tmp_path):
    make, num_frames = READ[name]
    record = as_record(make(tmp_path))
    clip = read_whole(record)
    assert len(clip) == num_frames and clip.std() > 10
    for batches in (train([record, *good]), evaluate([record, *good])):
        assert not any(batches[0]["problem"]) and batches[0]["mask"].all()


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("place", ["header", "first frame", "middle"])
def test_a_cut_file_is_refused(place, name, good, tmp_path):
    path = write_whole(tmp_path, name)
    data, (start, size) = path.read_bytes(), first_packet(path)
    ends = {
        "header": min(start, 40),
        "first frame": start + size // 2,
        "middle": len(data) // 2 | 1,
    }
    path.write_bytes(data[: ends[place]])
    assert_refused(as_record(path), "cut off|not a video|no video stream|no frame|damaged", good)


@pytest.mark.parametrize(("name", "step"), [("flv", 1), ("ts", 188)])
def test_a_cut_where_nothing_is_incomplete_shows_by_the_manifest_alone(name, step, tmp_path):
    path = write_whole(tmp_path, name)
    with av.open(str(path)) as container:
        start = [packet.pos for packet in container.demux(video=0) if packet.size][12]
    path.write_bytes(path.read_bytes()[: start // step * step])
    assert len(read_whole(as_record(path))) == 12
    with pytest.raises(VideoError, match="has 12 frames, 24 by its list"):
        read_whole(Record(str(path), 0, "a", num_frames=24))


@pytest.mark.parametrize("name", FORMATS)
def test_flipped_bytes_give_an_error_or_all_frames_in_their_shape(name, tmp_path):
    path = write_whole(tmp_path, name)
    data = path.read_bytes()
    expected = read_whole(as_record(path))
    rng = np.random.default_rng(0)
    num_told, num_same = 0, 0
    for _ in range(40):
        flipped = np.frombuffer(data, np.uint8).copy()
        flipped[rng.integers(0, len(data), 3)] ^= rng.integers(1, 256, 3).astype(np.uint8)
        path.write_bytes(flipped.tobytes())
        try:
            with open_record(as_record(path)) as video:
                clip = video.read(np.arange(video.num_frames), as_it_is)
        except VideoError:
            num_told += 1
            continue
        assert clip.dtype == np.uint8 and clip.shape == (video.num_frames, *clip.shape[1:])
        assert video.num_frames == len(video.times_s) and clip.ndim == 4 and clip.shape[-1] == 3
        num_same += clip.shape == expected.shape and (clip == expected).all()
    assert num_told and num_told + num_same < 40


def test_a_variable_rate_and_a_rotation_change_no_frame(good, tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=1000)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for number, pixels in enumerate(WHOLE["mp4"]):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = 500 + number**2, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    expected = decode_all(path)
    data = path.read_bytes()
    place = data.index(b"tkhd") + 44
    a_quarter = [0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30]
    matrix = b"".join(value.to_bytes(4, "big", signed=True) for value in a_quarter)
    path.write_bytes(data[:place] + matrix + data[place + 36 :])
    with av.open(str(path)) as container:
        assert next(container.decode(video=0)).rotation in (90, -90)
    with open_record(as_record(path)) as video:
        np.testing.assert_allclose(video.times_s, np.arange(24) ** 2 / 1000, atol=1e-6)
        np.testing.assert_array_equal(video.read([23, 4, 5]), expected[[23, 4, 5]])
    assert not any(train([as_record(path), *good])[0]["problem"])


@pytest.mark.parametrize(
    ("module", "limit", "value", "reason"),
    [
        (decode, "MAX_FRAMES", 20, "has 24 frames, more than 20: cut it up"),
        (decode, "MAX_DURATION_S", 1, "has 2 seconds, more than 1: cut it up"),
        (decode, "MAX_BYTES", 1000, "bytes, more than 1000: cut it up"),
        (decode, "MAX_FRAME_PX", 3000, "frames of 64 x 48 px, more than 3000 in all"),
        (frames, "MAX_CLIP_BYTES", 2000, r"frames of \[.*\] take .* more than 2000: re-encode"),
    ],
)
def test_what_is_larger_than_any_data_sets_is_refused(
    module, limit, value, reason, good, tmp_path, monkeypatch
):
    record = as_record(write_whole(tmp_path))
    monkeypatch.setattr(module, limit, value)
    with pytest.raises(VideoError, match=reason):
        read_whole(record)
    with pytest.raises(VideoError, match=limit != "MAX_CLIP_BYTES" and reason or "more than 2000"):
        train([record], batch_size=1)  # no other to replace it
    (batch,) = evaluate([record])
    assert not batch["mask"].any() and "more than" in batch["problem"][0]


@pytest.fixture(scope="module")
def everything(good, tmp_path_factory):
    """All that is refused and all that is read, among good ones."""
    made = []
    for name, (make, _) in {**REFUSED, **READ}.items():
        if name != "no permission":
            made.append(as_record(make(tmp_path_factory.mktemp("broken"))))
    return [*made, *good * 5]


def digest(batches):
    """Of all that was made, and who was broken."""
    seen, problems = hashlib.sha256(), []
    for batch in batches:
        for name in sorted(batch):
            seen.update(f"{name} {batch[name].dtype}".encode() + batch[name].tobytes())
        problems += [text.split(": ")[0] for text in batch["problem"] if text]
    return seen.hexdigest(), problems


def test_all_of_it_at_once_is_told_once_each(everything):
    num_broken = len(REFUSED) - 1
    assert len(digest(train(everything, batch_size=len(everything)))[1]) == num_broken
    assert len(digest(evaluate(everything, batch_size=len(everything)))[1]) == num_broken


@pytest.mark.parametrize(
    ("num_workers", "num_threads"), [(0, 1), (0, 2), (0, 3), (1, 1), (2, 2)], ids=str
)
def test_all_of_it_at_once_gives_the_same_batches_from_any_number_of_threads_and_processes(
    num_workers, num_threads, everything
):
    options = dict(num_workers=num_workers, num_threads=num_threads)
    for make in (train, evaluate) if num_workers != 1 else (train,):
        expected = digest(make(everything, batch_size=7))
        assert expected[1] and digest(make(everything, batch_size=7, **options)) == expected
