"""Scaled dot product attention, and the one place that picks how it is computed."""

import jax
import jax.numpy as jnp


def attend(query: jax.Array, key: jax.Array, value: jax.Array, bias: jax.Array | None) -> jax.Array:
    """Softmax attention within each group of tokens.

    Scores and softmax are float32 whatever the compute dtype; the products take the inputs' dtype.

    Args:
        query: [..., M, heads, d], of the compute dtype.
        key: likewise.
        value: likewise.
        bias: float32, broadcastable to [..., heads, M, M], added to the scaled scores; or None.

    Returns:
        [..., M, heads, d], of value's dtype.
    """
    query = query * query.shape[-1] ** -0.5
    scores = jnp.einsum("...qhd,...khd->...hqk", query, key, preferred_element_type=jnp.float32)
    if bias is not None:
        scores = scores + bias
    weights = jax.nn.softmax(scores, axis=-1).astype(value.dtype)
    return jnp.einsum("...hqk,...khd->...qhd", weights, value)
