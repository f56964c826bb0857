"""Augmentation on the device: colour jitter, random erasing, mixup, cutmix.

What is drawn for a clip depends on a key and on the clip's position in the stream of training, on
nothing else: not on the devices that a batch lies on, nor on how it is cut into microbatches. Of
every clip all frames are changed alike.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Pair = tuple[jax.Array, jax.Array]

# Apart from the keys of dropout, which fold in the step, an int32.
_STREAM = 2**32 - 1
# Of colour jitter; hue in turns. Source: LAPS.
_BRIGHTNESS, _SATURATION, _GAMMA, _HUE = (0.5, 2.0), (0.5, 3.0), (0.8, 1.2), (-0.5, 0.5)
_LUMA = (0.299, 0.587, 0.114)
# Of erasing: shares of the frame's area, height / width, tries for a box that fits. Source: timm.
_AREA, _ASPECT, _TRIES = (0.02, 1 / 3), (0.3, 1 / 0.3), 10


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is done to clips on the device; by default nothing.

    Attributes:
        colour_jitter: probability of each of four changes: of brightness, saturation, gamma, hue.
        erase: probability that a box is erased (set to zero after normalisation).
        mixup: alpha of the Beta distribution by which clips are blended; 0: off.
        cutmix: alpha of the one by which a box of another clip is shown; 0: off. Where both are
            on, one of them is drawn for each clip.

    Raises:
        ValueError: if a probability is not in [0, 1], or an alpha below 0.
    """

    colour_jitter: float = 0.0
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0

    def __post_init__(self):
        for name, most in (("colour_jitter", 1), ("erase", 1), ("mixup", math.inf)):
            _check_in(name, getattr(self, name), most)
        _check_in("cutmix", self.cutmix, math.inf)

    @property
    def is_on(self) -> bool:
        """Whether anything is done."""
        return self != Augmentation()


def _check_in(name: str, value: float, most: float) -> None:
    if not 0 <= value <= most or value == math.inf:
        limit = "at least 0" if most == math.inf else f"in [0, {most}]"
        raise ValueError(f"{name}={value!r} must be a number {limit}")


def augment(
    video: jax.Array,
    targets: jax.Array,
    position: jax.Array,
    key: jax.Array,
    spec: Augmentation,
    normalise: Callable[[jax.Array], jax.Array],
) -> Pair:
    """Makes the network's input and targets of a batch of pixels: jitter, normalise, erase, mix.

    Mixing pairs the first clip of the batch with the last, the second with the last but one.

    Args:
        video: uint8 [B, T, H, W, 3].
        targets: float32 [B, K], rows of probabilities.
        position: int32 [B], of each clip in the stream of training; distinct.
        key: of `jax.random.key(seed)`, the run's.
        spec: what to do.
        normalise: of pixels, uint8 [..., 3] to float32, such as `ops.normalise`.

    Returns:
        float32 [B, T, H, W, 3] and float32 [B, K].
    """
    stream = jax.random.fold_in(key, _STREAM)
    keys = jax.vmap(lambda place: jax.random.split(jax.random.fold_in(stream, place), 3))(position)
    if spec.colour_jitter:
        video = colour_jitter(video, keys[:, 0], spec.colour_jitter)
    video = normalise(video)
    if spec.erase:
        video = erase(video, keys[:, 1], spec.erase)
    if spec.mixup or spec.cutmix:
        video, targets = mix(video, targets, keys[:, 2], spec.mixup, spec.cutmix)
    return video, targets


def colour_jitter(video: jax.Array, keys: jax.Array, probability: float) -> jax.Array:
    """Changes brightness, saturation, gamma and hue of some clips, in this order.

    Args:
        video: uint8 [B, T, H, W, 3].
        keys: [B].
        probability: of each of the four.

    Returns:
        uint8 [B, T, H, W, 3], rounded; what is not drawn is not changed by a bit.

    Source: LAPS, its data pipeline on Kinetics-400.
    """
    units = _units(keys, 8)
    is_drawn = units[:, :4] < probability
    values = _between(units[:, 4:], *jnp.array([_BRIGHTNESS, _SATURATION, _GAMMA, _HUE]).T)
    changed = video.astype(jnp.float32) / 255
    for number, change in enumerate((_brighten, _saturate, jnp.power, _turn_hue)):
        is_due, value = (_per_clip(x[:, number]) for x in (is_drawn, values))
        changed = jnp.where(is_due, change(changed, value), changed)
    return jnp.rint(changed * 255).astype(jnp.uint8)


def _brighten(video: jax.Array, factor: jax.Array) -> jax.Array:
    return jnp.clip(video * factor, 0, 1)


def _saturate(video: jax.Array, factor: jax.Array) -> jax.Array:
    grey = (video * jnp.array(_LUMA)).sum(axis=-1, keepdims=True)
    return jnp.clip(grey + factor * (video - grey), 0, 1)


