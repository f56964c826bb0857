"""A video in any of its forms, as frames by index."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np

# What is kept of a frame, uint8 [H, W, 3]: an array of one shape for all frames of a video.
Each = Callable[[np.ndarray], np.ndarray]

MAX_CLIP_BYTES = 2**31  # of the frames that one `read` returns: 400 frames of Full HD


class VideoError(ValueError):
    """A video that cannot be read: `path` and `reason` say which and why."""

    def __init__(self, path: str, reason: str):
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason

    def __reduce__(self):
        # The default would call the class with the message alone on the far side of a process.
        return type(self), (self.path, self.reason)


class Frames(Protocol):
    """An open video.

    Attributes:
        path: names it in messages.
        num_frames: how many frames it holds, at least 1.
        times_s: float64 [num_frames], when each is shown, in seconds since the first; None where
            that is not known, as of a folder of images.
    """

    path: str
    num_frames: int
    times_s: np.ndarray | None

    def read(
        self,
        indices: Sequence[int] | np.ndarray,
        each: Each,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Reads frames.

        Args:
            indices: [n] integers in [0, num_frames - 1], in any order, repeated or not.
            each: what is kept of a frame, so that no more of a large one is held than is needed.
                It is called in the frames' order in time, once or more for each.
            out: where they go, uint8 [n, H, W, 3]; by default to a new array.

        Returns:
            uint8 [n, H, W, 3], RGB, as `each` makes them.

        Raises:
            ValueError: if there is no index or one out of range.
            VideoError: if the video is damaged.
        """


def as_it_is(frame: np.ndarray) -> np.ndarray:
    """Keeps the whole frame."""
    return frame


class Part:
    """What lies between two times of a video, as a video of its own; its file stays open."""

    def __init__(self, whole: Frames, start_s: float, end_s: float | None):
        """Raises a `VideoError` where nothing lies there, or `whole` knows no times."""
        self.path = whole.path
        if whole.times_s is None:
            raise VideoError(
                whole.path, f"has no times, and its part from {start_s} s is asked for: cut it"
            )
        # A millisecond of grace: times in lists are rounded.
        first, last = np.searchsorted(
            whole.times_s, [start_s - 1e-3, np.inf if end_s is None else end_s - 1e-3]
        )
        if first >= last:
            raise VideoError(
                whole.path,
                f"has no frame from {start_s} s to {'its end' if end_s is None else f'{end_s} s'}: "
                f"its last is at {whole.times_s[-1]:.3f} s; correct the list",
            )
        self._whole, self._first = whole, int(first)
        self.num_frames = int(last - first)
        self.times_s = whole.times_s[first:last] - whole.times_s[first]

    def read(
        self,
        indices: Sequence[int] | np.ndarray,
        each: Each = as_it_is,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """See `Frames`."""
        return self._whole.read(check_indices(indices, self) + self._first, each, out)


def check_indices(indices: Sequence[int] | np.ndarray, video: Frames) -> np.ndarray:
    """Returns indices as an array; raises ValueError unless they are as `Frames.read` has them."""
    indices = np.asarray(indices)
    if indices.ndim != 1 or not indices.size or not np.issubdtype(indices.dtype, np.integer):
        raise ValueError(f"indices={indices!r} must be integers [n], n at least 1")
    if indices.min() < 0 or indices.max() >= video.num_frames:
        raise ValueError(
            f"indices reach from {indices.min()} to {indices.max()}, but {video.path} has "
            f"{video.num_frames} frames: they must lie in [0, {video.num_frames - 1}]"
        )
    return indices


def check_clip_bytes(path: str, frame: np.ndarray, num_frames: int) -> None:
    """Raises a `VideoError` where so many such frames are more than a clip may hold."""
    if frame.nbytes * num_frames > MAX_CLIP_BYTES:
        raise VideoError(
            path,
            f"{num_frames} frames of {list(frame.shape)} take {frame.nbytes * num_frames} bytes, "
            f"more than {MAX_CLIP_BYTES}: re-encode it smaller",
        )


def gather(
    frames: Iterable[np.ndarray], places: np.ndarray, out: np.ndarray | None = None
) -> np.ndarray:
    """Puts frames into a clip as they come.

    Args:
        frames: uint8 [H, W, 3] of one shape, at least one.
        places: [n], the number of each row's frame; may repeat.
        out: the clip to fill; by default a new one.

    Returns:
        uint8 [n, H, W, 3].
    """
    for place, frame in enumerate(frames):
        if out is None:
            out = np.empty((len(places), *frame.shape), dtype=frame.dtype)
        for row in np.flatnonzero(places == place):
            out[row] = frame
    return out


class Loaded:
    """Frames that are got one by one, as `Frames`.

    Attributes:
        path: names them in messages.
        num_frames: how many there are, at least 1.
        times_s: see there.
    """

    def __init__(
        self,
        path: str,
        num_frames: int,
        load: Callable[[int], np.ndarray],
        times_s: np.ndarray | None = None,
    ):
        """`load` gives the frame of an index, uint8 [H, W, 3], or raises a `VideoError`."""
        self.path, self.num_frames, self.times_s, self._load = path, num_frames, times_s, load

    def read(
        self,
        indices: Sequence[int] | np.ndarray,
        each: Each = as_it_is,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """See `Frames`."""
        wanted, places = np.unique(check_indices(indices, self), return_inverse=True)
        return gather(self._kept(wanted, each), places, out)

    def _kept(self, indices: np.ndarray, each: Each) -> Iterator[np.ndarray]:
        shape = None
        for index in indices:
            frame = self._load(int(index))
            shape = shape or frame.shape
            if frame.shape != shape:
                raise VideoError(
                    self.path,
                    f"frame {index} is {list(frame.shape[:2])} px, others {list(shape[:2])}: "
                    "images of a video must have one size; extract the frames again",
                )
            kept = each(frame)
            check_clip_bytes(self.path, kept, len(indices))
            yield kept
