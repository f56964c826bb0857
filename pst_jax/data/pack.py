"""Encodes a video as the records of a shard: what training reads.

The first record is a msgpack map that says what the video is. Of h264 it holds an mp4; of JPEG,
records that follow hold a list of frames each, so that a clip need not read all of them.
"""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Literal

import cv2
import msgpack
import numpy as np

from pst_jax.data.encode import encode_mp4
from pst_jax.data.frames import Frames, VideoError
from pst_jax.data.records import Record
from pst_jax.data.sources import open_record
from pst_jax.data.timetable import make_timetable
from pst_jax.data.transforms import resize_short_side

VERSION = 1  # of what is written; `shards` reads it

_CHUNK_FRAMES = 16  # of JPEG per record: a clip of 32 frames at stride 2 reads 5 of them
_HELD_BYTES = 2**27  # of frames in memory: most clips of 10 s at once


@dataclasses.dataclass(frozen=True)
class Settings:
    """How videos are packed.

    Attributes:
        format: "h264", or "jpeg": five times the bytes for twice the speed.
        short_side_px: of the frames; smaller ones are never enlarged.
        gop: of h264, see `encode.encode_mp4`.
        crf: likewise.
        quality: of JPEG, in [0, 100].
        videos_per_shard: the last shard may have fewer.
    """

    format: Literal["h264", "jpeg"] = "h264"
    short_side_px: int = 256
    gop: int | None = 12
    crf: int | None = 21
    quality: int | None = None
    videos_per_shard: int = 1024


@dataclasses.dataclass(frozen=True)
class Packed:
    """A video as records of a shard, and what the manifest says of it; fps may be unknown."""

    payload: tuple[bytes, ...]
    num_frames: int
    fps: float | None
    width: int
    height: int


@dataclasses.dataclass(frozen=True)
class Skipped:
    """Stands for a video that could not be prepared.

    Attributes:
        reason: why not.
        status: "unreadable", or "missing" where a published list names what the disk lacks.
    """

    reason: str
    status: str = "unreadable"


def pack(record: Record, settings: Settings) -> Packed:
    """Encodes the video of a record, or its part that counts: every frame, at its own time.

    Args:
        record: of any list; frames without times are given 1/25 s each.
        settings: how.

    Raises:
        VideoError: if it cannot be read or encoded.
    """
    with open_record(record) as video:
        frames = small_frames(video, settings.short_side_px)
        first = next(frames)
        frames = itertools.chain([first], frames)
        height, width = first.shape[:2]
        head = {"version": VERSION, "kind": settings.format, "height": height, "width": width}
        if settings.format == "h264":
            data = _to_mp4(video, frames, settings)
            payload = (msgpack.packb(head | {"mp4": data} | make_timetable(video.path, data)),)
        else:
            pictures = [_to_jpeg(frame, settings.quality) for frame in frames]
            times_s = None if video.times_s is None else video.times_s.tolist()
            head |= {"num_frames": len(pictures), "chunk_frames": _CHUNK_FRAMES, "times_s": times_s}
            starts = range(0, len(pictures), _CHUNK_FRAMES)
            chunks = (pictures[start : start + _CHUNK_FRAMES] for start in starts)
            payload = tuple(map(msgpack.packb, (head, *chunks)))
        return Packed(payload, video.num_frames, _rate(video.times_s), width, height)


def small_frames(video: Frames, short_side_px: int) -> Iterator[np.ndarray]:
    """Every frame in order, resized as training would; as many at once as memory should hold."""

    def resize(frame):
        return resize_short_side(frame[None], min(short_side_px, *frame.shape[:2]))[0]

    first = video.read([0], resize)[0]
    step = max(1, _HELD_BYTES // first.nbytes)
    for start in range(0, video.num_frames, step):
        frames = video.read(np.arange(start, min(start + step, video.num_frames)), resize)
        if frames.shape[1:] != first.shape:
            raise VideoError(video.path, "its frames change their size: re-encode it")
        yield from frames


def _to_mp4(video: Frames, frames: Iterator[np.ndarray], settings: Settings) -> bytes:
    times_s = np.arange(video.num_frames) / 25 if video.times_s is None else video.times_s
    try:
        return encode_mp4(zip(times_s, frames), crf=settings.crf, gop=settings.gop)
    except VideoError:
        raise
    except ValueError as error:
        raise VideoError(video.path, str(error)) from error


def _to_jpeg(frame: np.ndarray, quality: int) -> bytes:
    bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def _rate(times_s: np.ndarray | None) -> float | None:
    if times_s is None or times_s[-1] <= times_s[0]:
        return None
    return round((len(times_s) - 1) / float(times_s[-1] - times_s[0]), 3)
