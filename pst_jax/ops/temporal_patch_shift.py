"""Temporal patch shift: move patches between frames, in a mosaic, at no cost in FLOPs.

Each position of a frame takes its token from another frame of the clip; which one is printed in
a small tile of frame offsets that is repeated over the grid. Attention that follows sees several
frames at once and costs what attention within one frame costs.

Source: PST (ECCV 2022), Section 3, "Temporal Patch Shift"; the tiles are printed there.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

Tile = tuple[tuple[int, ...], ...]

# Frame offsets as printed: +s takes the token of the frame s steps earlier, clip ends wrap.
PATTERNS: dict[str, Tile] = {
    "A": ((0, 1), (-1, 0)),
    "B": ((0, 1), (-1, 2)),
    "C": ((-4, 1, 2), (-1, 0, 3), (-2, -3, 4)),
    "D": ((0, 1, 2, 3), (-1, -7, 4, 5), (-2, -4, 7, 6), (-3, -5, -6, 8)),
}


def as_tile(pattern: str | Sequence[Sequence[int]]) -> Tile:
    """Returns the tile of frame offsets that `pattern` names or spells out.

    Args:
        pattern: a name of `PATTERNS`, or rows of integers of equal length.

    Returns:
        The tile as a tuple of rows (hashable, so that it can be a module's attribute).

    Raises:
        ValueError: for an unknown name or a tile that is not a rectangle of integers.
    """
    if isinstance(pattern, str):
        if pattern not in PATTERNS:
            raise ValueError(
                f"pattern={pattern!r} is unknown: use one of {sorted(PATTERNS)}, or rows of frame "
                "offsets such as ((0, 1), (-1, 0))"
            )
        return PATTERNS[pattern]
    try:
        tile = tuple(tuple(int(offset) for offset in row) for row in pattern)
        is_integral = tile == tuple(tuple(row) for row in pattern)
        is_integral &= all(abs(offset) < 2**31 for row in tile for offset in row)
    except (OverflowError, TypeError, ValueError):
        tile, is_integral = (), False
    if not is_integral or not tile or not tile[0] or any(len(row) != len(tile[0]) for row in tile):
        raise ValueError(
            f"pattern={pattern!r} is not a rectangle of integers: give rows of equal length, such "
            "as ((0, 1), (-1, 0))"
        )
    return tile


def frame_offsets(pattern: str | Sequence[Sequence[int]], height: int, width: int) -> np.ndarray:
    """Repeats a pattern's tile over a grid, from its top left corner.

    Args:
        pattern: as for `as_tile`.
        height: rows of the grid, in tokens.
        width: columns of the grid, in tokens.

    Returns:
        int64 [height, width], the frame offset of each position.
    """
    tile = np.array(as_tile(pattern))
    rows, columns = tile.shape
    return tile[np.arange(height)[:, None] % rows, np.arange(width)[None, :] % columns]


def source_frames(offsets: np.ndarray, num_frames: int) -> np.ndarray:
    """Returns the frame that each token comes from: (t - offset) modulo the number of frames.

    Args:
        offsets: int [...], the frame offset of each position.
        num_frames: frames T of the clip.

    Returns:
        int64 [T, ...], each in [0, T - 1].
    """
    frames = np.arange(num_frames).reshape(-1, *([1] * offsets.ndim))
    return (frames - offsets) % num_frames


def permute(x: jax.Array, index: np.ndarray) -> jax.Array:
    """Reorders the tokens of `x` by a constant permutation; its gradient is a gather as well.

    Left to itself, JAX transposes a gather to a scatter-add, which is slow everywhere and not
    deterministic on GPUs. The transpose of a permutation is its inverse permutation.

    Args:
        x: [B, M, C].
        index: int [M], a permutation of 0..M-1; output token m is input token index[m].

    Returns:
        [B, M, C], of x's dtype.
    """

    @jax.custom_vjp
    def gather(x):
        return jnp.asarray(x).at[:, index].get(mode="promise_in_bounds", unique_indices=True)

    def backward(_, gradient):
        return (permute(gradient, np.argsort(index)),)

    gather.defvjp(lambda x: (gather(x), None), backward)
    return gather(x)


def patch_shift(
    x: jax.Array, pattern: str | Sequence[Sequence[int]] = "C", inverse: bool = False
) -> jax.Array:
    """Shifts patches along time by a pattern, all channels of a patch together.

    In the paper's words Z^ = A * Z' + (1 - A) * Z: where the mask A is one (an offset other than
    0) a frame takes the patch Z' of another frame, elsewhere it keeps its own. The ends wrap.

    Args:
        x: [B, T, H, W, C], any dtype.
        pattern: a name of `PATTERNS`, or a tile: rows of frame offsets. The tile is repeated
            from the grid's top left corner.
        inverse: whether to undo the shift ("shift back").

    Returns:
        [B, T, H, W, C], of x's dtype: a permutation of the tokens of x.

    Raises:
        ValueError: if x is not of rank 5, or the pattern is not a tile.

    Source: PST (ECCV 2022), Section 3.
    """
    if x.ndim != 5:
        raise ValueError(f"x has shape {x.shape}: patch_shift needs [B, T, H, W, C]")
    b, t, h, w, c = x.shape
    source = source_frames(frame_offsets(pattern, h, w).reshape(-1), t)  # [T, H*W]
    index = (source * h * w + np.arange(h * w)).reshape(-1)
    index = np.argsort(index) if inverse else index
    return permute(x.reshape(b, t * h * w, c), index).reshape(x.shape)
