"""A model's variables as one flat table: path -> leaf, over all collections.

A path is such as `blocks_0/attn/qkv/kernel`; the running statistics `mean` and `var` of a batch
norm stand beside its parameters `scale` and `bias`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from pst_jax.models.swin import Swin
from pst_jax.models.video import VideoModel

_COLLECTIONS = ("params", "batch_stats")
_STATISTICS = ("/mean", "/var")


def flatten(variables: Mapping[str, Any]) -> dict[str, Any]:
    """Returns path -> leaf over all collections; no path is in two of them."""
    trees = [variables[name] for name in _COLLECTIONS if name in variables]
    return {
        path: leaf
        for tree in trees
        for path, leaf in traverse_util.flatten_dict(tree, sep="/").items()
    }


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Undoes `flatten`; "batch_stats" only where there are any."""
    split = {name: {} for name in _COLLECTIONS}
    for path, leaf in flat.items():
        split[_COLLECTIONS[path.endswith(_STATISTICS)]][path] = leaf
    return {
        name: traverse_util.unflatten_dict(tree, sep="/") for name, tree in split.items() if tree
    }


def video_for(model: VideoModel, image_size: int) -> jax.ShapeDtypeStruct:
    """Returns the shape of a clip to initialise a model with.

    Args:
        model: of `create_model`.
        image_size: side of the input; matters to a Swin with a position embedding alone.
    """
    if isinstance(model, Swin):
        # The parameters of the rest don't depend on the size, and a small one traces fast.
        side = image_size if model.pos_embed != "none" else 32
    else:
        side = model.image_size
    return jax.ShapeDtypeStruct((1, model.num_frames, side, side, 3), jnp.float32)


def expected(model: VideoModel, image_size: int) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns path -> shape and dtype of the model's variables, without computing any."""
    init = lambda video: model.init(jax.random.key(0), video, train=False)  # noqa: E731
    return flatten(jax.eval_shape(init, video_for(model, image_size)))
