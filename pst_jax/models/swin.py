"""Swin over the frames of a video: one backbone for PST, its baselines and its ablations."""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from pst_jax.layers.attention import BiasKeys
from pst_jax.layers.blocks import LAYER_NORM_EPS, SwinBlock
from pst_jax.layers.embed import PatchEmbed, PatchMerging, PositionEmbed
from pst_jax.models.schedules import Mixers
from pst_jax.ops import relative_bias

Output = Literal["logits", "frame_logits", "features"]


class Swin(nn.Module):
    """A Swin transformer that keeps every frame to the end, and averages over them.

    Any number of frames and any resolution run: patches, windows and merging are zero-padded,
    and a window shrinks to a smaller grid. The bias table is sized by `num_frames`; a clip may
    have fewer frames, not more.

    Attributes:
        num_classes: classes K.
        mixers: the token movement of each block, by stage; see `schedules`.
        embed_dim: channels of the first stage, doubled by each further one.
        depths: blocks of each stage.
        num_heads: attention heads of each stage.
        num_frames: frames of the input clip.
        patch_size: (frames, rows, columns) of a patch.
        window: (frames, rows, columns) of an attention window, in tokens.
        bias_frames: what the bias table spans in time, the "clip" (PST) or the "window".
        bias_keys: the frame of the keys in the bias: "own", or "first_frame" (released PST).
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
            output: what to return.

        Returns:
            "logits": float32 [B, num_classes]; "frame_logits": float32 [B, T, num_classes], whose
            mean over frames they are; "features": tokens [B, T, H, W, C] after the last norm.

        Raises:
            ValueError: if the video's shape or dtype is not as above.
        """
        self._check(video)
        x = PatchEmbed(self.patch_size, self.embed_dim, self.dtype, name="patch_embed")(video)
        if self.pos_embed == "space_time":
            x = PositionEmbed(name="pos_embed")(x)
        for stage in range(len(self.depths)):
            x = self._stage(x, stage, train)
        x = nn.LayerNorm(LAYER_NORM_EPS, dtype=self.dtype, name="norm")(x)
        if output == "features":
            return x
        x = x.astype(jnp.float32).mean(axis=(2, 3))
        if output == "logits":
            x = mean_over_frames(x)
        x = nn.Dropout(self.head_dropout)(x, deterministic=not train)
        init = nn.initializers.normal(0.01)
        return nn.Dense(self.num_classes, kernel_init=init, name="head")(x)

    def features(self, video: jax.Array, *, train: bool) -> jax.Array:
        """Returns the backbone's last tokens, [B, T, H, W, C], of the compute dtype."""
        return self(video, train=train, output="features")

    def frame_logits(self, video: jax.Array, *, train: bool) -> jax.Array:
        """Returns the prediction of each frame after embedding, float32 [B, T, num_classes]."""
        return self(video, train=train, output="frame_logits")

    def _stage(self, x: jax.Array, stage: int, train: bool) -> jax.Array:
        """Runs the blocks of one stage, and merges patches after all but the last."""
        first = sum(self.depths[:stage])
        last_block = max(sum(self.depths) - 1, 1)

        def run(model, x, block):
            return SwinBlock(
                num_heads=model.num_heads[stage],
                mixer=model.mixers[stage][block],
                window=model.window[1:],
                is_shifted=block % 2 == 1,
                bias_window=model.bias_window,
                bias_keys=model.bias_keys,
                mlp_ratio=model.mlp_ratio,
                qkv_bias=model.qkv_bias,
                drop_path_rate=model.drop_path_rate * (first + block) / last_block,
                dtype=model.dtype,
                name=f"layers_{stage}_blocks_{block}",
            )(x, train=train)

        if self.remat:
            run = nn.remat(run, static_argnums=2)
        for block in range(self.depths[stage]):
            x = run(self, x, block)
        if stage < len(self.depths) - 1:
            x = PatchMerging(self.dtype, name=f"layers_{stage}_downsample")(x)
        return x

    def _check(self, video: jax.Array) -> None:
        """Raises ValueError unless `video` is a batch of normalised clips that fits."""
        if video.ndim != 5 or video.shape[-1] != 3 or 0 in video.shape:
            hint = "none of them 0"
            if video.ndim == 4 and video.shape[-1] == 3:
                hint = "for a single clip video[None]"
            elif video.ndim == 5 and video.shape[1] == 3:
                hint = "from channels first by video.transpose(0, 2, 3, 4, 1)"
            raise ValueError(f"video has shape {video.shape}: it must be [B, F, H, W, 3], {hint}")
        if not jnp.issubdtype(video.dtype, jnp.floating):
            raise ValueError(
                f"video has dtype {video.dtype}: it must be float, normalised; for pixels use "
                "pst_jax.ops.normalise"
            )
        if video.shape[1] > self.num_frames:
            raise ValueError(
                f"video has {video.shape[1]} frames, the model was built for num_frames="
                f"{self.num_frames}: give at most those, or build it with num_frames="
                f"{video.shape[1]}"
            )
        if isinstance(video, jax.core.Tracer):
            return  # no values to see, and a compiled program is not slowed down for them
        with jax.ensure_compile_time_eval():
            is_near = bool((jnp.abs(video) <= 20).all())
        if not is_near:
            raise ValueError(
                "video holds values beyond +-20 or NaN, where normalised pixels reach +-2.7: give "
                "uint8 pixels to pst_jax.ops.normalise"
            )


def mean_over_frames(x: jax.Array) -> jax.Array:
    """Averages x [B, T, C] over T such that a reversed clip gives the same bits.

    A sum in floating point depends on its order; x + reversed x does not.
    """
    return ((x + x[:, ::-1]) * 0.5).mean(axis=1)
