import jax.numpy as jnp
import numpy as np
import pytest

from pst_jax.ops import partitions
from pst_jax.ops.partitions import Leap, Partition

# The released tables of pairs: frames -> level -> pairs.
PAIRS = {
    8: {
        1: [(0, 4), (1, 5), (2, 6), (3, 7)],
        2: [(0, 2), (1, 3), (4, 6), (5, 7)],
        3: [(0, 1), (2, 3), (4, 5), (6, 7)],
    },
    16: {
        1: [(i, i + 8) for i in range(8)],
        2: [(i, i + 4) for i in (0, 1, 2, 3, 8, 9, 10, 11)],
        3: [(i, i + 2) for i in (0, 1, 4, 5, 8, 9, 12, 13)],
        4: [(i, i + 1) for i in range(0, 16, 2)],
    },
    4: {1: [(0, 2), (1, 3)], 2: [(0, 1), (2, 3)]},
}
EVERY = [
    Partition(),
    Partition("all"),
    Partition("half"),
    Partition(2),
    Partition(Leap(2)),
    Partition("all", is_sparse=True),
    Partition("all", 1, 1),
    Partition(1, "all", 1),
    Partition(1, 1, "all"),
    Partition("all", "half", "half"),
    Partition("every_other", "every_other", "every_other"),
]


def tokens(frames, num_windows, height, width):
    count = frames * num_windows * height * width
    return np.arange(count).reshape(1, frames, num_windows, height * width, 1)


@pytest.mark.parametrize(("frames", "level"), [(t, level) for t in PAIRS for level in PAIRS[t]])
def test_leap_pairs_are_the_released_ones(frames, level):
    grouped = partitions.group(tokens(frames, 1, 1, 1), Partition(Leap(level)), (1, 1))
    assert sorted(map(tuple, grouped[0, :, 0, :, 0])) == PAIRS[frames][level]


def test_leaps_of_twelve_frames():
    assert partitions.leap_levels(12) == (1, 2, 3)
    assert [partitions.leap_distance(12, level) for level in (1, 2, 3)] == [6, 3, 1]
    assert partitions.leap_levels(32) == (1, 2, 3, 4, 5)
    assert partitions.leap_levels(7) == partitions.leap_levels(1) == ()


@pytest.mark.parametrize(("frames", "level"), [(8, 0), (8, 4), (8, -1), (7, 1), (10, 2), (1, 1)])
def test_refuses_frames_that_a_level_cannot_pair(frames, level):
    with pytest.raises(ValueError, match=f"num_frames={frames}.*level {level}: T must be"):
        partitions.leap_distance(frames, level)


@pytest.mark.parametrize(
    "shape", [(8, 1, 6, 4), (4, 3, 2, 2), (8, 2, 7, 7), (1, 2, 4, 4), (7, 1, 3, 5)]
)
@pytest.mark.parametrize("partition", EVERY, ids=str)
def test_groups_hold_every_token_once_and_ungroup_undoes_them(partition, shape):
    if shape[0] % 2 and partition.frames in (2, Leap(2)):
        return  # no pairs: tested above
    x, window = tokens(*shape), shape[2:]
    grouped = partitions.group(x, partition, window, fill=-1)
    assert sorted(grouped[grouped >= 0]) == list(range(x.size))
    inside = (*shape[:2], shape[2] * shape[3])
    np.testing.assert_array_equal(partitions.ungroup(grouped, partition, window, inside), x)
    np.testing.assert_array_equal(
        partitions.group(jnp.asarray(x), partition, window, fill=-1), grouped
    )


def test_groups_by_hand():
    x = tokens(2, 1, 2, 2)  # frame 0: 0 1 / 2 3, frame 1: 4 5 / 6 7

    def groups(partition):
        return (
            partitions.group(x, partition, (2, 2))[0, ..., 0]
            .reshape(-1, partitions.group(x, partition, (2, 2)).shape[3])
            .tolist()
        )

    assert groups(Partition()) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert groups(Partition("all")) == [[0, 1, 2, 3, 4, 5, 6, 7]]
    assert groups(Partition("all", 1, 1)) == [[0, 4], [1, 5], [2, 6], [3, 7]]
    assert groups(Partition(1, 1, "all")) == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert groups(Partition(1, "all", 1)) == [[0, 2], [1, 3], [4, 6], [5, 7]]
    assert groups(Partition("all", is_sparse=True)) == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert groups(Partition("all", "half", "half")) == [[0, 4], [1, 5], [2, 6], [3, 7]]


def test_every_other_token_of_each_axis():
    grouped = partitions.group(tokens(4, 1, 4, 4), Partition(*["every_other"] * 3), (4, 4))
    assert grouped.shape == (1, 2, 4, 8, 1)
    assert grouped[0, 0, 0, :, 0].tolist() == [0, 2, 8, 10, 32, 34, 40, 42]


@pytest.mark.parametrize(
    ("partition", "keys"),
    [
        (Partition(), 16),
        (Partition("all"), 8 * 16),
        (Partition("half"), 8 * 16 // 2),
        (Partition("all", is_sparse=True), 16),
        (Partition(Leap(1)), 2 * 16),
        (Partition("all", 1, 1), 8),
        (Partition(1, 1, "all"), 4),
        (Partition(1, "all", 1), 4),
        (Partition("all", "half", "half"), 8 * 16 // 4),
        (Partition(*["every_other"] * 3), 8 * 16 // 8),
    ],
)
def test_a_query_is_compared_with_as_many_keys_as_the_table_says(partition, keys):
    assert partitions.group(tokens(8, 1, 4, 4), partition, (4, 4)).shape[3] == keys


def test_halves_of_an_odd_axis_are_filled_up_with_pads():
    x = tokens(3, 1, 1, 5) + 1
    nearer = partitions.group(x, Partition(1, "all", "half"), (1, 5))[0, 0, :, :, 0]
    assert nearer.tolist() == [[1, 2, 3], [4, 5, 0]]
    every_other = partitions.group(x, Partition(1, "all", "every_other"), (1, 5))[0, 0, :, :, 0]
    assert every_other.tolist() == [[1, 3, 5], [2, 4, 0]]
    frames = partitions.group(x, Partition("half"), (1, 5))[0, :, 0, :, 0]
    assert frames.tolist() == [[*range(1, 11)], [*range(11, 16), 0, 0, 0, 0, 0]]


def test_extra_tokens_join_whole_frames_and_places():
    x = np.arange(2 * 5).reshape(1, 2, 1, 5, 1)  # a class token and 2 x 2 places
    joint = partitions.group(x, Partition("all"), (2, 2))
    assert joint[0, 0, 0, :, 0].tolist() == list(range(10))
    over_time = partitions.group(x, Partition("all", 1, 1), (2, 2))
    assert over_time[0, 0, :, :, 0].tolist() == [[0, 5], [1, 6], [2, 7], [3, 8], [4, 9]]
    every_other = partitions.group(x, Partition("all", is_sparse=True), (2, 2))
    assert every_other[0, ..., 0].tolist() == [[[0, 2, 4, 6, 8]], [[1, 3, 5, 7, 9]]]
    assert Partition(1, 1, "all").splits_frames and Partition("all", "half").splits_frames
    assert not Partition("all").splits_frames and not Partition("all", 1, 1).splits_frames


def test_refuses_a_rest_of_frames():
    with pytest.raises(ValueError, match="4 frames after embedding do not form groups of 3"):
        partitions.group(tokens(4, 1, 1, 1), Partition(3), (1, 1))
