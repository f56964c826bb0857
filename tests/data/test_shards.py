"""A prepared video is its source, up to the codec; what is wrong with a shard is told."""

import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import fsspec
import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem
from video_files import write_video

from pst_jax.data import clips, shards
from pst_jax.data.frames import VideoError, as_it_is
from pst_jax.data.index import read_index
from pst_jax.data.pack import Settings, Skipped, pack
from pst_jax.data.records import Record, fingerprint
from pst_jax.data.sources import open_record
from pst_jax.data.transforms import ClipSpec

H264 = Settings(crf=12)
JPEG = Settings("jpeg", gop=None, crf=None, quality=97)
BOTH = pytest.mark.parametrize("settings", [H264, JPEG], ids=["h264", "jpeg"])


def smooth(num_frames, height, width, seed=0):
    """uint8 [T, H, W, 3]: slopes that differ from frame to frame, which a codec keeps well."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0:height, 0:width] / max(height, width)
    slopes = rng.uniform(-60, 60, (num_frames, 3, 2))
    grey = np.einsum("tcd,dhw->thwc", slopes, np.stack([rows, columns]))
    return (128 + grey + rng.uniform(-40, 40, (num_frames, 1, 1, 1))).clip(0, 255).astype(np.uint8)


def write_shards(folder, records, settings, class_names=("a", "b")):
    """Packs what can be packed to one shard, as the command does; returns the listing."""
    folder.mkdir(exist_ok=True)
    packed = [pack(record, settings) if record.path else Skipped("is broken") for record in records]
    shards.write_shard(folder / "0.array_record", zip(records, packed))
    dataset = dict(version=1, source=fingerprint(records), class_names=class_names)
    (folder / shards.DATASET).write_text(json.dumps(dataset))
    lines = shards.shard_lines(str(folder / "0.array_record"))
    manifest = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / shards.MANIFEST).write_text(manifest)
    return shards.read_manifest(str(folder))


def read(record, indices=None):
    with open_record(record) as video:
        return video.read(range(video.num_frames) if indices is None else indices, as_it_is)


def psnr(one, other):
    return 10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2))


@pytest.fixture(scope="module", params=[H264, JPEG], ids=["h264", "jpeg"])
def pair(request, tmp_path_factory):
    """A video of 50 frames and odd sides, its keyframes far apart, and the same in a shard."""
    folder = tmp_path_factory.mktemp("pair")
    frames = smooth(50, 90, 120)
    raw = Record(write_video(folder / "a.mp4", frames, gop=50, num_b_frames=2), 1, "x/a.mp4")
    settings = dataclasses.replace(
        request.param, short_side_px=75
    )  # so that 3 x 4 becomes 75 x 100
    settings = dataclasses.replace(settings, short_side_px=73)
    return raw, write_shards(folder / "shards", [raw], settings).records[0]


def test_a_prepared_video_has_the_frames_and_times_of_its_source(pair):
    raw, prepared = pair
    assert (prepared.label, prepared.video_id, prepared.num_frames) == (1, "x/a.mp4", 50)
    with open_record(raw) as source, open_record(prepared) as video:
        assert video.num_frames == 50
        np.testing.assert_allclose(video.times_s, source.times_s, atol=1e-5)
    frames = read(prepared)
    assert frames.shape == (50, 73, 97, 3)  # the odd sides that the raw one is resized to
    assert prepared.path in video.path and "x/a.mp4" in video.path
    for indices in ([49], [0], [31, 7, 7, 16], range(3, 50, 9)):
        np.testing.assert_array_equal(read(prepared, indices), frames[list(indices)])


@pytest.mark.parametrize("sampling", ["uniform", "dense"])
def test_a_clip_of_it_is_the_clip_of_the_source_up_to_the_codec(sampling, pair):
    raw, prepared = pair
    spec = ClipSpec(8, 64, short_side_px=73, sampling=sampling, flip="all", reverse="all")
    for seed in range(3):
        (one, _), (other, _) = (
            clips.load_train_clips(record, spec, [np.random.default_rng(seed)])[0]
            for record in pair
        )
        assert psnr(one, other) > 34
    test = clips.view_spec(spec, num_crops=1)
    one, other = (clips.load_views(record, test, num_clips=2) for record in pair)
    assert one.shape == (2, 8, 64, 64, 3) and psnr(one, other) > 34


def test_indices_out_of_range_are_refused(pair):
    for wrong in ([50], [-1], []):
        with pytest.raises(ValueError, match="frames|integers"):
            read(pair[1], wrong)


@BOTH
def test_a_part_becomes_a_video_of_its_own(settings, tmp_path):
    path = write_video(tmp_path / "a.mp4", smooth(48, 32, 48), rate=16)
    part = Record(path, 0, "a", start_s=1.0, end_s=2.0)
    (prepared,) = write_shards(tmp_path / "shards", [part], settings).records
    assert (prepared.start_s, prepared.end_s, prepared.num_frames) == (0.0, None, 16)
    assert psnr(read(prepared), read(part)) > 34
    with open_record(prepared) as video:
        np.testing.assert_allclose(video.times_s, np.arange(16) / 16, atol=1e-5)


@BOTH
def test_small_videos_are_not_enlarged_and_long_ones_held_in_pieces(
    settings, tmp_path, monkeypatch
):
    monkeypatch.setattr("pst_jax.data.pack._HELD_BYTES", 7 * 33 * 47 * 3)
    raw = Record(write_video(tmp_path / "a.mp4", smooth(40, 32, 46), gop=40), 0, "a")
    (prepared,) = write_shards(tmp_path / "shards", [raw], settings).records
    assert read(prepared).shape == (40, 32, 46, 3) and psnr(read(prepared), read(raw)) > 34


def test_of_jpeg_no_more_is_read_than_is_needed(tmp_path, monkeypatch):
    raw = Record(write_video(tmp_path / "a.mp4", smooth(50, 32, 48)), 0, "a")
    (prepared,) = write_shards(tmp_path / "shards", [raw, raw], JPEG).records[1:]
    numbers = []
    reader = shards._reader(prepared.path)

    class Watched:
        def read(self, wanted):
            numbers.extend(wanted)
            return reader.read(wanted)

    monkeypatch.setattr(shards, "_reader", lambda path: Watched())
    read(prepared, [16, 31, 49])
    assert numbers == [5, 7, 9]  # the second video's head, its second and its last 16 frames


def test_four_threads_share_a_shard(pair):
    expected = read(pair[1])
    rng = np.random.default_rng(0)
    wanted = [rng.integers(0, 50, 4) for _ in range(80)]
    with ThreadPoolExecutor(4) as pool:
        for indices, frames in zip(wanted, pool.map(lambda each: read(pair[1], each), wanted)):
            np.testing.assert_array_equal(frames, expected[indices])


def test_every_flipped_byte_of_a_video_is_noticed(tmp_path):
    raw = Record(write_video(tmp_path / "a.mp4", smooth(4, 16, 16)), 0, "a")
    for settings in (Settings(crf=40), dataclasses.replace(JPEG, quality=30)):
        folder = tmp_path / settings.format
        (prepared,) = write_shards(folder, [raw], settings).records
        payload = pack(raw, settings).payload
        whole = pathlib.Path(prepared.path).read_bytes()
        copy = folder / "copy.array_record"
        for number, data in enumerate(payload):
            start = whole.index(data)
            for place in range(start, start + len(data)):
                damaged = bytearray(whole)
                damaged[place] ^= 1 << place % 8
                copy.write_bytes(damaged)
                with pytest.raises(VideoError, match="damaged.*delete it and run prepare again"):
                    shards._read("a", shards.ArrayRecordReader(str(copy), shards._READ), [number])
        record = dataclasses.replace(prepared, path=str(copy))
        with pytest.raises(VideoError, match="copy.array_record:a: its shard.*damaged"):
            read(record)


@pytest.mark.parametrize("kept", [0, 1, 2**16, 0.5, -1])
def test_a_shard_that_is_cut_off_or_missing_is_told(kept, pair, tmp_path):
    whole = pathlib.Path(pair[1].path).read_bytes()
    path = tmp_path / "cut.array_record"
    path.write_bytes(whole[: int(len(whole) * kept) if isinstance(kept, float) else kept])
    for name in (path, tmp_path / "missing.array_record"):
        record = dataclasses.replace(pair[1], path=str(name))
        with pytest.raises(VideoError, match=f"{name}:x/a.mp4: its shard.*run prepare again"):
            read(record)


def test_a_record_that_is_no_video_is_told(pair):
    for entry in (1, 2):
        with pytest.raises(VideoError, match="begins no video of version 1|missing"):
            read(dataclasses.replace(pair[1], entry=entry))
    with pytest.raises(VideoError, match="has 50 frames, 49 by its list"):
        read(dataclasses.replace(pair[1], num_frames=49))


def test_what_could_not_be_prepared_stays_in_the_list_and_says_why(tmp_path):
    raw = Record(write_video(tmp_path / "a.mp4", smooth(4, 16, 16)), 0, "a")
    listing = write_shards(tmp_path / "shards", [raw, Record("", 1, "b"), raw], H264)
    assert [record.video_id for record in listing.records] == ["a", "b", "a"]
    assert listing.class_names == ("a", "b") and read_index(tmp_path / "shards") == listing
    with pytest.raises(VideoError, match="0.array_record:b: is broken .when it was prepared"):
        read(listing.records[1])
    np.testing.assert_array_equal(read(listing.records[0]), read(listing.records[2]))


def test_a_name_need_not_be_utf8(tmp_path):
    name = b"caf\xe9.mp4".decode("utf-8", "surrogateescape")
    raw = Record(write_video(tmp_path / "a.mp4", smooth(4, 16, 16)), 0, name)
    (prepared,) = write_shards(tmp_path / "shards", [raw], H264).records
    assert prepared.video_id == name and len(read(prepared)) == 4


@pytest.fixture
def folder(pair, tmp_path):
    """A folder of shards of one's own."""
    source = pathlib.Path(pair[1].path).parent
    return pathlib.Path(shutil.copytree(source, tmp_path / "shards"))


