import jax
import jax.numpy as jnp
import numpy as np

from pst_jax.ops.attention import attend


def test_equals_the_formula_in_float64():
    q, k, v = np.random.default_rng(0).normal(size=(3, 2, 5, 3, 8))  # [..., M, heads, d]
    bias = np.random.default_rng(1).normal(size=(3, 5, 5))
    scores = np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(8) + bias
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    expected = np.einsum("bhqk,bkhd->bqhd", weights, v)
    ours = attend(*(a.astype(np.float32) for a in (q, k, v)), bias.astype(np.float32))
    np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_keeps_bfloat16_but_softmax_is_float32():
    q, k, v = jax.random.normal(jax.random.key(0), (3, 1, 4, 2, 8), jnp.bfloat16)
    exact = attend(*(a.astype(jnp.float32) for a in (q, k, v)), None)
    ours = attend(q, k, v, None)
    assert ours.dtype == jnp.bfloat16
    np.testing.assert_allclose(ours.astype(jnp.float32), exact, atol=0.02)
    text = str(jax.make_jaxpr(attend)(q, k, v, jnp.zeros((2, 4, 4))))
    assert "exp" in text and "bf16[1,2,4,4] = exp" not in text
