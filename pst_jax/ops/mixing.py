"""A Mixer: how frames meet in one block, as a value without parameters.

Attention's linear maps act on each token alone, so a movement of tokens commutes with them; every
method of the library is the same attention with another Mixer around it.
"""

import dataclasses

import jax
import numpy as np

from pst_jax.ops import frame_groups
from pst_jax.ops.temporal_channel_shift import ChannelShift, channel_shift
from pst_jax.ops.temporal_patch_shift import Tile, frame_offsets, permute, source_frames
from pst_jax.ops.windows import Windows, merge, partition


@dataclasses.dataclass(frozen=True)
class Mixer:
    """The token movement around one attention layer.

    Attributes:
        pattern: tile of frame offsets of the patch shift; None: no patch shift.
        shift_back: whether the patch shift is undone on the attention's output.
        shift_bias: whether the relative position bias sees shifted tokens where they came from.
        before: a channel shift of the attention's input, after the patch shift (if there are both)
            and never undone; None: no channel shift.
        frames: neighbouring frames that attend together (the window's depth).
    """

    pattern: Tile | None = None
    shift_back: bool = True
    shift_bias: bool = True
    before: ChannelShift | None = None
    frames: int = 1


def move_in(x: jax.Array, mixer: Mixer, windows: Windows, num_heads: int) -> jax.Array:
    """Moves the tokens of frames to where they attend.

    Args:
        x: [B, T, H, W, C], normalised tokens, the grid padded to whole windows.
        mixer: what to move.
        windows: how a frame is cut.
        num_heads: the heads of the attention that follows.

    Returns:
        [B, T / frames, windows, frames * N, C], N tokens per window.
    """
    if _is_plain(mixer.pattern, windows):
        x = partition(x, windows.window)
    else:
        index = _sources(mixer.pattern, windows, x.shape[1])
        b, c = x.shape[0], x.shape[-1]
        x = permute(x.reshape(b, index.size, c), index.reshape(-1)).reshape(b, *index.shape, c)
    # In windows, where it melts into the product with qkv: 0.6 % of a training step's bytes.
    if mixer.before is not None:
        shift = mixer.before
        periods = num_heads if shift.periods is None else shift.periods
        x = channel_shift(x, shift.fold_div, periods, edge=shift.edge, first=shift.first)
    return frame_groups.group(x, mixer.frames)


def move_out(x: jax.Array, mixer: Mixer, windows: Windows) -> jax.Array:
    """Moves attention's output [B, T / frames, windows, frames * N, C] to frames again.

    Returns:
        [B, T, H, W, C]; without `shift_back`, patches stay in the frame where they attended.
    """
    x = frame_groups.ungroup(x, mixer.frames)
    pattern = mixer.pattern if mixer.shift_back else None
    if _is_plain(pattern, windows):
        return merge(x, windows.window, windows.grid)
    index = _sources(pattern, windows, x.shape[1])
    b, t, *_, c = x.shape
    return permute(x.reshape(b, index.size, c), np.argsort(index, axis=None)).reshape(
        b, t, *windows.grid, c
    )


def _is_plain(pattern: Tile | None, windows: Windows) -> bool:
    return pattern is None and windows.shift == (0, 0)


def _sources(pattern: Tile | None, windows: Windows, num_frames: int) -> np.ndarray:
    """Returns int64 [T, windows, N]: which token of the clip comes to each place.

    Cyclic shift, partition and patch shift are one permutation, and so one pass over the tokens.
    XLA's GB accessed by PST-T, 32 x 224 x 224, on CPU, forward and training step, and over those
    of the same network without shifts:

        this one gather                             5.947 (1.000)   28.752 (1.004)
        roll, partition, then a gather in windows   6.120 (1.000)   29.445 (0.992)
        ..., then take_along_axis                   6.120 (1.000)   29.861 (1.006)
        ..., then a `where` of rolled frames        7.642 (1.249)   33.741 (1.137)
        ..., then rolls of strided slices           8.089 (1.322)   36.796 (1.240)

    (`python -m pst_jax.evaluation.benchmark pst_tiny --mode train`, the others put in its place.)
    """
    order = windows.order
    frames = source_frames(_offsets(pattern, windows.window), num_frames)  # [T, N]
    return frames[:, None] * order.size + order


def token_times(mixer: Mixer, num_frames: int, window: tuple[int, int]) -> np.ndarray:
    """Returns int64 [T, N]: the frame in which the bias sees each token of each frame."""
    return source_frames(_offsets(mixer.pattern if mixer.shift_bias else None, window), num_frames)


def _offsets(pattern: Tile | None, window: tuple[int, int]) -> np.ndarray:
    """Returns int64 [N]: the frame offset of each place of a window (h, w)."""
    return frame_offsets(((0,),) if pattern is None else pattern, *window).reshape(-1)