def test_a_folder_that_was_altered_is_refused(folder):
    manifest = folder / shards.MANIFEST
    line = manifest.read_text()
    for text in ("", line + line, line.replace('"label": 1', '"label": 2')):
        manifest.write_text(text)
        with pytest.raises(ValueError, match="is not what dataset.json says was prepared"):
            shards.read_manifest(str(folder))
    for text in (line[:50], "[1]\n", "{}\n"):
        manifest.write_text(text)
        with pytest.raises(ValueError, match="manifest.jsonl cannot be read.*run prepare again"):
            shards.read_manifest(str(folder))
    manifest.unlink()
    with pytest.raises(ValueError, match="manifest.jsonl cannot be read.*run prepare again"):
        shards.read_manifest(str(folder))


def test_another_version_is_refused(folder):
    dataset = folder / shards.DATASET
    dataset.write_text(json.dumps(json.loads(dataset.read_text()) | {"version": 2}))
    with pytest.raises(ValueError, match="is of version 2, this library reads version 1"):
        shards.read_manifest(str(folder))
    for text in ("{}", "[]", "what"):
        dataset.write_text(text)
        with pytest.raises(ValueError, match="dataset.json cannot be read"):
            shards.read_manifest(str(folder))


def test_a_shard_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    raw = Record(write_video(tmp_path / "a.mp4", smooth(4, 16, 16)), 0, "a")
    packed = pack(raw, H264)
    with pytest.raises(OSError, match="cannot be written"):
        shards.write_shard(tmp_path / "nowhere" / "0", [(raw, packed)])

    def videos():
        yield raw, packed
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        shards.write_shard(tmp_path / "0", videos())
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


