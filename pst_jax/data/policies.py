"""RandAugment and AutoAugment on whole clips: the same operations, of the same strength, per frame.

What an operation learns from the pixels (the range of autocontrast, the histogram of equalize, the
mean of contrast) it takes from all frames together, so that a clip does not flicker. Results are
those of PIL's operations, which the papers use, but for rounding by one.

Sources: Cubuk et al., "AutoAugment", CVPR 2019, Tables 6 and 9; Cubuk et al., "RandAugment", 2020;
fill, and that colour, contrast, brightness and sharpness know no sign: their authors' code
(tensorflow/tpu, efficientnet).
"""

import math
from collections.abc import Callable

import cv2
import numpy as np

from pst_jax.data.transforms import ClipSpec

# The name of an operation, and what it is given besides the clip.
Step = tuple[str, tuple[float, ...]]

GREY, BLACK = 128, 0  # what fills the space beside a frame that has moved
_VALUES = np.arange(256)
_LUMA = np.array([0.299, 0.587, 0.114])
_SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13  # PIL's filter of that name


# Operations: (uint8 [T, H, W, 3], contiguous; parameters) -> uint8 [T, H, W, 3].


def _look_up(clip: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Replaces every value by its entry in `table`, [256] or one for each channel, [256, 3]."""
    table = np.clip(np.rint(table), 0, 255).astype(np.uint8)
    return cv2.LUT(_as_image(clip), table[None]).reshape(clip.shape)


def _as_image(clip: np.ndarray) -> np.ndarray:
    """All frames below each other: OpenCV is called once."""
    return clip.reshape(-1, *clip.shape[2:])


def _warp(clip: np.ndarray, linear: np.ndarray, shift: tuple, fill: float) -> np.ndarray:
    """Moves what is at x, from the middle of the frame, to linear @ x + shift, in px."""
    height, width = clip.shape[1:3]
    centre = (np.array([width, height]) - 1) / 2
    matrix = np.column_stack([linear, centre - linear @ centre + shift])
    warped = np.empty_like(clip)
    for source, target in zip(clip, warped):
        # Of four channels OpenCV makes twice as many frames in a second as of three.
        four = cv2.cvtColor(source, cv2.COLOR_RGB2RGBA)
        four = cv2.warpAffine(four, matrix, (width, height), borderValue=(fill,) * 4)
        cv2.cvtColor(four, cv2.COLOR_RGBA2RGB, dst=target)
    return warped


def _shear_x(clip, slope, fill):
    return _warp(clip, np.array([[1, slope], [0, 1]]), (0, 0), fill)


def _shear_y(clip, slope, fill):
    return _warp(clip, np.array([[1, 0], [slope, 1]]), (0, 0), fill)


def _translate_x(clip, share, fill):
    return _warp(clip, np.eye(2), (round(share * clip.shape[2]), 0), fill)


def _translate_y(clip, share, fill):
    return _warp(clip, np.eye(2), (0, round(share * clip.shape[1])), fill)


def _rotate(clip, degrees, fill):
    """Turns counter-clockwise."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return _warp(clip, np.array([[cos, sin], [-sin, cos]]), (0, 0), fill)


def _posterize(clip, num_bits):
    return _look_up(clip, _VALUES & (256 - (1 << (8 - int(num_bits)))))


def _solarize(clip, threshold):
    return _look_up(clip, np.where(_VALUES < threshold, _VALUES, 255 - _VALUES))


def _colour(clip, factor):
    to_grey = np.tile(_LUMA, (3, 1))
    blend = factor * np.eye(3) + (1 - factor) * to_grey
    return cv2.transform(_as_image(clip), blend).reshape(clip.shape)


def _contrast(clip, factor):
    mean = round(float(_LUMA @ cv2.mean(_as_image(clip))[:3]))
    return _look_up(clip, mean + factor * (_VALUES - mean))


def _brightness(clip, factor):
    return _look_up(clip, factor * _VALUES)


def _sharpness(clip, factor):
    kernel = (1 - factor) * _SMOOTH
    kernel[1, 1] += factor
    sharpened = clip.copy()  # PIL leaves the rim as it is
    for source, target in zip(clip, sharpened):
        target[1:-1, 1:-1] = cv2.filter2D(source, -1, kernel)[1:-1, 1:-1]
    return sharpened


def _histograms(clip: np.ndarray) -> np.ndarray:
    """float64 [256, 3], of each channel."""
    image = _as_image(clip)
    counts = [cv2.calcHist([image], [c], None, [256], [0, 256]).ravel() for c in range(3)]
    return np.stack(counts, axis=1).astype(np.float64)


def _autocontrast(clip):
    is_there = _histograms(clip) > 0
    low, high = is_there.argmax(axis=0), 255 - is_there[::-1].argmax(axis=0)
    stretched = (_VALUES[:, None] - low) * 255 / np.maximum(high - low, 1)
    return _look_up(clip, np.where(high > low, stretched, _VALUES[:, None]))


def _equalize(clip):
    counts = _histograms(clip)
    last = 255 - (counts[::-1] > 0).argmax(axis=0)
    step = (counts.sum(axis=0) - counts[last, np.arange(3)]) // 255
    below = np.cumsum(counts, axis=0) - counts
    equal = (below + step // 2) // np.maximum(step, 1)
    return _look_up(clip, np.where(step > 0, equal, _VALUES[:, None]))


def _invert(clip):
    return _look_up(clip, 255 - _VALUES)


def _cutout(clip, side, x, y):
    """Paints a grey square; its side, and its middle, as shares of the frame's."""
    height, width = clip.shape[1:3]
    half = side * height / 2
    top, bottom = (round(np.clip(y * height + d, 0, height)) for d in (-half, half))
    left, right = (round(np.clip(x * width + d, 0, width)) for d in (-half, half))
    cut = clip.copy()
    cut[:, top:bottom, left:right] = GREY
    return cut


OPERATIONS: dict[str, Callable[..., np.ndarray]] = {
    "identity": lambda clip: clip,
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
    "rotate": _rotate,
    "posterize": _posterize,
    "solarize": _solarize,
    "colour": _colour,
    "contrast": _contrast,
    "brightness": _brightness,
    "sharpness": _sharpness,
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "invert": _invert,
    "cutout": _cutout,
}

# How strong an operation is at a share of the full magnitude, in [0, 1]; the first five get a sign
# and a fill besides. What is not listed has no strength.
_GEOMETRIC = ("shear_x", "shear_y", "translate_x", "translate_y", "rotate")
_ENHANCE = ("colour", "contrast", "brightness", "sharpness")
Levels = dict[str, Callable[[float], float]]
PAPER: Levels = {
    "shear_x": lambda share: 0.3 * share,  # slope
    "shear_y": lambda share: 0.3 * share,
    "translate_x": lambda share: 150 / 331 * share,  # of the width
    "translate_y": lambda share: 150 / 331 * share,
    "rotate": lambda share: 30 * share,  # degrees
    "posterize": lambda share: 8 - round(4 * share),  # bits left
    "solarize": lambda share: 256 * (1 - share),  # threshold
    **dict.fromkeys(_ENHANCE, lambda share: 0.1 + 1.8 * share),  # factor
}
RELEASED: Levels = PAPER | {
    "shear_x": lambda share: math.tan(math.radians(17.19 * share)),
    "shear_y": lambda share: math.tan(math.radians(17.19 * share)),
    "translate_x": lambda share: 0.2 * share,
    "translate_y": lambda share: 0.2 * share,
    "posterize": lambda share: max(1, int(4 * share)),
    "solarize": lambda share: 256 * share,
    "cutout": lambda share: 0.2 * share,  # side
}
# RandAugment draws among these.
RAND = tuple(name for name in OPERATIONS if name not in ("invert", "cutout"))
# The release of PST among these, in this order.
RAND_RELEASED = tuple(name for name in OPERATIONS if name != "identity")
_BY_HISTOGRAM = ("contrast", "autocontrast", "equalize")

# AutoAugment's policy of ImageNet: pairs of (operation, probability, magnitude in 0..9).
AUTO = (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 5)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("equalize", 0.4, 4), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, 7)),
    (("posterize", 0.8, 5), ("equalize", 1.0, 2)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, 8), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("colour", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, 2)),
    (("equalize", 0.0, 7), ("equalize", 0.8, 8)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("colour", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("colour", 1.0, 2)),
    (("colour", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, 8)),
    (("shear_x", 0.6, 5), ("equalize", 1.0, 9)),
    (("colour", 0.4, 0), ("equalize", 0.6, 3)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("autocontrast", 0.6, 5)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("colour", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
)


def draw(spec: ClipSpec, rng: np.random.Generator) -> list[Step]:
    """Draws what is done to a clip, one operation after the other.

    Args:
        spec: `policy`, `policy_ops`, `policy_magnitude` and `policy_seed` are used.
        rng: of the clip.

    Returns:
        Names of `OPERATIONS` with their parameters.
    """
    share = spec.policy_magnitude / 10
    if spec.policy == "rand":
        names = rng.choice(RAND, spec.policy_ops).tolist()
        return [step(name, share, PAPER, _sign(rng), GREY) for name in names]
    if spec.policy == "auto":
        return [
            step(name, magnitude / 9, PAPER, _sign(rng), GREY)
            for name, probability, magnitude in AUTO[rng.integers(len(AUTO))]
            if rng.random() < probability
        ]
    if spec.policy == "rand_released":
        return _draw_released(spec, share, rng)
    return []


def _draw_released(spec: ClipSpec, share: float, rng: np.random.Generator) -> list[Step]:
    # Paper/code difference: RandAugment draws with replacement, in any order, and a sign for every
    # clip. The release draws distinct operations, keeps the order of its list, and has drawn the
    # signs once, when training began: of shears, translations and rotation it shows one side.
    # Stronger solarize is weaker in it.
    once = np.random.default_rng(spec.policy_seed)
    signs = {name: _sign(once) for name in _GEOMETRIC}
    drawn = rng.choice(len(RAND_RELEASED), spec.policy_ops, replace=False)
    place = tuple(rng.random(2).tolist())  # of cutout
    steps = []
    for name in (RAND_RELEASED[k] for k in sorted(drawn)):
        name, given = step(name, share, RELEASED, signs.get(name, 1), BLACK)
        steps.append((name, given + place if name == "cutout" else given))
    return steps


def step(name: str, share: float, levels: Levels, sign: int = 1, fill: int = GREY) -> Step:
    """Returns an operation as strong as `levels` says at a share of the full magnitude."""
    level = (levels[name](share),) if name in levels else ()
    return (name, (sign * level[0], fill)) if name in _GEOMETRIC else (name, level)


def _sign(rng: np.random.Generator) -> int:
    return 1 if rng.random() < 0.5 else -1


def apply(clip: np.ndarray, spec: ClipSpec, rng: np.random.Generator) -> np.ndarray:
    """Applies the policy of a specification to a clip, the same to all frames.

    Args:
        clip: uint8 [T, H, W, 3].
        spec: see `draw`.
        rng: of the clip; the result depends on it, on the clip and on the specification alone.

    Returns:
        uint8 [T, H, W, 3]; the clip itself where there is no policy.
    """
    for name, given in draw(spec, rng):
        operation, clip = OPERATIONS[name], np.ascontiguousarray(clip)
        # The release hands frame by frame to operations that look at the pixels first.
        if spec.policy == "rand_released" and name in _BY_HISTOGRAM:
            clip = np.concatenate([operation(frame[None], *given) for frame in clip])
        else:
            clip = operation(clip, *given)
    return clip
