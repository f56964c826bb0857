import jax.numpy as jnp
import numpy as np
import pytest

from pst_jax.ops import windows


@pytest.mark.parametrize(
    ("grid", "used", "shift"),
    [((14, 21), (7, 7), (3, 3)), ((7, 8), (7, 7), (0, 3)), ((4, 5), (4, 5), (0, 0))],
)
def test_a_window_shrinks_to_the_grid_and_then_does_not_shift(grid, used, shift):
    found = windows.fit(grid, (7, 7), is_shifted=True)
    assert (found.window, found.shift) == (used, shift)
    assert windows.fit(grid, (7, 7), is_shifted=False).shift == (0, 0)


def test_partition_is_row_major_and_merge_undoes_it():
    x = jnp.arange(4 * 6).reshape(1, 1, 4, 6, 1)
    cut = windows.partition(x, (2, 3))
    assert cut.shape == (1, 1, 4, 6, 1)
    np.testing.assert_array_equal(cut[0, 0, 1, :, 0], [3, 4, 5, 9, 10, 11])
    np.testing.assert_array_equal(windows.merge(cut, (2, 3), (4, 6)), x)


def test_padding_is_zero_at_the_bottom_and_right():
    padded = windows.pad_grid(jnp.ones((1, 1, 2, 3, 1)), (4, 4))
    np.testing.assert_array_equal(
        padded[0, 0, :, :, 0], [[1, 1, 1, 0], [1, 1, 1, 0], [0] * 4, [0] * 4]
    )
    assert windows.fit((8, 14), (7, 7), is_shifted=True).grid == (14, 14)


def test_hides_what_the_cyclic_shift_brought_together():
    hidden = windows.Windows((4, 4), (2, 2), (1, 1)).hidden
    # The last window holds one token of each of the four corners: each sees itself alone.
    np.testing.assert_array_equal(hidden[3], ~np.eye(4, dtype=bool))
    # The first lies within the frame.
    assert not hidden[0].any()
    # The second holds the right edge's two columns, which lay apart.
    np.testing.assert_array_equal(hidden[1, 0], [False, True, False, True])
    assert windows.Windows((4, 4), (2, 2)).hidden is None


@pytest.mark.parametrize("shift", [(0, 0), (1, 1), (0, 1)])
def test_the_order_is_that_of_roll_and_partition(shift):
    frame = jnp.arange(4 * 6).reshape(1, 1, 4, 6, 1)
    rolled = jnp.roll(frame, (-shift[0], -shift[1]), axis=(2, 3))
    expected = windows.partition(rolled, (2, 3))[0, 0, :, :, 0]
    np.testing.assert_array_equal(windows.Windows((4, 6), (2, 3), shift).order, expected)
