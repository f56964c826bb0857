"""Pixels to the network's input."""

import jax
import jax.numpy as jnp

# RGB channel statistics of ImageNet on 0..255, as every released system here uses.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


def normalise(
    video: jax.Array,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
) -> jax.Array:
    """Maps pixels to the network's input, on the device.

    Args:
        video: uint8 [..., 3], RGB, in 0..255; a clip is [B, T, H, W, 3].
        mean: of each channel.
        std: of each channel.

    Returns:
        float32 [..., 3], (video - mean) / std.

    Raises:
        ValueError: if video is not of that dtype and shape.
    """
    if video.dtype != jnp.uint8:
        raise ValueError(
            f"video has dtype {video.dtype}: normalise takes uint8 pixels in 0..255; scale others "
            "to that and cast them by .astype('uint8'); what is normalised already goes without"
        )
    if video.shape[-1:] != (3,):
        raise ValueError(f"video has shape {video.shape}: the last axis must be RGB, of size 3")
    return (video.astype(jnp.float32) - jnp.array(mean)) / jnp.array(std)
