import jax.numpy as jnp
import numpy as np

from pst_jax import ops


def test_normalises_by_imagenet_statistics():
    video = np.full((1, 1, 1, 1, 3), [124, 116, 104], np.uint8)
    ours = ops.normalise(video)
    assert ours.dtype == jnp.float32
    expected = [(124 - 123.675) / 58.395, (116 - 116.28) / 57.12, (104 - 103.53) / 57.375]
    np.testing.assert_allclose(ours.ravel(), expected, rtol=1e-5)
