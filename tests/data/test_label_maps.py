"""Names of data sets, as labels for flips and reversal."""

import pytest

from pst_jax.data import label_maps, motion_scenes
from pst_jax.data.label_maps import MIRRORED, REVERSED, resolve


@pytest.mark.parametrize("difficulty", ["easy", "hard"])
def test_the_generated_data_set_is_mirrored_and_reversed_as_its_scenes(difficulty):
    name = {"easy": "motion", "hard": "motion_hard"}[difficulty]
    mirrored = motion_scenes.flip_labels(difficulty).tolist()
    assert list(resolve(name, "swap", MIRRORED)) == mirrored
    assert (
        list(resolve(name, "swap", REVERSED)) == motion_scenes.reverse_labels(difficulty).tolist()
    )
    changed = [label for label, other in enumerate(mirrored) if label != other]
    assert list(resolve(name, "skip", MIRRORED)) == changed


def test_something_something_by_hand():
    assert resolve("ssv1", "skip", MIRRORED) == (2, 4, 30, 41, 52, 66)
    assert resolve("ssv2", "skip", MIRRORED) == (86, 87, 93, 94, 166, 167)
    for name, pair in (("ssv1", (30, 41)), ("ssv2", (166, 167))):
        becomes = resolve(name, "swap", MIRRORED)
        assert (becomes[pair[0]], becomes[pair[1]]) == (pair[1], pair[0])
        assert len(becomes) == 174 and becomes[0] == 0


@pytest.mark.parametrize("name", sorted({*MIRRORED, *REVERSED}))
def test_changing_twice_changes_nothing(name):
    for maps in (MIRRORED, REVERSED):
        if name in maps:
            becomes = resolve(name, "swap", maps)
            assert tuple(becomes[label] for label in becomes) == tuple(range(len(becomes)))
            assert becomes != tuple(range(len(becomes)))


def test_labels_of_a_configs_own_stay_what_they_are():
    for labels in ((1, 0), [3], None):
        assert label_maps.resolve(labels, "skip", MIRRORED) is labels


def test_an_unknown_name_is_told_with_the_known_ones():
    with pytest.raises(ValueError, match="'ssv3' are no data set's: known are ssv1, ssv2, motion"):
        resolve("ssv3", "skip", MIRRORED)
    with pytest.raises(ValueError, match="'ssv2' are no data set's: known are motion, motion_hard"):
        resolve("ssv2", "swap", REVERSED)
