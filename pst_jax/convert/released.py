"""The released names and layouts of a Swin's tensors, to ours and back.

A state dict here is a mapping of the released names to numpy arrays; nothing needs PyTorch.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from pst_jax.layers.attention import bias_index
from pst_jax.models.swin import Swin
from pst_jax.ops.mixing import Mixer

Arrays = Mapping[str, np.ndarray]

# From a path of ours to the released name, applied in this order.
_RENAMES = (
    (r"/(scale|kernel)$", ".weight"),
    (r"^head", "cls_head.fc_cls"),
    (r"^(?!cls_head)", "backbone."),
    (r"layers_(\d+)_blocks_(\d+)/", r"layers.\1.blocks.\2."),
    (r"layers_(\d+)_downsample/", r"layers.\1.downsample."),
    (r"/", "."),
)
# What precedes a released name in the various files: a wrapper, the recogniser, nothing.
_PREFIX = re.compile(r"^(module\.)?(backbone\.|cls_head\.)?")
# Constants that the released modules keep beside their parameters; ours are computed.
_BUFFER = re.compile(r"\.(relative_position_index(_old)?|attn_mask)$")


def released_name(path: str) -> str:
    """Returns the released name of a parameter of ours, such as `head/kernel`."""
    for pattern, replacement in _RENAMES:
        path = re.sub(pattern, replacement, path)
    return path


def bare_names(state_dict: Arrays) -> dict[str, np.ndarray]:
    """Strips the prefixes `module.`, `backbone.` and `cls_head.`, and drops constant buffers."""
    return {
        _PREFIX.sub("", name): np.asarray(value)
        for name, value in state_dict.items()
        if not _BUFFER.search(name)
    }


def to_our_layout(path: str, value: np.ndarray) -> np.ndarray:
    """Turns a released tensor into the layout of our parameter `path`; the bits stay the same."""
    if value.ndim < 2:  # of another shape than it must have
        return value
    if path == "patch_embed/proj/kernel":  # [C, 3, (t,) h, w] -> [(t *) h * w * 3, C]
        return np.moveaxis(value, (0, 1), (-1, -2)).reshape(-1, value.shape[0])
    return value.T if path.endswith("/kernel") else value


def _to_released_layout(path: str, value: np.ndarray, model: Swin) -> np.ndarray:
    """Undoes `to_our_layout` for a video model."""
    if path == "patch_embed/proj/kernel":
        return np.moveaxis(value.reshape(*model.patch_size, 3, -1), (-1, -2), (0, 1))
    return value.T if path.endswith("/kernel") else value


def expected_params(model: Swin, image_size: int = 224) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns path -> shape and dtype of the model's parameters, without computing any.

    Args:
        model: of `create_model`.
        image_size: side of the input; matters to a model with a position embedding alone.
    """
    # The parameters of the rest don't depend on the size, and a small one traces fast.
    side = image_size if model.pos_embed != "none" else 32
    video = jax.ShapeDtypeStruct((1, model.num_frames, side, side, 3), jnp.float32)
    init = lambda video: model.init(jax.random.key(0), video, train=False)  # noqa: E731
    return traverse_util.flatten_dict(jax.eval_shape(init, video)["params"], sep="/")


def from_torch(state_dict: Arrays, model: Swin, image_size: int = 224) -> dict[str, Any]:
    """Converts a released video state dict to the model's variables, bit for bit.

    Args:
        state_dict: released name -> array, with or without the prefixes `backbone.` and
            `cls_head.`; the released constant index buffers are dropped.
        model: of `create_model`, of the same architecture.
        image_size: side of the input; matters to a model with a position embedding alone.

    Returns:
        Variables for `model.apply`: {"params": ...}, numpy arrays of the state dict's dtypes.

    Raises:
        ValueError: listing every unknown, missing and misshapen key.
    """
    given = bare_names(state_dict)
    problems, flat = [], {}
    for path, wanted in expected_params(model, image_size).items():
        name = released_name(path)
        value = given.pop(_PREFIX.sub("", name), None)
        if value is None:
            problems.append(f"missing: {name}, {wanted.shape} in our layout")
            continue
        flat[path] = to_our_layout(path, value)
        if flat[path].shape != wanted.shape:
            problems.append(
                f"misshapen: {name} is {value.shape}, {flat[path].shape} in our layout, where the "
                f"model has {wanted.shape}"
            )
    problems += [f"unknown: {name}, {value.shape}" for name, value in given.items()]
    if problems:
        raise ValueError(
            "the state dict does not fit the model (another variant, class count or num_frames? "
            "--config.init_from adapts a checkpoint to fine-tune it):\n  " + "\n  ".join(problems)
        )
    return {"params": traverse_util.unflatten_dict(flat, sep="/")}


def to_torch(variables: Mapping[str, Any], model: Swin) -> dict[str, np.ndarray]:
    """Converts variables to the released names and layouts, bit for bit.

    Args:
        variables: of `model.init` or `from_torch`.
        model: of `create_model`.

    Returns:
        Released name -> array, with the prefixes `backbone.` and `cls_head.` and the int64 index
        buffers that the released modules' strict loading wants.

    Raises:
        ValueError: for a network of which nothing was released.
    """
    if model.window[0] != 1 and model.bias_frames == "clip":
        raise ValueError(f"window={model.window} with a bias over the clip has no released layout")
    flat = traverse_util.flatten_dict(variables["params"], sep="/")
    released = {
        released_name(path): _to_released_layout(path, np.asarray(value), model)
        for path, value in flat.items()
    }
    buffers = _index_buffers(model)
    for stage, mixers in enumerate(model.mixers):
        for block in range(len(mixers)):
            prefix = f"backbone.layers.{stage}.blocks.{block}.attn."
            released |= {prefix + name: index for name, index in buffers.items()}
    return released


def _index_buffers(model: Swin) -> dict[str, np.ndarray]:
    """Returns the index buffers of one released attention module; all blocks hold the same."""
    frames, *grid = model.bias_window
    still = Mixer(frames=model.window[0])
    if model.bias_frames == "window":
        index = bias_index(still, frames, tuple(grid), model.bias_window, "own")
        return {"relative_position_index": index[0].astype(np.int64)}
    moved = [mixer for mixers in model.mixers for mixer in mixers if mixer.pattern is not None]
    both = {
        "relative_position_index": moved[0] if moved else still,
        "relative_position_index_old": still,
    }
    buffers = {}
    for name, mixer in both.items():
        index = bias_index(mixer, frames, tuple(grid), model.bias_window, model.bias_keys)
        buffers[name] = np.broadcast_to(index, (frames, *index.shape[1:])).astype(np.int64)
    return buffers
