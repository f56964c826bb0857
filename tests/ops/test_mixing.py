import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pst_jax.ops import frame_groups, mixing
from pst_jax.ops.mixing import Mixer
from pst_jax.ops.temporal_channel_shift import ChannelShift
from pst_jax.ops.temporal_patch_shift import as_tile

X = jax.random.normal(jax.random.key(0), (2, 8, 3, 49, 16))


@pytest.mark.parametrize("mixer", [Mixer(), Mixer(pattern=as_tile("C")), Mixer(frames=2)])
def test_moving_out_undoes_moving_in(mixer):
    moved = mixing.move_in(X, mixer, (7, 7), num_heads=2)
    np.testing.assert_array_equal(mixing.move_out(moved, mixer, (7, 7)), X)


def test_without_shift_back_patches_stay_where_they_went():
    mixer = Mixer(pattern=as_tile("C"), shift_back=False)
    moved = mixing.move_in(X, mixer, (7, 7), num_heads=2)
    np.testing.assert_array_equal(mixing.move_out(moved, mixer, (7, 7)), moved)
    assert (moved != X).any()


def test_a_channel_shift_is_not_undone_and_repeats_per_head():
    mixer = Mixer(before=ChannelShift())
    moved = mixing.move_in(X, mixer, (7, 7), num_heads=2)
    np.testing.assert_array_equal(mixing.move_out(moved, mixer, (7, 7)), moved)
    changed = np.flatnonzero((moved != X).any(axis=(0, 1, 2, 3)))
    np.testing.assert_array_equal(changed, [0, 1, 8, 9])


def test_times_follow_the_tokens():
    mixer = Mixer(pattern=as_tile("C"))
    frame_numbers = jnp.broadcast_to(jnp.arange(8.0)[None, :, None, None, None], (1, 8, 1, 49, 1))
    moved = mixing.move_in(frame_numbers, mixer, (7, 7), num_heads=1)
    np.testing.assert_array_equal(moved[0, :, 0, :, 0], mixing.token_times(mixer, 8, (7, 7)))
    still = Mixer(pattern=as_tile("C"), shift_bias=False)
    assert (mixing.token_times(still, 8, (7, 7)) == np.arange(8)[:, None]).all()


def test_groups_hold_neighbouring_frames_and_refuse_a_rest():
    x = jnp.arange(4).reshape(1, 4, 1, 1, 1)
    np.testing.assert_array_equal(frame_groups.group(x, 2)[0, :, 0, :, 0], [[0, 1], [2, 3]])
    with pytest.raises(ValueError, match="windows of 3 frames"):
        frame_groups.group(x, 3)
