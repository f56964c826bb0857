"""A Mixer: how frames meet in one block, as a value without parameters.

Attention's linear maps act on each token alone, so a movement of tokens commutes with them; every
method of the library is the same attention with another Mixer around it.
"""

import dataclasses

import jax
import numpy as np

from pst_jax.ops import frame_groups
from pst_jax.ops.temporal_channel_shift import ChannelShift, channel_shift
from pst_jax.ops.temporal_patch_shift import Tile, frame_offsets, shift_tokens, source_frames


@dataclasses.dataclass(frozen=True)
class Mixer:
    """The token movement around one attention layer.

    Attributes:
        pattern: tile of frame offsets of the patch shift; None: no patch shift.
        shift_back: whether the patch shift is undone on the attention's output.
        shift_bias: whether the relative position bias sees shifted tokens where they came from.
        before: a channel shift of the attention's input, never undone; None: no channel shift.
        frames: neighbouring frames that attend together (the window's depth).
    """

    pattern: Tile | None = None
    shift_back: bool = True
    shift_bias: bool = True
    before: ChannelShift | None = None
    frames: int = 1


def move_in(x: jax.Array, mixer: Mixer, grid: tuple[int, int], num_heads: int) -> jax.Array:
    """Moves tokens ahead of attention.

    Args:
        x: [B, T, W, N, C], normalised tokens in windows.
        mixer: what to move.
        grid: (h, w) of a window, h * w = N.
        num_heads: the heads of the attention that follows.

    Returns:
        [B, T / frames, W, frames * N, C].
    """
    if mixer.before is not None:
        shift = mixer.before
        periods = num_heads if shift.periods is None else shift.periods
        x = channel_shift(x, shift.fold_div, periods, edge=shift.edge, first=shift.first)
    if mixer.pattern is not None:
        x = shift_tokens(x, _offsets(mixer, grid))
    return frame_groups.group(x, mixer.frames)


def move_out(x: jax.Array, mixer: Mixer, grid: tuple[int, int]) -> jax.Array:
    """Moves attention's output [B, T / frames, W, frames * N, C] back: [B, T, W, N, C]."""
    x = frame_groups.ungroup(x, mixer.frames)
    if mixer.pattern is not None and mixer.shift_back:
        x = shift_tokens(x, _offsets(mixer, grid), inverse=True)
    return x


def token_times(mixer: Mixer, num_frames: int, grid: tuple[int, int]) -> np.ndarray:
    """Returns int64 [T, N]: the frame in which the bias sees each token of each frame."""
    is_shifted = mixer.pattern is not None and mixer.shift_bias
    offsets = _offsets(mixer, grid) if is_shifted else np.zeros(grid[0] * grid[1], np.int64)
    return source_frames(offsets, num_frames)


def _offsets(mixer: Mixer, grid: tuple[int, int]) -> np.ndarray:
    return frame_offsets(mixer.pattern, *grid).reshape(-1)
