import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pst_jax import ops


def test_normalises_by_imagenet_statistics():
    video = np.full((1, 1, 1, 1, 3), [124, 116, 104], np.uint8)
    ours = ops.normalise(video)
    assert ours.dtype == jnp.float32
    expected = [(124 - 123.675) / 58.395, (116 - 116.28) / 57.12, (104 - 103.53) / 57.375]
    np.testing.assert_allclose(ours.ravel(), expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "bool"])
@pytest.mark.parametrize("run", [ops.normalise, jax.jit(ops.normalise)])
def test_what_is_no_uint8_is_refused_by_its_dtype(dtype, run):
    # float64 is float32 to a jitted function.
    with pytest.raises(ValueError, match=rf"dtype {dtype[:-2]}.*uint8 pixels in 0..255; scale"):
        run(np.zeros((1, 2, 4, 4, 3), dtype))


@pytest.mark.parametrize("shape", [(1, 2, 4, 4, 1), (1, 2, 4, 4, 4), (1, 3, 2, 4, 4), ()])
def test_channels_are_the_last_axis(shape):
    with pytest.raises(ValueError, match="the last axis must be RGB"):
        ops.normalise(np.zeros(shape, np.uint8))
