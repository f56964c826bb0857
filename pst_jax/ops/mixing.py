"""A Mixer: how frames meet in one attention, as a value without parameters.

Attention's linear maps act on each token alone, so a movement of tokens commutes with them; every
method of the library is the same attention with another Mixer around it.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from pst_jax.ops import partitions
from pst_jax.ops.partitions import Partition
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
            and never undone (TSM); None: no channel shift.
        after: a channel shift of the attention's output, ahead of its projection (LAPS).
        stream: a channel shift of the residual stream, ahead of the attention and of the MLP
            (TokShift).
        partition: which tokens attend together.
    """

    pattern: Tile | None = None
    shift_back: bool = True
    shift_bias: bool = True
    before: ChannelShift | None = None
    after: ChannelShift | None = None
    stream: ChannelShift | None = None
    partition: Partition = Partition()

    @property
    def shifts_frames(self) -> bool:
        """Whether a shift within the attention takes tokens or channels from other frames."""
        return any(shift is not None for shift in (self.pattern, self.before, self.after))

    def check_frames(self, num_frames: int) -> None:
        """Raises ValueError where a shift would meet the pads of windows several frames deep."""
        depth = self.partition.frames
        if self.shifts_frames and isinstance(depth, int) and num_frames % min(depth, num_frames):
            raise ValueError(
                f"{num_frames} frames after embedding do not form windows of {depth} frames, in "
                f"which shifts move: use a num_frames whose count after embedding is a multiple of "
                f"{depth}"
            )


def move_in(x: jax.Array, mixer: Mixer, windows: Windows, num_heads: int) -> jax.Array:
    """Moves the tokens of frames to where they attend.

    Args:
        x: [B, T, N, C], normalised tokens, the clip padded to whole windows.
        mixer: what to move.
        windows: how the clip is cut.
        num_heads: the heads of the attention that follows.

    Returns:
        [B, G, W, M, C], M tokens in each group; see `partitions.group`.
    """
    is_rolled_in_time = windows.shift[0] > 0
    if mixer.before is not None and is_rolled_in_time:  # neighbours in the clip, not in the roll
        x = shift_channels(x, mixer.before, num_heads)
    if _is_plain(mixer.pattern, windows):
        x = partition(x, windows)
    else:
        index = _sources(mixer.pattern, windows)
        b, c = x.shape[0], x.shape[-1]
        x = permute(x.reshape(b, index.size, c), index.reshape(-1)).reshape(b, *index.shape, c)
    # In windows, where it melts into the product with qkv: 0.6 % of a training step's bytes.
    if mixer.before is not None and not is_rolled_in_time:
        x = shift_channels(x, mixer.before, num_heads)
    return partitions.group(x, mixer.partition, windows.window[1:])


def move_out(x: jax.Array, mixer: Mixer, windows: Windows) -> jax.Array:
    """Moves attention's output [B, G, W, M, C] to frames again.

    Returns:
        [B, T, N, C]; without `shift_back`, patches stay in the frame where they attended.
    """
    inside = (windows.grid[0], windows.num_windows, len(windows.places))
    x = partitions.ungroup(x, mixer.partition, windows.window[1:], inside)
    pattern = mixer.pattern if mixer.shift_back else None
    if _is_plain(pattern, windows):
        return merge(x, windows)
    index = _sources(pattern, windows)
    b, t, *_, c = x.shape
    x = permute(x.reshape(b, index.size, c), np.argsort(index, axis=None))
    return x.reshape(b, t, windows.frame_tokens, c)


def shift_channels(
    x: jax.Array, shift: ChannelShift, num_heads: int, num_extra: int = 0
) -> jax.Array:
    """Applies a channel shift to tokens x [B, T, ..., N, C], of which the first are extra ones."""
    periods = num_heads if shift.periods is None else shift.periods
    if shift.tokens == "class" and num_extra:
        first, rest = jnp.split(x, [num_extra], axis=-2)
        first = shift_channels(first, dataclasses.replace(shift, tokens="all"), num_heads)
        return jnp.concatenate([first, rest], axis=-2)
    return channel_shift(x, shift.fold_div, periods, edge=shift.edge, first=shift.first)


def positions(mixer: Mixer, windows: Windows) -> np.ndarray:
    """Returns where the bias sees each token that attends, grouped as the tokens are.

    Returns:
        int64 [G, W, M, 3]: frame, and row and column in the window. G and W are 1 where all groups
        agree.
    """
    pattern = mixer.pattern if mixer.shift_bias else None
    times = source_frames(_offsets(pattern, windows), windows.grid[0])  # [T, n]
    places = np.broadcast_to(windows.places, (*times.shape, 2))
    found = np.concatenate([times[..., None], places], axis=-1)[:, None]  # [T, 1, n, 3]
    found = np.repeat(found, windows.num_windows, axis=1)
    return _group(found, mixer, windows)


def regions(mixer: Mixer, windows: Windows) -> np.ndarray | None:
    """Numbers the tokens that attend by what may see each other.

    Regions are of places: a token that the patch shift brings is of the place where it attends.

    Returns:
        int32 [G, W, M]: a query must not see a key of another region, which is one that the cyclic
        shift brought from the clip's opposite side, or a pad of an odd axis; G and W are 1 where
        all groups agree; None where all see each other.
    """
    found = _group(windows.regions[..., None], mixer, windows, fill=-1)[..., 0]
    return None if (found == found[..., :1]).all() else found.astype(np.int32)


def _group(values: np.ndarray, mixer: Mixer, windows: Windows, fill: int = 0) -> np.ndarray:
    """Groups values [T, W, n, C] of tokens."""
    return shared(partitions.group(values[None], mixer.partition, windows.window[1:], fill)[0])


def shared(groups: np.ndarray) -> np.ndarray:
    """Keeps one of the groups [G, W, ...] along each of the two axes where all agree."""
    for axis in (0, 1):
        first = groups.take([0], axis)
        groups = first if (groups == first).all() else groups
    return groups


def _is_plain(pattern: Tile | None, windows: Windows) -> bool:
    return pattern is None and windows.shift == (0, 0, 0)


def _sources(pattern: Tile | None, windows: Windows) -> np.ndarray:
    """Returns int64 [T, windows, n]: which token of the clip comes to each place.

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
    frames = source_frames(_offsets(pattern, windows), windows.grid[0])  # [T, n]
    return np.take_along_axis(windows.order, frames[:, None], axis=0)


def _offsets(pattern: Tile | None, windows: Windows) -> np.ndarray:
    """Returns int64 [n]: the frame offset of each place of a window; extra tokens stay."""
    tile = ((0,),) if pattern is None else pattern
    offsets = frame_offsets(tile, *windows.window[1:]).reshape(-1)
    return np.concatenate([np.zeros(windows.num_extra, np.int64), offsets])
