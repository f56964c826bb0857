"""Clips of a video, as pixels: a random one for training, or the views of a test."""

import contextlib
import dataclasses
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from pst_jax.data import policies, sampling, transforms
from pst_jax.data.frames import Each, Frames, Loaded, as_it_is
from pst_jax.data.records import Record
from pst_jax.data.sources import open_record
from pst_jax.data.transforms import ClipSpec


def load_train_clips(
    record: Record,
    spec: ClipSpec,
    rngs: Sequence[np.random.Generator],
    out: np.ndarray | None = None,
) -> list[tuple[np.ndarray, int]]:
    """Reads random clips of a video, randomly cropped, mirrored, played backwards and changed.

    Args:
        record: the video; it is opened once.
        spec: how clips are taken.
        rngs: all that is random, one for each of R clips.
        out: where they go, uint8 [R, T, S, S, 3]; by default to a new array.

    Returns:
        Of each: uint8 [T, S, S, 3] and the label, which mirroring or playing backwards may have
        changed.

    Raises:
        VideoError: if the video cannot be read.
    """
    if out is None:
        shape = (len(rngs), spec.num_frames, spec.size_px, spec.size_px, 3)
        out = np.empty(shape, dtype=np.uint8)
    with open_record(record, spec.decoder) as opened:
        chosen = [choose_frames(opened.num_frames, spec, rng=rng) for rng in rngs]
        if len(rngs) == 1:
            opened.read(chosen[0], random_cut(spec, rngs[0]), out[0])
        else:  # decoded once, whatever each takes of it
            union = np.unique(np.concatenate(chosen))
            frames = opened.read(union, as_it_is)
            for clip, own, rng in zip(out, chosen, rngs):
                cut = random_cut(spec, rng)
                for row, place in enumerate(np.searchsorted(union, own)):
                    clip[row] = cut(frames[place])
    return [(clip, change_clip(clip, record.label, spec, rng)) for clip, rng in zip(out, rngs)]


def random_cut(spec: ClipSpec, rng: np.random.Generator) -> Each:
    """What training keeps of the frames of one clip: a square, drawn at the first."""
    square = None

    def cut(frame):
        nonlocal square
        square = square or transforms.random_square(*frame.shape[:2], spec, rng)
        return square(frame)

    return cut


def change_clip(clip: np.ndarray, label: int, spec: ClipSpec, rng: np.random.Generator) -> int:
    """Mirrors a clip and plays it backwards, or not, as drawn; then applies the policy.

    Args:
        clip: uint8 [T, S, S, 3], changed in place.
        label: its class.
        spec: `flip`, `reverse`, their labels and the policy are used.
        rng: draws what is done.

    Returns:
        The class of what is seen now.
    """
    changes = (
        (transforms.flip_horizontally, spec.flip, spec.flip_labels),
        (transforms.play_backwards, spec.reverse, spec.reverse_labels),
    )
    for change, mode, labels in changes:
        is_drawn = rng.random() < 0.5  # for every clip, as released
        changed = transforms.changed_label(label, mode, labels)
        if is_drawn and changed is not None:
            change(clip, out=clip)
            label = changed
    if spec.policy != "none":
        clip[...] = policies.apply(clip, spec, rng)
    return label


def view_spec(spec: ClipSpec, num_crops: int, short_side_px: int = 0) -> ClipSpec:
    """Returns how a test takes the clips that training takes by `spec`.

    Args:
        spec: of training.
        num_crops: 1 or 3.
        short_side_px: of the frames; 0: as released, the middle square is cut from frames of
            training's shorter side (256 px), and three squares from frames whose shorter side is
            the square's (224 px).
    """
    usual = spec.size_px if num_crops == 3 else max(spec.short_side_px, spec.size_px)
    return dataclasses.replace(spec, short_side_px=short_side_px or usual, short_side_max_px=None)


def load_view(
    video: Record | str | np.ndarray,
    spec: ClipSpec,
    view: int = 0,
    num_clips: int = 1,
    num_crops: int = 1,
) -> np.ndarray:
    """Reads one test view of a video.

    Args:
        video: a record, the path of a file, or its frames, uint8 [F, H, W, 3].
        spec: how clips are taken, see `view_spec`.
        view: crop * num_clips + clip, in [0, num_crops * num_clips - 1].
        num_clips: clips per video.
        num_crops: 1 (the middle) or 3 (left, right, middle, or top, bottom, middle).

    Returns:
        uint8 [T, S, S, 3].

    Raises:
        VideoError: if the video cannot be read.
    """
    crop, clip = divmod(view, num_clips)
    with _opened(video, spec) as opened:
        return _read_crops(opened, spec, clip, num_clips, num_crops)[crop]


def load_views(
    video: Record | str | np.ndarray, spec: ClipSpec, num_clips: int = 1, num_crops: int = 1
) -> np.ndarray:
    """Reads all test views of a video, every clip once; whole frames are held of one at a time.

    Args:
        video: as for `load_view`.
        spec: likewise.
        num_clips: likewise.
        num_crops: likewise.

    Returns:
        uint8 [num_crops * num_clips, T, S, S, 3], in the order of `view`.

    Raises:
        VideoError: if the video cannot be read.
    """
    with _opened(video, spec) as opened:
        clips = [_read_crops(opened, spec, clip, num_clips, num_crops) for clip in range(num_clips)]
    return np.stack([clip[crop] for crop in range(num_crops) for clip in clips])


def _read_crops(
    video: Frames, spec: ClipSpec, clip: int, num_clips: int, num_crops: int
) -> list[np.ndarray]:
    """Reads one clip of a test and cuts its squares."""
    indices = choose_frames(video.num_frames, spec, view=clip, num_views=num_clips)
    # Resized one by one: no more than one whole frame is held.
    resized = video.read(
        indices, lambda frame: transforms.resize_short_side(frame[None], spec.short_side_px)[0]
    )
    height, width = resized.shape[1:3]
    if num_crops == 3:
        boxes = transforms.three_crop_boxes(height, width, spec.size_px)
    else:
        boxes = (transforms.centre_crop_box(height, width, spec.size_px),)
    return [transforms.crop(resized, box) for box in boxes]


def _opened(video: Record | str | np.ndarray, spec: ClipSpec) -> AbstractContextManager[Frames]:
    if isinstance(video, np.ndarray):
        return contextlib.nullcontext(Loaded("the array", len(video), video.__getitem__))
    if isinstance(video, str):
        video = Record(video, 0, video)
    return open_record(video, spec.decoder)


def choose_frames(num_frames: int, spec: ClipSpec, **which: Any) -> np.ndarray:
    """int64 [T], the frames of a clip; `which` says which clip to `sampling.clip_indices`."""
    indices = sampling.clip_indices(
        spec.sampling, num_frames, spec.num_frames, spec.stride_frames, **which
    )
    return np.clip(indices + spec.frame_offset, 0, num_frames - 1)
