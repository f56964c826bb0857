"""What a clip is, and resizing, cropping and flipping whole clips, uint8 [T, H, W, 3].

One box and one flip hold for all frames of a clip. Resizing is OpenCV's bilinear without
antialiasing, as in the released code: another filter costs accuracy with released weights.
Crops are views; nothing is copied where nothing changes.
"""

import dataclasses
import math
import numbers
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np

from pst_jax.data.sampling import SAMPLINGS, Randint, Sampling

# The loader's own threads and processes share the cores; OpenCV's would come on top.
cv2.setNumThreads(0)

Flip = Literal["none", "all", "skip", "swap"]
Crop = Literal["random_resized", "random", "none"]
Decoder = Literal["pyav", "opencv"]
Policy = Literal["none", "rand", "rand_released", "auto"]
FLIPS = ("none", "all", "skip", "swap")
CROPS = ("random_resized", "random", "none")
DECODERS = ("pyav", "opencv")
POLICIES = ("none", "rand", "rand_released", "auto")
NUM_RELEASED_OPS = 15  # that "rand_released" draws among


@dataclasses.dataclass(frozen=True)
class ClipSpec:
    """How a clip is taken from a video.

    Attributes:
        num_frames: frames of a clip, T.
        size_px: height and width of a clip, S.
        short_side_px: the video's shorter side is first resized to this; at least `size_px`
            where a square of `size_px` is cut (and equal to it for three crops).
        short_side_max_px: where given, training draws the shorter side from `short_side_px` to
            this, both included (LAPS).
        sampling: which frames, see `sampling.clip_indices`.
        stride_frames: distance of the frames, see there.
        crop: in training `random_resized` (a box of random area and aspect, resized), `random`
            (a random square) or `none` (the middle). Evaluation does not use it.
        area_range: shares of the frame's area for `random_resized`.
        aspect_range: width / height for `random_resized`.
        flip: whether training mirrors half of the clips, see `changed_label`.
        flip_labels: for `skip` the labels never mirrored, for `swap` the mirrored label of each.
        reverse: whether training plays half of the clips backwards, likewise.
        reverse_labels: likewise.
        num_repeats: clips that training takes of a video each time that it is opened, side by side
            in a batch (repeated augmentation); each draws its own frames, crop and flip.
        frame_offset: added to every frame's index, within the video. -1 is what the released
            recipe of Something-Something V1 does: it numbers frames from 0, their files from 1.
        decoder: of video files: "pyav", or "opencv", which is faster and less honest.
        policy: further changes of training's clips, see `policies`: `rand` (RandAugment),
            `rand_released` (what the release of PST does by that name), `auto` (AutoAugment's for
            ImageNet) or `none`.
        policy_ops: operations that the two RandAugments apply to a clip.
        policy_magnitude: how strong theirs are, from 0 to 10.
        policy_seed: by which `rand_released` draws what is the same for all clips of a run.

    Raises:
        ValueError: if the fields do not fit together.
    """

    num_frames: int
    size_px: int
    short_side_px: int = 256
    short_side_max_px: int | None = None
    sampling: Sampling = "uniform"
    stride_frames: int = 2
    crop: Crop = "random_resized"
    area_range: tuple[float, float] = (0.08, 1.0)
    aspect_range: tuple[float, float] = (3 / 4, 4 / 3)
    flip: Flip = "none"
    flip_labels: tuple[int, ...] | None = None
    reverse: Flip = "none"
    reverse_labels: tuple[int, ...] | None = None
    num_repeats: int = 1
    frame_offset: int = 0
    decoder: Decoder = "pyav"
    policy: Policy = "none"
    policy_ops: int = 2
    policy_magnitude: float = 9.0
    policy_seed: int = 0

    def __post_init__(self):
        for name in ("num_frames", "size_px", "short_side_px", "stride_frames", "num_repeats"):
            check_at_least(name, getattr(self, name), 1)
        check_at_least("frame_offset", self.frame_offset, -(2**31))
        names = {"sampling": SAMPLINGS, "crop": CROPS, "flip": FLIPS, "reverse": FLIPS}
        for name, allowed in (names | {"decoder": DECODERS, "policy": POLICIES}).items():
            if getattr(self, name) not in allowed:
                value = getattr(self, name)
                raise ValueError(f"{name}={value!r} is unknown: allowed are {', '.join(allowed)}")
        if self.crop != "random_resized" and self.short_side_px < self.size_px:
            raise ValueError(
                f"short_side_px={self.short_side_px} must be at least size_px={self.size_px} for "
                f"crop={self.crop!r}"
            )
        if self.short_side_max_px is not None:
            check_at_least("short_side_max_px", self.short_side_max_px, self.short_side_px)
        for name in ("area_range", "aspect_range"):
            if not _is_range(getattr(self, name), 1.0 if name == "area_range" else math.inf):
                limit = " <= 1" if name == "area_range" else ""
                raise ValueError(f"{name}={getattr(self, name)!r} must have 0 < low <= high{limit}")
        for name in ("flip", "reverse"):
            _check_labels(name, getattr(self, name), getattr(self, f"{name}_labels"))
        self._check_policy()

    def _check_policy(self):
        check_at_least("policy_ops", self.policy_ops, 1)
        check_at_least("policy_seed", self.policy_seed, 0)
        if self.policy == "rand_released" and self.policy_ops > NUM_RELEASED_OPS:
            raise ValueError(
                f"policy_ops={self.policy_ops} must be at most {NUM_RELEASED_OPS}, the operations "
                "that policy='rand_released' draws among, each once"
            )
        magnitude = self.policy_magnitude
        if not isinstance(magnitude, numbers.Real) or not 0 <= magnitude <= 10:
            raise ValueError(f"policy_magnitude={magnitude!r} must be a number in [0, 10]")


