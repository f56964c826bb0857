"""Visformer over the frames of a video: LAPS, its ablations and its 2D and 3D baselines."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from pst_jax.layers.attention import INIT
from pst_jax.layers.blocks import LAYER_NORM_EPS, Block, DropPath, gelu, make_norm
from pst_jax.layers.embed import PatchEmbed
from pst_jax.models.schedules import Mixers
from pst_jax.models.video import Output, VideoModel, check_video

# The released initialisation of convolutions: normal, of variance 2 over the outputs.
_CONV_INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
_GROUPS = 8


class Visformer(VideoModel):
    """A Visformer-S: convolutions at 28 x 28, attention over whole frames at 14 x 14 and 7 x 7.

    Batch norm throughout: its running statistics are the collection "batch_stats".

    Attributes:
        num_classes: classes K.
        mixers: the token movements of each attention block, of the second and third stage; see
            `schedules`. The first stage has no attention, and frames never meet in it.
        num_frames: frames T of the input clip, each embedded on its own.
        image_size: height and width of the input, in pixels.
        init_channels: channels of the stem.
        embed_dim: channels at 14 x 14; half of them at 28 x 28, twice as many at 7 x 7.
        depths: blocks of the three stages.
        num_heads: attention heads.
        mlp_ratio: width of the MLP over the channels, in the second and third stage.
        qkv_bias: whether qkv projections have a bias.
        drop_path_rate: of the last block; grows linearly from 0 over all blocks.
        head_dropout: dropout rate ahead of the classifier.
        dtype: compute dtype; parameters, softmax, statistics and logits are float32.
        remat: whether blocks are recomputed in the backward pass, to save memory.

    Source: Visformer (ICCV 2021); LAPS (ACM MM 2022), Section 4.
    """

    num_classes: int
    mixers: Mixers
    num_frames: int = 8
    image_size: int = 224
    init_channels: int = 32
    embed_dim: int = 384
    depths: tuple[int, int, int] = (7, 4, 4)
    num_heads: int = 6
    mlp_ratio: float = 4.0
    qkv_bias: bool = False
    drop_path_rate: float = 0.0
    head_dropout: float = 0.0
    dtype: Any = jnp.float32
    remat: bool = False

    @property
    def attention_stages(self) -> tuple[tuple[int, ...], tuple[int, int, int]]:
        """Blocks of each stage with attention, and the tokens (frames, rows, columns) in it."""
        side = (self.image_size + 1) // 2 // 4 // 2
        return self.depths[1:], (1, side, side)

    @nn.compact
    def __call__(self, video: jax.Array, *, train: bool, output: Output = "logits") -> jax.Array:
        """Classifies clips.

        Args:
            video: float32 [B, T, image_size, image_size, 3], RGB, normalised; T at most num_frames.
            train: whether the batch's statistics are used and "batch_stats" updated (make it
                mutable), and drop path and dropout are on; they need the rng "dropout".
            output: what to return, see `VideoModel`.

        Returns:
            "logits": float32 [B, num_classes]; "features": [B, T, H, W, C] after the last norm.

        Raises:
            ValueError: if the video's shape or dtype is not as above.
        """
        check_video(video, self.num_frames, self.image_size)
        x = nn.Conv(
            self.init_channels,
            (7, 7),
            strides=2,
            padding=3,
            use_bias=False,
            dtype=self.dtype,
            kernel_init=_CONV_INIT,
            name="stem_conv",
        )(video)  # frames and clips alike are batch
        x = nn.relu(self._norm("stem_norm", train)(x))
        for stage in range(3):
            x = self._stage(x, stage, train)
        x = self._norm("norm", train)(x)
        if output == "features":
            return x
        return self.classify(x.astype(jnp.float32).mean(axis=(2, 3)), train, output, head_init=INIT)

    def _norm(self, name: str, train: bool) -> nn.Module:
        return make_norm("batch", LAYER_NORM_EPS, name=name, train=train, dtype=self.dtype)

    def _stage(self, x: jax.Array, stage: int, train: bool) -> jax.Array:
        """Embeds patches of x [B, T, H, W, C], adds their positions, and runs the blocks."""
        side, width = (4 if stage == 0 else 2), self.embed_dim * 2**stage // 2
        # As a convolution without padding: what does not fill a patch at the ends is left out.
        height, columns = (length // side * side for length in x.shape[2:4])
        x = PatchEmbed(
            (1, side, side),
            width,
            "batch",
            # Of a convolution: a product's fan out lacks the patch's size.
            nn.initializers.variance_scaling(2.0 / side**2, "fan_out", "normal"),
            self.dtype,
            name=f"patch_embed{stage + 1}",
        )(x[:, :, :height, :columns], train=train)
        b, t, h, w, c = x.shape
        x = x + self.param(f"pos_embed{stage + 1}", INIT, (1, h, w, c)).astype(x.dtype)
        first, last = sum(self.depths[:stage]), max(sum(self.depths) - 1, 1)

        def run(model, x, block):
            rate = model.drop_path_rate * (first + block) / last
            name = f"stage{stage + 1}_blocks_{block}"
            if stage == 0:
                return ConvBlock(rate, model.dtype, name=name)(x, train=train)
            return Block(
                num_heads=model.num_heads,
                mixers=model.mixers[stage - 1][block],
                mlp_ratio=model.mlp_ratio,
                qkv_bias=model.qkv_bias,
                use_bias=False,
                kernel_init=_CONV_INIT,
                drop_path_rate=rate,
                norm="batch",
                dtype=model.dtype,
                name=name,
            )(x, (h, w), train=train)

        x = x if stage == 0 else x.reshape(b, t, h * w, c)
        return self.run_blocks(run, x, self.depths[stage]).reshape(b, t, h, w, c)

    @nn.nowrap
    def check_attributes(self) -> None:
        """Raises ValueError where attributes contradict each other."""
        if len(self.depths) != 3:
            raise ValueError(f"depths={self.depths} must have three entries, one per stage")
        if self.image_size < 32:
            raise ValueError(f"image_size={self.image_size} must be at least 32")
        if self.embed_dim % self.num_heads or self.embed_dim % _GROUPS:
            raise ValueError(
                f"embed_dim={self.embed_dim} must be a multiple of {_GROUPS} and of num_heads="
                f"{self.num_heads}"
            )


class ConvBlock(nn.Module):
    """A block of the first stage: batch norm, 1 x 1, grouped 3 x 3 and 1 x 1 convolution.

    Attributes:
        drop_path_rate: of the residual branch.
        dtype: compute dtype.

    Source: Visformer (ICCV 2021), Section 3.3; the width between is twice the channels, as
    released (its mlp_ratio is not used here).
    """

    drop_path_rate: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps [B, T, H, W, C] to the same shape."""
        channels = x.shape[-1]
        dense = {"use_bias": False, "dtype": self.dtype, "kernel_init": _CONV_INIT}
        norm = make_norm("batch", LAYER_NORM_EPS, name="norm2", train=train, dtype=self.dtype)
        branch = gelu(nn.Dense(2 * channels, name="conv1", **dense)(norm(x)))
        branch = nn.Conv(
            2 * channels, (3, 3), padding=1, feature_group_count=_GROUPS, name="conv2", **dense
        )(branch)
        branch = nn.Dense(channels, name="conv3", **dense)(gelu(branch))
        return x + DropPath(self.drop_path_rate)(branch, train=train)