def test_a_folder_may_lie_in_a_bucket(folder, monkeypatch):
    # What stands in for a bucket: lists are read through fsspec, here with a file system for gs://
    # that is a local folder; ArrayRecord opens gs:// itself, here it gets the local path.
    def local(path):
        return str(path).replace("gs://bucket", str(folder.parent))

    class Bucket(LocalFileSystem):
        protocol = ("gs", "gcs")

        @classmethod
        def _strip_protocol(cls, path):
            return super()._strip_protocol(local(path))

    for protocol in Bucket.protocol:
        fsspec.register_implementation(protocol, Bucket, clobber=True)
    opened = []

    def open_shard(path, options):
        opened.append(path)
        return reader(local(path), options)

    shards._reader.cache_clear()  # of a bucket of that name
    reader = shards.ArrayRecordReader
    monkeypatch.setattr(shards, "ArrayRecordReader", open_shard)
    listing = read_index("gs://bucket/shards")
    assert listing.records[0].path == "gs://bucket/shards/0.array_record"
    here = shards.read_manifest(str(folder))
    np.testing.assert_array_equal(read(listing.records[0]), read(here.records[0]))
    assert opened[0] == "gs://bucket/shards/0.array_record"


def test_reading_shards_needs_no_jax():
    program = "import sys, pst_jax.data.shards; print('jax' in sys.modules)"
    root = pathlib.Path(__file__).parents[2]
    result = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True)
    assert result.stdout.strip() == b"False"
