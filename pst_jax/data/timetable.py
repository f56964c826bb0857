"""A video file whose frames' times are known beforehand: nothing is listed before it is decoded.

For what `prepare` has written: it says itself when its frames are shown, every keyframe is a start,
and no frame refers to a later one. Listing the packets would take a seventh of reading a clip.
"""

import bisect
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import av
import numpy as np

from pst_jax.data import decode
from pst_jax.data.containers import AGAIN
from pst_jax.data.frames import Each, Frames, VideoError, as_it_is, check_indices, gather


def make_timetable(name: str, data: bytes) -> dict[str, Any]:
    """Lists a file once: `ticks` of its frames, `tick_s`, and `keys`, the frames of keyframes.

    Args:
        name: of the file, for messages.
        data: what it holds; no frame in it refers to a later one.

    Returns:
        JSON values.
    """
    with decode.open_stream(name, data) as stream:
        packets = [packet for packet in stream.container.demux(stream) if packet.size]
        return {
            "ticks": [packet.pts for packet in packets],
            "tick_s": float(stream.time_base),
            "keys": [rank for rank, packet in enumerate(packets) if packet.is_keyframe],
        }


@contextlib.contextmanager
def open_known(name: str, data: bytes, timetable: dict[str, Any]) -> Iterator[Frames]:
    """Opens a file by its timetable.

    Args:
        name: of the file, for messages.
        data: what it holds.
        timetable: of `make_timetable`.

    Yields:
        Its frames.

    Raises:
        VideoError: if it cannot be opened.
    """
    with decode.open_stream(name, data) as stream:
        yield _Known(name, stream, **timetable)


class _Known:
    """An open file as `frames.Frames`."""

    def __init__(
        self, path: str, stream: av.VideoStream, ticks: list[int], tick_s: float, keys: list[int]
    ):
        self.path, self.num_frames = path, len(ticks)
        self.times_s = (np.array(ticks) - ticks[0]) * tick_s
        self._stream, self._ticks, self._keys = stream, ticks, keys
        self._to_rgb = decode.rgb_converter()

    def read(
        self,
        indices: Sequence[int] | np.ndarray,
        each: Each = as_it_is,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """See `Frames`."""
        wanted, places = np.unique(check_indices(indices, self), return_inverse=True)
        try:
            return gather(map(each, self._decode(wanted.tolist())), places, out)
        except av.error.FFmpegError as error:
            raise VideoError(self.path, decode.reason_of(error)) from error

    def _decode(self, wanted: list[int]) -> Iterator[np.ndarray]:
        """The frames of ascending ranks, from the keyframe before each on."""
        key, frames = None, iter(())
        for rank in wanted:
            own = bisect.bisect_right(self._keys, rank) - 1
            if own != key:
                key, frames = own, self._frames_from(self._ticks[self._keys[own]])
            found = next((frame for frame in frames if frame.pts >= self._ticks[rank]), None)
            if found is None or found.pts != self._ticks[rank] or found.is_corrupt:
                raise VideoError(self.path, f"frame {rank} cannot be decoded: it is damaged{AGAIN}")
            yield self._to_rgb(found)

    def _frames_from(self, tick: int) -> Iterator[av.VideoFrame]:
        container = self._stream.container
        container.seek(tick, stream=self._stream)
        self._stream.codec_context.flush_buffers()
        for packet in container.demux(self._stream):
            yield from self._stream.codec_context.decode(packet)
