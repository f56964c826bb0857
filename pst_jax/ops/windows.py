"""Windows of a frame: padding, cyclic shift, partition and merge, and who may see whom."""

import einops
import jax
import jax.numpy as jnp
import numpy as np

Pair = tuple[int, int]


def fit_window(grid: Pair, window: Pair) -> tuple[Pair, Pair]:
    """Shrinks a window to the grid, and gives the cyclic shift that goes with it.

    Args:
        grid: (H, W) of the token grid.
        window: (h, w) of the configured window.

    Returns:
        The window in use, no larger than the grid, and its shift: half the window on an axis, or
        0 where one window spans the axis.

    Source: the released Swin rule ("get_window_size").
    """
    used = tuple(min(size, length) for size, length in zip(window, grid))
    shift = tuple(0 if size >= length else size // 2 for size, length in zip(window, grid))
    return used, shift


def padded_grid(grid: Pair, window: Pair) -> Pair:
    """Returns the grid (H, W) grown to whole windows."""
    return tuple(-(-length // size) * size for length, size in zip(grid, window))


def pad_grid(x: jax.Array, grid: Pair) -> jax.Array:
    """Pads x [B, T, H, W, C] with zeros at the bottom and right to `grid` (H', W')."""
    bottom, right = grid[0] - x.shape[2], grid[1] - x.shape[3]
    if bottom == 0 and right == 0:
        return x
    return jnp.pad(x, ((0, 0), (0, 0), (0, bottom), (0, right), (0, 0)))


def partition(x: jax.Array, window: Pair) -> jax.Array:
    """Cuts x [B, T, H, W, C] in windows (h, w): [B, T, H/h * W/w, h * w, C], row-major."""
    return einops.rearrange(x, "b t (i h) (j w) c -> b t (i j) (h w) c", h=window[0], w=window[1])


def merge(x: jax.Array, window: Pair, grid: Pair) -> jax.Array:
    """Undoes `partition` for the grid (H, W): [B, T, windows, tokens, C] -> [B, T, H, W, C]."""
    return einops.rearrange(
        x,
        "b t (i j) (h w) c -> b t (i h) (j w) c",
        i=grid[0] // window[0],
        h=window[0],
        w=window[1],
    )


def different_regions(grid: Pair, window: Pair, shift: Pair) -> np.ndarray | None:
    """Tells which tokens of a cyclically shifted window came from opposite sides of the frame.

    Args:
        grid: (H, W), whole windows.
        window: (h, w).
        shift: the cyclic shift per axis.

    Returns:
        bool [windows, h * w, h * w], true where the query and the key are of different regions
        and must not see each other; None without a shift.

    Source: Swin (ICCV 2021), Section 3.2, "Efficient batch computation".
    """
    if shift == (0, 0):
        return None
    # After the roll an axis reads: whole windows | rest of the last | what wrapped around.
    bands = [
        np.searchsorted([length - size, length - step], np.arange(length), side="right")
        if step
        else np.zeros(length, np.int64)
        for length, size, step in zip(grid, window, shift)
    ]
    regions = bands[0][:, None] * 3 + bands[1][None, :]
    ids = einops.rearrange(regions, "(i h) (j w) -> (i j) (h w)", h=window[0], w=window[1])
    return ids[:, :, None] != ids[:, None, :]
