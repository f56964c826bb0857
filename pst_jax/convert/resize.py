"""Tables and kernels made for one size, resized or inflated to another."""

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


def resize_bias_table(table: np.ndarray, window: Window) -> np.ndarray:
    """Resizes a relative position table to another window.

    In space as the released code: bicubic on the grid of differences. In time linear, which
    keeps a difference's share of the clip (a clip of half as many frames spans the same video);
    a 2D table is repeated.

    Args:
        table: float [rows, heads], of a square 2D window, or of a video window that has the
            rows and columns of `window` and another number of frames.
        window: (frames, rows, columns) to resize to.

    Returns:
        float [table_rows(window), heads], of the table's dtype.

    Raises:
        ValueError: if the rows are those of no such window.
    """
    rows, heads = table.shape
    spatial = table_rows((1, *window[1:]))
    slabs = rows // spatial
    if rows == slabs * spatial and slabs % 2 == 1:
        volume = table.reshape(slabs, spatial, heads)
    else:
        side = int(round(rows**0.5))
        if side * side != rows or side % 2 == 0:
            raise ValueError(
                f"a bias table of {rows} rows belongs neither to a square 2D window nor to a "
                f"video window of {window[1]} x {window[2]} tokens"
            )
        volume = _resize_space(table.reshape(side, side, heads), window)[None]
    volume = np.einsum("st,tnh->snh", _linear(len(volume), 2 * window[0] - 1), volume)
    return volume.reshape(-1, heads).astype(table.dtype)


def _resize_space(image: np.ndarray, window: Window) -> np.ndarray:
    """Resizes [S, S, heads] to [(2h - 1) * (2w - 1), heads]."""
    down = _cubic(image.shape[0], 2 * window[1] - 1)
    across = _cubic(image.shape[1], 2 * window[2] - 1)
    resized = np.einsum("is,jt,sth->ijh", down, across, image.astype(np.float64))
    return resized.reshape(-1, image.shape[-1])


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
