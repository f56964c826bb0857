"""Initialise and apply in one program each: op by op they take a minute."""

import jax


def init(model, video, seed=1):
    return jax.jit(lambda: model.init(jax.random.key(seed), video, train=False))()


def apply(model, variables, video, **options):
    return jax.jit(lambda v, x: model.apply(v, x, train=False, **options))(variables, video)
