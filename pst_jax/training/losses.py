"""Losses on logits."""

import jax
import jax.numpy as jnp
import optax


def cross_entropy(logits: jax.Array, targets: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Softmax cross entropy with label smoothing.

    Args:
        logits: float32 [B, K].
        targets: float32 [B, K], rows of probabilities: one at the label, or those of mixed clips.
        smoothing: s; the targets become (1 - s) * targets + s / K.

    Returns:
        float32 [B].
    """
    smoothed = optax.smooth_labels(targets, smoothing)
    return optax.softmax_cross_entropy(logits.astype(jnp.float32), smoothed)
