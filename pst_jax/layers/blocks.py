"""A transformer block in windows, its MLP, and stochastic depth."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from pst_jax.layers.attention import INIT, Attention, BiasKeys
from pst_jax.ops import relative_bias, windows
from pst_jax.ops.mixing import Mixer

LAYER_NORM_EPS = 1e-5


class Mlp(nn.Module):
    """Two linear layers with the exact (erf) GELU between them.

    Attributes:
        hidden_dim: width between the layers.
        dtype: compute dtype.
    """

    hidden_dim: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [..., C] to [..., C]."""
        hidden = nn.Dense(self.hidden_dim, dtype=self.dtype, kernel_init=INIT, name="fc1")(x)
        # jax.nn.gelu goes by erfc: the same to float32's rounding, and 5 % of a CPU training step.
        hidden = 0.5 * hidden * (1 + jax.lax.erf(hidden * 2**-0.5))
        return nn.Dense(x.shape[-1], dtype=self.dtype, kernel_init=INIT, name="fc2")(hidden)


class DropPath(nn.Module):
    """Stochastic depth: drops a residual branch for a whole clip, and scales what survives.

    Attributes:
        rate: probability that a clip's branch is dropped.
    """

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [B, ...] to [B, ...]; needs the rng "dropout" when training at a rate above 0."""
        axes = tuple(range(1, x.ndim))
        return nn.Dropout(self.rate, broadcast_dims=axes)(x, deterministic=not train)


class SwinBlock(nn.Module):
    """A Swin block: attention in windows of a frame, then an MLP, each with a residual.

    Attributes:
        num_heads: attention heads.
        mixer: the token movement around the attention.
        window: (rows, columns) of a window; shrunk to the grid where the grid is smaller.
        is_shifted: whether the windows are cyclically shifted by half a window.
        bias_window: (frames, rows, columns) of the relative position table.
        bias_keys: see `Attention`.
        mlp_ratio: width of the MLP over the channels.
        qkv_bias: whether the qkv projection has a bias.
        drop_path_rate: of both residual branches, drawn independently.
        dtype: compute dtype.

    Source: Swin (ICCV 2021), Section 3.2.
    """

    num_heads: int
    mixer: Mixer
    window: tuple[int, int]
    is_shifted: bool
    bias_window: relative_bias.Window
    bias_keys: BiasKeys = "own"
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    drop_path_rate: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps tokens [B, T, H, W, C] to tokens of the same shape."""
        branch = nn.LayerNorm(LAYER_NORM_EPS, dtype=self.dtype, name="norm1")(x)
        branch = self._attend_in_windows(branch)
        x = x + DropPath(self.drop_path_rate)(branch, train=train)
        branch = nn.LayerNorm(LAYER_NORM_EPS, dtype=self.dtype, name="norm2")(x)
        branch = Mlp(int(x.shape[-1] * self.mlp_ratio), self.dtype, name="mlp")(branch)
        return x + DropPath(self.drop_path_rate)(branch, train=train)

    def _attend_in_windows(self, x: jax.Array) -> jax.Array:
        """Pads x [B, T, H, W, C] to whole windows, attends in them, and crops."""
        height, width = x.shape[2:4]
        cut = windows.fit((height, width), self.window, self.is_shifted)
        # After the norm, so that pads are zeros: as released, they attend with k and v of their
        # own (the biases) where windows are not shifted.
        x = windows.pad_grid(x, cut.grid)
        x = Attention(
            self.num_heads,
            self.mixer,
            self.bias_window,
            self.bias_keys,
            self.qkv_bias,
            self.dtype,
            name="attn",
        )(x, cut)
        return x[:, :, :height, :width]
