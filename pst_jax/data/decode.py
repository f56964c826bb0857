"""Frames of a video file, by index or one after the other, exactly and honestly, with PyAV.

The index of a frame is its rank in presentation order, found by listing the file's packets:
neither a frame count from the header (webm has none) nor time multiplied by a frame rate is
trusted. A file that ends early is refused, not read as far as it goes.
"""

import bisect
import heapq
import io
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from pst_jax.data.containers import AGAIN, find_truncation
from pst_jax.data.frames import (
    Each,
    VideoError,
    as_it_is,
    check_clip_bytes,
    check_indices,
    gather,
)

# Only containers that hold their own data. Playlists (hls, dash, concat, image sequences) make
# ffmpeg open other files or addresses that the video names.
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,asf,mpegts,mpeg,ogg"
OPEN_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}

# More than any data set's: what claims more is refused before anything of that size is allocated.
MAX_FRAME_PX = 2**26  # of height times width
# Of what is read by index, whose packets are held in memory; a stream may be longer.
MAX_BYTES = 2**32
MAX_FRAMES = 2**20
MAX_DURATION_S = 24 * 3600

_NOT_WHOLE = f"is cut off or damaged: a packet is not whole{AGAIN}"
_NO_FRAME = f"its video stream holds no frame{AGAIN}"
NEW_SIZE = "its frames change their size: re-encode it"

# A title need not be UTF-8. PyAV 19 and later replace what is not, without being asked.
_ANY_TITLE = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}


