"""Clips of a video, as pixels: a random one for training, or the views of a test."""

import contextlib
import dataclasses
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from pst_jax.data import sampling, transforms
from pst_jax.data.decode import Video, open_video
from pst_jax.data.index import Record
from pst_jax.data.transforms import ClipSpec


def load_train_clip(
    record: Record, spec: ClipSpec, rng: np.random.Generator
) -> tuple[np.ndarray, int]:
    """Reads a random clip of a video, randomly cropped and mirrored.

    Args:
        record: the video.
        spec: how clips are taken.
        rng: all that is random.

    Returns:
        uint8 [T, S, S, 3] and the label, which mirroring may have changed.

    Raises:
        VideoError: if the video cannot be read.
    """
    with open_video(record.path) as opened:
        clip = _read_frames(opened, spec, rng=rng)
    clip = transforms.random_square(clip, spec, rng)
    is_drawn = rng.random() < 0.5  # drawn for every clip, as released
    mirrored = transforms.flipped_label(record.label, spec.flip, spec.flip_labels or ())
    if is_drawn and mirrored is not None:
        return transforms.flip_horizontally(clip), mirrored
    return clip, record.label


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
    video: str | np.ndarray, spec: ClipSpec, view: int = 0, num_clips: int = 1, num_crops: int = 1
) -> np.ndarray:
    """Reads one test view of a video.

    Args:
        video: path of the file, or its frames, uint8 [F, H, W, 3].
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
    with _opened(video) as opened:
        frames = _read_frames(opened, spec, view=clip, num_views=num_clips)
    return _crops(frames, spec, num_crops)[crop]


def load_views(
    video: str | np.ndarray, spec: ClipSpec, num_clips: int = 1, num_crops: int = 1
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
    with _opened(video) as opened:
        clips = [
            _crops(_read_frames(opened, spec, view=clip, num_views=num_clips), spec, num_crops)
            for clip in range(num_clips)
        ]
    return np.stack([clip[crop] for crop in range(num_crops) for clip in clips])


def _crops(frames: np.ndarray, spec: ClipSpec, num_crops: int) -> list[np.ndarray]:
    """Cuts the squares of a test from frames uint8 [T, H, W, 3]; views."""
    frames = transforms.resize_short_side(frames, spec.short_side_px)
    height, width = frames.shape[1:3]
    if num_crops == 3:
        boxes = transforms.three_crop_boxes(height, width, spec.size_px)
    else:
        boxes = (transforms.centre_crop_box(height, width, spec.size_px),)
    return [transforms.crop(frames, box) for box in boxes]


def _opened(video: str | np.ndarray) -> AbstractContextManager[Video | np.ndarray]:
    return contextlib.nullcontext(video) if isinstance(video, np.ndarray) else open_video(video)


def _read_frames(video: Video | np.ndarray, spec: ClipSpec, **which: Any) -> np.ndarray:
    """uint8 [T, H, W, 3]; `which` says which clip to `sampling.clip_indices`."""
    choose = lambda num_frames: sampling.clip_indices(  # noqa: E731
        spec.sampling, num_frames, spec.num_frames, spec.stride_frames, **which
    )
    if isinstance(video, np.ndarray):
        return video[choose(len(video))]
    return video.read(choose(video.num_frames))
