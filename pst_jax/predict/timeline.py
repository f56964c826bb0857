"""What a window sees that slides over a video, in memory that does not grow with its length."""

import contextlib
import dataclasses
import itertools
import math
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from pst_jax.data import sampling, transforms
from pst_jax.data.decode import stream_frames
from pst_jax.data.transforms import ClipSpec

T = TypeVar("T")

# Times are products of floats: 3 * 0.1 s is not quite the time of the fourth of ten frames.
_SLACK = 1e-6


@dataclasses.dataclass(frozen=True, eq=False)
class Segment:
    """What a window saw.

    Attributes:
        start_s: time of its first frame, in seconds since the video's first.
        end_s: time of the first frame behind it. A video's last frame lasts as long as the one
            before it, and no time where it is the only one.
        probabilities: float32 [K].
    """

    start_s: float
    end_s: float
    probabilities: np.ndarray


def timeline(
    path: str | os.PathLike,
    spec: ClipSpec,
    predict: Callable[[np.ndarray], np.ndarray],
    *,
    window_s: float | None = None,
    hop_s: float | None = None,
) -> Iterator[Segment]:
    """Predicts a video over time, window by window, as if each were a video of its own.

    From a window the frames of the one clip of a test are taken (`sampling.clip_indices`), and of
    these the middle square. The last window reaches back from the video's end by its full length;
    a video that is shorter is one window. The file is decoded once, in a thread that stays one
    window ahead of `predict`.

    Times are the file's own, so that also under a variable frame rate a window is as long as asked
    for and then holds more frames or fewer. A window without a frame is passed over.

    Args:
        path: the video, see `open_video`.
        spec: how clips are taken in a test.
        predict: from uint8 [1, T, S, S, 3] to probabilities, float32 [1, K].
        window_s: length of a window in seconds, above 0: window k holds the frames from
            k * hop_s on, before k * hop_s + window_s. By default num_frames * stride_frames
            frames, which is what `dense` and `linspace` use; `uniform` spreads its frames over any
            length.
        hop_s: from one window's start to the next one's in seconds, above 0; more than a window
            leaves frames unseen. By default the next window begins where one ends.

    Returns:
        A generator of segments in the order of time, to be closed (`contextlib.closing`) if it is
        left early.

    Raises:
        ValueError: if a length is not above 0; while iterating, if `predict` returns another
            shape or the frames are smaller than the square.
        VideoError: while iterating, if the video cannot be read, after the segments before.
    """
    for name, value in (("window_s", window_s), ("hop_s", hop_s)):
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name}={value} must be a number of seconds above 0")
    return _segments(path, spec, predict, window_s, hop_s)


def _segments(path, spec, predict, window_s, hop_s) -> Iterator[Segment]:
    stopped = threading.Event()

    def clips() -> Iterator[tuple[float, float, np.ndarray]]:
        with contextlib.closing(stream_frames(path)) as stream:
            wanted = itertools.takewhile(lambda _: not stopped.is_set(), stream)
            frames = ((time_s, _small(frame, spec)) for time_s, frame in wanted)
            span = spec.num_frames * spec.stride_frames
            for start_s, end_s, window in _windows(frames, span, window_s, hop_s):
                window = _clip(window, spec)  # by the same name: nothing else holds the frames
                yield start_s, end_s, window

    with contextlib.closing(_one_ahead(clips(), stopped)) as ahead:
        for start_s, end_s, clip in ahead:
            probabilities = np.asarray(predict(clip[None]), dtype=np.float32)
            if probabilities.ndim != 2 or len(probabilities) != 1:
                raise ValueError(
                    f"predict returned shape {list(probabilities.shape)} for one clip: it must be "
                    "[1, K]"
                )
            yield Segment(start_s, end_s, probabilities[0])


def _windows(
    frames: Iterable[tuple[float, T]], span: int, window_s: float | None, hop_s: float | None
) -> Iterator[tuple[float, float, list[T]]]:
    """Yields start, end and frames of each window, holding the frames of one window at most.

    A frame's place is its time where a window is that long, else its rank.
    """
    length, hop_s = (span, hop_s) if window_s is None else (window_s, hop_s or window_s)
    held: deque[tuple[int, float, float, T]] = deque()  # rank, place, time, frame
    begun: deque[tuple[int, float]] = deque()  # the rank where a window begins, the place it ends
    last_step, time_s, lasts_s, rank = -1, 0.0, 0.0, -1

    def window(first: int, end_s: float) -> tuple[float, float, list[T]]:
        inside = [item for item in held if item[0] >= first]
        return inside[0][2], end_s, [item[3] for item in inside]

    for rank, (time, frame) in enumerate(frames):
        time_s, lasts_s = time, time - time_s
        place = rank if window_s is None else time_s
        while begun and place >= begun[0][1] - _SLACK:
            yield window(begun.popleft()[0], time_s)
        while held and held[0][1] <= place - length:
            held.popleft()
        held.append((rank, place, time_s, frame))
        step = rank // span if hop_s is None else int((time_s + _SLACK) / hop_s)
        until = (rank if window_s is None else step * hop_s) + length
        if step > last_step and place < until - _SLACK:
            begun.append((rank, until))
            last_step = step
    if not held:
        return
    end_s = round(time_s + lasts_s, 6)
    end = rank + 1 if window_s is None else end_s
    full = [first for first, until in begun if end >= until - _SLACK]
    if not full:  # none reaches the end: one that reaches back from it
        full = [next(item[0] for item in held if item[1] >= end - length - _SLACK)]
    for first in full:
        yield window(first, end_s)


def _small(frame: np.ndarray, spec: ClipSpec) -> np.ndarray:
    """The square that a test sees of a frame, uint8 [S, S, 3]; a copy, so that the frame can go."""
    clip = transforms.resize_short_side(frame[None], spec.short_side_px)
    box = transforms.centre_crop_box(*clip.shape[1:3], spec.size_px)
    return transforms.crop(clip, box)[0].copy()


def _clip(frames: list[np.ndarray], spec: ClipSpec) -> np.ndarray:
    """The clip that a test takes of a video of these frames, uint8 [T, S, S, 3]."""
    indices = sampling.clip_indices(spec.sampling, len(frames), spec.num_frames, spec.stride_frames)
    return np.stack([frames[index] for index in indices])


def _one_ahead(items: Iterator[T], stopped: threading.Event) -> Iterator[T]:
    """Yields what `items` yields, the next made in a thread; sets `stopped` when it ends."""
    with contextlib.closing(items), ThreadPoolExecutor(1) as pool:
        try:
            coming = pool.submit(next, items, None)
            while (item := coming.result()) is not None:
                coming = pool.submit(next, items, None)
                yield item
        finally:
            stopped.set()
