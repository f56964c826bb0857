"""Groups of frames that attend together."""

import einops
import jax


def group(x: jax.Array, frames: int) -> jax.Array:
    """Puts `frames` neighbouring frames together.

    Args:
        x: [B, T, W, N, C].
        frames: frames per group; T must be a multiple.

    Returns:
        [B, T / frames, W, frames * N, C], earlier frames first.

    Raises:
        ValueError: if T is no multiple of frames.
    """
    if x.shape[1] % frames:
        raise ValueError(
            f"{x.shape[1]} frames after embedding do not form windows of {frames} frames: "
            "use a num_frames whose count after embedding is a multiple of window[0]"
        )
    return einops.rearrange(x, "b (g k) w n c -> b g w (k n) c", k=frames)


def ungroup(x: jax.Array, frames: int) -> jax.Array:
    """Undoes `group`: [B, T / frames, W, frames * N, C] -> [B, T, W, N, C]."""
    return einops.rearrange(x, "b g w (k n) c -> b (g k) w n c", k=frames)
