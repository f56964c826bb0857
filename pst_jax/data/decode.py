"""Frames of a video file by index, exactly and honestly, with PyAV.

The index of a frame is its rank in presentation order, found by listing the file's packets:
neither a frame count from the header (webm has none) nor time multiplied by a frame rate is
trusted. A file that ends early is refused, not read as far as it goes.
"""

import bisect
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import av
import numpy as np
from av.video.reformatter import VideoReformatter

# Only containers that hold their own data. Playlists (hls, dash, concat, image sequences) make
# ffmpeg open other files or addresses that the video names.
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,asf,mpegts,mpeg,ogg"
_OPEN_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")

_AGAIN = "; copy or download it again"

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
        stream.thread_type = "NONE"  # a decoder's own threads cost more than they give
        stream.codec_context.thread_count = 1
        self.path = path
        self._decoder = stream.codec_context
        self._reformatter = VideoReformatter()
        self._packets = [packet for packet in stream.container.demux(stream) if packet.size]
        if any(packet.is_corrupt for packet in self._packets):  # flv and mpeg declare no length
            raise VideoError(path, f"is cut off or damaged: a packet is not whole{_AGAIN}")
        shown = [packet for packet in self._packets if _is_shown(packet, self._decoder.name)]
        self.num_frames = len(shown)
        if not shown:
            raise VideoError(path, f"its video stream holds no frame{_AGAIN}")
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
        try:
            frames = self._decode([self._times[index] for index in wanted])
        except av.error.FFmpegError as error:
            reason = f"cannot be decoded: {error.strerror}; it is damaged{_AGAIN}"
            raise VideoError(self.path, reason) from error
        if len(frames) < len(wanted):
            raise VideoError(
                self.path,
                f"only {len(frames)} of {len(wanted)} frames asked for could be decoded, the file "
                f"lists {self.num_frames}: it is damaged{_AGAIN}",
            )
        if len({frame.shape for frame in frames}) > 1:
            raise VideoError(self.path, "its frames change their size: re-encode it")
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

    def _to_rgb(self, frame: av.VideoFrame) -> np.ndarray:
        # By itself PyAV takes a thread per core: ten times the CPU time on small frames.
        return self._reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()


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
    if not os.path.isfile(path):
        what = "is no plain file" if os.path.exists(path) else "does not exist"
        raise VideoError(path, f"{what}: correct the path or the data root")
    reason = _find_truncation(path)
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
        try:
            video = Video(path, stream)
        except av.error.FFmpegError as error:
            reason = f"its packets cannot be read: {error.strerror}{_AGAIN}"
            raise VideoError(path, reason) from error
        except IndexError as error:  # of PyAV
            reason = "has packets of a stream that its header does not list: re-encode it"
            raise VideoError(path, reason) from error
        yield video


def _is_shown(packet: av.Packet, codec: str) -> bool:
    """Whether a packet becomes a frame: vp8 stores invisible reference frames as packets too."""
    if codec == "vp8":
        return bool(bytes(packet)[0] & 0x10)  # RFC 6386, section 9.1: show_frame
    return not packet.is_discard  # cut away by an edit list


def _find_truncation(path: str) -> str | None:
    """Compares the length the outermost container element declares with the file's.

    ffmpeg reads a webm that was cut in half without a word, as far as it goes.
    """
    try:
        size = os.path.getsize(path)
        with open(path, "rb") as file:
            head = file.read(4096)
            if not head:
                return f"is empty (0 bytes){_AGAIN}"
            if head[4:8] == b"ftyp":
                end = _end_of_mp4(file, size)
            elif head[:4] == b"\x1a\x45\xdf\xa3":
                end = _end_of_matroska(file, size)
            elif head[:4] == b"\x30\x26\xb2\x75":
                end = _end_of_asf(head)
            elif head[:4] == b"RIFF":
                end = 8 + int.from_bytes(head[4:8], "little")
            elif head[:1] == head[188:189] == b"\x47":  # ts: packets of 188 bytes
                end = -(-size // 188) * 188
            else:
                end = 0
    except OSError as error:
        return f"cannot be read: {error}"
    if end > size:
        return f"is cut off: has {size} bytes of at least {end} that it declares{_AGAIN}"
    return None


def _end_of_mp4(file, size: int) -> int:
    """Where the last frame-carrying box of an mp4 or mov ends; 0 where that is not declared."""
    start = 0
    end = 0
    while start + 8 <= size:
        file.seek(start)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if length == 1:  # a 64-bit length follows
            length = int.from_bytes(header[8:16], "big")
        if length < 8:  # 0: up to the end of the file; else not a box
            break
        start += length
        if header[4:8] in (b"mdat", b"moov", b"moof"):  # not what some programs append
            end = start
    return end


def _end_of_matroska(file, size: int) -> int:
    """Where the segment of a webm or mkv ends; in a live recording, the last of its elements."""
    end = 0
    while end < size:
        file.seek(end)
        head = file.read(12)
        _, id_width = _read_vint(head, 0)
        length, width = _read_vint(head, id_width)
        if not id_width or not width:  # no element
            break
        end += id_width + width
        if length == (1 << 7 * width) - 1:  # not known, of a live recording: go into it
            continue
        end += length
        if head[:4] == b"\x18\x53\x80\x67":  # behind the segment: what some programs append
            break
    return end


def _end_of_asf(head: bytes) -> int:
    """Where a wmv ends by its file properties; 0 where it has none or was a broadcast."""
    properties = head.partition(_ASF_FILE_PROPERTIES)[2]
    if len(properties) < 73 or properties[72] & 1:
        return 0
    return int.from_bytes(properties[24:32], "little")


def _read_vint(data: bytes, start: int) -> tuple[int, int]:
    """A variable-length integer of EBML (RFC 8794) and its width in bytes; (0, 0) where none."""
    if start >= len(data) or data[start] == 0:
        return 0, 0
    width = 9 - data[start].bit_length()
    value = int.from_bytes(data[start : start + width], "big")
    return value & ((1 << 7 * width) - 1), width
