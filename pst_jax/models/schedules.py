"""Which Mixer each block gets: short functions from a network's depths to its mixers."""

import dataclasses
from collections.abc import Sequence

from pst_jax.ops.mixing import Mixer
from pst_jax.ops.temporal_channel_shift import ChannelShift
from pst_jax.ops.temporal_patch_shift import Tile, as_tile

Mixers = tuple[tuple[Mixer, ...], ...]


def space_only(depths: Sequence[int], window: Sequence[int]) -> Mixers:
    """Attention within windows of `window[0]` frames (1: within a frame) and nothing else."""
    return tuple((Mixer(frames=window[0]),) * depth for depth in depths)


def patch_shift_transformer(
    depths: Sequence[int],
    window: Sequence[int],
    *,
    pattern: str | Tile = "C",
    shift_stages: Sequence[int] = (1, 2, 3, 4),
    shift_back: bool = True,
    alternate: bool = True,
    shift_bias: bool = True,
) -> Mixers:
    """PST: in every stage, blocks alternate a channel shift and a patch shift.

    Args:
        depths: blocks of each stage.
        window: (frames, rows, columns) of the attention windows.
        pattern: name or tile of the patch shift.
        shift_stages: the stages, from 1, whose blocks shift; the others see single frames.
        shift_back: whether the patch shift is undone after attention.
        alternate: whether even blocks shift channels and odd blocks patches; otherwise every
            block shifts patches.
        shift_bias: whether the relative position bias follows the shifted patches.

    Returns:
        One Mixer per block, by stage.

    Raises:
        ValueError: for a bad pattern, one larger than the window, or a stage that is none.

    Source: PST (ECCV 2022), Section 3 and Table 1 (c, d); the order of blocks is the released one.
    """
    tile = as_tile(pattern)
    if len(tile) > window[1] or len(tile[0]) > window[2]:
        raise ValueError(
            f"pattern={pattern!r} has {len(tile)} x {len(tile[0])} cells, more than the window "
            f"{tuple(window[1:])}: use a smaller pattern or a larger window"
        )
    unknown = [stage for stage in shift_stages if stage not in (1, 2, 3, 4)]
    if unknown:
        raise ValueError(f"shift_stages={tuple(shift_stages)} has {unknown}: stages are 1 to 4")
    still = Mixer(frames=window[0])
    channels = Mixer(before=ChannelShift(), frames=window[0])
    patches = Mixer(pattern=tile, shift_back=shift_back, shift_bias=shift_bias, frames=window[0])
    pair = (channels if alternate else patches, patches)
    return tuple(
        tuple(pair[block % 2] if stage in shift_stages else still for block in range(depth))
        for stage, depth in enumerate(depths, start=1)
    )


def without_shifts(mixers: Mixers) -> Mixers:
    """Returns the mixers with no token moving between frames, all else as it was.

    A network of these has the parameters of the given one and runs the same code: what a
    comparison of the two shows is the shifts.
    """
    return tuple(
        tuple(dataclasses.replace(mixer, pattern=None, before=None) for mixer in stage)
        for stage in mixers
    )
