import golden_files
import numpy as np
import pytest

from pst_jax.convert.names import to_our_layout
from pst_jax.convert.resize import (
    inflate_patch_kernel,
    resize_bias_table,
    resize_grid,
    resize_token_positions,
)

GOLDEN = golden_files.load("inflate")
MODEL = golden_files.model()
KERNEL = "patch_embed/proj/kernel"


@pytest.mark.parametrize("window", ["win7", "win6", "win12"])
def test_inflation_equals_the_released_one(window):
    flat = to_our_layout(KERNEL, GOLDEN[f"{window}/2d/patch_embed.proj.weight"], MODEL)
    expected = to_our_layout(KERNEL, GOLDEN[f"{window}/3d/patch_embed.proj.weight"], MODEL)
    np.testing.assert_array_equal(inflate_patch_kernel(flat, 2), expected)
    name = "layers.0.blocks.1.attn.relative_position_bias_table"
    ours = resize_bias_table(GOLDEN[f"{window}/2d/{name}"], (16, 7, 7)).reshape(31, 169, -1)
    expected = GOLDEN[f"{window}/3d/{name}"]
    scale = np.abs(expected).max()
    np.testing.assert_allclose(ours, np.broadcast_to(expected, ours.shape), atol=1e-5 * scale)
    if window == "win7":
        np.testing.assert_array_equal(ours, np.broadcast_to(expected, ours.shape))


def test_a_table_of_no_known_window_is_refused():
    with pytest.raises(ValueError, match="150 rows"):
        resize_bias_table(np.zeros((150, 2)), (16, 7, 7))


@pytest.mark.parametrize(("side", "window"), [(8, 3), (8, 2), (14, 2), (5, 2)])
def test_a_2d_table_with_the_rows_of_a_video_window_is_told_apart(side, window):
    table = np.random.default_rng(0).normal(size=((2 * side - 1) ** 2, 2))
    size = 2 * window - 1
    resized = resize_bias_table(table, (4, window, window), is_image=True)
    image = resize_grid(table.reshape(1, 2 * side - 1, 2 * side - 1, 2), (size, size))
    np.testing.assert_array_equal(
        resized.reshape(7, -1, 2), np.tile(image.reshape(1, -1, 2), (7, 1, 1))
    )
    with pytest.raises(ValueError, match=f"of {3 * size**2} rows"):
        resize_bias_table(np.zeros((3 * size**2, 2)), (4, window, window), is_image=True)


# Of the axis (0, 1) at -1/4, 1/4, 3/4 and 5/4, by the cubic with a = -3/4 and held ends: twice 0's
# or 1's weights w(x), w(5/4) = -27/256, w(3/4) + w(7/4) = 67/256 - 9/256.
AXIS = np.array([-27, 58, 198, 283]) / 256


def test_a_grid_is_resized_by_the_cubic_of_the_released_code():
    image = np.zeros((1, 2, 2, 2), np.float32)
    image[0, 1, :, 0] = 1  # rises along the rows
    image[0, :, 1, 1] = 1  # and along the columns
    resized = resize_grid(image, (4, 4))
    assert resized.dtype == np.float32
    np.testing.assert_allclose(resized[0, ..., 0], np.tile(AXIS[:, None], 4), atol=1e-6)
    np.testing.assert_allclose(resized[0, ..., 1], np.tile(AXIS, (4, 1)), atol=1e-6)
    still = resize_grid(np.full((1, 5, 3, 1), 2.0), (7, 4))
    np.testing.assert_allclose(still, np.full((1, 7, 4, 1), 2.0))
    np.testing.assert_array_equal(resize_grid(image, (2, 2)), image)


def test_positions_keep_the_class_tokens_and_resize_the_grids():
    table = np.array([[[7.0], [0.0], [0.0], [1.0], [1.0]]], np.float32)
    resized = resize_token_positions(table, (3, 17, 1))
    assert resized.shape == (3, 17, 1) and resized.dtype == np.float32
    for frame in resized:
        assert frame[0, 0] == 7
        np.testing.assert_allclose(frame[1:, 0].reshape(4, 4), np.tile(AXIS[:, None], 4), atol=1e-6)


def test_positions_of_frames_are_resized_linearly_in_time():
    table = np.arange(4, dtype=np.float32)[:, None, None] * np.ones((1, 5, 2), np.float32)
    np.testing.assert_allclose(resize_token_positions(table, (2, 5, 2))[:, 0, 0], [0.5, 2.5])
    np.testing.assert_array_equal(resize_token_positions(table, (4, 5, 2)), table)


def test_positions_of_no_square_grid_are_refused():
    with pytest.raises(ValueError, match="5 places beside the class token are no square grid"):
        resize_token_positions(np.zeros((1, 6, 2)), (1, 17, 2))
