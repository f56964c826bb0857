"""Token movements and attention as pure array functions: no parameters, no flax."""

from pst_jax.ops.pixels import normalise
from pst_jax.ops.temporal_channel_shift import channel_shift
from pst_jax.ops.temporal_patch_shift import PATTERNS, patch_shift

__all__ = ["PATTERNS", "channel_shift", "normalise", "patch_shift"]
