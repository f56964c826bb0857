"""Which tokens of a clip attend together: every space-time attention as one rearrangement.

A mixer sees a stack of windows, one from each of the clip's T frames (a window is a whole frame in
ViT and Visformer), and along each of its axes takes so many tokens, so far apart. With M tokens in
a group, a token is compared with M keys: 2 M C multiply-adds, M = frames * rows * columns. For a
stack of T frames of N = h * w tokens:

    attention                  keys of a query         partition (frames, rows, columns)
    space only                 N                       1, all, all
    joint                      T N                     all, all, all
    local in time              T N / 2                 half, all, all
    sparse                     N                       every T-th of the stack's tokens
    leap                       2 N                     Leap(level), all, all
    divided (T + S)            T + N                   (all, 1, 1), then (1, all, all)
    axial (T + W + H)          T + w + h               (all, 1, 1), (1, 1, all), (1, all, 1)
    local-global (L + G)       T N / 4 + T N / 8       (all, half, half), then every other one

(for even T, h and w; an odd axis counts as the even one above it where it is halved).

Sources: TimeSformer (ICML 2021), Section 3 (joint, divided, axial, local-global); LAPS (ACM MM
2022), Section 3 (leap); sparse: Sparse Transformers (2019), the strided pattern.
"""

import dataclasses
from typing import Literal

import einops
import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Leap:
    """Pairs of frames T // 2**level apart: the pyramid's level, from 1 (half the clip apart).

    Source: LAPS (ACM MM 2022), Section 3; levels count from 1, as in the release.
    """

    level: int


# How many tokens of an axis attend together: so many neighbours; all; the nearer half; every other
# one of the axis (the halves of an odd axis are filled up with pads, which nobody sees); or pairs
# of frames.
Span = int | Literal["all", "half", "every_other"] | Leap
_HALVES = ("half", "every_other")
# (size, distance) of the tokens that attend together, by axis.
Cut = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


@dataclasses.dataclass(frozen=True)
class Partition:
    """Which tokens of a stack of windows attend together.

    Attributes:
        frames: along time.
        rows: along the window's rows.
        columns: along its columns.
        is_sparse: instead of by axis, every T-th token of the stack, in raster order.
    """

    frames: Span = 1
    rows: Span = "all"
    columns: Span = "all"
    is_sparse: bool = False

    @property
    def is_of_frames(self) -> bool:
        """Whether no group holds tokens of several frames."""
        return self.frames == 1 and not self.is_sparse

    @property
    def splits_frames(self) -> bool:
        """Whether groups need rows and columns, which a class token has not.

        Not so where they hold whole windows or single places, or count tokens in raster order: a
        class token is as good as one more place there.
        """
        by_axis = (self.rows, self.columns) not in (("all", "all"), (1, 1))
        return by_axis and not self.is_sparse

    def cut(self, window: tuple[int, int, int]) -> Cut:
        """Resolves the spans for a stack of windows (T, h, w)."""
        return tuple(map(_resolve, (self.frames, self.rows, self.columns), window))

    def padded(self, window: tuple[int, int, int]) -> tuple[int, int, int]:
        """Returns the stack (T, h, w) with odd axes made even where they are halved."""
        spans = (self.frames, self.rows, self.columns)
        return tuple(
            length + length % 2 if span in _HALVES and length > 1 else length
            for span, length in zip(spans, window)
        )


def leap_distance(num_frames: int, level: int) -> int:
    """Returns how many frames apart leap attention's pairs are at a level.

    Args:
        num_frames: frames T after embedding.
        level: of the pyramid, at least 1.

    Returns:
        T // 2**level, at least 1: frame a is paired with frame a + distance, for every a with
        (a // distance) even.

    Raises:
        ValueError: if T frames do not form such pairs.

    Source: LAPS (ACM MM 2022), Section 3; checked with the released tables of pairs.
    """
    # Paper/code difference: the release's older configs count levels from 0, its code from 1; and
    # where T frames do not pair up it mixes the frames of different clips.
    distance = num_frames // 2**level if level >= 1 else 0
    if distance == 0 or num_frames % (2 * distance):
        legal = leap_levels(num_frames)
        remedy = f"levels of {num_frames} frames are {list(legal)}" if legal else "use another T"
        raise ValueError(
            f"num_frames={num_frames} (after embedding) cannot form leap pairs at level {level}: "
            f"T must be a multiple of 2 * (T // 2**level), and the level at least 1; {remedy}"
        )
    return distance


