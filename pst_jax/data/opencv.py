"""Frames of a video file, by index, decoded with OpenCV.

OpenCV stops at damage without a word, knows no list of the frames and hands each one out under no
name but its time. So PyAV lists the frames first (nothing is decoded), and what OpenCV then gives
is held against that list: each frame that is asked for must come at its listed time, or else the
whole file must hold as many as are listed. So a frame that is lost is noticed. One that is there
but damaged may be concealed, up to the next keyframe, where PyAV would tell (seen of vp8 and ffv1).

It decodes from the start on: its own seeking goes by the frame rate. That is fast where keyframes
are far apart, as in files that were downloaded, and slow where they are close, as in prepared ones.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import cv2
import numpy as np

from pst_jax.data import decode
from pst_jax.data.frames import Each, VideoError, as_it_is, check_clip_bytes, check_indices, gather

# OpenCV takes options of ffmpeg from the environment only: those that PyAV is given, and silence.
_ENVIRONMENT = {
    "OPENCV_FFMPEG_CAPTURE_OPTIONS": "|".join(
        f"{name};{value}" for name, value in decode.OPEN_OPTIONS.items()
    ),
    "OPENCV_FFMPEG_LOGLEVEL": "-8",
}
for _name, _value in _ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)

_SAME_TIME_S = 1e-6  # far less than between two frames
_ELSE = "or use decoder='pyav'"


class Video:
    """A video as `frames.Frames`; made by `open_video`. Its file is open while it is read.

    Attributes:
        path: the file.
        num_frames: how many frames it holds.
        times_s: float64 [num_frames], when each is shown, in seconds since the first.
    """

    def __init__(self, path: str, num_frames: int, times_s: np.ndarray):
        self.path, self.num_frames, self.times_s = path, num_frames, times_s

    def read(
        self,
        indices: Sequence[int] | np.ndarray,
        each: Each = as_it_is,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Decodes frames, from the start of the file to the last that is needed.

        Args:
            indices: [n] integers in [0, num_frames - 1], in any order, repeated or not.
            each: what is kept of a frame; see `frames.Frames`.
            out: where they go; see there.

        Returns:
            uint8 [n, H, W, 3], RGB, as `each` makes them; PyAV's to the bit where the file holds
            8 bits per colour, a few levels off where it holds more.

        Raises:
            ValueError: if there is no index or one out of range.
            VideoError: if the file is damaged, or of a kind that OpenCV cannot read as listed.
        """
        indices = check_indices(indices, self)
        wanted = np.unique(indices)
        with _capturing(self.path) as capture:
            frames = self._decode(capture, wanted, each)
        return gather(frames, np.searchsorted(wanted, indices), out)

    def _decode(
        self, capture: cv2.VideoCapture, wanted: np.ndarray, each: Each
    ) -> list[np.ndarray]:
        """The frames of `wanted` (ascending)."""
        found: list[np.ndarray] = []
        num_out, shape, is_timely = 0, None, True
        for index in wanted:
            while num_out <= index and capture.grab():
                num_out += 1
            if num_out <= index:
                raise self._not_as_listed(num_out)
            # In seconds since the start of the stream, so that a lost first frame is noticed too.
            time_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            is_timely &= abs(time_s - self.times_s[index]) < _SAME_TIME_S
            is_there, bgr = capture.retrieve()
            if not is_there:
                raise self._not_as_listed(num_out - 1)
            if bgr.shape != (shape or bgr.shape):
                raise VideoError(self.path, decode.NEW_SIZE)
            shape = bgr.shape
            found.append(each(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)))
            check_clip_bytes(self.path, found[0], len(wanted))
        if not is_timely:  # avi has no times, others none of some frames: then the count decides
            while capture.grab():
                num_out += 1
            if num_out != self.num_frames:
                raise self._not_as_listed(num_out)
        return found

    def _not_as_listed(self, num_out: int) -> VideoError:
        return VideoError(
            self.path,
            f"OpenCV decodes {num_out} frames, the file lists {self.num_frames}: it is damaged, or "
            f"OpenCV cannot read its codec; copy or download it again, {_ELSE}",
        )


@contextmanager
def open_video(path: str | os.PathLike) -> Iterator[Video]:
    """Opens a video file; what `decode.open_video` refuses is refused.

    Rotation noted in the metadata is not applied.

    Args:
        path: mp4, mov, webm, mkv, avi, flv, wmv, mpeg, ts or ogg; its name must be UTF-8.

    Yields:
        The `Video`. What OpenCV cannot decode (AV1, in the wheels of PyPI) is told when it is read.

    Raises:
        VideoError: as `decode.open_video`.
    """
    with decode.open_video(path) as listed:
        video = Video(listed.path, listed.num_frames, listed.times_s)
    yield video  # the packets that were listed are let go of


@contextmanager
def _capturing(path: str) -> Iterator[cv2.VideoCapture]:
    """Opens a plain file, whatever its name looks like, to be decoded by one thread."""
    name = "file:" + os.path.abspath(path)
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise VideoError(
            path, f"its name is not UTF-8, which OpenCV cannot open: rename it, {_ELSE}"
        ) from error
    capture = cv2.VideoCapture(name, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    try:
        if not capture.isOpened():
            raise VideoError(path, f"OpenCV cannot open it: re-encode it as mp4 or webm, {_ELSE}")
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        yield capture
    finally:
        capture.release()
