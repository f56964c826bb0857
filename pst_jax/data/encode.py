"""Writes frames to an h264 mp4 with PyAV, each at a time of its own."""

import io
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from pst_jax import files

# A frame of 24, 25, 30, 50 or 60 per second, or of 1000/1001 of these, lasts whole ticks.
_TICKS_PER_S = 120_000
_TICK_S = Fraction(1, _TICKS_PER_S)
# No frame refers to a later one: the file starts at its first frame, without an edit list.
_OPTIONS = {"crf": "20", "preset": "veryfast", "bf": "0"}
# What players take for granted in HD; the number is that of the matrix, primaries and transfer.
_BT709, _LIMITED_RANGE = 1, 1


@contextmanager
def writing_mp4(path: str | os.PathLike) -> Iterator[Callable[[float, np.ndarray], None]]:
    """Gives a function that appends a frame to an h264 mp4, which appears when the block ends.

    Where the block fails nothing appears, and a file that lay there stays. The last frame lasts
    as long as the one before it, a single one 1/25 s.

    Args:
        path: the file, named .mp4, in a folder that exists.

    Yields:
        `write(time_s, frame)`: the frame's time in seconds, at least 0 and no less than that of
        the frame before; the frame, uint8 [H, W, 3], RGB, of one size throughout. An odd side is
        padded by repeating its last row or column: the format stores colour for 2 x 2 pixels.

    Raises:
        ValueError: if the path is not as above, it cannot be written, no frame was given, or
            (from `write`) a frame or its time is not as above.
    """
    path = pathlib.Path(path)
    check_mp4(path)
    with files.replacing(path) as temporary:
        try:
            with av.open(str(temporary), "w", format="mp4") as container:
                writer = _Writer(container, _OPTIONS)
                yield writer.write
                writer.finish()
        except av.error.FFmpegError as error:
            raise ValueError(f"{path} cannot be written: {error.strerror}") from error


def encode_mp4(frames: Iterable[tuple[float, np.ndarray]], *, crf: int, gop: int) -> bytes:
    """Encodes a video that is quick to decode from any frame on; only the result is held.

    Args:
        frames: times and frames as `writing_mp4` takes them, one at least.
        crf: x264's quality, in [0, 51]: 0 is without loss but for the colours, 6 more are about
            half the bytes.
        gop: distance of the keyframes, in frames; at least 1.

    Returns:
        An mp4 of h264 for `decode.open_video`; the same for the same input on any number of cores.

    Raises:
        ValueError: if there is no frame or one is not as above, or it cannot be encoded.
    """
    quick = {"tune": "fastdecode", "g": str(gop), "keyint_min": str(gop), "sc_threshold": "0"}
    file = io.BytesIO()
    try:
        with av.open(file, "w", format="mp4") as container:
            writer = _Writer(container, _OPTIONS | quick | {"crf": str(crf)}, num_threads=1)
            for time_s, frame in frames:
                writer.write(time_s, frame)
            writer.finish()
    except av.error.FFmpegError as error:
        raise ValueError(f"cannot be encoded: {error.strerror}") from error
    return file.getvalue()


def check_mp4(path: str | os.PathLike) -> None:
    """Raises a `ValueError` unless an mp4 of that name can be written."""
    path = pathlib.Path(path)
    if path.suffix.lower() != ".mp4":
        raise ValueError(f"{str(path)!r} must be named .mp4: no other kind of file is written")
    files.check_writable(path)


class _Writer:
    """Encodes frames into an open container; the first one decides their size."""

    def __init__(
        self, container: av.container.OutputContainer, options: dict[str, str], num_threads: int = 0
    ):
        self._container = container
        self._options, self._num_threads = options, num_threads  # 0: one per core
        self._stream, self._shape = None, None
        self._to_yuv = VideoReformatter()
        self._time_s, self._ticks, self._last_ticks = 0.0, None, _TICKS_PER_S // 25

    def write(self, time_s: float, frame: np.ndarray) -> None:
        """Appends a frame, see `writing_mp4`."""
        is_frame = frame.dtype == np.uint8 and frame.ndim == 3 and frame.shape[-1] == 3
        if not is_frame or frame.shape != (self._shape or frame.shape) or 0 in frame.shape:
            expected = list(self._shape or ("H", "W", 3))
            raise ValueError(
                f"frame is {frame.dtype} {list(frame.shape)}: must be uint8 {expected}"
            )
        if not time_s >= self._time_s:
            raise ValueError(f"time_s={time_s} must be at least {self._time_s}: times ascend")
        ticks = round(time_s * _TICKS_PER_S)
        if self._ticks is not None:
            ticks = max(ticks, self._ticks + 1)  # the format has no two frames of one time
            self._last_ticks = ticks - self._ticks
        self._time_s, self._ticks = time_s, ticks
        if self._stream is None:
            self._shape = frame.shape
            self._start(*frame.shape[:2])
        self._container.mux(self._stream.encode(self._picture(frame)))

    def finish(self) -> None:
        """Writes what the encoder kept back."""
        if self._stream is None:
            raise ValueError("no frame was written: a video has at least one")
        for packet in self._stream.encode(None):
            packet.duration = self._last_ticks  # that of the last is not followed by another's time
            self._container.mux(packet)

    def _start(self, height: int, width: int) -> None:
        # The rate is no more than a hint to the encoder: the frames' times are what counts.
        self._stream = self._container.add_stream("libx264", rate=30, options=self._options)
        self._stream.height, self._stream.width = height + height % 2, width + width % 2
        self._stream.pix_fmt = "yuv420p"
        self._stream.thread_type = "AUTO"
        codec = self._stream.codec_context
        codec.thread_count = self._num_threads
        codec.time_base = _TICK_S
        codec.colorspace = codec.color_primaries = codec.color_trc = _BT709
        codec.color_range = _LIMITED_RANGE

    def _picture(self, frame: np.ndarray) -> av.VideoFrame:
        height, width = frame.shape[:2]
        even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        picture = self._to_yuv.reformat(
            av.VideoFrame.from_ndarray(even, format="rgb24"),
            format="yuv420p",
            dst_colorspace="ITU709",
            dst_color_range="MPEG",
            threads=1,
        )
        picture.pts, picture.time_base = self._ticks, _TICK_S
        return picture
