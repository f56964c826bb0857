import chex
import jax.numpy as jnp
import numpy as np

from pst_jax.training import losses, metrics


class Losses(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_smoothed_cross_entropy_is_the_formula(self):
        logits = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
        given = np.eye(5, dtype=np.float32)[[0, 4, 2]]
        targets = 0.1 / 5 + 0.9 * given
        log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        loss = self.variant(lambda x, y: losses.cross_entropy(x, y, 0.1))(logits, given)
        np.testing.assert_allclose(loss, -(targets * log_probs).sum(1), rtol=1e-5)


def test_mixed_targets_are_smoothed_as_in_timm():
    """There both labels are smoothed, and then mixed."""
    own, logits = 0.3, np.random.default_rng(0).normal(size=(1, 5)).astype(np.float32)
    first, second = (np.eye(5, dtype=np.float32)[[label]] for label in (1, 3))
    found = losses.cross_entropy(jnp.array(logits), own * first + (1 - own) * second, 0.1)
    each = [losses.cross_entropy(jnp.array(logits), one, 0.1) for one in (first, second)]
    np.testing.assert_allclose(found, own * each[0] + (1 - own) * each[1], rtol=1e-6)


def test_hits_are_counted_under_the_mask_and_ties_go_to_the_lower_class():
    logits = jnp.array([[1.0, 2, 3, 0, 0, 0, 0], [5, 5, 0, 0, 0, 0, 0], [9, 0, 0, 0, 0, 0, 0]])
    labels, mask = jnp.array([2, 1, 0]), jnp.array([True, True, False])
    sums = metrics.sums(logits, jnp.array([1.0, 2, 4]), labels, mask)
    assert {name: float(value) for name, value in sums.items()} == {
        "loss": 3,
        "top1": 1,
        "top5": 2,
        "count": 2,
    }
    sixth = metrics.sums(jnp.zeros((1, 7)), jnp.zeros(1), jnp.array([5]), jnp.array([True]))
    assert float(sixth["top5"]) == 0
    assert metrics.means({"loss": 3.0, "count": 2.0}) == {"loss": 1.5}
    assert metrics.means({"loss": 0.0, "count": 0.0}) == {"loss": 0.0}
