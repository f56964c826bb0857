import golden_files
import numpy as np
import pytest

from pst_jax.layers.attention import bias_index
from pst_jax.ops import relative_bias
from pst_jax.ops.mixing import Mixer
from pst_jax.ops.partitions import Partition
from pst_jax.ops.temporal_patch_shift import as_tile
from pst_jax.ops.windows import Windows

CLIP = Windows((16, 7, 7), (1, 7, 7))
WINDOW = (16, 7, 7)
DEEP = Mixer(partition=Partition(2))
MIXERS = {"shifted": Mixer(pattern=as_tile("C")), "unshifted": Mixer()}


@pytest.mark.parametrize("kind", MIXERS)
def test_indices_equal_the_released_buffers(kind):
    ours = bias_index(MIXERS[kind], CLIP, WINDOW, "first_frame")
    golden = golden_files.load("pst_56")[f"idx/{kind}"]
    np.testing.assert_array_equal(ours[:, 0], golden)


@pytest.mark.parametrize("kind", MIXERS)
def test_indices_of_own_keys_equal_the_equation_of_the_paper(kind):
    ours = bias_index(MIXERS[kind], CLIP, WINDOW, "own")
    golden = golden_files.load("pst_56_diag_rpe")[f"idx/{kind}_diag"]
    np.testing.assert_array_equal(np.broadcast_to(ours[:, 0], golden.shape), golden)


def test_frames_that_agree_share_one_index():
    assert bias_index(Mixer(), CLIP, WINDOW, "own").shape == (1, 1, 49, 49)


def test_windows_of_two_frames_see_both():
    index = bias_index(DEEP, Windows((4, 1, 1), (2, 1, 1)), (2, 1, 1), "own")
    np.testing.assert_array_equal(index, [[[[1, 0], [2, 1]]]])


def test_a_smaller_grid_reads_the_same_rows_of_the_same_table():
    large, small = (
        bias_index(Mixer(), Windows((2, side, side), (1, side, side)), (1, 3, 3), "own")[0, 0]
        for side in (3, 2)
    )
    kept = [0, 1, 3, 4]  # the top left 2 x 2 of 3 x 3
    np.testing.assert_array_equal(small, large[np.ix_(kept, kept)])


def test_refuses_more_frames_than_the_table_spans():
    with pytest.raises(ValueError, match="num_frames"):
        bias_index(Mixer(), Windows((17, 7, 7), (1, 7, 7)), WINDOW, "first_frame")


def test_refuses_first_frame_keys_in_deep_windows():
    with pytest.raises(ValueError, match="'own'"):
        bias_index(DEEP, CLIP, WINDOW, "first_frame")


def test_counts_rows():
    assert relative_bias.table_rows(WINDOW) == 5239


def test_a_cut_index_is_right_where_time_shrinks_and_reads_other_places_where_space_does():
    table = (8, 7, 7)
    mixer = Mixer(partition=Partition(8))
    whole = bias_index(mixer, Windows(table, table), table, "own")
    for size, is_same in (((4, 7, 7), True), ((8, 5, 5), False), ((8, 7, 5), False)):
        windows = Windows(size, size)
        cut = bias_index(mixer, windows, table, "cut")
        count = size[0] * size[1] * size[2]
        np.testing.assert_array_equal(cut, whole[..., :count, :count])
        own = bias_index(mixer, windows, table, "own")
        assert cut.shape == own.shape and (cut == own).all() == is_same
