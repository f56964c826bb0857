import chex
import golden_files
import jax.numpy as jnp
import numpy as np
import pytest

from pst_jax import ops


class ChannelShift(chex.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_equals_the_released_operator_per_head(self):
        golden = golden_files.load("patch_shift_op")
        x = golden["official/x"]  # [B * T * windows, heads, N, c]
        b, t, windows, (heads, tokens, channels) = 2, 16, 3, x.shape[1:]

        def ours(x):
            x = x.reshape(b, t, windows, heads, tokens, channels).swapaxes(3, 4)
            x = ops.channel_shift(x.reshape(b, t, windows, tokens, -1), periods=heads)
            x = x.reshape(b, t, windows, tokens, heads, channels).swapaxes(3, 4)
            return x.reshape(golden["official/x"].shape)

        np.testing.assert_array_equal(self.variant(ours)(jnp.asarray(x)), golden["official/tsm"])


def test_moves_the_folds_by_hand():
    x = jnp.arange(3 * 4).reshape(1, 3, 1, 4)  # frames 0..3 of channels: rows of 4
    kept = ops.channel_shift(x, fold_div=4)[0, :, 0]
    np.testing.assert_array_equal(kept, [[0, 5, 2, 3], [0, 9, 6, 7], [4, 9, 10, 11]])
    zeroed = ops.channel_shift(x, fold_div=4, edge="zero", first="next")[0, :, 0]
    np.testing.assert_array_equal(zeroed, [[4, 0, 2, 3], [8, 1, 6, 7], [0, 5, 10, 11]])


def test_one_frame_stays_as_it_is_where_ends_are_kept_and_loses_the_folds_where_not():
    x = jnp.ones((1, 1, 2, 16))
    np.testing.assert_array_equal(ops.channel_shift(x), x)
    assert ops.channel_shift(x, edge="zero").sum() == 2 * 12


def test_does_nothing_where_a_fold_is_empty_as_released():
    x = jnp.arange(2.0 * 3 * 7).reshape(1, 2, 3, 7)
    assert ops.channel_shift(x, fold_div=8) is x


def test_keeps_dtype():
    assert ops.channel_shift(jnp.zeros((1, 2, 8), jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (dict(periods=3), "a multiple of periods=3"),
        (dict(periods=0), "periods=0: .* at least 1"),
        (dict(fold_div=0), "fold_div=0, .* at least 2"),
        (dict(fold_div=1), "fold_div=1, .* at least 2"),
        (dict(edge="wrap"), "edge='wrap'"),
        (dict(first="both"), "first='both'"),
    ],
)
def test_refuses_what_it_does_not_know(bad, message):
    with pytest.raises(ValueError, match=message):
        ops.channel_shift(jnp.zeros((1, 2, 8)), **bad)
