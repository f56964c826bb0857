import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pst_jax.ops import mixing
from pst_jax.ops.mixing import Mixer
from pst_jax.ops.partitions import Leap, Partition
from pst_jax.ops.temporal_channel_shift import ChannelShift
from pst_jax.ops.temporal_patch_shift import as_tile, patch_shift
from pst_jax.ops.windows import Windows, partition

X = jax.random.normal(jax.random.key(0), (2, 8, 14 * 14, 16))
STILL, ROLLED, DEEP = (
    Windows((8, 14, 14), (depth, 7, 7), shift)
    for depth, shift in ((1, (0, 0, 0)), (1, (0, 3, 3)), (4, (2, 3, 3)))
)
WHOLE = Windows((8, 14, 14), (1, 14, 14))


@pytest.mark.parametrize("windows", [STILL, ROLLED, DEEP])
@pytest.mark.parametrize(
    "mixer",
    [
        Mixer(),
        Mixer(pattern=as_tile("C")),
        Mixer(partition=Partition(2)),
        Mixer(pattern=as_tile("D"), partition=Partition(Leap(1))),
        Mixer(partition=Partition("all", is_sparse=True)),
        Mixer(partition=Partition(1, 1, "all")),
    ],
)
def test_moving_out_undoes_moving_in(mixer, windows):
    moved = mixing.move_in(X, mixer, windows, num_heads=2)
    np.testing.assert_array_equal(mixing.move_out(moved, mixer, windows), X)


@pytest.mark.parametrize("windows", [STILL, ROLLED])
def test_one_permutation_is_roll_partition_and_patch_shift_of_each_window(windows):
    mixer = Mixer(pattern=as_tile("C"))
    moved = mixing.move_in(X, mixer, windows, num_heads=2)
    rolled = jnp.roll(X.reshape(2, 8, 14, 14, 16), [-s for s in windows.shift[1:]], axis=(2, 3))
    cut = partition(rolled.reshape(X.shape), windows)
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


@pytest.mark.parametrize("windows", [ROLLED, DEEP])
def test_a_channel_shift_takes_neighbours_of_the_clip_and_is_not_undone(windows):
    mixer = Mixer(before=ChannelShift())
    out = mixing.move_out(mixing.move_in(X, mixer, windows, num_heads=2), mixer, windows)
    np.testing.assert_array_equal(out, mixing.shift_channels(X, mixer.before, num_heads=2))
    changed = np.flatnonzero((out != X).any(axis=(0, 1, 2)))
    np.testing.assert_array_equal(changed, [0, 1, 8, 9])


def test_a_shift_of_the_class_token_leaves_the_others():
    shift = ChannelShift(4, periods=1, edge="zero", first="next", tokens="class")
    out = mixing.shift_channels(X, shift, num_heads=2, num_extra=1)
    np.testing.assert_array_equal(out[:, :, 1:], X[:, :, 1:])
    np.testing.assert_array_equal(out[:, :-1, 0, :4], X[:, 1:, 0, :4])
    assert (out[:, -1, 0, :4] == 0).all() and (out[:, 0, 0, 4:8] == 0).all()
    # Where there is no class token, all tokens move.
    everywhere = mixing.shift_channels(X, shift, num_heads=2)
    np.testing.assert_array_equal(everywhere[:, :-1, :, :4], X[:, 1:, :, :4])


def test_extra_tokens_are_never_moved_by_a_pattern():
    x = jax.random.normal(jax.random.key(1), (1, 8, 1 + 9, 4))
    windows = Windows((8, 3, 3), (1, 3, 3), num_extra=1)
    moved = mixing.move_in(x, Mixer(pattern=as_tile("C")), windows, num_heads=1)
    np.testing.assert_array_equal(moved[:, :, 0, 0], x[:, :, 0])
    patches = patch_shift(x[:, :, 1:].reshape(1, 8, 3, 3, 4), "C")
    np.testing.assert_array_equal(moved[:, :, 0, 1:], patches.reshape(1, 8, 9, 4))


def test_positions_follow_the_tokens():
    mixer, windows = Mixer(pattern=as_tile("C")), Windows((8, 7, 7), (1, 7, 7))
    frame_numbers = jnp.broadcast_to(jnp.arange(8.0)[None, :, None, None], (1, 8, 49, 1))
    moved = mixing.move_in(frame_numbers, mixer, windows, num_heads=1)
    found = mixing.positions(mixer, windows)
    np.testing.assert_array_equal(moved[0, ..., 0], found[..., 0])
    np.testing.assert_array_equal(found[3, 0, 10, 1:], [1, 3])
    still = mixing.positions(Mixer(pattern=as_tile("C"), shift_bias=False), windows)
    assert (still[..., 0] == np.arange(8)[:, None, None]).all()


def test_groups_that_agree_on_positions_share_them():
    joint = Mixer(partition=Partition("all"))
    assert mixing.positions(joint, STILL).shape == (1, 1, 8 * 49, 3)
    over_time = Mixer(partition=Partition("all", 1, 1))
    assert mixing.positions(over_time, STILL).shape == (1, 4 * 49, 8, 3)


def test_regions_are_grouped_as_the_tokens_are():
    assert mixing.regions(Mixer(), STILL) is None and mixing.regions(Mixer(), WHOLE) is None
    rolled = Windows((3, 4, 4), (1, 2, 2), (0, 1, 1))
    regions = mixing.regions(Mixer(), rolled)
    assert regions.shape == (1, 4, 4)  # all frames agree
    assert [len(set(window)) for window in regions[0]] == [1, 2, 2, 4]
    in_time = Windows((4, 1, 1), (2, 1, 1), (1, 0, 0))
    pairs = mixing.regions(Mixer(partition=Partition(2)), in_time)[:, 0]
    assert [len(set(pair)) for pair in pairs] == [1, 2]


def test_pads_of_halves_are_regions_of_their_own():
    lg = Mixer(partition=Partition("all", "half", "half"))
    regions = mixing.regions(lg, Windows((2, 3, 3), (1, 3, 3)))
    assert regions.shape == (1, 4, 2 * 4)
    assert [(window == -1).sum() for window in regions[0]] == [0, 4, 4, 6]
    assert mixing.regions(lg, Windows((2, 4, 4), (1, 4, 4))) is None


def test_a_patch_from_the_next_window_is_seen_where_windows_are_rolled_in_time():
    mixer = Mixer(pattern=as_tile("C"), partition=Partition(4))
    moved = mixing.regions(mixer, DEEP)
    np.testing.assert_array_equal(moved, mixing.regions(Mixer(partition=Partition(4)), DEEP))
