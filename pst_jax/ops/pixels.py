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
    """Maps uint8 RGB video [B, T, H, W, 3] to float32 by (video - mean) / std, on the device."""
    return (video.astype(jnp.float32) - jnp.array(mean)) / jnp.array(std)
