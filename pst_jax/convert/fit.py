"""Starts a model from the weights of another: a 2D image model, or a video model to fine-tune."""

import pathlib
import zipfile
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from pst_jax.convert.released import (
    Arrays,
    bare_names,
    expected_params,
    released_name,
    to_our_layout,
)
from pst_jax.convert.resize import inflate_patch_kernel, resize_bias_table
from pst_jax.models.swin import Swin


def init_from_2d(
    state_dict: Arrays, model: Swin, *, seed: int = 0, image_size: int = 224
) -> dict[str, Any]:
    """Starts a video model from a 2D Swin: inflated kernel and bias tables, a new head.

    Args:
        state_dict: ImageNet Swin, released name -> array; its head and buffers are dropped.
        model: of `create_model`.
        seed: of the new head.
        image_size: side of the input; matters to a model with a position embedding alone.

    Returns:
        Variables for `model.apply`.

    Raises:
        ValueError: listing every key that does not fit.

    Source: Video-Swin (CVPR 2022), Section 3.3; the released PST repeats the table over all
    2T - 1 differences of time.
    """
    given = {
        name: value
        for name, value in bare_names(state_dict).items()
        if not name.startswith(("head.", "fc_cls."))
    }
    variables, _ = fit(_by_path(given, model, image_size), model, seed=seed, image_size=image_size)
    return variables


def init_from_file(
    path: str, model: Swin, *, seed: int = 0, image_size: int = 224
) -> tuple[dict[str, Any], list[str]]:
    """Starts a model from a checkpoint, 2D or video, and tells what was changed to fit.

    Args:
        path: an `.npz` of released names, or a working directory of train.py.
        model: of `create_model`.
        seed: of a new head.
        image_size: side of the input; matters to a model with a position embedding alone.

    Returns:
        Variables for `model.apply`, and a line for every parameter that is new or resized.

    Raises:
        ValueError: for a file of another kind, or one that does not fit the model.
    """
    try:
        given = _read(pathlib.Path(path), model, image_size)
        return fit(given, model, seed=seed, image_size=image_size)
    except ValueError as error:
        raise ValueError(f"init_from={path!r}: {error}") from None


def _read(source: pathlib.Path, model: Swin, image_size: int) -> dict[str, np.ndarray]:
    """Reads a checkpoint: path -> array in our layout; what is unknown keeps its name."""
    if source.is_dir():
        from pst_jax import checkpoint  # here alone, so that converting needs no orbax

        params, _ = checkpoint.restore_params(source)
        flat = traverse_util.flatten_dict(params, sep="/")
        return {name: np.asarray(value) for name, value in flat.items()}
    if not source.is_file():
        raise ValueError("there is no such file or directory")
    try:
        if not zipfile.is_zipfile(source):
            raise ValueError("not a zip file, or cut off")
        with np.load(source, allow_pickle=False) as archive:
            state_dict = {name: archive[name] for name in archive.files}
        if not state_dict or not all(isinstance(v, np.ndarray) for v in state_dict.values()):
            raise ValueError("a zip file of something else")
    except (ValueError, OSError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"it is no .npz of arrays ({error}). From a PyTorch file make one where PyTorch is "
            "installed: numpy.savez(out, **{k: v.numpy() for k, v in "
            "torch.load(file, weights_only=True)[KEY].items()}), KEY being 'state_dict' for video "
            "and 'model' for ImageNet checkpoints"
        ) from None
    return _by_path(bare_names(state_dict), model, image_size)


def _by_path(given: Arrays, model: Swin, image_size: int) -> dict[str, np.ndarray]:
    """Maps bare released names to our paths and layouts; what is unknown keeps its name."""
    paths = {
        released_name(path).split(".", 1)[1]: path for path in expected_params(model, image_size)
    }
    # An image model's classifier has another name, and its own class count.
    paths |= {"head.weight": "head/kernel", "head.bias": "head/bias"}
    return {
        paths.get(name, name): to_our_layout(paths.get(name, name), value)
        for name, value in given.items()
    }


def fit(
    given: Mapping[str, np.ndarray], model: Swin, *, seed: int, image_size: int
) -> tuple[dict[str, Any], list[str]]:
    """Adapts parameters to a model: inflates, resizes, starts a new head; the rest is strict.

    Args:
        given: path -> array in our layout.
        model: of `create_model`.
        seed: of what is new.
        image_size: side of the input; matters to a model with a position embedding alone.

    Returns:
        Variables for `model.apply`, and a line for every parameter that is new or resized.

    Raises:
        ValueError: listing every key that is unknown, missing or cannot be made to fit.
    """
    given = dict(given)
    wanted = expected_params(model, image_size)
    is_new_head = getattr(given.get("head/kernel"), "shape", None) != wanted["head/kernel"].shape
    changes, problems, flat, new = [], [], {}, []
    for path, start in wanted.items():
        value = given.pop(path, None)
        is_optional = path.startswith("pos_embed/") and value is None
        if path.startswith("head/") and is_new_head or is_optional:
            new.append(path)
            changes.append(f"new: {path} {start.shape}")
            continue
        if value is None:
            problems.append(f"missing: {path} {start.shape}")
            continue
        try:
            flat[path] = _fit_one(path, value, start.shape, model).astype(start.dtype)
        except ValueError as error:
            problems.append(f"misshapen: {path} is {value.shape}, not {start.shape}: {error}")
            continue
        if value.shape != start.shape:
            changes.append(f"resized: {path} {value.shape} -> {start.shape}")
    problems += [f"unknown: {path} {value.shape}" for path, value in given.items()]
    if problems:
        raise ValueError(
            "the checkpoint does not fit the model, which must be as deep and wide, with as many "
            "heads:\n  " + "\n  ".join(problems)
        )
    flat |= initial_params(model, new, seed, image_size)
    return {"params": traverse_util.unflatten_dict(flat, sep="/")}, changes


def initial_params(
    model: Swin, paths: list[str], seed: int, image_size: int
) -> dict[str, jax.Array]:
    """Draws some of a model's initial parameters, by path; the others are not computed."""
    side = image_size if model.pos_embed != "none" else 32
    video = jnp.zeros((1, model.num_frames, side, side, 3))

    @jax.jit
    def init(key):
        params = traverse_util.flatten_dict(model.init(key, video, train=False)["params"], sep="/")
        return {path: params[path] for path in paths}

    return init(jax.random.key(seed)) if paths else {}


def _fit_one(path: str, value: np.ndarray, shape: tuple[int, ...], model: Swin) -> np.ndarray:
    """Makes one array fit `shape`, if that can be."""
    if value.shape == shape:
        return value
    if path.endswith("relative_position_bias_table") and value.shape[1:] == shape[1:]:
        return resize_bias_table(value, model.bias_window)
    if path == "patch_embed/proj/kernel":
        frames = model.patch_size[0]
        if value.shape[1:] == shape[1:] and value.shape[0] * frames == shape[0]:
            return inflate_patch_kernel(value, frames)
    if path == "pos_embed/embedding" and value.ndim == 4 and value.shape[-1] == shape[-1]:
        return np.asarray(jax.image.resize(value, shape, "linear"))
    raise ValueError("another architecture")
