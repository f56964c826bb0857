"""What every network of the library has: its input, its outputs, and the mean over frames."""

from collections.abc import Callable
from typing import Literal, get_args

import flax.linen as nn
import jax
import jax.numpy as jnp

# Of the released PST; LAPS and TokShift initialise their heads as all else.
_HEAD_INIT = nn.initializers.normal(0.01)
Output = Literal["logits", "frame_logits", "frame_features", "features"]


class VideoModel(nn.Module):
    """Base of the networks: a backbone by frame, and one classifier over the mean of frames.

    A subclass has attributes `num_classes`, `num_frames`, `head_dropout` and `remat`, and a
    `__call__(video, *, train, output)` that checks the video, ends in `classify`, and returns what
    `output` says:

        "logits": float32 [B, num_classes];
        "frame_logits": float32 [B, T, num_classes], whose mean over frames they are;
        "frame_features": float32 [B, T, C], what the classifier sees of each frame;
        "features": the last tokens, of the compute dtype: [B, T, H, W, C], or [B, T, 1 + H * W, C]
            with the class token first.
    """

    @property
    def num_tokens(self) -> int:
        """Frames T after embedding."""
        return self.num_frames

    def features(self, video: jax.Array, *, train: bool) -> jax.Array:
        """Returns the backbone's last tokens, of the compute dtype."""
        return self(video, train=train, output="features")

    def frame_features(self, video: jax.Array, *, train: bool) -> jax.Array:
        """Returns what the classifier sees of each frame, float32 [B, T, C]."""
        return self(video, train=train, output="frame_features")

    def frame_logits(self, video: jax.Array, *, train: bool) -> jax.Array:
        """Returns the prediction of each frame after embedding, float32 [B, T, num_classes]."""
        return self(video, train=train, output="frame_logits")

    def run_blocks(self, run: Callable, x: jax.Array, count: int) -> jax.Array:
        """Runs blocks 0 to count - 1 by run(model, x, block) -> x, under `remat` recomputed."""
        if self.remat:
            run = nn.remat(run, static_argnums=2)
        for block in range(count):
            x = run(self, x, block)
        return x

    def classify(
        self,
        frames: jax.Array,
        train: bool,
        output: Output,
        head_init: nn.initializers.Initializer = _HEAD_INIT,
    ) -> jax.Array:
        """Maps features of frames [B, T, C] to what `output` says.

        Paper/code difference: the released LAPS and TokShift classify every frame and average the
        logits; the mean comes first here, in all networks: the same but for rounding.
        """
        if output not in get_args(Output):
            raise ValueError(f"output={output!r} must be one of {', '.join(get_args(Output))}")
        x = frames.astype(jnp.float32)
        if output == "frame_features":
            return x
        if output == "logits":
            x = mean_over_frames(x)
        x = nn.Dropout(self.head_dropout)(x, deterministic=not train)
        return nn.Dense(self.num_classes, kernel_init=head_init, name="head")(x)


def mean_over_frames(x: jax.Array) -> jax.Array:
    """Averages x [B, T, C] over T such that a reversed clip gives the same bits.

    A sum in floating point depends on its order; x + reversed x does not.
    """
    return ((x + x[:, ::-1]) * 0.5).mean(axis=1)


def check_video(video: jax.Array, num_frames: int, size_px: int | None = None) -> None:
    """Raises ValueError unless `video` is a batch of normalised clips that fits.

    Args:
        video: what was given.
        num_frames: the most frames that the model takes.
        size_px: the height and width that it was built for; None: any.
    """
    if not hasattr(video, "ndim"):
        raise ValueError(f"video is a {type(video).__name__}: it must be an array [B, F, H, W, 3]")
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
    if video.shape[1] > num_frames:
        raise ValueError(
            f"video has {video.shape[1]} frames, the model was built for num_frames={num_frames}: "
            f"give at most those, or build it with num_frames={video.shape[1]}"
        )
    if size_px is not None and video.shape[2:4] != (size_px, size_px):
        raise ValueError(
            f"video has frames of {video.shape[2]} x {video.shape[3]}, the model was built for "
            f"image_size={size_px}: give those, or build it with another image_size"
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
