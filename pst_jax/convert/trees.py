"""A model's variables as one flat table: path -> leaf, over all collections.

A path is such as `blocks_0/attn/qkv/kernel`; the running statistics `mean` and `var` of a batch
norm stand beside its parameters `scale` and `bias`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from pst_jax.models.swin import Swin
from pst_jax.models.video import VideoModel

_COLLECTIONS = ("params", "batch_stats")
_STATISTICS = ("/mean", "/var")
# Lines of one kind that an error shows.
_NUM_SHOWN = 20


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


def misfits(given: Mapping[str, np.ndarray], wanted: Mapping[str, tuple[int, ...]]) -> list[str]:
    """Compares arrays with the shapes that they should have.

    Returns:
        A line `kind: what` for every name that is missing, misshapen or unknown.
    """
    lines = []
    for name, shape in wanted.items():
        if name not in given:
            lines.append(f"missing: {name}, {shape}")
        elif given[name].shape != shape:
            lines.append(f"misshapen: {name} is {given[name].shape}, where the model has {shape}")
    unknown = [f"{name}, {value.shape}" for name, value in given.items() if name not in wanted]
    return lines + [f"unknown: {line}" for line in unknown]


def listing(lines: Iterable[str]) -> str:
    """Joins lines `kind: what` below one another, the first 20 of each kind; counts the rest."""
    kinds = {}
    for line in lines:
        kinds.setdefault(line.partition(":")[0], []).append(line)
    shown = []
    for kind, of_kind in kinds.items():
        shown += of_kind[:_NUM_SHOWN]
        if len(of_kind) > _NUM_SHOWN:
            shown.append(f"{kind}: {len(of_kind) - _NUM_SHOWN} more")
    return "".join(f"\n  {line}" for line in shown)