class Video:
    """An open video as `frames.Frames`; made by `open_video`.

    Its packets (not its frames) are held in memory, which is the size of the file.

    Attributes:
        path: the file.
        num_frames: how many frames it holds.
        times_s: float64 [num_frames], when each is shown, in seconds since the first.
    """

    def __init__(self, path: str, stream: av.VideoStream):
        self.path = path
        self._decoder = stream.codec_context
        self._to_rgb = rgb_converter()
        self._packets = [packet for packet in stream.container.demux(stream) if packet.size]
        if any(packet.is_corrupt for packet in self._packets):  # flv and mpeg declare no length
            raise VideoError(path, _NOT_WHOLE)
        shown = [packet for packet in self._packets if _is_shown(packet, self._decoder.name)]
        self.num_frames = len(shown)
        if not shown:
            raise VideoError(path, _NO_FRAME)
        if len(shown) > MAX_FRAMES:
            raise VideoError(path, f"has {len(shown)} frames, more than {MAX_FRAMES}: cut it up")
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
        tick_s = stream.time_base if self._is_timed else 1 / (stream.average_rate or 25)
        self.times_s = (np.array(self._times) - self._times[0]) * float(tick_s)

    def read(
        self,
        indices: Sequence[int] | np.ndarray,
        each: Each = as_it_is,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Decodes frames, from the nearest keyframes on and no further than needed.

        Args:
            indices: [n] integers in [0, num_frames - 1], in any order, repeated or not.
            each: what is kept of a frame; see `frames.Frames`.
            out: where they go; see there.

        Returns:
            uint8 [n, H, W, 3], RGB, as `each` makes them.

        Raises:
            ValueError: if there is no index or one out of range.
            VideoError: if the file is damaged.
        """
        indices = check_indices(indices, self)
        wanted = np.unique(indices)
        times = [self._times[index] for index in wanted]
        try:
            frames = self._decode(times, each)
            if len(frames) < len(times) and len(self._keyframes) > 1:
                # A packet flagged as key may be a plain I slice, as x264 writes them at cuts: a
                # decoder shows nothing from there on. Only the first is sure to be a start.
                del self._keyframes[1:]
                frames = self._decode(times, each)
        except av.error.FFmpegError as error:
            raise VideoError(self.path, reason_of(error)) from error
        if len(frames) < len(wanted):
            raise VideoError(
                self.path,
                f"only {len(frames)} of {len(wanted)} frames asked for could be decoded, the file "
                f"lists {self.num_frames}: it is damaged{AGAIN}",
            )
        return gather(frames, np.searchsorted(wanted, indices), out)

    def _decode(self, times: list[int], each: Each) -> list[np.ndarray]:
        """The frames of `times` (ascending), as far as there are any."""
        found: list[np.ndarray] = []
        shape = None
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
                _check_whole(self.path, frame)
                time = frame.pts if self._is_timed else num_out
                num_out += 1
                if len(found) < len(times) and time == times[len(found)]:
                    shape = shape or (frame.height, frame.width)
                    if shape != (frame.height, frame.width):
                        raise VideoError(self.path, NEW_SIZE)
                    found.append(each(self._to_rgb(frame)))
                    check_clip_bytes(self.path, found[0], len(times))
            if is_end:
                break
            place += 1
        return found


@contextmanager
def open_video(path: str | os.PathLike, data: bytes | None = None) -> Iterator[Video]:
    """Opens a video file; it is closed when the block ends.

    Only a plain local file is opened, whatever its name looks like, and only containers that do
    not refer to other files. Rotation noted in the metadata is not applied (as in the released
    code).

    Args:
        path: mp4, mov, webm, mkv, avi, flv, wmv, mpeg, ts or ogg.
        data: what the file holds, where it is at hand; `path` is then only its name.

    Yields:
        The `Video`.

    Raises:
        VideoError: if the file is missing, empty, cut off, no video, has no video stream, or is
            larger than any data set's (the limits stand at the top of this file). Where nothing
            declares a length (flv, mpeg, ts, live recordings), only a cut that leaves something
            incomplete can be seen.
    """
    path = os.fspath(path)
    with open_stream(path, data) as stream:
        _check_length(path, stream.container)
        try:
            video = Video(path, stream)
        except (av.error.FFmpegError, IndexError) as error:
            raise VideoError(path, reason_of(error)) from error
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
    to_rgb = rgb_converter()
    num_frames, time_s, shape = 0, 0.0, None
    with open_stream(path) as stream:
        try:
            for time_s, frame in _frames_in_order(path, stream):
                rgb = to_rgb(frame)
                if shape not in (None, rgb.shape):
                    raise VideoError(path, NEW_SIZE)
                shape = rgb.shape
                num_frames += 1
                yield round(time_s, 6), rgb
        except (av.error.FFmpegError, IndexError, VideoError) as error:
            where = f"breaks off after {num_frames} frames ({time_s:.2f} s)"
            raise VideoError(path, f"{where}: {reason_of(error)}") from error


@contextmanager
def open_stream(path: str, data: bytes | None = None) -> Iterator[av.VideoStream]:
    """Opens a file's first video stream as `open_video` describes; nothing is decoded."""
    if data is None and not os.path.isfile(path):
        what = "is no plain file" if os.path.exists(path) else "does not exist"
        raise VideoError(path, f"{what}: correct the path or the data root")
    try:
        with open(path, "rb") if data is None else io.BytesIO(data) as file:
            reason = find_truncation(file)
    except OSError as error:
        raise VideoError(path, f"cannot be read: {error}") from error
    if reason:
        raise VideoError(path, reason)
    try:
        container = av.open(
            # So that no protocol is read into the name.
            "file:" + os.path.abspath(path) if data is None else io.BytesIO(data),
            options=OPEN_OPTIONS,
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
        decoder = stream.codec_context
        if decoder.width * decoder.height > MAX_FRAME_PX:
            raise VideoError(
                path,
                f"has frames of {decoder.width} x {decoder.height} px, more than {MAX_FRAME_PX} in "
                "all: re-encode it smaller",
            )
        decoder.options = {"max_pixels": str(MAX_FRAME_PX)}  # should the header lie
        stream.thread_type = "NONE"  # a decoder's own threads cost more than they give
        decoder.thread_count = 1
        yield stream


def _check_length(path: str, container: av.container.InputContainer) -> None:
    """Refuses what its header says is longer than any data set's."""
    duration_s = (container.duration or 0) / av.time_base
    lengths = (
        (container.size, MAX_BYTES, "bytes"),
        (round(duration_s), MAX_DURATION_S, "seconds"),
    )
    for length, most, unit in lengths:
        if length > most:
            raise VideoError(path, f"has {length} {unit}, more than {most}: cut it up")


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
            _check_whole(path, frame)
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


def _check_whole(path: str, frame: av.VideoFrame) -> None:
    """Raises a `VideoError` for a frame whose gaps ffmpeg has filled as it could."""
    if frame.is_corrupt:
        raise VideoError(path, f"a frame is damaged{AGAIN}")


def reason_of(error: Exception) -> str:
    """What a `VideoError` says of an error of PyAV's, or of its own kind."""
    if isinstance(error, VideoError):
        return error.reason
    if isinstance(error, IndexError):  # of PyAV
        return "has packets of a stream that its header does not list: re-encode it"
    return f"cannot be decoded: {error.strerror}; it is damaged{AGAIN}"


def rgb_converter() -> Callable[[av.VideoFrame], np.ndarray]:
    """Makes a function from a decoded frame to uint8 [H, W, 3]."""
    reformatter = VideoReformatter()
    # By itself PyAV takes a thread per core: ten times the CPU time on small frames.
    return lambda frame: reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()


def _is_shown(packet: av.Packet, codec: str) -> bool:
    """Whether a packet becomes a frame: vp8 stores invisible reference frames as packets too."""
    if codec == "vp8":
        return bool(bytes(packet)[0] & 0x10)  # RFC 6386, section 9.1: show_frame
    return not packet.is_discard  # cut away by an edit list
