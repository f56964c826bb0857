import chex
import jax.numpy as jnp
import numpy as np

from pst_jax.training import losses, metrics


class Losses(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_smoothed_cross_entropy_is_the_formula(self):
        logits = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
        labels = np.array([0, 4, 2])
        targets = np.full((3, 5), 0.1 / 5)
        targets[np.arange(3), labels] += 0.9
        log_probs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        loss = self.variant(lambda x, y: losses.cross_entropy(x, y, 0.1))(logits, labels)
        np.testing.assert_allclose(loss, -(targets * log_probs).sum(1), rtol=1e-5)


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
