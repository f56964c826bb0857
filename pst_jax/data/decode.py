"""Frames of a video file, by index or one after the other, exactly and honestly, with PyAV.

The index of a frame is its rank in presentation order, found by listing the file's packets:
neither a frame count from the header (webm has none) nor time multiplied by a frame rate is
trusted. A file that ends early is refused, not read as far as it goes.
"""

import bisect
import heapq
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from pst_jax.data.containers import AGAIN, find_truncation

# Only containers that hold their own data. Playlists (hls, dash, concat, image sequences) make
# ffmpeg open other files or addresses that the video names.
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,asf,mpegts,mpeg,ogg"
_OPEN_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}

_NOT_WHOLE = f"is cut off or damaged: a packet is not whole{AGAIN}"
_NO_FRAME = f"its video stream holds no frame{AGAIN}"
_NEW_SIZE = "its frames change their size: re-encode it"

# A title need not be UTF-8. PyAV 19 and later replace what is not, without being asked.
_ANY_TITLE = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


class VideoError(ValueError):
    """A video that cannot be read: `path` and `reason` say which and why."""

    def __init__(self, path: str, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self):
        # The default would call the class with the message alone on the far side of a process.
        return type(self), (self.path, self.reason)


class Video:
    """An open video; made by `open_video`.

    Its packets (not its frames) are held in memory, which is the size of the file.

    Attributes:
        path: the file.
        num_frames: how many frames it holds.
    """

    def __init__(self, path: str, stream: av.VideoStream):
        self.path = path
        self._decoder = stream.codec_context
        self._to_rgb = _rgb_converter()
        self._packets = [packet for packet in stream.container.demux(stream) if packet.size]
        if any(packet.is_corrupt for packet in self._packets):  # flv and mpeg declare no length
            raise VideoError(path, _NOT_WHOLE)
        shown = [packet for packet in self._packets if _is_shown(packet, self._decoder.name)]
        self.num_frames = len(shown)
        if not shown:
            raise VideoError(path, _NO_FRAME)
        times = [packet.pts for packet in shown]
        # avi has no presentation times, what ffmpeg makes up for it does not name a frame: then
        # frames are counted as they leave the decoder, always from the start.
        self._is_timed = (
            stream.container.format.name != "avi"
            and None not in times
            and len(set(times)) == len(times)
        )
        self._times = sorted(times) if self._is_timed else list(range(len(times)))
        self._keyframes = [(self._times[0], 0)]  # (time, place among the packets), ascending
        if self._is_timed:
            for place, packet in enumerate(self._packets):
                if place and packet.is_keyframe and packet.pts > self._keyframes[-1][0]:
                    self._keyframes.append((packet.pts, place))

    def read(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Decodes frames, from the nearest keyframes on and no further than needed.

        Args:
            indices: [n] integers in [0, num_frames - 1], in any order, repeated or not.

        Returns:
            uint8 [n, H, W, 3], RGB.

        Raises:
            ValueError: if there is no index or one out of range.
            VideoError: if the file is damaged.
        """
        indices = np.asarray(indices)
        if indices.ndim != 1 or not indices.size or not np.issubdtype(indices.dtype, np.integer):
            raise ValueError(f"indices={indices!r} must be integers [n], n at least 1")
        if indices.min() < 0 or indices.max() >= self.num_frames:
            raise ValueError(
                f"indices reach from {indices.min()} to {indices.max()}, but {self.path} has "
                f"{self.num_frames} frames: they must lie in [0, {self.num_frames - 1}]"
            )
        wanted = np.unique(indices)
        times = [self._times[index] for index in wanted]
        try:
            frames = self._decode(times)
            if len(frames) < len(times) and len(self._keyframes) > 1:
                # A packet flagged as key may be a plain I slice, as x264 writes them at cuts: a
                # decoder shows nothing from there on. Only the first is sure to be a start.
                del self._keyframes[1:]
                frames = self._decode(times)
        except av.error.FFmpegError as error:
            raise VideoError(self.path, _reason(error)) from error
        if len(frames) < len(wanted):
            raise VideoError(
                self.path,
                f"only {len(frames)} of {len(wanted)} frames asked for could be decoded, the file "
                f"lists {self.num_frames}: it is damaged{AGAIN}",
            )
        if len({frame.shape for frame in frames}) > 1:
            raise VideoError(self.path, _NEW_SIZE)
        # A plain copy per frame is cheaper than stacking and gathering once more.
        clip = np.empty((len(indices), *frames[0].shape), dtype=np.uint8)
        for row, rank in enumerate(np.searchsorted(wanted, indices)):
            clip[row] = frames[rank]
        return clip

    def _decode(self, times: list[int]) -> list[np.ndarray]:
        """The frames of `times` (ascending), as far as there are any."""
        found: list[np.ndarray] = []
        self._decoder.flush_buffers()
        place, num_out = 0, 0
        while len(found) < len(times):
            wanted = times[len(found)]
            keyframe = bisect.bisect_right(self._keyframes, wanted, key=lambda item: item[0]) - 1
            if self._keyframes[keyframe][1] > place:  # nothing between is needed
                place = self._keyframes[keyframe][1]
                self._decoder.flush_buffers()
            is_end = place >= len(self._packets)
            for frame in self._decoder.decode(None if is_end else self._packets[place]):
                time = frame.pts if self._is_timed else num_out
                num_out += 1
                if len(found) < len(times) and time == times[len(found)]:
                    found.append(self._to_rgb(frame))
            if is_end:
                break
            place += 1
        return found


@contextmanager
def open_video(path: str | os.PathLike) -> Iterator[Video]:
    """Opens a video file; it is closed when the block ends.

    Only a plain local file is opened, whatever its name looks like, and only containers that do
    not refer to other files. Rotation noted in the metadata is not applied (as in the released
    code).

    Args:
        path: mp4, mov, webm, mkv, avi, flv, wmv, mpeg, ts or ogg.

    Yields:
        The `Video`.

    Raises:
        VideoError: if the file is missing, empty, cut off, no video, or has no video stream. Where
            nothing declares a length (flv, mpeg, ts, live recordings), only a cut that leaves
            something incomplete can be seen.
    """
    path = os.fspath(path)
    with _open_stream(path) as stream:
        try:
            video = Video(path, stream)
        except (av.error.FFmpegError, IndexError) as error:
            raise VideoError(path, _reason(error)) from error
        yield video


def stream_frames(path: str | os.PathLike) -> Iterator[tuple[float, np.ndarray]]:
    """Decodes a video from its start to its end, holding no more of it than the decoder needs.

    Frame n of the stream is what `Video.read([n])` gives. An hour of video takes no more memory
    than a second.

    Args:
        path: as for `open_video`.

    Yields:
        The frame's time in seconds since the first frame, to the microsecond and never less than
        that of the frame before, and the frame, uint8 [H, W, 3], RGB. A generator, to be closed
        (`contextlib.closing`) if it is left early. Where the file gives no times (avi), frames
        follow each other at its frame rate.

    Raises:
        VideoError: while iterating, as `open_video` and `Video.read`; where the file breaks in
            its middle, the reason says how many frames came before.
    """
    path = os.fspath(path)
    to_rgb = _rgb_converter()
    num_frames, time_s, shape = 0, 0.0, None
    with _open_stream(path) as stream:
        try:
            for time_s, frame in _frames_in_order(path, stream):
                rgb = to_rgb(frame)
                if shape not in (None, rgb.shape):
                    raise VideoError(path, _NEW_SIZE)
                shape = rgb.shape
                num_frames += 1
                yield round(time_s, 6), rgb
        except (av.error.FFmpegError, IndexError, VideoError) as error:
            where = f"breaks off after {num_frames} frames ({time_s:.2f} s)"
            raise VideoError(path, f"{where}: {_reason(error)}") from error


@contextmanager
def _open_stream(path: str) -> Iterator[av.VideoStream]:
    """Opens a file's first video stream as `open_video` describes; nothing is decoded."""
    if not os.path.isfile(path):
        what = "is no plain file" if os.path.exists(path) else "does not exist"
        raise VideoError(path, f"{what}: correct the path or the data root")
    reason = find_truncation(path)
    if reason:
        raise VideoError(path, reason)
    try:
        container = av.open(
            "file:" + os.path.abspath(path),  # so that no protocol is read into the name
            options=_OPEN_OPTIONS,
            **_ANY_TITLE,
        )
    except (av.error.FFmpegError, OSError) as error:
        raise VideoError(
            path,
            f"is not a video that can be read ({error.strerror}): replace it by an mp4, mov, webm, "
            "mkv, avi, flv, wmv, mpeg, ts or ogg file",
        ) from error
    with container:
        if not container.streams.video:
            raise VideoError(path, "has no video stream: take it off the list")
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise VideoError(path, "its codec is not known to this build of PyAV: re-encode it")
        stream.thread_type = "NONE"  # a decoder's own threads cost more than they give
        stream.codec_context.thread_count = 1
        yield stream


def _frames_in_order(path: str, stream: av.VideoStream) -> Iterator[tuple[float, av.VideoFrame]]:
    """Every frame with its time in seconds since the first; an error where one is missing."""
    decoder, is_avi = stream.codec_context, stream.container.format.name == "avi"
    tick_s, step_s = float(stream.time_base), 1 / float(stream.average_rate or 25)
    owed: list[int] = []  # a heap: times of packets whose frames have not come out
    num_listed, num_out, time_s, origin = 0, 0, -step_s, None
    packets = (packet for packet in stream.container.demux(stream) if packet.size)
    for packet in itertools.chain(packets, [None]):
        if packet is not None and packet.is_corrupt:
            raise VideoError(path, _NOT_WHOLE)
        if packet is not None and _is_shown(packet, decoder.name):
            num_listed += 1
            if packet.pts is not None and not is_avi:
                heapq.heappush(owed, packet.pts)
        for frame in decoder.decode(packet):
            num_out += 1
            last_s, time_s = time_s, time_s + step_s  # unless the file knows better
            if frame.pts is not None and not is_avi:
                if owed and owed[0] < frame.pts:
                    raise VideoError(path, f"the next cannot be decoded: it is damaged{AGAIN}")
                if owed and owed[0] == frame.pts:
                    heapq.heappop(owed)
                if origin is None:
                    origin = frame.pts - time_s / tick_s
                time_s = max(last_s, (frame.pts - origin) * tick_s)
            yield time_s, frame
    if num_out < num_listed:
        raise VideoError(path, f"{num_listed - num_out} more are listed: it is damaged{AGAIN}")
    if not num_out:
        raise VideoError(path, _NO_FRAME)


def _reason(error: Exception) -> str:
    """What a `VideoError` says of an error of PyAV's, or of its own kind."""
    if isinstance(error, VideoError):
        return error.reason
    if isinstance(error, IndexError):  # of PyAV
        return "has packets of a stream that its header does not list: re-encode it"
    return f"cannot be decoded: {error.strerror}; it is damaged{AGAIN}"


def _rgb_converter() -> Callable[[av.VideoFrame], np.ndarray]:
    """Makes a function from a decoded frame to uint8 [H, W, 3]."""
    reformatter = VideoReformatter()
    # By itself PyAV takes a thread per core: ten times the CPU time on small frames.
    return lambda frame: reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()


def _is_shown(packet: av.Packet, codec: str) -> bool:
    """Whether a packet becomes a frame: vp8 stores invisible reference frames as packets too."""
    if codec == "vp8":
        return bool(bytes(packet)[0] & 0x10)  # RFC 6386, section 9.1: show_frame
    return not packet.is_discard  # cut away by an edit list
