"""A small network with BatchNorm, which shows what its BatchNorms are given."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class Normed(nn.Module):
    """Two convolutions, each with a BatchNorm of its own momentum, and a head."""

    num_frames: int = 2
    num_classes: int = 3

    @nn.compact
    def __call__(self, video, train, output="logits"):
        x = video
        for name, width, momentum in (("first", 4, 0.9), ("second", 6, 0.5)):
            x = nn.Conv(width, (1, 3, 3), (1, 2, 2), name=f"{name}_conv")(x)
            if not self.is_initializing():
                self.sow("seen", f"{name}_input", x)
            norm = nn.BatchNorm(use_running_average=not train, momentum=momentum, name=name)
            x = nn.relu(norm(x))
        return nn.Dense(self.num_classes, name="head")(x.mean(axis=(1, 2, 3)))


def variables_of(model, size_px=8):
    video = jnp.zeros((1, model.num_frames, size_px, size_px, 3))
    return jax.jit(lambda: model.init(jax.random.key(0), video, train=False))()
