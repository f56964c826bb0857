"""Weights written in the form that the destination's suffix says."""

import json
import os
import pathlib
from collections.abc import Callable
from typing import Literal

import numpy as np

from pst_jax import files as whole_files
from pst_jax.convert import folder, torch_files
from pst_jax.convert.files import MODEL
from pst_jax.convert.folder import ModelFolder
from pst_jax.convert.released import to_torch

Released = dict[str, np.ndarray]


def _write_torch(path: pathlib.Path, arrays: Released, model: str) -> None:
    torch_files.write(path, arrays, {MODEL: model})


def _write_safetensors(path: pathlib.Path, arrays: Released, model: str) -> None:
    with whole_files.replacing(path) as scratch:
        folder.write_safetensors(scratch, arrays, {"format": "pt", MODEL: model})


def _write_npz(path: pathlib.Path, arrays: Released, model: str) -> None:
    with whole_files.replacing(path) as scratch, scratch.open("wb") as file:
        np.savez(file, **arrays, **{MODEL: model})


# By suffix: files of released names and layouts.
_FILES: dict[str, Callable[[pathlib.Path, Released, str], None]] = {
    ".pth": _write_torch,
    ".pt": _write_torch,
    ".safetensors": _write_safetensors,
    ".npz": _write_npz,
}
ORBAX = ".orbax"


def write(
    path: str | os.PathLike,
    contents: ModelFolder,
    weights: Literal["safetensors", "orbax"] = "orbax",
) -> str:
    """Writes a model, whole or not at all.

    Args:
        path: with suffix .pth, .pt, .safetensors or .npz a file of released names, which says
            beside them what model it holds; with .orbax an orbax checkpoint; with none of these a
            model folder. Must not exist.
        contents: the model.
        weights: form of a folder's weights.

    Returns:
        What was written, for people.

    Raises:
        ValueError: if the path cannot be written, or the network has no released layout.
    """
    path = folder.check_new(path)
    config = {"model": dict(contents.arguments)}
    if path.suffix == ORBAX:
        from pst_jax import checkpoint  # here alone: the rest needs no orbax

        checkpoint.save_model(path, dict(contents.variables), config)
        return "orbax checkpoint"
    if path.suffix not in _FILES:
        folder.write(path, contents, weights)
        return f"model folder, its weights as {weights}"
    try:
        arrays = to_torch(contents.variables, contents.make_model(), contents.preprocess.size_px)
    except ValueError as error:
        raise ValueError(
            f"{error}; write a model folder or {ORBAX}, which hold any model"
        ) from None
    try:
        _FILES[path.suffix](path, arrays, json.dumps(config["model"]))
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error}") from None
    return f"{path.suffix} of released names"
