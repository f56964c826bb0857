"""A transformer block, its MLP, its norms, and stochastic depth."""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from pst_jax.layers.attention import INIT, Attention, BiasKeys
from pst_jax.ops import mixing, relative_bias, windows
from pst_jax.ops.mixing import Mixer

LAYER_NORM_EPS = 1e-5


class Mlp(nn.Module):
    """Two linear layers with the exact (erf) GELU between them.

    Attributes:
        hidden_dim: width between the layers.
        use_bias: whether the layers have biases.
        kernel_init: of both layers.
        dtype: compute dtype.
    """

    hidden_dim: int
    use_bias: bool = True
    kernel_init: Any = INIT
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps [..., C] to [..., C]."""
        dense = {"use_bias": self.use_bias, "dtype": self.dtype}
        dense["kernel_init"] = self.kernel_init
        hidden = gelu(nn.Dense(self.hidden_dim, name="fc1", **dense)(x))
        return nn.Dense(x.shape[-1], name="fc2", **dense)(hidden)


def gelu(x: jax.Array) -> jax.Array:
    """Returns the exact (erf) GELU of x."""
    # jax.nn.gelu goes by erfc: the same to float32's rounding, and 5 % of a CPU training step.
    return 0.5 * x * (1 + jax.lax.erf(x * 2**-0.5))


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


class Block(nn.Module):
    """A transformer block: attention, then an MLP, each with a norm ahead and a residual.

    Swin's, ViT's and Visformer's differ in the norm, in windows and in biases alone.

    Attributes:
        num_heads: attention heads.
        mixers: the token movement around each attention; several attentions (divided, axial,
            local-global) have weights and a residual of their own each.
        window: (rows, columns) of a window, shrunk to the grid where the grid is smaller; None:
            the whole frame.
        is_shifted: by axis (time, rows, columns), whether windows are cyclically shifted by half.
        bias_window: (frames, rows, columns) of the relative position table; None: no bias.
        bias_keys: see `Attention`.
        mlp_ratio: width of the MLP over the channels.
        qkv_bias: whether the qkv projection has a bias.
        use_bias: whether the output projection and the MLP have biases.
        kernel_init: of every product.
        drop_path_rate: of each residual branch, drawn independently.
        norm: "layer" or "batch".
        eps: of the norm.
        dtype: compute dtype.

    Source: Swin (ICCV 2021), Section 3.2; ViT (ICLR 2021), Section 3.1.
    """

    num_heads: int
    mixers: tuple[Mixer, ...]
    window: tuple[int, int] | None = None
    is_shifted: tuple[bool, bool, bool] = (False, False, False)
    bias_window: relative_bias.Window | None = None
    bias_keys: BiasKeys = "own"
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    use_bias: bool = True
    kernel_init: Any = INIT
    drop_path_rate: float = 0.0
    norm: Literal["layer", "batch"] = "layer"
    eps: float = LAYER_NORM_EPS
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, grid: tuple[int, int], *, train: bool) -> jax.Array:
        """Maps tokens to tokens of the same shape.

        Args:
            x: [B, T, N, C]; the last H * W tokens of a frame are its grid, row-major, and those
                ahead of them have no place in it (a class token).
            grid: (H, W).
            train: whether drop path is on and batch norm uses the batch's statistics.

        Returns:
            [B, T, N, C].
        """
        num_extra = x.shape[2] - grid[0] * grid[1]
        for i, mixer in enumerate(self.mixers):
            # The last has the plain names: it is the one that an image model's weights fit.
            suffix = "" if i == len(self.mixers) - 1 else f"_{i}"
            x = self._shift_stream(x, mixer, num_extra)
            branch = self._norm(f"norm1{suffix}", train)(x)
            branch = self._attend(branch, mixer, grid, num_extra, f"attn{suffix}")
            x = x + DropPath(self.drop_path_rate)(branch, train=train)
        x = self._shift_stream(x, self.mixers[-1], num_extra)
        branch = self._norm("norm2", train)(x)
        width = int(x.shape[-1] * self.mlp_ratio)
        branch = Mlp(width, self.use_bias, self.kernel_init, self.dtype, name="mlp")(branch)
        return x + DropPath(self.drop_path_rate)(branch, train=train)

    def _norm(self, name: str, train: bool) -> nn.Module:
        return make_norm(self.norm, self.eps, name=name, train=train, dtype=self.dtype)

    def _shift_stream(self, x: jax.Array, mixer: Mixer, num_extra: int) -> jax.Array:
        """Shifts channels of the residual stream itself, as TokShift does."""
        if mixer.stream is None:
            return x
        return mixing.shift_channels(x, mixer.stream, self.num_heads, num_extra)

    def _attend(
        self, x: jax.Array, mixer: Mixer, grid: tuple[int, int], num_extra: int, name: str
    ) -> jax.Array:
        """Pads x [B, T, N, C] to whole windows, attends in them, and crops."""
        clip = (x.shape[1], *grid)
        depth = mixer.partition.frames if isinstance(mixer.partition.frames, int) else 1
        window = (depth, *(self.window or grid))
        cut = windows.fit(clip, window, self.is_shifted, num_extra)
        mixer.check_frames(clip[0])
        # After the norm, so that pads are zeros: as released, they attend with k and v of their
        # own (the biases) where windows are not shifted.
        x = windows.pad_clip(x, clip, cut.grid)
        x = Attention(
            self.num_heads,
            mixer,
            self.bias_window,
            self.bias_keys,
            self.qkv_bias,
            self.use_bias,
            self.kernel_init,
            self.dtype,
            name=name,
        )(x, cut)
        return windows.crop_clip(x, clip, cut.grid)


def make_norm(
    kind: Literal["layer", "batch"], eps: float, *, name: str, train: bool, dtype: Any
) -> nn.Module:
    """Returns a norm over the last axis: of each token, or by the statistics of the batch.

    A batch norm normalises with the statistics of the whole batch, on however many devices, and
    averages them for later use as the released one does (nine parts old, one part new).
    """
    if kind == "batch":
        return nn.BatchNorm(
            use_running_average=not train, momentum=0.9, epsilon=eps, dtype=dtype, name=name
        )
    return nn.LayerNorm(eps, dtype=dtype, name=name)
