import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pst_jax.ops import frame_groups, mixing
from pst_jax.ops.mixing import Mixer
from pst_jax.ops.temporal_channel_shift import ChannelShift
from pst_jax.ops.temporal_patch_shift import as_tile, patch_shift
from pst_jax.ops.windows import Windows, partition

X = jax.random.normal(jax.random.key(0), (2, 8, 14, 14, 16))
STILL, ROLLED = (Windows((14, 14), (7, 7), shift) for shift in ((0, 0), (3, 3)))


@pytest.mark.parametrize("windows", [STILL, ROLLED])
@pytest.mark.parametrize("mixer", [Mixer(), Mixer(pattern=as_tile("C")), Mixer(frames=2)])
def test_moving_out_undoes_moving_in(mixer, windows):
    moved = mixing.move_in(X, mixer, windows, num_heads=2)
    np.testing.assert_array_equal(mixing.move_out(moved, mixer, windows), X)


@pytest.mark.parametrize("shift", [(0, 0), (3, 3)])
def test_one_permutation_is_roll_partition_and_patch_shift_of_each_window(shift):
    mixer, windows = Mixer(pattern=as_tile("C")), Windows((14, 14), (7, 7), shift)
    moved = mixing.move_in(X, mixer, windows, num_heads=2)
    cut = partition(jnp.roll(X, (-shift[0], -shift[1]), axis=(2, 3)), (7, 7))
    for window in range(4):
        expected = patch_shift(cut[:, :, window].reshape(2, 8, 7, 7, 16), "C")
        np.testing.assert_array_equal(moved[:, :, window].reshape(expected.shape), expected)


@pytest.mark.parametrize("windows", [STILL, ROLLED])
def test_without_shift_back_patches_stay_where_they_went(windows):
    mixer = Mixer(pattern=as_tile("C"), shift_back=False)
    moved = mixing.move_in(X, mixer, windows, num_heads=2)
    out = mixing.move_out(moved, mixer, windows)
    np.testing.assert_array_equal(mixing.move_in(out, Mixer(), windows, num_heads=2), moved)
    assert (out != X).any()


def test_a_channel_shift_is_not_undone_and_repeats_per_head():
    mixer = Mixer(before=ChannelShift())
    out = mixing.move_out(mixing.move_in(X, mixer, ROLLED, num_heads=2), mixer, ROLLED)
    changed = np.flatnonzero((out != X).any(axis=(0, 1, 2, 3)))
    np.testing.assert_array_equal(changed, [0, 1, 8, 9])


def test_times_follow_the_tokens():
    mixer = Mixer(pattern=as_tile("C"))
    frame_numbers = jnp.broadcast_to(jnp.arange(8.0)[None, :, None, None, None], (1, 8, 7, 7, 1))
    moved = mixing.move_in(frame_numbers, mixer, Windows((7, 7), (7, 7)), num_heads=1)
    np.testing.assert_array_equal(moved[0, :, 0, :, 0], mixing.token_times(mixer, 8, (7, 7)))
    still = Mixer(pattern=as_tile("C"), shift_bias=False)
    assert (mixing.token_times(still, 8, (7, 7)) == np.arange(8)[:, None]).all()


def test_groups_hold_neighbouring_frames_and_refuse_a_rest():
    x = jnp.arange(4).reshape(1, 4, 1, 1, 1)
    np.testing.assert_array_equal(frame_groups.group(x, 2)[0, :, 0, :, 0], [[0, 1], [2, 3]])
    with pytest.raises(ValueError, match="windows of 3 frames"):
        frame_groups.group(x, 3)
