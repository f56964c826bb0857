from pst_jax.models import schedules
from pst_jax.ops.mixing import Mixer
from pst_jax.ops.temporal_channel_shift import ChannelShift
from pst_jax.ops.temporal_patch_shift import PATTERNS

WINDOW = (1, 7, 7)
CHANNELS, PATCHES = Mixer(before=ChannelShift()), Mixer(pattern=PATTERNS["C"])


def test_even_blocks_shift_channels_and_odd_blocks_patches_from_the_start_of_each_stage():
    mixers = schedules.patch_shift_transformer((3, 2), WINDOW)
    assert mixers == ((CHANNELS, PATCHES, CHANNELS), (CHANNELS, PATCHES))


def test_without_alternation_every_block_shifts_patches():
    assert schedules.patch_shift_transformer((2,), WINDOW, alternate=False) == ((PATCHES,) * 2,)


def test_other_stages_stay_still():
    mixers = schedules.patch_shift_transformer((2, 2), WINDOW, shift_stages=(2,))
    assert mixers == ((Mixer(),) * 2, (CHANNELS, PATCHES))


def test_the_2d_network_moves_nothing():
    assert schedules.space_only((1, 2), WINDOW) == ((Mixer(),), (Mixer(),) * 2)


def test_without_shifts_windows_keep_their_frames():
    mixers = schedules.patch_shift_transformer((2, 1), (2, 7, 7))
    assert schedules.without_shifts(mixers) == ((Mixer(frames=2),) * 2, (Mixer(frames=2),))


def test_without_shifts_the_2d_network_is_itself():
    mixers = schedules.space_only((1, 2), WINDOW)
    assert schedules.without_shifts(mixers) == mixers
