"""Swin over the frames of a video: one backbone for PST, its baselines and its ablations."""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from pst_jax.layers.attention import BiasKeys
from pst_jax.layers.blocks import LAYER_NORM_EPS, Block
from pst_jax.layers.embed import PatchEmbed, PatchMerging, PositionEmbed
from pst_jax.models.schedules import Mixers
from pst_jax.models.video import Output, VideoModel, check_video
from pst_jax.ops import relative_bias


class Swin(VideoModel):
    """A Swin transformer that keeps every frame to the end, and averages over them.

    Any number of frames and any resolution run: patches, windows and merging are zero-padded,
    and a window shrinks to a smaller grid. The bias table is sized by `num_frames`; a clip may
    have fewer frames, not more.

    Attributes:
        num_classes: classes K.
        mixers: the token movements of each block, by stage; see `schedules`.
        embed_dim: channels of the first stage, doubled by each further one.
        depths: blocks of each stage.
        num_heads: attention heads of each stage.
        num_frames: frames of the input clip.
        patch_size: (frames, rows, columns) of a patch.
        window: (frames, rows, columns) of an attention window, in tokens.
        temporal_shift: whether the windows of odd blocks are cyclically shifted in time too.
        spatial_shift: whether they are in space.
        bias_frames: what the bias table spans in time, the "clip" (PST) or the "window".
        bias_keys: where the bias sees a key: at its "own" place, in the "first_frame" (released
            PST), or "cut" (released Video-Swin); see `attention.bias_index`.
        mlp_ratio: width of the MLP over the channels.
        qkv_bias: whether qkv projections have a bias.
        drop_path_rate: of the last block; grows linearly from 0 over all blocks.
        head_dropout: dropout rate ahead of the classifier.
        pos_embed: "none", or the paper's learnable "space_time" embedding.
        dtype: compute dtype; parameters, softmax, bias and logits are float32.
        remat: whether blocks are recomputed in the backward pass, to save memory.
    """

    num_classes: int
    mixers: Mixers
    embed_dim: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    num_heads: tuple[int, ...] = (3, 6, 12, 24)
    num_frames: int = 32
    patch_size: tuple[int, int, int] = (2, 4, 4)
    window: relative_bias.Window = (1, 7, 7)
    temporal_shift: bool = False
    spatial_shift: bool = True
    bias_frames: Literal["clip", "window"] = "window"
    bias_keys: BiasKeys = "own"
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    drop_path_rate: float = 0.1
    head_dropout: float = 0.5
    pos_embed: Literal["none", "space_time"] = "none"
    dtype: Any = jnp.float32
    remat: bool = False

    @property
    def num_tokens(self) -> int:
        """Frames T after embedding."""
        return -(-self.num_frames // self.patch_size[0])

    @property
    def attention_stages(self) -> tuple[tuple[int, ...], relative_bias.Window]:
        """Blocks of each stage with attention, and the windows (frames, rows, columns)."""
        return self.depths, self.window

    @property
    def bias_window(self) -> relative_bias.Window:
        """(frames, rows, columns) that the relative position tables span."""
        frames = self.num_tokens if self.bias_frames == "clip" else self.window[0]
        return (frames, *self.window[1:])

    @nn.compact
    def __call__(self, video: jax.Array, *, train: bool, output: Output = "logits") -> jax.Array:
        """Classifies clips.

        Args:
            video: float32 [B, F, H0, W0, 3], RGB, normalised; F at most num_frames.
            train: whether drop path and dropout are on; they need the rng "dropout".
            output: what to return, see `VideoModel`.

        Returns:
            "logits": float32 [B, num_classes]; "features": [B, T, H, W, C] after the last norm.

        Raises:
            ValueError: if the video's shape or dtype is not as above.
        """
        check_video(video, self.num_frames)
        x = PatchEmbed(self.patch_size, self.embed_dim, dtype=self.dtype, name="patch_embed")(video)
        if self.pos_embed == "space_time":
            x = PositionEmbed(name="pos_embed")(x)
        for stage in range(len(self.depths)):
            x = self._stage(x, stage, train)
        x = nn.LayerNorm(LAYER_NORM_EPS, dtype=self.dtype, name="norm")(x)
        if output == "features":
            return x
        return self.classify(x.astype(jnp.float32).mean(axis=(2, 3)), train, output)

    def _stage(self, x: jax.Array, stage: int, train: bool) -> jax.Array:
        """Runs the blocks of one stage, and merges patches after all but the last."""
        first = sum(self.depths[:stage])
        last_block = max(sum(self.depths) - 1, 1)
        b, t, h, w, _ = x.shape

        def run(model, x, block):
            return Block(
                num_heads=model.num_heads[stage],
                mixers=model.mixers[stage][block],
                window=model.window[1:],
                is_shifted=tuple(
                    block % 2 == 1 and is_on
                    for is_on in (model.temporal_shift, model.spatial_shift, model.spatial_shift)
                ),
                bias_window=model.bias_window,
                bias_keys=model.bias_keys,
                mlp_ratio=model.mlp_ratio,
                qkv_bias=model.qkv_bias,
                drop_path_rate=model.drop_path_rate * (first + block) / last_block,
                dtype=model.dtype,
                name=f"layers_{stage}_blocks_{block}",
            )(x, (h, w), train=train)

        x = self.run_blocks(run, x.reshape(b, t, h * w, -1), self.depths[stage])
        x = x.reshape(b, t, h, w, -1)
        if stage < len(self.depths) - 1:
            x = PatchMerging(self.dtype, name=f"layers_{stage}_downsample")(x)
        return x

    @nn.nowrap
    def check_attributes(self) -> None:
        """Raises ValueError where attributes contradict each other."""
        if not len(self.depths) == len(self.num_heads) > 0:
            raise ValueError(
                f"depths={self.depths} and num_heads={self.num_heads} must have one entry per "
                "stage each"
            )
        for stage, heads in enumerate(self.num_heads):
            channels = self.embed_dim * 2**stage
            if channels % heads:
                raise ValueError(
                    f"num_heads={self.num_heads} does not divide the {channels} channels of stage "
                    f"{stage + 1} (embed_dim={self.embed_dim})"
                )
