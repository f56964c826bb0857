"""Relative position: from the positions of queries and keys to the rows of a bias table.

The bias of any token movement needs no code of its own: an array of times goes through the same
movement as the features, and differences of positions index the table. All of this is numpy, at
trace time: the indices are constants of the compiled program.
"""

import einops
import numpy as np

Window = tuple[int, int, int]


def table_rows(window: Window) -> int:
    """Returns the rows of the bias table of a window (t, h, w): one per relative position."""
    return int(np.prod([2 * size - 1 for size in window]))


def token_grid(height: int, width: int) -> np.ndarray:
    """Returns int64 [height * width, 2]: the (row, column) of each token of a window."""
    return np.stack(np.mgrid[:height, :width], axis=-1).reshape(-1, 2)


def relative_index(
    query_times: np.ndarray, key_times: np.ndarray, grid: np.ndarray, window: Window
) -> np.ndarray:
    """Returns the row of the bias table for every query and key that attend together.

    Args:
        query_times: int [G, M], the time of each query in each of G groups of M tokens.
        key_times: int [G, M], likewise of the keys.
        grid: int [M, 2], the row and column of each token in the window, in every group.
        window: (t, h, w) of the table; t bounds the differences of time.

    Returns:
        int32 [G, M, M], in [0, table_rows(window) - 1], from
        ((dt + t - 1) * (2h - 1) + dh + h - 1) * (2w - 1) + dw + w - 1, query minus key. G is 1
        where all groups agree.

    Raises:
        ValueError: if a difference does not fit the table.

    Source: Video-Swin (CVPR 2022), Section 3.1, "3D Relative Position Bias".
    """
    d_time = query_times[:, :, None] - key_times[:, None, :]
    d_space = np.broadcast_to(grid[:, None] - grid[None, :], (*d_time.shape, 2))
    difference = np.concatenate([d_time[..., None], d_space], axis=-1)
    size = np.array(window)
    if (np.abs(difference) >= size).any():
        reach = np.abs(difference).reshape(-1, 3).max(axis=0) + 1
        raise ValueError(
            f"positions over {tuple(reach.tolist())} (frames, rows, columns) do not fit a bias "
            f"table made for {window}: build the model with a larger num_frames or window, and "
            "resize the table of its checkpoint with --config.init_from"
        )
    index = np.ravel_multi_index(np.moveaxis(difference + size - 1, -1, 0), 2 * size - 1)
    index = index.astype(np.int32)
    return index[:1] if (index == index[:1]).all() else index


def group_times(times: np.ndarray, frames: int) -> np.ndarray:
    """Groups times [T, N] as the features are: [T / frames, frames * N]."""
    return einops.rearrange(times, "(g k) n -> g (k n)", k=frames)
