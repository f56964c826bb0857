"""Patches of a video to tokens, and tokens to fewer tokens."""

import math
from typing import Any, Literal

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp

from pst_jax.layers.attention import INIT
from pst_jax.layers.blocks import LAYER_NORM_EPS, make_norm


def _torch_conv_init(fan_in: int):
    """The default of the released framework's convolution: uniform in +-1/sqrt(fan_in)."""
    bound = 1 / math.sqrt(fan_in)

    def init(key, shape, dtype=jnp.float32):
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class PatchEmbed(nn.Module):
    """A convolution whose kernel is its stride, and a norm.

    Written as a matrix product over flattened patches: equal, and on CPUs far faster to train
    than a strided 3D convolution.

    Attributes:
        patch_size: (frames, rows, columns) of a patch.
        embed_dim: channels C of a token.
        norm: after the product: "layer", "batch" or "none".
        kernel_init: of the product, whose bias then starts at 0; None: the released framework's
            default for a convolution.
        dtype: compute dtype.
    """

    patch_size: tuple[int, int, int]
    embed_dim: int
    norm: Literal["layer", "batch", "none"] = "layer"
    kernel_init: Any = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, video: jax.Array, *, train: bool = False) -> jax.Array:
        """Maps [B, F, H0, W0, c] to [B, T, H, W, C]; zero-pads at the end to whole patches."""
        p, q, r = self.patch_size
        ends = [-length % size for length, size in zip(video.shape[1:4], self.patch_size)]
        video = jnp.pad(video, ((0, 0), *((0, end) for end in ends), (0, 0)))
        patches = einops.rearrange(
            video, "b (t p) (h q) (w r) c -> b t h w (p q r c)", p=p, q=q, r=r
        )
        inits = [_torch_conv_init(patches.shape[-1])] * 2
        if self.kernel_init is not None:
            inits = [self.kernel_init, nn.initializers.zeros]
        x = nn.Dense(
            self.embed_dim,
            dtype=self.dtype,
            kernel_init=inits[0],
            bias_init=inits[1],
            name="proj",
        )(patches)
        if self.norm == "none":
            return x
        options = {"name": "norm", "train": train, "dtype": self.dtype}
        return make_norm(self.norm, LAYER_NORM_EPS, **options)(x)


class PositionEmbed(nn.Module):
    """A learnable embedding of frame and place, added to the tokens.

    Made for the grid that the model is initialised with, and resized (trilinear) to any other.

    Source: PST (ECCV 2022), Section 3: "learnable spatiotemporal position embedding".
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, T, H, W, C] to the same shape."""
        name = "embedding"
        stored = self.get_variable("params", name) if self.has_variable("params", name) else None
        shape = x.shape[1:] if stored is None else stored.shape
        table = self.param(name, INIT, shape)
        return x + jax.image.resize(table, x.shape[1:], "linear").astype(x.dtype)


class PatchMerging(nn.Module):
    """Joins 2 x 2 tokens and doubles the channels.

    Attributes:
        dtype: compute dtype.

    Source: Swin (ICCV 2021), Section 3.1.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [B, T, H, W, C] to [B, T, ceil(H / 2), ceil(W / 2), 2C]."""
        ends = [-length % 2 for length in x.shape[2:4]]
        x = jnp.pad(x, ((0, 0), (0, 0), (0, ends[0]), (0, ends[1]), (0, 0)))
        # Channel order (column, row): the released one, which the weights fix.
        x = einops.rearrange(x, "b t (h q) (w r) c -> b t h w (r q c)", q=2, r=2)
        x = nn.LayerNorm(LAYER_NORM_EPS, dtype=self.dtype, name="norm")(x)
        return nn.Dense(
            x.shape[-1] // 2, use_bias=False, dtype=self.dtype, kernel_init=INIT, name="reduction"
        )(x)
