"""Relative position: from the positions of queries and keys to the rows of a bias table.

The bias of any token movement needs no code of its own: an array of times goes through the same
movement as the features, and differences of positions index the table. All of this is numpy, at
trace time: the indices are constants of the compiled program.
"""

import numpy as np

Window = tuple[int, int, int]


def table_rows(window: Window) -> int:
    """Returns the rows of the bias table of a window (t, h, w): one per relative position."""
    return int(np.prod([2 * size - 1 for size in window]))


def relative_index(queries: np.ndarray, keys: np.ndarray, window: Window) -> np.ndarray:
    """Returns the row of the bias table for every query and key that attend together.

    Args:
        queries: int [..., M, 3], (time, row, column) of each query of a group.
        keys: int [..., M, 3], likewise of the keys.
        window: (t, h, w) of the table; t bounds the differences of time.

    Returns:
        int32 [..., M, M], in [0, table_rows(window) - 1], from
        ((dt + t - 1) * (2h - 1) + dh + h - 1) * (2w - 1) + dw + w - 1, query minus key.

    Raises:
        ValueError: if a difference does not fit the table.

    Source: Video-Swin (CVPR 2022), Section 3.1, "3D Relative Position Bias".
    """
    difference = queries[..., :, None, :] - keys[..., None, :, :]
    size = np.array(window)
    if (np.abs(difference) >= size).any():
        reach = np.abs(difference).reshape(-1, 3).max(axis=0) + 1
        raise ValueError(
            f"positions over {tuple(reach.tolist())} (frames, rows, columns) do not fit a bias "
            f"table made for {window}: build the model with a larger num_frames or window, and "
            "resize the table of its checkpoint with --config.init_from"
        )
    index = np.ravel_multi_index(np.moveaxis(difference + size - 1, -1, 0), 2 * size - 1)
    return index.astype(np.int32)
