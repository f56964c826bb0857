"""Metrics as sums, so that they add over batches and devices; ratios are taken once, at the end."""

import jax
import jax.numpy as jnp


def sums(
    logits: jax.Array, losses: jax.Array, labels: jax.Array, mask: jax.Array
) -> dict[str, jax.Array]:
    """Sums a batch's metrics over its valid clips.

    Args:
        logits: float32 [B, K].
        losses: float32 [B].
        labels: int32 [B].
        mask: bool [B], false for padding.

    Returns:
        float32 sums: "loss", "top1", "top5" (hits), "count" (clips).
    """
    weight = mask.astype(jnp.float32)
    label_logit = jnp.take_along_axis(logits, labels[:, None], axis=1)
    # Rank by the number of better classes; ties go to the lower index, as in argmax.
    is_before = jnp.arange(logits.shape[1]) < labels[:, None]
    better = (logits > label_logit) | ((logits == label_logit) & is_before)
    # What is not finite is no hit.
    rank = jnp.where(jnp.isfinite(label_logit[:, 0]), better.sum(axis=1), logits.shape[1])
    return {
        "loss": (losses * weight).sum(),
        "top1": ((rank < 1) * weight).sum(),
        "top5": ((rank < 5) * weight).sum(),
        "count": weight.sum(),
    }


def means(sums: dict[str, float]) -> dict[str, float]:
    """Turns sums into means over the clips counted."""
    count = max(float(sums["count"]), 1.0)
    return {name: float(value) / count for name, value in sums.items() if name != "count"}
