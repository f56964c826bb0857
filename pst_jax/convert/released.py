"""Variables from and to the released state dicts, bit for bit.

A state dict here is a mapping of the released names to numpy arrays; nothing needs PyTorch.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pst_jax.convert import names, other_names, trees
from pst_jax.convert.names import Arrays
from pst_jax.layers.attention import bias_index
from pst_jax.models.swin import Swin
from pst_jax.models.video import VideoModel
from pst_jax.ops.mixing import Mixer
from pst_jax.ops.partitions import Partition
from pst_jax.ops.windows import Windows


def from_torch(state_dict: Arrays, model: VideoModel, image_size: int = 224) -> dict[str, Any]:
    """Converts a released video state dict to the model's variables, bit for bit.

    Args:
        state_dict: released name -> array, with or without the prefixes `module.`, `backbone.`,
            `cls_head.` and `base_model.`; a ViT's may have the names of TokShift's first version.
            Constant index buffers and counts of batches (num_batches_tracked) are dropped.
        model: of `create_model`, of the same architecture.
        image_size: side of the input; matters to a Swin with a position embedding alone.

    Returns:
        Variables for `model.apply`: {"params": ...}, and "batch_stats" of a Visformer; numpy
        arrays of the state dict's dtypes.

    Raises:
        ValueError: if the state dict is no flat mapping of names to float arrays, or listing the
            keys that are unknown, missing or misshapen.
    """
    given = read_names(state_dict, model)
    paths, shapes = {}, {}
    for path, leaf in trees.expected(model, image_size).items():
        name = names.released_name(path, model)
        paths[name] = path
        shapes[name] = names.to_released_layout(path, np.broadcast_to(0.0, leaf.shape), model).shape
    full = {names.bare_name(name): name for name in paths}
    given = {full.get(name, name): value for name, value in given.items()}
    if lines := trees.misfits(given, shapes):
        raise ValueError(
            "the state dict does not fit the model (another variant, class count, image_size or "
            "num_frames? --config.init_from adapts a checkpoint to fine-tune it):"
            + trees.listing(lines)
        )
    flat = {path: names.to_our_layout(path, given[name], model) for name, path in paths.items()}
    return trees.unflatten(flat)


def read_names(state_dict: Arrays, model: VideoModel) -> dict[str, np.ndarray]:
    """Returns bare released name -> array of what a file for the model holds.

    Raises:
        ValueError: if the names are those of another family, or not as `names.bare_names` wants.
    """
    given = other_names.to_released(names.bare_names(state_dict), type(model).__name__)
    names.check_family(given, model)
    return given


def to_torch(
    variables: Mapping[str, Any], model: VideoModel, image_size: int = 224
) -> dict[str, np.ndarray]:
    """Converts variables to the released names and layouts, bit for bit.

    Args:
        variables: of `model.init` or `from_torch`.
        model: of `create_model`.
        image_size: side of the input; matters to a Swin with a position embedding alone.

    Returns:
        Released name -> array, with the prefixes of the released recogniser (`backbone.` and
        `cls_head.`; `base_model.` of a ViT or Visformer), and the int64 buffers that the released
        modules' strict loading wants: index buffers, and num_batches_tracked, which is 0 since we
        don't count (the released momentum doesn't use it).

    Raises:
        ValueError: for a network of which nothing was released, or listing the variables that are
            unknown, missing or misshapen.
    """
    check_released(model)
    flat = names.float_arrays(trees.flatten(variables))
    _check_complete(flat, model, image_size)
    released = {
        names.released_name(path, model): names.to_released_layout(path, value, model)
        for path, value in flat.items()
    }
    for path in flat:
        if path.endswith("/mean"):
            norm = names.released_name(path, model).removesuffix("running_mean")
            released[norm + "num_batches_tracked"] = np.zeros((), np.int64)
    buffers = index_buffers(model) if isinstance(model, Swin) else {}
    for stage, blocks in enumerate(model.mixers):
        for block in range(len(blocks)):
            prefix = f"backbone.layers.{stage}.blocks.{block}.attn."
            released |= {prefix + name: index for name, index in buffers.items()}
    return released


def _check_complete(flat: Arrays, model: VideoModel, image_size: int) -> None:
    """Raises ValueError where the variables are not the model's."""
    names.check_family(flat, model)
    wanted = {path: leaf.shape for path, leaf in trees.expected(model, image_size).items()}
    if lines := trees.misfits(flat, wanted):
        raise ValueError(
            "the variables are not the model's (another variant, class count, image_size or "
            'num_frames? give {"params": ...} and, of a Visformer, "batch_stats"):'
            + trees.listing(lines)
        )


def check_released(model: VideoModel) -> None:
    """Raises ValueError where no released module could hold the variables."""
    blocks = [block for stage in model.mixers for block in stage]
    if any(len(block) > 1 for block in blocks):
        raise ValueError(
            f"mixers with {max(map(len, blocks))} attentions in a block have no released layout"
        )
    if not isinstance(model, Swin) or model.bias_frames == "window":
        return
    for (mixer,) in blocks:
        if not mixer.partition.is_of_frames:
            raise ValueError(
                f"{mixer.partition} with a bias over the clip has no released layout: released "
                "were windows of one frame, or a bias over deep windows (Video-Swin)"
            )


def index_buffers(model: Swin) -> dict[str, np.ndarray]:
    """Returns the index buffers of one released attention module; all blocks hold the same.

    Args:
        model: one that `check_released` lets pass.

    Returns:
        Name -> int64 array.
    """
    frames, *grid = model.bias_window
    still = Mixer(partition=Partition(model.window[0]))
    if model.bias_frames == "window":
        index = bias_index(still, Windows(model.window, model.window), model.bias_window, "own")
        return {"relative_position_index": index[0, 0].astype(np.int64)}
    moved = [mixer for stage in model.mixers for (mixer,) in stage if mixer.pattern is not None]
    both = {
        "relative_position_index": moved[0] if moved else still,
        "relative_position_index_old": still,
    }
    windows = Windows(model.bias_window, (1, *grid))
    buffers = {}
    for name, mixer in both.items():
        index = bias_index(mixer, windows, model.bias_window, model.bias_keys)[:, 0]
        buffers[name] = np.broadcast_to(index, (frames, *index.shape[1:])).astype(np.int64)
    return buffers
