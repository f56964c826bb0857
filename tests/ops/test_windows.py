import jax.numpy as jnp
import numpy as np
import pytest

from pst_jax.ops import windows
from pst_jax.ops.windows import Windows

EVERYWHERE = (True, True, True)


@pytest.mark.parametrize(
    ("clip", "used", "shift"),
    [
        ((16, 14, 21), (8, 7, 7), (4, 3, 3)),
        ((8, 7, 8), (8, 7, 7), (0, 0, 3)),
        ((5, 4, 5), (5, 4, 5), (0, 0, 0)),
    ],
)
def test_a_window_shrinks_to_the_clip_and_then_does_not_shift(clip, used, shift):
    found = windows.fit(clip, (8, 7, 7), EVERYWHERE)
    assert (found.window, found.shift) == (used, shift)
    assert windows.fit(clip, (8, 7, 7), (False, True, True)).shift == (0, *shift[1:])


def test_partition_is_row_major_and_merge_undoes_it():
    x = jnp.arange(4 * 6).reshape(1, 1, 24, 1)
    cut = windows.partition(x, Windows((1, 4, 6), (1, 2, 3)))
    assert cut.shape == (1, 1, 4, 6, 1)
    np.testing.assert_array_equal(cut[0, 0, 1, :, 0], [3, 4, 5, 9, 10, 11])
    np.testing.assert_array_equal(windows.merge(cut, Windows((1, 4, 6), (1, 2, 3))), x)


def test_padding_is_zero_at_the_ends_and_cropping_undoes_it():
    x = jnp.ones((1, 1, 6, 1))
    padded = windows.pad_clip(x, (1, 2, 3), (2, 4, 4))
    expected = np.zeros((2, 4, 4))
    expected[0, :2, :3] = 1
    np.testing.assert_array_equal(padded.reshape(2, 4, 4), expected)
    np.testing.assert_array_equal(windows.crop_clip(padded, (1, 2, 3), (2, 4, 4)), x)
    assert windows.fit((9, 8, 14), (8, 7, 7), EVERYWHERE).grid == (16, 14, 14)


def test_the_cyclic_shift_brings_regions_together():
    regions = Windows((1, 4, 4), (1, 2, 2), (0, 1, 1)).regions[0]
    assert len(set(regions[0])) == 1  # the first window lies within the frame
    assert len(set(regions[3])) == 4  # the last holds one token of each of the four corners
    # The second holds the right edge's two columns, which lay apart.
    assert regions[1, 0] == regions[1, 2] != regions[1, 1] == regions[1, 3]
    assert (Windows((1, 4, 4), (1, 2, 2)).regions == 0).all()


def test_regions_tell_the_clips_ends_apart_too():
    regions = Windows((4, 2, 2), (2, 2, 2), (1, 0, 0)).regions[:, 0, 0]
    assert regions[0] == regions[1] and regions[2] != regions[3]


@pytest.mark.parametrize("shift", [(0, 0, 0), (0, 1, 1), (1, 0, 1)])
def test_the_order_is_that_of_roll_and_partition(shift):
    clip = jnp.arange(2 * 4 * 6).reshape(1, 2, 4, 6, 1)
    rolled = jnp.roll(clip, [-s for s in shift], axis=(1, 2, 3)).reshape(1, 2, 24, 1)
    cut = Windows((2, 4, 6), (2, 2, 3), shift)
    np.testing.assert_array_equal(cut.order, windows.partition(rolled, cut)[0, ..., 0])


def test_extra_tokens_come_first_and_have_the_first_place():
    cut = Windows((2, 2, 2), (1, 2, 2), num_extra=1)
    np.testing.assert_array_equal(cut.order, [[[0, 1, 2, 3, 4]], [[5, 6, 7, 8, 9]]])
    np.testing.assert_array_equal(cut.places, [[0, 0], [0, 0], [0, 1], [1, 0], [1, 1]])
    assert cut.frame_tokens == 5