def _check_labels(name: str, mode: str, labels: Any) -> None:
    """Raises ValueError where the labels are not what `changed_label` needs."""
    if (mode in ("skip", "swap")) != (labels is not None):
        raise ValueError(
            f"{name}={mode!r} with {name}_labels={labels!r}: 'skip' and 'swap' need "
            f"{name}_labels, the others must not have any (None)"
        )
    is_listed = labels is None or isinstance(labels, tuple | list)
    if not is_listed or not all(isinstance(label, numbers.Integral) for label in labels or ()):
        raise ValueError(f"{name}_labels={labels!r} must be a tuple of integers")
    if mode == "swap" and sorted(labels) != list(range(len(labels))):
        raise ValueError(
            f"{name}_labels={labels} must be a permutation of 0 to {len(labels) - 1} for "
            f"{name}='swap': for every class, the class that it becomes"
        )


class Box(NamedTuple):
    """A part of a frame, in px: columns [left, left + width), rows [top, top + height)."""

    left: int
    top: int
    width: int
    height: int


def resize(clip: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes every frame; returns the clip itself where it has that size.

    Args:
        clip: uint8 [T, H, W, 3].
        height: new height in px, at least 1.
        width: new width in px, at least 1.

    Returns:
        uint8 [T, height, width, 3].

    Raises:
        ValueError: if the clip's shape or type or the new size is not as above.
    """
    _check_clip(clip)
    check_at_least("height", height, 1)
    check_at_least("width", width, 1)
    if clip.shape[1:3] == (height, width):
        return clip
    resized = np.empty((clip.shape[0], height, width, 3), dtype=np.uint8)
    for source, target in zip(clip, resized):
        cv2.resize(source, (width, height), dst=target, interpolation=cv2.INTER_LINEAR)
    return resized


def resize_short_side(clip: np.ndarray, short_side_px: int) -> np.ndarray:
    """Resizes so that the shorter side becomes `short_side_px`, keeping the aspect.

    Args:
        clip: uint8 [T, H, W, 3].
        short_side_px: at least 1.

    Returns:
        uint8 [T, h, w, 3] with h = int(H * short_side_px / min(H, W) + 0.5), w likewise.

    Raises:
        ValueError: if the clip or the size is not as above.

    Source: mmcv `imrescale`, used by the released `Resize`.
    """
    _check_clip(clip)
    return resize(clip, *resized_shape(*clip.shape[1:3], short_side_px))


def resized_shape(height: int, width: int, short_side_px: int) -> tuple[int, int]:
    """Returns height and width of a frame whose shorter side is resized, see there."""
    scale = short_side_px / min(height, width)
    return int(height * scale + 0.5), int(width * scale + 0.5)


def crop(clip: np.ndarray, box: Box) -> np.ndarray:
    """Cuts one box from all frames.

    Args:
        clip: uint8 [T, H, W, 3].
        box: must lie within the frame.

    Returns:
        uint8 [T, box.height, box.width, 3], a view.

    Raises:
        ValueError: if the box does not lie within the frame.
    """
    _check_clip(clip)
    height, width = clip.shape[1:3]
    left, top, box_width, box_height = box
    is_inside = left >= 0 and top >= 0 and left + box_width <= width and top + box_height <= height
    if not is_inside or box_width < 1 or box_height < 1:
        raise ValueError(f"{box} does not lie within a frame of {height} x {width} px: resize")
    return clip[:, top : top + box_height, left : left + box_width]


def random_resized_crop_box(
    height: int,
    width: int,
    uniform: Callable[..., np.ndarray],
    randint: Randint,
    *,
    area_range: tuple[float, float] = (0.08, 1.0),
    aspect_range: tuple[float, float] = (3 / 4, 4 / 3),
) -> Box:
    """Draws a box of random area and aspect; a central square where ten draws do not fit.

    Args:
        height: of the frame in px, at least 1.
        width: of the frame in px, at least 1.
        uniform: draws floats, `uniform(low, high, size=...)`.
        randint: draws integers, `randint(low, high)` in [low, high).
        area_range: share of the frame's area, uniform.
        aspect_range: width / height, uniform in its logarithm.

    Returns:
        The box.

    Source: mmaction2 0.x and PST, `RandomResizedCrop`, draw for draw.
    """
    num_tries = 10
    aspects = np.exp(uniform(np.log(aspect_range[0]), np.log(aspect_range[1]), size=num_tries))
    areas = uniform(*area_range, size=num_tries) * (height * width)
    widths = np.rint(np.sqrt(areas * aspects)).astype(int)
    heights = np.rint(np.sqrt(areas / aspects)).astype(int)
    for box_width, box_height in zip(widths.tolist(), heights.tolist()):
        # A box of no pixel is possible in tiny frames only, where the released code would fail.
        if 1 <= box_width <= width and 1 <= box_height <= height:
            left = int(randint(0, width - box_width + 1))
            top = int(randint(0, height - box_height + 1))
            return Box(left, top, box_width, box_height)
    side = min(height, width)
    return Box((width - side) // 2, (height - side) // 2, side, side)


def random_crop_box(height: int, width: int, size_px: int, randint: Randint) -> Box:
    """Draws the place of a square of `size_px`; `randint(low, high)` draws in [low, high).

    Raises:
        ValueError: if the frame, `height` x `width` px, is smaller than the square.
    """
    _check_fits(height, width, size_px)
    left = int(randint(0, width - size_px + 1))
    top = int(randint(0, height - size_px + 1))
    return Box(left, top, size_px, size_px)


def centre_crop_box(height: int, width: int, size_px: int) -> Box:
    """Returns the square of `size_px` in the middle, rounded towards the left and the top.

    Raises:
        ValueError: if the frame, `height` x `width` px, is smaller than the square.

    Source: mmaction2, `CenterCrop`.
    """
    _check_fits(height, width, size_px)
    return Box((width - size_px) // 2, (height - size_px) // 2, size_px, size_px)


def three_crop_boxes(height: int, width: int, size_px: int) -> tuple[Box, Box, Box]:
    """Returns the squares at the left (top), at the right (bottom) and in the middle.

    The released order. Both steps are (long side - size_px) // 2, so that of an odd rest the
    last pixel is never seen.

    Args:
        height: of the frame in px.
        width: of the frame in px.
        size_px: must equal the shorter side.

    Returns:
        Three boxes.

    Raises:
        ValueError: if the shorter side is not `size_px`.

    Source: mmaction2 0.x and PST, `ThreeCrop`.
    """
    if min(height, width) != size_px:
        raise ValueError(
            f"size_px={size_px} must equal the shorter side of the frame, {height} x {width} px, "
            f"for three crops: resize the short side to {size_px} first"
        )
    step_x, step_y = (width - size_px) // 2, (height - size_px) // 2
    return tuple(Box(k * step_x, k * step_y, size_px, size_px) for k in (0, 2, 1))


@dataclasses.dataclass(frozen=True)
class Square:
    """How a square comes out of a frame: its shorter side resized, a box cut, that resized.

    Attributes:
        short_side_px: of the whole frame, before the box is cut.
        box: what is cut.
        size_px: height and width of the square.
    """

    short_side_px: int
    box: Box
    size_px: int

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """Cuts the square, uint8 [size_px, size_px, 3], from a frame, uint8 [H, W, 3]."""
        # Without the checks of `resize` and `crop`: here they would cost a tenth of decoding.
        height, width = resized_shape(*frame.shape[:2], self.short_side_px)
        if frame.shape[:2] != (height, width):
            frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR)
        left, top, width, height = self.box
        frame = frame[top : top + height, left : left + width]
        return cv2.resize(frame, (self.size_px, self.size_px), interpolation=cv2.INTER_LINEAR)


def random_square(height: int, width: int, spec: ClipSpec, rng: np.random.Generator) -> Square:
    """Draws how training cuts a square from the frames of a video.

    Args:
        height: of its frames in px.
        width: of its frames in px.
        spec: `short_side_px`, `short_side_max_px`, `crop`, its ranges and `size_px` are used.
        rng: draws the short side and the box.

    Returns:
        What maps each of the frames.
    """
    short_side_px = spec.short_side_px
    if spec.short_side_max_px is not None:
        short_side_px = int(rng.integers(short_side_px, spec.short_side_max_px + 1))
    height, width = resized_shape(height, width, short_side_px)
    if spec.crop == "random_resized":
        ranges = dict(area_range=spec.area_range, aspect_range=spec.aspect_range)
        box = random_resized_crop_box(height, width, rng.uniform, rng.integers, **ranges)
    elif spec.crop == "random":
        box = random_crop_box(height, width, spec.size_px, rng.integers)
    else:
        box = centre_crop_box(height, width, spec.size_px)
    return Square(short_side_px, box, spec.size_px)


def flip_horizontally(clip: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Mirrors every frame, left to right.

    Args:
        clip: uint8 [T, H, W, 3].
        out: where to, such as the clip itself; by default to a new array.

    Returns:
        uint8 [T, H, W, 3].
    """
    _check_clip(clip)
    out = np.empty(clip.shape, dtype=np.uint8) if out is None else out
    for source, target in zip(clip, out):
        # Forty times as fast as copying a reversed view, which comes later otherwise.
        cv2.flip(source, 1, dst=target)
    return out


def play_backwards(clip: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Reverses the order of the frames; arguments and result as of `flip_horizontally`."""
    _check_clip(clip)
    out = np.empty(clip.shape, dtype=np.uint8) if out is None else out
    out[...] = clip[::-1]
    return out


def changed_label(label: int, mode: Flip, labels: tuple[int, ...] | None = ()) -> int | None:
    """Says what a clip is when it is seen in a mirror, or played backwards.

    Args:
        label: the clip's class.
        mode: `none` (never change), `all` (change, keep the label), `skip` (never change the
            classes in `labels`, as released: left and right stay what they are) or `swap` (the
            changed clip is of class `labels[label]`).
        labels: classes for `skip`, a permutation of all classes for `swap`.

    Returns:
        The label of the changed clip, or `None` where it must not be changed.

    Raises:
        ValueError: if `swap` has no class for `label`.
    """
    if mode == "none" or (mode == "skip" and label in labels):
        return None
    if mode != "swap":
        return label
    if label >= len(labels):
        raise ValueError(
            f"the labels of 'swap' are {len(labels)}, none for label {label}: it needs the changed "
            "class of every class"
        )
    return labels[label]


def check_at_least(name: str, value: int, least: int) -> None:
    """Raises a `ValueError` that names the argument where it is no integer of at least `least`."""
    if not isinstance(value, numbers.Integral) or value < least:
        raise ValueError(f"{name}={value!r} must be an integer of at least {least}")


def _is_range(value: Any, most: float) -> bool:
    try:
        low, high = value
        return 0 < low <= high <= most
    except (TypeError, ValueError):  # not two, or not numbers
        return False


def _check_clip(clip: np.ndarray) -> None:
    if clip.ndim != 4 or clip.shape[-1] != 3 or clip.dtype != np.uint8 or 0 in clip.shape:
        raise ValueError(
            f"clip is {clip.dtype} {list(clip.shape)}: must be uint8 [T, H, W, 3], one clip of "
            "pixels in 0..255, as open_video reads them"
        )


def _check_fits(height: int, width: int, size_px: int) -> None:
    if not 1 <= size_px <= min(height, width):
        raise ValueError(
            f"size_px={size_px} must lie in [1, {min(height, width)}], the shorter side of a "
            f"frame of {height} x {width} px: resize the short side to at least {size_px}"
        )