def _turn_hue(video: jax.Array, turns: jax.Array) -> jax.Array:
    """Adds to the hue of HSV."""
    red, green, blue = video[..., 0], video[..., 1], video[..., 2]
    value = video.max(axis=-1)
    chroma = value - video.min(axis=-1)
    safe = jnp.where(chroma > 0, chroma, 1)
    sextant = jnp.where(
        value == red,
        (green - blue) / safe,
        jnp.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    # How far each primary is from the hue, around the circle.
    around = (sextant + 6 * turns[..., 0])[..., None] + jnp.array([5.0, 3.0, 1.0])
    around = around % 6
    less = jnp.clip(jnp.minimum(around, 4 - around), 0, 1)
    return value[..., None] - chroma[..., None] * less


def erase(video: jax.Array, keys: jax.Array, probability: float) -> jax.Array:
    """Sets a box to zero, the same in all frames, in some clips.

    Args:
        video: float32 [B, T, H, W, 3], normalised.
        keys: [B].
        probability: that a clip loses a box.

    Returns:
        float32 [B, T, H, W, 3].

    Source: timm, `RandomErasing` (mode "const", one box), as the release of PST uses it. A box that
    does not fit is drawn again, ten times at most; here all ten are drawn at once.
    """
    height, width = video.shape[2:4]

    def draw(units):
        area = height * width * _between(units[:_TRIES], *_AREA)
        aspect = jnp.exp(_between(units[_TRIES : 2 * _TRIES], *map(math.log, _ASPECT)))
        heights, widths = jnp.rint(jnp.sqrt(area * aspect)), jnp.rint(jnp.sqrt(area / aspect))
        fits = (heights < height) & (widths < width)
        first = jnp.argmax(fits)
        box_height, box_width = heights[first], widths[first]
        is_drawn, top, left = units[2 * _TRIES :]
        top = jnp.floor(top * (height - box_height + 1))
        left = jnp.floor(left * (width - box_width + 1))
        is_inside = _box(height, width, top, left, top + box_height, left + box_width)
        return is_inside & fits[first] & (is_drawn < probability)

    is_erased = jax.vmap(draw)(_units(keys, 2 * _TRIES + 3))  # [B, H, W]
    return jnp.where(is_erased[:, None, :, :, None], 0, video)


def mix(video: jax.Array, targets: jax.Array, keys: jax.Array, mixup: float, cutmix: float) -> Pair:
    """Blends each clip with its partner (mixup), or shows a box of that one (cutmix).

    A clip's share of its own target is lambda, of Beta(alpha, alpha); in cutmix the box has the
    share 1 - lambda of the area before it is cut at the frame's edges, and lambda is then what is
    left of the clip in truth.

    Args:
        video: float32 [B, T, H, W, 3].
        targets: float32 [B, K].
        keys: [B].
        mixup: alpha; 0: off.
        cutmix: alpha; 0: off. One of the two must be on.

    Returns:
        Both, mixed.

    Source: Zhang et al., "mixup", 2018; Yun et al., "CutMix", 2019; timm, `Mixup` (mode "elem"),
    each of both with probability 0.5.
    """
    height, width = video.shape[2:4]

    def draw(key):
        of_units, of_beta = jax.random.split(key)
        drawn, y, x = jax.random.uniform(of_units, (3,))
        is_cut = drawn < (0.5 if mixup and cutmix else float(cutmix > 0))
        alpha = jnp.where(is_cut, cutmix, mixup)
        blend = jax.random.beta(of_beta, alpha, alpha)
        side = jnp.sqrt(1 - blend) / 2  # half of it, as a share of the frame's
        top, bottom = (jnp.floor(y * height) + sign * jnp.floor(side * height) for sign in (-1, 1))
        left, right = (jnp.floor(x * width) + sign * jnp.floor(side * width) for sign in (-1, 1))
        is_other = _box(height, width, top, left, bottom, right)
        # Of the partner, at each pixel.
        share = jnp.where(is_cut, is_other.astype(jnp.float32), 1 - blend)
        return share, jnp.where(is_cut, 1 - is_other.mean(), blend)

    share, own = jax.vmap(draw)(keys)  # [B, H, W], [B]
    share, own = share[:, None, :, :, None], own[:, None]
    video = jnp.where(share == 0, video, (1 - share) * video + share * video[::-1])
    return video, own * targets + (1 - own) * targets[::-1]


def _box(height, width, top, left, bottom, right) -> jax.Array:
    """Returns bool [H, W]: rows from top to bottom and columns from left to right, half open."""
    rows, columns = jnp.arange(height)[:, None], jnp.arange(width)
    return (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)


def _units(keys: jax.Array, count: int) -> jax.Array:
    """Draws float32 [B, count], uniform in [0, 1), by one call: each takes time to compile."""
    return jax.vmap(lambda key: jax.random.uniform(key, (count,)))(keys)


def _between(units: jax.Array, low: Any, high: Any) -> jax.Array:
    return low + units * (high - low)


def _per_clip(values: jax.Array) -> jax.Array:
    """[B] to [B, 1, 1, 1, 1]."""
    return values[:, None, None, None, None]
