"""Channel shift along time: some channels of a token come from the frame before or after.

One function for the temporal shift module (TSM) and its relatives, which differ in how often the
pattern repeats along the channels, in what fills the clip's ends, and in direction.
"""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class ChannelShift:
    """How channels move.

    Attributes:
        fold_div: a fold is 1/fold_div of the channels of a period; two folds are moved.
        periods: how often the pattern repeats along the channels; None: once per head.
        edge: what the frame at the clip's end keeps: its own value, or zero.
        first: the frame that the first fold is taken from; the second fold goes the other way.
        tokens: which tokens of a frame move: "all", or its "class" token (all, where it has none).
    """

    fold_div: int = 8
    periods: int | None = None
    edge: Literal["keep", "zero"] = "keep"
    first: Literal["previous", "next"] = "previous"
    tokens: Literal["all", "class"] = "all"


def _from_frame(x: jax.Array, which: str, edge: str) -> jax.Array:
    """Takes each frame of x [B, T, ...] from the previous or the next one."""
    end = x[:, :1] if which == "previous" else x[:, -1:]
    end = end if edge == "keep" else jnp.zeros_like(end)
    parts = [end, x[:, :-1]] if which == "previous" else [x[:, 1:], end]
    return jnp.concatenate(parts, axis=1)


def channel_shift(
    x: jax.Array,
    fold_div: int = 8,
    periods: int = 1,
    *,
    edge: Literal["keep", "zero"] = "keep",
    first: Literal["previous", "next"] = "previous",
) -> jax.Array:
    """Takes a first fold of channels from one neighbouring frame and a second from the other.

    Args:
        x: [B, T, ..., C], any dtype.
        fold_div: in each period of C / periods channels, the first and the second
            (C / periods) // fold_div channels move. Where that is 0 nothing does, as released.
        periods: repetitions of the pattern along C; PST uses one per attention head.
        edge: at the clip's end, keep the frame's own value or fill with zero.
        first: the neighbour that the first fold is taken from.

    Returns:
        [B, T, ..., C], of x's dtype.

    Raises:
        ValueError: if C is no multiple of periods, or an option is unknown or out of range.

    Source: the released PST (per head, ends kept, first fold from the previous frame); TSM (ICCV
    2019) is `periods=1, edge="zero", first="next"`.
    """
    if fold_div < 2 or periods < 1:
        raise ValueError(
            f"fold_div={fold_div}, periods={periods}: they must be at least 2 and at least 1"
        )
    if x.ndim < 3 or x.shape[-1] % periods:
        raise ValueError(
            f"x has shape {x.shape}: channel_shift needs [B, T, ..., C] with C a multiple of "
            f"periods={periods}"
        )
    if edge not in ("keep", "zero") or first not in ("previous", "next"):
        raise ValueError(
            f"edge={edge!r}, first={first!r}: edge is 'keep' or 'zero', first 'previous' or 'next'"
        )
    fold = x.shape[-1] // periods // fold_div
    if fold == 0:
        return x
    second = "next" if first == "previous" else "previous"
    grouped = x.reshape(*x.shape[:-1], periods, -1)
    head, tail, rest = jnp.split(grouped, [fold, 2 * fold], axis=-1)
    moved = [_from_frame(head, first, edge), _from_frame(tail, second, edge), rest]
    return jnp.concatenate(moved, axis=-1).reshape(x.shape)
