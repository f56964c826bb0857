"""Videos in ArrayRecord shards, ready to be trained on: writing, listing and opening them.

A folder holds `dataset.json` (what was prepared and how), the shards and, when all are there,
`manifest.jsonl`, a line per video in the order of the source list. A video is a record of a shard
or several that follow each other, see `pack`. A shard's last record is its part of the manifest,
so that what is there of a folder is always whole. ArrayRecord checks a hash of every record that
it reads: no flipped bit of a video goes unnoticed.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgpack
import numpy as np
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
from etils import epath

from pst_jax import files
from pst_jax.data import timetable
from pst_jax.data.frames import Each, Frames, Loaded, VideoError, as_it_is
from pst_jax.data.images import decode_image
from pst_jax.data.pack import VERSION, Packed, Skipped, small_frames
from pst_jax.data.records import Listing, Record, fingerprint
from pst_jax.data.sources import open_record

DATASET, MANIFEST = "dataset.json", "manifest.jsonl"
UNREADABLE = -1  # in place of a record's number, of a video that could not be prepared

# The payloads are compressed already, and a clip needs one video, not its neighbours.
_WRITE = "group_size:1,uncompressed"
_READ = "readahead_buffer_size:0,max_parallelism:0"
_MAX_OPEN = 512  # shards that a process holds open: below the usual limit of 1024 files


def write_shard(path: pathlib.Path, videos: Iterable[tuple[Record, Packed | Skipped]]) -> None:
    """Writes a shard, whole or not at all.

    Args:
        path: of the shard.
        videos: each with what it was packed to, or why it could not be.

    Raises:
        OSError: if it cannot be written.
    """
    lines, num_written = [], 0
    with files.replacing(path) as temporary:
        writer = ArrayRecordWriter(str(temporary), _WRITE)
        try:
            for record, packed in videos:
                line = {"video_id": record.video_id, "label": record.label}
                lines.append(line | _line(packed, path.name, num_written))
                for data in () if isinstance(packed, Skipped) else packed.payload:
                    writer.write(data)
                    num_written += 1
            writer.write("".join(json.dumps(line) + "\n" for line in lines).encode())
            writer.close()
        except RuntimeError as error:
            raise OSError(f"{path} cannot be written: {error}") from error


def _line(packed: Packed | Skipped, shard: str, number: int) -> dict[str, Any]:
    if isinstance(packed, Skipped):
        nothing = dict.fromkeys(("num_frames", "fps", "width", "height", "sha1"))
        where = {"shard": shard, "record": UNREADABLE, "bytes": 0}
        return nothing | where | dataclasses.asdict(packed)
    return {
        "num_frames": packed.num_frames,
        "fps": packed.fps,
        "width": packed.width,
        "height": packed.height,
        "shard": shard,
        "record": number,
        "sha1": _sha1(packed.payload),
        "bytes": sum(map(len, packed.payload)),
        "status": "ok",
        "reason": "",
    }


def _sha1(payload: Iterable[bytes]) -> str:
    return hashlib.sha1(b"".join(payload), usedforsecurity=False).hexdigest()


def shard_lines(path: str) -> list[dict[str, Any]]:
    """Reads a shard's part of the manifest.

    Raises:
        VideoError: if the shard is missing, cut off or damaged.
    """
    reader = ArrayRecordReader(path, _READ)
    (data,) = _read(path, reader, [max(reader.num_records() - 1, 0)])
    return [json.loads(line) for line in data.decode().splitlines()]


def read_manifest(folder: str) -> Listing:
    """Reads the list of a folder of shards.

    Args:
        folder: as `python -m pst_jax.data.prepare` writes it, local or gs://.

    Returns:
        Every video of the list that was prepared, in its order and with its ids and labels. To
        open one that could not be prepared raises a `VideoError` that says why it could not.

    Raises:
        ValueError: if it is not such a folder, is not finished or was written by another version.
    """
    folder = epath.Path(folder)
    dataset = read_dataset(folder)
    try:
        lines = [json.loads(line) for line in (folder / MANIFEST).read_text().splitlines()]
        records = tuple(
            Record(
                str(folder / line["shard"]),
                line["label"],
                line["video_id"],
                entry=line["record"],
                num_frames=line["num_frames"],
            )
            for line in lines
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{folder / MANIFEST} cannot be read ({error}): run prepare again, it goes on where it "
            "stopped"
        ) from error
    if fingerprint(records) != dataset.get("source"):
        raise ValueError(
            f"{folder / MANIFEST} is not what {DATASET} says was prepared: copy the folder again, "
            f"or delete {MANIFEST} and run prepare again"
        )
    names = dataset.get("class_names")
    missing = (record for record, line in zip(records, lines) if line.get("status") == "missing")
    return Listing(records, None if names is None else tuple(names), tuple(missing))


def read_dataset(folder: epath.Path) -> dict[str, Any]:
    """Reads what was prepared and how.

    Raises:
        ValueError: if it cannot be read or was written by another version.
    """
    path = folder / DATASET
    try:
        dataset = json.loads(path.read_text())
        version = dataset["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} cannot be read ({error}): give a folder that prepare has written"
        ) from error
    if version != VERSION:
        raise ValueError(
            f"{path} is of version {version}, this library reads version {VERSION}: prepare again "
            "to another folder, or use the library that wrote it"
        )
    return dataset


@contextlib.contextmanager
def open_entry(record: Record) -> Iterator[Frames]:
    """Opens a video of a shard.

    Args:
        record: of `read_manifest`.

    Yields:
        Its frames; of JPEG only those records are read that hold the frames asked for.

    Raises:
        VideoError: if its shard is missing or damaged, or it could not be prepared.
    """
    name = f"{record.path}:{record.video_id}"
    if record.entry == UNREADABLE:
        reasons = {line["video_id"]: line["reason"] for line in shard_lines(record.path)}
        reason = reasons.get(record.video_id, "is not known to its shard: prepare again")
        raise VideoError(name, f"{reason} (when it was prepared)")
    head = _head(name, record)
    if head["kind"] == "h264":
        table = {field: head[field] for field in ("ticks", "tick_s", "keys")}
        with timetable.open_known(name, head["mp4"], table) as video:
            is_padded = head["height"] % 2 or head["width"] % 2
            yield _Unpadded(video, head) if is_padded else video
    else:
        yield _pictures(name, record, head)


def check(record: Record, sha1: str) -> None:
    """Reads and decodes a video to its end.

    Raises:
        VideoError: if it is not what was written.
    """
    with open_record(record) as video:
        head = _head(video.path, record)
        num_more = math.ceil(head.get("num_frames", 0) / head.get("chunk_frames", 1))
        numbers = range(record.entry, record.entry + 1 + num_more)
        if _sha1(_read(video.path, _reader(record.path), numbers)) != sha1:
            raise VideoError(video.path, f"is not what {MANIFEST} says: prepare its shard again")
        for _ in small_frames(video, max(head["height"], head["width"])):
            pass


class _Unpadded:
    """A video without the row or column that makes its sides even."""

    def __init__(self, video: Frames, head: dict[str, Any]):
        self.path, self.num_frames, self.times_s = video.path, video.num_frames, video.times_s
        self._video, self._height, self._width = video, head["height"], head["width"]

    def read(
        self,
        indices: Sequence[int] | np.ndarray,
        each: Each = as_it_is,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """See `Frames`."""
        cut = lambda frame: each(frame[: self._height, : self._width])  # noqa: E731
        return self._video.read(indices, cut, out)


def _pictures(name: str, record: Record, head: dict[str, Any]) -> Loaded:
    """A video of JPEG frames, some to a record."""
    reader, first, size = _reader(record.path), record.entry + 1, head["chunk_frames"]

    @functools.lru_cache(maxsize=1)  # indices ascend
    def chunk(number: int) -> list[bytes]:
        return msgpack.unpackb(_read(name, reader, [first + number])[0])

    def load(index: int) -> np.ndarray:
        return decode_image(chunk(index // size)[index % size], name)

    times_s = None if head["times_s"] is None else np.array(head["times_s"])
    return Loaded(name, head["num_frames"], load, times_s)


def _head(name: str, record: Record) -> dict[str, Any]:
    (data,) = _read(name, _reader(record.path), [record.entry])
    try:
        head = msgpack.unpackb(data)
    except ValueError:
        head = None
    if not isinstance(head, dict) or head.get("version") != VERSION:
        raise VideoError(
            name,
            f"record {record.entry} of its shard begins no video of version "
            f"{VERSION}: copy shard and {MANIFEST} again",
        )
    return head


@functools.lru_cache(maxsize=_MAX_OPEN)
def _reader(path: str) -> ArrayRecordReader:
    """A shard of which this process reads; its threads share it."""
    return ArrayRecordReader(path, _READ)


def _read(name: str, reader: ArrayRecordReader, numbers: Iterable[int]) -> list[bytes]:
    reason = "has no index"
    try:
        found = reader.read([int(number) for number in numbers])
        if all(found):  # of some cuts ArrayRecord makes empty records
            return found
    except RuntimeError as error:
        reason = str(error)
    raise VideoError(
        name,
        f"its shard is missing, cut off or damaged ({reason}): copy it again, or delete it and run "
        "prepare again",
    )
