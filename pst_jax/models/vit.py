"""ViT over the frames of a video: TokShift, LAPS and PST on it, DeiT, and their 2D baseline."""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from pst_jax.layers.attention import INIT
from pst_jax.layers.blocks import Block
from pst_jax.layers.embed import PatchEmbed
from pst_jax.models.schedules import Mixers
from pst_jax.models.video import Output, VideoModel, check_video

_LAYER_NORM_EPS = 1e-6


class ViT(VideoModel):
    """A vision transformer with a class token in every frame; the classifier sees their mean.

    Attributes:
        num_classes: classes K.
        mixers: the token movements of each block, as one stage; see `schedules`.
        num_frames: frames T of the input clip, each embedded on its own.
        image_size: height and width of the input, in pixels; a multiple of patch_size.
        patch_size: side of a patch, in pixels.
        embed_dim: channels C of a token.
        depth: blocks.
        num_heads: attention heads.
        mlp_ratio: width of the MLP over the channels.
        qkv_bias: whether qkv projections have a bias.
        drop_path_rate: of the last block; grows linearly from 0 over all blocks.
        head_dropout: dropout rate ahead of the classifier.
        pos_embed: a learnable embedding of "space", the same in every frame, or of "space_time".
        dtype: compute dtype; parameters, softmax and logits are float32.
        remat: whether blocks are recomputed in the backward pass, to save memory.

    Source: ViT (ICLR 2021); TokShift (ACM MM 2021); DeiT (ICML 2021).
    """

    num_classes: int
    mixers: Mixers
    num_frames: int = 8
    image_size: int = 224
    patch_size: int = 16
    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    drop_path_rate: float = 0.0
    head_dropout: float = 0.0
    pos_embed: Literal["space", "space_time"] = "space"
    dtype: Any = jnp.float32
    remat: bool = False

    @property
    def attention_stages(self) -> tuple[tuple[int, ...], tuple[int, int, int]]:
        """Blocks of each stage with attention, and the tokens (frames, rows, columns) in it."""
        side = self.image_size // self.patch_size
        return (self.depth,), (1, side, side)

    @nn.compact
    def __call__(self, video: jax.Array, *, train: bool, output: Output = "logits") -> jax.Array:
        """Classifies clips.

        Args:
            video: float32 [B, T, image_size, image_size, 3], RGB, normalised; T at most num_frames.
            train: whether drop path and dropout are on; they need the rng "dropout".
            output: what to return, see `VideoModel`.

        Returns:
            "logits": float32 [B, num_classes]; "features": [B, T, 1 + H * W, C] after the last
            norm, the class token first.

        Raises:
            ValueError: if the video's shape or dtype is not as above.
        """
        check_video(video, self.num_frames, self.image_size)
        patch = (1, self.patch_size, self.patch_size)
        x = PatchEmbed(patch, self.embed_dim, "none", dtype=self.dtype, name="patch_embed")(video)
        b, t, h, w, c = x.shape
        token = self.param("cls_token", INIT, (1, 1, c)).astype(x.dtype)
        token = jnp.broadcast_to(token, (b, t, 1, c))
        x = jnp.concatenate([token, x.reshape(b, t, h * w, c)], axis=2)
        slices = 1 if self.pos_embed == "space" else self.num_frames
        positions = self.param("pos_embed", INIT, (slices, 1 + h * w, c))
        x = x + positions[:t].astype(x.dtype)
        x = self._blocks(x, (h, w), train)
        x = nn.LayerNorm(_LAYER_NORM_EPS, dtype=self.dtype, name="norm")(x)
        return (
            x if output == "features" else self.classify(x[:, :, 0], train, output, head_init=INIT)
        )

    def _blocks(self, x: jax.Array, grid: tuple[int, int], train: bool) -> jax.Array:
        """Runs the blocks on tokens x [B, T, 1 + H * W, C]."""

        def run(model, x, block):
            return Block(
                num_heads=model.num_heads,
                mixers=model.mixers[0][block],
                mlp_ratio=model.mlp_ratio,
                qkv_bias=model.qkv_bias,
                drop_path_rate=model.drop_path_rate * block / max(model.depth - 1, 1),
                eps=_LAYER_NORM_EPS,
                dtype=model.dtype,
                name=f"blocks_{block}",
            )(x, grid, train=train)

        return self.run_blocks(run, x, self.depth)

    @nn.nowrap
    def check_attributes(self) -> None:
        """Raises ValueError where attributes contradict each other."""
        if self.image_size % self.patch_size:
            raise ValueError(
                f"image_size={self.image_size} is no multiple of patch_size={self.patch_size}"
            )
        if self.embed_dim % self.num_heads:
            raise ValueError(
                f"num_heads={self.num_heads} does not divide embed_dim={self.embed_dim}"
            )
