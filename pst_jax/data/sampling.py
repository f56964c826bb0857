"""Which frames of a video make a clip: the samplers of the released systems, as pure functions.

Indices count from 0. Files of single frames that are numbered from 1 add their offset when they
are read, never here. Where a sampler draws, it takes `randint(low, high, size=None)`, integers in
[low, high), with `low` and `high` possibly arrays: `numpy.random.Generator.integers` is one, and
a test may replay the released draws with another.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np

Randint = Callable[..., np.ndarray]
Sampling = Literal["dense", "uniform", "linspace"]
Convention = Literal["released", "mmaction2_1x"]
OutOfBound = Literal["loop", "repeat_last"]

SAMPLINGS = ("dense", "uniform", "linspace")


def clip_indices(
    sampling: Sampling,
    num_frames: int,
    clip_len: int,
    stride_frames: int,
    *,
    rng: np.random.Generator | None = None,
    view: int = 0,
    num_views: int = 1,
) -> np.ndarray:
    """Returns the frames of one clip: a random one where `rng` is given, else a test view.

    Args:
        sampling: `dense` (every `stride_frames`-th frame from some start; Kinetics), `uniform`
            (one frame from each of `clip_len` equal segments; Something-Something, Diving48) or
            `linspace` (evenly over a window of clip_len * stride_frames; LAPS).
        num_frames: frames in the file, at least 1.
        clip_len: frames in the clip, at least 1.
        stride_frames: distance of the frames; `uniform` does not use it.
        rng: for training.
        view: which clip of the test, in [0, num_views - 1].
        num_views: clips per video in the test.

    Returns:
        int64 [clip_len], each in [0, num_frames - 1].

    Raises:
        ValueError: if an argument is out of range.
    """
    if sampling not in SAMPLINGS:
        raise ValueError(f"sampling={sampling!r} is unknown: allowed are {', '.join(SAMPLINGS)}")
    if not 0 <= view < num_views:
        raise ValueError(f"view={view} must lie in [0, num_views - 1] = [0, {num_views - 1}]")
    if sampling == "uniform":
        if rng is not None:
            return uniform_train(num_frames, clip_len, rng.integers)
        return uniform_test(num_frames, clip_len, num_views)[view]
    if sampling == "linspace":
        latest = max(num_frames - clip_len * stride_frames, 0)
        start = latest * view / num_views if rng is None else rng.uniform(0, latest)
        return linspace_window(num_frames, clip_len, stride_frames, start)
    if rng is not None:
        return dense_train(num_frames, clip_len, stride_frames, rng.integers)[0]
    return dense_test(num_frames, clip_len, stride_frames, num_views)[view]


def dense_train(
    num_frames: int,
    clip_len: int,
    stride_frames: int,
    randint: Randint,
    num_clips: int = 1,
    out_of_bound: OutOfBound = "loop",
) -> np.ndarray:
    """Returns clips at random places, one in each of `num_clips` equal parts where they fit.

    With clip_len = stride_frames = 1 this is the segment sampling of TSN.

    Args:
        num_frames: frames in the file, at least 1.
        clip_len: frames in a clip, at least 1.
        stride_frames: distance of the frames of a clip, at least 1.
        randint: draws integers, see the module.
        num_clips: clips, at least 1.
        out_of_bound: what a frame behind the end becomes: the video starts over (`loop`) or the
            clip's last frame within the video is repeated (`repeat_last`).

    Returns:
        int64 [num_clips, clip_len].

    Raises:
        ValueError: if a count is below 1.

    Source: mmaction2, `SampleFrames` in training; versions 0.x and 1.x agree.
    """
    _check_counts(num_frames, clip_len, stride_frames, num_clips)
    span = clip_len * stride_frames
    room = num_frames - span + 1  # places where a whole clip starts; may be negative
    gap = room // num_clips
    if gap > 0:
        starts = np.arange(num_clips) * gap + randint(0, gap, size=num_clips)
    elif num_frames > max(num_clips, span):
        starts = np.sort(randint(0, room, size=num_clips))
    elif gap == 0:
        starts = np.rint(np.arange(num_clips) * (room / num_clips))  # half to even
    else:
        starts = np.zeros(num_clips)
    return _clips_at(starts, num_frames, clip_len, stride_frames, out_of_bound)


def dense_test(
    num_frames: int,
    clip_len: int,
    stride_frames: int,
    num_clips: int = 1,
    *,
    convention: Convention = "released",
    out_of_bound: OutOfBound = "loop",
    use_twice_sample: bool = False,
) -> np.ndarray:
    """Returns clips evenly over the video; one clip is the middle one (validation).

    Args:
        num_frames: frames in the file, at least 1.
        clip_len: frames in a clip, at least 1.
        stride_frames: distance of the frames of a clip, at least 1.
        num_clips: clips, at least 1.
        convention: `released` puts clips in the middles of `num_clips` parts; `mmaction2_1x`
            puts the first at the start and the last at the end (clips of one frame as released).
        out_of_bound: see `dense_train`.
        use_twice_sample: append the clips at the starts of the parts (`released` only; TSM).

    Returns:
        int64 [num_clips, clip_len], or [2 * num_clips, clip_len].

    Raises:
        ValueError: if a count is below 1 or `convention` unknown.

    Source: PST's copy of mmaction2 0.x, `SampleFrames` in test; mmaction2 1.x.
    """
    _check_counts(num_frames, clip_len, stride_frames, num_clips)
    _check_convention(convention)
    order = np.arange(num_clips)
    if convention == "mmaction2_1x" and clip_len > 1:
        if use_twice_sample:
            raise ValueError("use_twice_sample=True goes with convention='released' only")
        latest = max(num_frames - ((clip_len - 1) * stride_frames + 1), 0)
        # One clip: the middle, rounded down; more: both ends, rounded half to even.
        starts = np.rint(order * (latest / (num_clips - 1))) if num_clips > 1 else [latest // 2]
        return _clips_at(starts, num_frames, clip_len, stride_frames, out_of_bound)
    part = max(num_frames - clip_len * stride_frames + 1, 0) / num_clips
    starts = np.trunc(order * part + part / 2) if part > 0 else np.zeros(num_clips)
    if use_twice_sample:
        # The released code does not truncate these before adding the frames' distance.
        starts = np.concatenate([starts, order * part])
    return _clips_at(starts, num_frames, clip_len, stride_frames, out_of_bound)


def uniform_train(num_frames: int, clip_len: int, randint: Randint) -> np.ndarray:
    """Returns a random frame of each of `clip_len` equal segments, both ends included.

    Neighbouring segments share their border frame, so the result never decreases but may repeat.

    Args:
        num_frames: frames in the file, at least 1.
        clip_len: frames in the clip, at least 1.
        randint: draws integers, see the module.

    Returns:
        int64 [clip_len].

    Raises:
        ValueError: if a count is below 1.

    Source: PST, `SampleFrames(frame_uniform=True)`; mmaction2 1.x `UniformSample`.
    """
    borders = _segment_borders(num_frames, clip_len)
    return np.asarray(randint(borders[:-1], borders[1:] + 1), dtype=np.int64)


def uniform_test(
    num_frames: int, clip_len: int, num_clips: int = 1, *, convention: Convention = "released"
) -> np.ndarray:
    """Returns fixed frames of each of `clip_len` equal segments.

    Args:
        num_frames: frames in the file, at least 1.
        clip_len: frames in a clip, at least 1.
        num_clips: clips, at least 1; the released code has one clip only, so more are placed as
            in mmaction2 1.x whatever `convention` says.
        convention: `released` takes the middle (start + end) // 2 of a segment; `mmaction2_1x`
            start + int(length / 2), which may differ by one frame.

    Returns:
        int64 [num_clips, clip_len].

    Raises:
        ValueError: if a count is below 1 or `convention` unknown.

    Source: PST, `SampleFrames(frame_uniform=True)`; mmaction2 1.x `UniformSample`.
    """
    _check_counts(num_frames, clip_len, 1, num_clips)
    _check_convention(convention)
    borders = _segment_borders(num_frames, clip_len)
    if num_clips == 1 and convention == "released":
        return ((borders[:-1] + borders[1:]) // 2)[None]
    step = (num_frames - 1) / clip_len / (num_clips + 1)
    shifts = (step * np.arange(1, num_clips + 1)).astype(np.int64)
    return borders[None, :-1] + shifts[:, None]


def linspace_window(num_frames: int, clip_len: int, stride_frames: int, start: float) -> np.ndarray:
    """Returns frames evenly over a window, its first and last frame included.

    The frames lie (window - 1) / (clip_len - 1) apart, a little more than `stride_frames`: 8
    frames of stride 8 are 0, 9, ..., 63. Behind the end the video starts over.

    Args:
        num_frames: frames in the file, at least 1.
        clip_len: frames in the clip, at least 1.
        stride_frames: the window is clip_len * stride_frames frames long.
        start: where the window begins, at least 0, in frames; need not be whole.

    Returns:
        int64 [clip_len].

    Raises:
        ValueError: if a count is below 1 or `start` below 0.

    Source: LAPS, its copy of PySlowFast's decoder.
    """
    _check_counts(num_frames, clip_len, stride_frames, 1)
    if start < 0:
        raise ValueError(f"start={start} must be at least 0")
    # Dividing last keeps whole positions whole: k * step could fall just below them.
    steps = np.arange(clip_len) * (clip_len * stride_frames - 1) / max(clip_len - 1, 1)
    return np.floor(start + steps).astype(np.int64) % num_frames


def segment_window(
    num_frames: int,
    num_segments: int,
    randint: Randint | None = None,
    *,
    window: int = 64,
    num_positions: int = 10,
) -> np.ndarray:
    """Returns frames window // num_segments apart within a short window, single-frame clips.

    Args:
        num_frames: frames in the file, at least 1.
        num_segments: frames per position, in [1, window].
        randint: draws the place of the one window of training; none for the test.
        window: length of the window in frames, at least 1.
        num_positions: windows in the test, at least 1, evenly over the video.

    Returns:
        int64 [1, num_segments] in training, [num_positions, num_segments] in the test.

    Raises:
        ValueError: if a count is out of range.

    Source: mmaction2 0.x, `DenseSampleFrames`.
    """
    _check_counts(num_frames, num_segments, window, num_positions)
    if num_segments > window:
        raise ValueError(f"num_segments={num_segments} must not exceed window={window}")
    places = max(1, 1 + num_frames - window)
    if randint is None:
        starts = np.linspace(0, places - 1, num=num_positions, dtype=np.int64)
    else:
        # The released draw leaves out the last place.
        starts = np.array([0 if places == 1 else int(randint(0, places - 1))], dtype=np.int64)
    offsets = np.arange(num_segments) * (window // num_segments)
    return (starts[:, None] + offsets) % num_frames


def _segment_borders(num_frames: int, num_segments: int) -> np.ndarray:
    """int64 [num_segments + 1]: segment k reaches from border k to border k + 1."""
    _check_counts(num_frames, num_segments, 1, 1)
    return np.rint((num_frames - 1) / num_segments * np.arange(num_segments + 1)).astype(np.int64)


def _clips_at(starts, num_frames, clip_len, stride_frames, out_of_bound) -> np.ndarray:
    """int64 [len(starts), clip_len]; starts may be broken numbers (see `use_twice_sample`)."""
    frames = np.asarray(starts)[:, None] + np.arange(clip_len) * stride_frames
    if out_of_bound == "loop":
        return (frames % num_frames).astype(np.int64)
    if out_of_bound != "repeat_last":
        raise ValueError(f"out_of_bound={out_of_bound!r}: allowed are 'loop' and 'repeat_last'")
    is_inside = frames < num_frames
    last = np.max(np.where(is_inside, frames, 0), axis=1, keepdims=True)
    return np.where(is_inside, frames, last).astype(np.int64)


def _check_counts(num_frames: int, clip_len: int, stride_frames: int, num_clips: int) -> None:
    counts = dict(
        num_frames=num_frames, clip_len=clip_len, stride_frames=stride_frames, num_clips=num_clips
    )
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name}={value} must be at least 1")


def _check_convention(convention: str) -> None:
    if convention not in ("released", "mmaction2_1x"):
        raise ValueError(f"convention={convention!r}: allowed are 'released' and 'mmaction2_1x'")
