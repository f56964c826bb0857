"""The only attention module: every method differs in its Mixer alone."""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from pst_jax.ops import mixing, relative_bias
from pst_jax.ops.attention import attend
from pst_jax.ops.mixing import Mixer
from pst_jax.ops.windows import Windows

BiasKeys = Literal["first_frame", "own"]


class Attention(nn.Module):
    """Multi-head attention in groups of tokens, with a token movement around it.

    Attributes:
        num_heads: attention heads; must divide the channels.
        mixer: the token movement.
        bias_window: (frames, rows, columns) that the relative position table spans.
        bias_keys: the frame in which the bias sees a key: its "own", or the "first_frame" of
            the clip, as the released PST.
        qkv_bias: whether the qkv projection has a bias.
        dtype: compute dtype.
    """

    num_heads: int
    mixer: Mixer
    bias_window: relative_bias.Window
    bias_keys: BiasKeys = "own"
    qkv_bias: bool = True
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, windows: Windows) -> jax.Array:
        """Attends in windows.

        Args:
            x: [B, T, H, W, C], the grid padded to whole windows.
            windows: how a frame is cut.

        Returns:
            [B, T, H, W, C], of the compute dtype.
        """
        num_frames, channels = x.shape[1], x.shape[-1]
        x = mixing.move_in(x, self.mixer, windows, self.num_heads)
        qkv = nn.Dense(
            3 * channels, use_bias=self.qkv_bias, dtype=self.dtype, kernel_init=INIT, name="qkv"
        )(x)
        qkv = qkv.reshape(*x.shape[:-1], 3, self.num_heads, channels // self.num_heads)
        query, key, value = (qkv[..., i, :, :] for i in range(3))
        out = attend(query, key, value, self._bias(num_frames, windows))
        out = nn.Dense(channels, dtype=self.dtype, kernel_init=INIT, name="proj")(
            out.reshape(x.shape)
        )
        # The projection acts on each token alone. Behind it the movement melts into the residual
        # sum: 1 % of a training step's bytes (XLA on CPU).
        return mixing.move_out(out, self.mixer, windows)

    def _bias(self, num_frames: int, windows: Windows) -> jax.Array:
        """Returns relative position bias and window mask, float32 [1, G, W or 1, heads, M, M]."""
        table = self.param(
            "relative_position_bias_table",
            INIT,
            (relative_bias.table_rows(self.bias_window), self.num_heads),
        )
        index = bias_index(self.mixer, num_frames, windows.window, self.bias_window, self.bias_keys)
        bias = jnp.moveaxis(table[index.reshape(-1)].reshape(*index.shape, -1), -1, 1)
        bias = bias[None, :, None]  # [1, G, 1, heads, M, M]
        hidden = windows.hidden
        if hidden is not None:
            frames = self.mixer.frames
            # -100 and not -inf: the released value, and no NaN where a row hides everything.
            mask = np.where(np.tile(hidden, (1, frames, frames)), -100.0, 0.0)
            bias = bias + mask[None, None, :, None].astype(np.float32)
        return bias


# Truncated at two units, which is 100 standard deviations, in the released code: a normal.
INIT = nn.initializers.normal(0.02)


def bias_index(
    mixer: Mixer,
    num_frames: int,
    grid: tuple[int, int],
    window: relative_bias.Window,
    bias_keys: BiasKeys,
) -> np.ndarray:
    """Returns the rows of the bias table that a block reads.

    Paper/code difference: the paper's equation takes the difference of the times of query and
    key; the released PST subtracts, in every frame, the times of the keys of the clip's first
    frame (`bias_keys="first_frame"`), which makes it a learnable bias of absolute time. Both agree
    at initialisation from a 2D checkpoint.

    Args:
        mixer: the block's token movement.
        num_frames: frames T after embedding.
        grid: (h, w) of a window, N = h * w.
        window: (frames, rows, columns) that the table spans.
        bias_keys: "own" or "first_frame".

    Returns:
        int32 [G, M, M] with G = T / mixer.frames groups (1 where all agree) of
        M = mixer.frames * N tokens.

    Raises:
        ValueError: if a difference does not fit the table or bias_keys does not fit the mixer.
    """
    times = mixing.token_times(mixer, num_frames, grid)
    queries = relative_bias.group_times(times, mixer.frames)
    if bias_keys == "own":
        keys = queries
    elif bias_keys == "first_frame" and mixer.frames == 1:
        keys = np.broadcast_to(queries[:1], queries.shape)
    else:
        raise ValueError(
            f"bias_keys={bias_keys!r} with windows of {mixer.frames} frames: use 'own', or "
            "'first_frame' with windows of one frame, for which alone it was released"
        )
    tokens = np.tile(relative_bias.token_grid(*grid), (mixer.frames, 1))
    return relative_bias.relative_index(queries, keys, tokens, window)
