import pytest

import pst_jax
from pst_jax.models import schedules
from pst_jax.ops.mixing import Mixer
from pst_jax.ops.partitions import Leap, Partition
from pst_jax.ops.temporal_channel_shift import ChannelShift
from pst_jax.ops.temporal_patch_shift import PATTERNS

WINDOW = (1, 7, 7)
CHANNELS, PATCHES = (Mixer(before=ChannelShift()),), (Mixer(pattern=PATTERNS["C"]),)
STILL, DEEP = (Mixer(),), (Mixer(partition=Partition(2)),)


def plan(mixers, depths, num_frames=16, window=WINDOW, **options):
    return schedules.schedule(mixers, depths, num_frames, window, **options)


def levels_of(mixers):
    flat = [mixer for stage in mixers for (mixer,) in stage]
    return [m.partition.frames.level if m.partition != Partition() else None for m in flat]


def test_even_blocks_shift_channels_and_odd_blocks_patches_from_the_start_of_each_stage():
    assert plan("pst", (3, 2)) == ((CHANNELS, PATCHES, CHANNELS), (CHANNELS, PATCHES))


def test_without_alternation_every_block_shifts_patches():
    assert plan("pst", (2,), alternate=False) == ((PATCHES,) * 2,) == plan("patch", (2,))


def test_other_stages_stay_still():
    assert plan("pst", (2, 2), shift_stages=(2,)) == ((STILL,) * 2, (CHANNELS, PATCHES))


def test_shifts_in_every_second_block():
    assert plan("patch", (3,), shift_blocks="odd") == ((STILL, PATCHES, STILL),)
    assert plan("tsm", (2,), shift_blocks="odd") == ((STILL, CHANNELS),)


def test_the_2d_network_moves_nothing():
    assert plan("none", (1, 2)) == ((STILL,), (STILL,) * 2)


def test_a_fold_of_zero_is_no_channel_shift():
    for mixers in ("tsm", "periodic", "plain", "tokshift"):
        assert plan(mixers, (1,), fold_div=0) == ((STILL,),)
    assert plan("laps", (1,), fold_div=0) == plan("leap", (1,))


@pytest.mark.parametrize(
    ("num_frames", "levels"),
    [(8, [1, 2, 3, 1, 2, 3, 1, 2]), (16, [1, 2, 3, 4] * 2), (32, [1, 2, 3, 4, 5, 1, 2, 3])],
)
def test_leaps_default_to_the_released_levels(num_frames, levels):
    assert levels_of(plan("leap", (4, 4), num_frames)) == levels


def test_levels_repeat_over_the_blocks_and_none_stays_in_the_frame():
    assert levels_of(plan("leap", (2, 3), 8, levels=(3, None))) == [3, None, 3, None, 3]


def test_the_released_vit_starts_its_four_levels_anew():
    model = pst_jax.create_model("vit_laps_base")
    assert levels_of(model.mixers) == [1, 2, 3, 1] * 3


def test_methods_are_put_together():
    ((even,), (odd,)) = plan("pst+leap", (2,), 8)[0]
    assert even == Mixer(before=ChannelShift(), partition=Partition(Leap(1)))
    assert odd == Mixer(pattern=PATTERNS["C"], partition=Partition(Leap(2)))


def test_several_attentions_are_several_mixers_and_what_is_joined_is_in_each():
    over_time, in_space = plan("divided", (1,))[0][0]
    assert (over_time, in_space) == (Mixer(partition=Partition("all", 1, 1)), Mixer())
    assert [m.pattern for m in plan("axial+patch", (1,))[0][0]] == [PATTERNS["C"]] * 3


def test_deep_windows_stay_deep_where_nothing_else_is_said():
    assert plan("none", (1,), window=(2, 7, 7)) == ((DEEP,),)
    assert plan("divided", (1,), window=(2, 7, 7))[0][0][1] == DEEP[0]


def test_without_shifts_windows_keep_their_frames():
    mixers = plan("pst", (2, 1), window=(2, 7, 7))
    assert schedules.without_shifts(mixers) == ((DEEP,) * 2, (DEEP,))
    everything = plan("tokshift+periodic+pst", (2,))
    assert schedules.without_shifts(everything) == plan("none", (2,))


def test_every_method_says_what_it_is():
    for name, method in schedules.METHODS.items():
        assert method.__name__ == name and method.__doc__
