"""Losses on logits."""

import jax
import jax.numpy as jnp
import optax


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """Softmax cross entropy with label smoothing.

    Args:
        logits: float32 [B, K].
        labels: int [B], in [0, K - 1].
        smoothing: s; the target is 1 - s + s / K on the label and s / K elsewhere.

    Returns:
        float32 [B].
    """
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    return optax.softmax_cross_entropy(logits.astype(jnp.float32), targets)
