"""Tables and kernels made for one size, resized or inflated to another."""

import math

import numpy as np

from pst_jax.ops.relative_bias import Window, table_rows


def inflate_patch_kernel(kernel: np.ndarray, frames: int) -> np.ndarray:
    """Repeats a 2D patch kernel over time, keeping its response to a still video.

    Args:
        kernel: float [h * w * 3, C].
        frames: frames t of the video patch.

    Returns:
        float [t * h * w * 3, C], of the kernel's dtype, divided by t.

    Source: I3D (CVPR 2017); the released PST does the same.
    """
    return np.tile(kernel, (frames, 1)) / np.asarray(frames, kernel.dtype)


def resize_bias_table(table: np.ndarray, window: Window, *, is_image: bool = False) -> np.ndarray:
    """Resizes a relative position table to another window.

    In space as the released code: bicubic on the grid of differences. In time linear, which
    keeps a difference's share of the clip (a clip of half as many frames spans the same video);
    a 2D table is repeated.

    Args:
        table: float [rows, heads], of a square 2D window, or of a video window that has the
            rows and columns of `window` and another number of frames.
        window: (frames, rows, columns) to resize to.
        is_image: whether the table is of a 2D window. The rows don't always tell: where they would
            do for a video window too, they are read as such, unless this says otherwise.

    Returns:
        float [table_rows(window), heads], of the table's dtype.

    Raises:
        ValueError: if the rows are those of no such window.
    """
    rows, heads = table.shape
    spatial = table_rows((1, *window[1:]))
    slabs = rows // spatial
    if rows == slabs * spatial and (slabs == 1 if is_image else slabs % 2 == 1):
        volume = table.reshape(slabs, spatial, heads)
    else:
        side = int(round(rows**0.5))
        if side * side != rows or side % 2 == 0:
            raise ValueError(
                f"a bias table of {rows} rows belongs neither to a square 2D window nor to a "
                f"video window of {window[1]} x {window[2]} tokens"
            )
        size = (2 * window[1] - 1, 2 * window[2] - 1)
        image = table.astype(np.float64).reshape(1, side, side, heads)
        volume = resize_grid(image, size).reshape(1, spatial, heads)
    volume = np.einsum("st,tnh->snh", _linear(len(volume), 2 * window[0] - 1), volume)
    return volume.reshape(-1, heads).astype(table.dtype)


def resize_grid(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes values on a grid of places, bicubic.

    Args:
        images: float [B, h, w, C].
        size: (rows, columns) to resize to.

    Returns:
        float [B, rows, columns, C], of the dtype of images.
    """
    down, across = _cubic(images.shape[1], size[0]), _cubic(images.shape[2], size[1])
    resized = np.einsum("ih,jw,bhwc->bijc", down, across, images.astype(np.float64))
    return resized.astype(images.dtype)


def resize_token_positions(table: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Resizes a ViT's position embedding: the grid bicubic in space, all of it linear in time.

    Args:
        table: float [t, 1 + n, C], the class token's first; n places of a square grid; t is 1
            where all frames share them, which are then repeated.
        shape: (T, 1 + N, C) to resize to.

    Returns:
        float [T, 1 + N, C], of the table's dtype.

    Raises:
        ValueError: if either grid is not square.
    """
    sides = [math.isqrt(tokens - 1) for tokens in (table.shape[1], shape[1])]
    for side, tokens in zip(sides, (table.shape[1], shape[1])):
        if side < 1 or side**2 != tokens - 1:
            raise ValueError(f"{tokens - 1} places beside the class token are no square grid")
    grid = table[:, 1:].reshape(-1, sides[0], sides[0], shape[2])
    grid = resize_grid(grid, (sides[1], sides[1])).reshape(-1, shape[1] - 1, shape[2])
    frames = np.concatenate([table[:, :1], grid], axis=1)
    resized = np.einsum("st,tnc->snc", _linear(len(table), shape[0]), frames)
    return resized.astype(table.dtype)


def _sample_points(num_in: int, num_out: int) -> np.ndarray:
    """Centres of the output cells on the input's axis, in input cells."""
    return (np.arange(num_out) + 0.5) * num_in / num_out - 0.5


def _linear(num_in: int, num_out: int) -> np.ndarray:
    """Returns the [num_out, num_in] matrix of linear interpolation, ends held."""
    if num_in == num_out:
        return np.eye(num_in)
    points = np.clip(_sample_points(num_in, num_out), 0, num_in - 1)
    return np.maximum(0, 1 - np.abs(points[:, None] - np.arange(num_in)))


def _cubic(num_in: int, num_out: int, a: float = -0.75) -> np.ndarray:
    """Returns the [num_out, num_in] matrix of bicubic interpolation, ends held, no antialias.

    The coefficient a is that of the framework which the released code resizes with.
    """
    points = _sample_points(num_in, num_out)
    first = np.floor(points).astype(int) - 1
    matrix = np.zeros((num_out, num_in))
    for tap in range(4):
        position = first + tap
        x = np.abs(points - position)
        near = (a + 2) * x**3 - (a + 3) * x**2 + 1
        far = a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a
        index = np.clip(position, 0, num_in - 1)
        np.add.at(matrix, (np.arange(num_out), index), np.where(x <= 1, near, far))
    return matrix