def leap_levels(num_frames: int) -> tuple[int, ...]:
    """Returns the levels at which T frames form pairs, the farthest first; none for an odd T."""
    levels = range(1, num_frames.bit_length())
    return tuple(level for level in levels if num_frames % (2 * (num_frames // 2**level)) == 0)


def group(
    x: jax.Array, partition: Partition, window: tuple[int, int], fill: float = 0
) -> jax.Array:
    """Puts tokens that attend together in groups.

    Args:
        x: [B, T, W, n, C], jax or numpy: n tokens in each of W windows (h, w) of each frame;
            extra tokens come first in a window.
        partition: what goes together.
        window: (h, w).
        fill: value of pads, where halves of an odd axis need them.

    Returns:
        [B, G, W', M, C]: groups that differ in frames, and in place; M tokens in each.

    Raises:
        ValueError: if T frames do not form whole groups, or extra tokens find no group.
    """
    frames = x.shape[1]
    if partition.is_sparse:
        x = einops.rearrange(x, "b t w n c -> b w (t n) c")
        return einops.rearrange(x, "b w (m g) c -> b g w m c", g=frames)
    x = _pad(x, partition, window, fill)
    pattern, sizes = _rearrangement(partition, frames, x.shape[3], window)
    return einops.rearrange(x, " -> ".join(pattern), **sizes)


def ungroup(
    x: jax.Array, partition: Partition, window: tuple[int, int], inside: tuple[int, int, int]
) -> jax.Array:
    """Undoes `group`: [B, G, W', M, C] -> [B, T, W, n, C], where `inside` is (T, W, n)."""
    frames, num_windows, tokens = inside
    if partition.is_sparse:
        x = einops.rearrange(x, "b g w m c -> b w (m g) c", w=num_windows)
        return einops.rearrange(x, "b w (t n) c -> b t w n c", t=frames)
    padded = partition.padded((frames, *window))
    if padded[1:] != window:
        tokens = padded[1] * padded[2]
    pattern, sizes = _rearrangement(partition, frames, tokens, window)
    x = einops.rearrange(x, " -> ".join(reversed(pattern)), w=num_windows, **sizes)
    x = x[:, :frames]
    if padded[1:] != window:
        x = x.reshape(*x.shape[:3], *padded[1:], x.shape[-1])[..., : window[0], : window[1], :]
        x = x.reshape(*x.shape[:3], -1, x.shape[-1])
    return x


def _pad(x: jax.Array, partition: Partition, window: tuple[int, int], fill: float) -> jax.Array:
    """Pads the ends of x [B, T, W, n, C] to what halves of odd axes need."""
    clip = (x.shape[1], *window)
    padded = partition.padded(clip)
    if padded == clip:
        return x
    pad = np.pad if isinstance(x, np.ndarray) else jnp.pad
    ends = [(0, new - old) for old, new in zip(clip, padded)]
    x = pad(x, ((0, 0), ends[0], (0, 0), (0, 0), (0, 0)), constant_values=fill)
    if padded[1:] != window:
        b, t, w, _, c = x.shape
        x = pad(
            x.reshape(b, t, w, *window, c),
            ((0, 0), (0, 0), (0, 0), *ends[1:], (0, 0)),
            constant_values=fill,
        ).reshape(b, t, w, -1, c)
    return x


def _rearrangement(
    partition: Partition, frames: int, tokens: int, window: tuple[int, int]
) -> tuple[tuple[str, str], dict[str, int]]:
    """Returns the einops patterns of the windows and of the groups, and the sizes in them."""
    (k, s), (r, p), (q, u) = partition.cut((frames, *window))
    frames, *window = partition.padded((frames, *window))
    if frames % (k * s):
        raise ValueError(
            f"{frames} frames after embedding do not form groups of {k} frames: use a num_frames "
            f"whose count after embedding is a multiple of {k * s}"
        )
    sizes = {"k": k, "s": s, "o": frames // (k * s)}
    if [r, q] == window:
        return ("b (o k s) w n c", "b (o s) w (k n) c"), sizes | {"n": tokens}
    if (r, q) == (1, 1):
        return ("b (o k s) w n c", "b (o s) (w n) k c"), sizes | {"n": tokens}
    sizes |= {"r": r, "p": p, "q": q, "u": u, "i": window[0] // (r * p), "j": window[1] // (q * u)}
    inside = "b (o k s) w (i r p j q u) c"
    return (inside, "b (o s) (w i p j u) (k r q) c"), sizes


def _resolve(span: Span, length: int) -> tuple[int, int]:
    """Returns (size, distance) of the tokens of an axis that attend together."""
    if isinstance(span, Leap):
        return 2, leap_distance(length, span.level)
    if isinstance(span, int):
        return min(span, length), 1
    if span == "all" or length == 1:
        return length, 1
    return -(-length // 2), 2 if span == "every_other" else 1
