"""Windows of a frame: padding, cyclic shift, partition and merge, and who may see whom."""

import dataclasses

import einops
import jax
import jax.numpy as jnp
import numpy as np

Pair = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Windows:
    """How the tokens of a frame are cut in windows.

    Attributes:
        grid: (H, W) of the frame, padded to whole windows.
        window: (h, w) of a window.
        shift: by how many tokens the frame is rolled up and left, cyclically, before it is cut.
    """

    grid: Pair
    window: Pair
    shift: Pair = (0, 0)

    @property
    def order(self) -> np.ndarray:
        """int64 [windows, h * w]: which of the frame's tokens, row-major, is at each place."""
        tokens = np.arange(self.grid[0] * self.grid[1]).reshape(self.grid)
        return self._cut(np.roll(tokens, (-self.shift[0], -self.shift[1]), axis=(0, 1)))

    @property
    def hidden(self) -> np.ndarray | None:
        """Tells which tokens of a window came from opposite sides of the frame.

        Returns:
            bool [windows, h * w, h * w], true where the query and the key are of different
            regions and must not see each other; None without a shift.

        Source: Swin (ICCV 2021), Section 3.2, "Efficient batch computation".
        """
        if self.shift == (0, 0):
            return None
        # After the roll an axis reads: whole windows | rest of the last | what wrapped around.
        bands = [
            np.searchsorted([length - size, length - step], np.arange(length), side="right")
            if step
            else np.zeros(length, np.int64)
            for length, size, step in zip(self.grid, self.window, self.shift)
        ]
        regions = self._cut(bands[0][:, None] * 3 + bands[1][None, :])
        return regions[:, :, None] != regions[:, None, :]

    def _cut(self, frame: np.ndarray) -> np.ndarray:
        h, w = self.window
        return einops.rearrange(frame, "(i h) (j w) -> (i j) (h w)", h=h, w=w)


def fit(frame: Pair, window: Pair, is_shifted: bool) -> Windows:
    """Fits windows to a frame: shrinks them to it, and pads it to whole ones.

    Args:
        frame: (H, W) of the token grid.
        window: (h, w) as configured.
        is_shifted: whether to roll by half a window, on an axis that one window does not span.

    Source: the released Swin rule ("get_window_size").
    """
    used = tuple(min(size, length) for size, length in zip(window, frame))
    grid = tuple(-(-length // size) * size for length, size in zip(frame, used))
    spans = [size >= length for size, length in zip(window, frame)]
    shift = tuple(size // 2 if is_shifted and not s else 0 for size, s in zip(window, spans))
    return Windows(grid, used, shift)


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
