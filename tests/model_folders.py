"""A tiny model with drawn weights, as a model folder holds it."""

import functools

import jax
import numpy as np

import pst_jax
from pst_jax.convert.folder import ModelFolder
from pst_jax.convert.preprocess import Preprocess

LABELS = ("jump", "run", "saut à la perche", "stand", "walk")
ARGUMENTS = {"name": "pst_testing", "num_classes": 5}
PREPROCESS = Preprocess(8, 2, "dense", 32, 36)


@functools.cache
def variables():
    model = pst_jax.create_model(**ARGUMENTS)
    init = lambda: model.init(jax.random.key(0), np.zeros((1, 8, 32, 32, 3)), train=False)  # noqa: E731
    drawn = jax.tree.map(np.asarray, jax.jit(init)())
    # Far from uniform, so that a wrong average shows.
    drawn["params"]["head"]["kernel"] = drawn["params"]["head"]["kernel"] * 300
    return drawn


def make(**changes):
    values = dict(
        arguments=ARGUMENTS,
        variables=variables(),
        preprocess=PREPROCESS,
        labels=LABELS,
        card="# A card\n",
    )
    return ModelFolder(**(values | changes))
