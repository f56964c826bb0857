"""Windows of a clip: padding, cyclic shift, partition and merge, and who may see whom."""

import dataclasses

import einops
import jax
import jax.numpy as jnp
import numpy as np

Triple = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Windows:
    """How the tokens of a clip are cut in windows.

    Attributes:
        grid: (T, H, W) of the clip's tokens, padded to whole windows.
        window: (t, h, w) of a window. A stack of windows, one from each frame, is what a mixer
            moves tokens in; t bounds what a mixer that attends over neighbouring frames joins.
        shift: by how many tokens the clip is rolled back, up and left, cyclically, before it is
            cut.
        num_extra: tokens of each frame that have no place in its grid (a class token), ahead of
            the others. One window must then span the frame.
    """

    grid: Triple
    window: Triple
    shift: Triple = (0, 0, 0)
    num_extra: int = 0

    @property
    def num_windows(self) -> int:
        """Windows in a frame."""
        return (self.grid[1] // self.window[1]) * (self.grid[2] // self.window[2])

    @property
    def frame_tokens(self) -> int:
        """Tokens of a frame."""
        return self.num_extra + self.grid[1] * self.grid[2]

    @property
    def order(self) -> np.ndarray:
        """int64 [T, windows, n]: which of the clip's tokens is at each place of each window.

        A clip's tokens count frame by frame, in a frame extra tokens and then rows; so do the
        n = num_extra + h * w places of a window.
        """
        tokens = np.arange(self.grid[0] * self.frame_tokens).reshape(self.grid[0], -1)
        extra, tokens = np.split(tokens, [self.num_extra], axis=1)
        rolled = np.roll(tokens.reshape(self.grid), [-s for s in self.shift], axis=(0, 1, 2))
        return self._behind(extra, rolled)

    @property
    def places(self) -> np.ndarray:
        """int64 [n, 2]: the (row, column) in its window of each place; extra ones are at 0."""
        places = np.stack(np.mgrid[: self.window[1], : self.window[2]], axis=-1).reshape(-1, 2)
        return np.concatenate([np.zeros((self.num_extra, 2), np.int64), places])

    @property
    def regions(self) -> np.ndarray:
        """int64 [T, windows, n]: numbers the parts that the cyclic shift brought together.

        Tokens of different regions came from opposite sides of the clip and must not see each
        other.

        Source: Swin (ICCV 2021), Section 3.2, "Efficient batch computation"; Video-Swin (CVPR
        2022) in three axes.
        """
        # After the roll an axis reads: whole windows | rest of the last | what wrapped around.
        bands = [
            np.searchsorted([length - size, length - step], np.arange(length), side="right")
            if step
            else np.zeros(length, np.int64)
            for length, size, step in zip(self.grid, self.window, self.shift)
        ]
        regions = bands[0][:, None, None] * 9 + bands[1][:, None] * 3 + bands[2]
        return self._behind(np.zeros((self.grid[0], self.num_extra), np.int64), regions)

    def _behind(self, extra: np.ndarray, clip: np.ndarray) -> np.ndarray:
        """Cuts a clip [T, H, W] in windows, behind what there is for extra tokens [T, extra]."""
        _, h, w = self.window
        cut = einops.rearrange(clip, "t (i h) (j w) -> t (i j) (h w)", h=h, w=w)
        return np.concatenate([np.repeat(extra[:, None], cut.shape[1], axis=1), cut], axis=-1)


def fit(
    clip: Triple, window: Triple, is_shifted: tuple[bool, bool, bool], num_extra: int = 0
) -> Windows:
    """Fits windows to a clip: shrinks them to it, and pads it to whole ones.

    Args:
        clip: (T, H, W) of the tokens.
        window: (t, h, w) as configured.
        is_shifted: by axis, whether to roll by half a window where one does not span the axis.
        num_extra: see `Windows`.

    Source: the released Swin rule ("get_window_size").
    """
    used = tuple(min(size, length) for size, length in zip(window, clip))
    grid = tuple(-(-length // size) * size for length, size in zip(clip, used))
    shift = tuple(
        size // 2 if rolls and size < length else 0
        for size, length, rolls in zip(window, clip, is_shifted)
    )
    return Windows(grid, used, shift, num_extra)


def pad_clip(x: jax.Array, clip: Triple, grid: Triple) -> jax.Array:
    """Pads tokens x [B, T, H * W, C] of a clip (T, H, W) with zeros at the ends to a grid."""
    if clip == grid:
        return x
    x = x.reshape(x.shape[0], *clip, x.shape[-1])
    x = jnp.pad(x, ((0, 0), *((0, new - old) for old, new in zip(clip, grid)), (0, 0)))
    return x.reshape(x.shape[0], grid[0], -1, x.shape[-1])


def crop_clip(x: jax.Array, clip: Triple, grid: Triple) -> jax.Array:
    """Undoes `pad_clip`."""
    if clip == grid:
        return x
    t, h, w = clip
    x = x.reshape(x.shape[0], *grid, x.shape[-1])[:, :t, :h, :w]
    return x.reshape(x.shape[0], t, h * w, x.shape[-1])


def partition(x: jax.Array, windows: Windows) -> jax.Array:
    """Cuts tokens x [B, T, N, C] in windows, without a roll: [B, T, windows, n, C], row-major."""
    if windows.num_windows == 1:
        return x[:, :, None]
    (_, rows, columns), (_, h, w) = windows.grid, windows.window
    return einops.rearrange(
        x, "b t (i h j w) c -> b t (i j) (h w) c", i=rows // h, h=h, j=columns // w, w=w
    )


def merge(x: jax.Array, windows: Windows) -> jax.Array:
    """Undoes `partition`: [B, T, windows, n, C] -> [B, T, N, C]."""
    if windows.num_windows == 1:
        return x[:, :, 0]
    (_, rows, columns), (_, h, w) = windows.grid, windows.window
    return einops.rearrange(
        x, "b t (i j) (h w) c -> b t (i h j w) c", i=rows // h, h=h, j=columns // w, w=w
    )
