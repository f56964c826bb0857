import chex
import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

from pst_jax.layers.attention import Attention
from pst_jax.layers.blocks import Block, DropPath, Mlp
from pst_jax.layers.embed import PatchEmbed, PatchMerging
from pst_jax.ops.mixing import Mixer
from pst_jax.ops.partitions import Partition
from pst_jax.ops.windows import Windows

KEY = jax.random.key(0)


def test_drop_path_drops_whole_clips_and_scales_the_others():
    x = jnp.ones((1000, 2, 3))
    out = DropPath(0.25).apply({}, x, train=True, rngs={"dropout": KEY})
    per_clip = np.unique(np.asarray(out).reshape(1000, -1), axis=1)
    assert per_clip.shape[1] == 1
    assert set(np.round(np.unique(per_clip), 5)) == {0.0, np.float32(1.33333)}
    assert abs((per_clip == 0).mean() - 0.25) < 0.05
    np.testing.assert_array_equal(DropPath(0.25).apply({}, x, train=False), x)


def test_gelu_is_the_exact_one():
    mlp = Mlp(4)
    x = jax.random.normal(KEY, (5, 4)) * 3
    eye = {"kernel": jnp.eye(4), "bias": jnp.zeros(4)}
    out = mlp.apply({"params": {"fc1": eye, "fc2": eye}}, x)
    x = np.asarray(x, np.float64)
    exact = x * 0.5 * (1 + scipy.special.erf(x / np.sqrt(2)))
    np.testing.assert_allclose(out, exact, atol=1e-6)


def test_patch_embed_is_the_strided_convolution():
    embed = PatchEmbed((2, 4, 4), 6)
    video = jax.random.normal(KEY, (1, 4, 8, 12, 3))
    variables = embed.init(KEY, video)
    kernel = variables["params"]["proj"]["kernel"].reshape(2, 4, 4, 3, 6)
    expected = jax.lax.conv_general_dilated(
        video, kernel, (2, 4, 4), "VALID", dimension_numbers=("NDHWC", "DHWIO", "NDHWC")
    )
    expected = (expected - expected.mean(-1, keepdims=True)) / jnp.sqrt(
        expected.var(-1, keepdims=True) + 1e-5
    )
    # The bias is drawn too: taken out, so that the plain convolution is left.
    variables["params"]["proj"]["bias"] *= 0
    np.testing.assert_allclose(embed.apply(variables, video), expected, atol=1e-5)
    bound = 1 / np.sqrt(96)
    assert 0.9 * bound < np.abs(kernel).max() <= bound


def test_merging_pads_odd_grids():
    merge = PatchMerging()
    x = jnp.ones((1, 2, 3, 5, 4))
    chex.assert_shape(merge.apply(merge.init(KEY, x), x), (1, 2, 2, 3, 8))


def test_tokens_of_opposite_edges_do_not_see_each_other_in_shifted_windows():
    block = Block(
        num_heads=1,
        mixers=(Mixer(),),
        window=(4, 4),
        is_shifted=(False, True, True),
        bias_window=(1, 4, 4),
    )
    x = jax.random.normal(KEY, (1, 1, 64, 8))
    variables = jax.jit(lambda: block.init(KEY, x, (8, 8), train=False))()
    # How the top left token depends on every other.
    sensitivity = jax.jit(
        jax.grad(lambda x: block.apply(variables, x, (8, 8), train=False)[0, 0, 0].sum())
    )(x)
    seen = np.abs(sensitivity).sum(axis=(0, 1, 3)).reshape(8, 8) > 1e-9
    expected = np.zeros((8, 8), bool)
    expected[:2, :2] = True
    np.testing.assert_array_equal(seen, expected)


class AttentionVariants(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_attention_keeps_shape_and_is_finite(self):
        attention = Attention(2, Mixer(partition=Partition(2)), (2, 3, 3))
        x = jax.random.normal(KEY, (2, 4, 6 * 9, 8))
        windows = Windows((4, 6, 9), (2, 3, 3), (1, 1, 1))
        variables = attention.init(KEY, x, windows)
        out = self.variant(lambda v, x: attention.apply(v, x, windows))(variables, x)
        chex.assert_shape(out, x.shape)
        chex.assert_tree_all_finite(out)
