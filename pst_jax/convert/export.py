"""Weights written in the form that the destination's suffix says."""

import json
import os
import pathlib
import re
from collections.abc import Callable
from typing import Literal

import numpy as np

from pst_jax import files as whole_files
from pst_jax.convert import folder, torch_files
from pst_jax.convert.files import DESCRIPTION
from pst_jax.convert.folder import ModelFolder
from pst_jax.convert.released import to_torch

Released = dict[str, np.ndarray]


def _write_torch(path: pathlib.Path, arrays: Released, described: str) -> None:
    torch_files.write(path, arrays, {DESCRIPTION: described})


def _write_safetensors(path: pathlib.Path, arrays: Released, described: str) -> None:
    with whole_files.replacing(path) as scratch:
        folder.write_safetensors(scratch, arrays, {"format": "pt", DESCRIPTION: described})


def _write_npz(path: pathlib.Path, arrays: Released, described: str) -> None:
    with whole_files.replacing(path) as scratch, scratch.open("wb") as file:
        np.savez(file, **arrays, **{DESCRIPTION: described})


# By suffix: files of released names and layouts.
_FILES: dict[str, Callable[[pathlib.Path, Released, str], None]] = {
    ".pth": _write_torch,
    ".pt": _write_torch,
    ".safetensors": _write_safetensors,
    ".npz": _write_npz,
}
ORBAX = ".orbax"


def check(path: str | os.PathLike, weights: str | None) -> pathlib.Path:
    """Returns a destination as a path; raises ValueError where it is none that can be written.

    Args:
        path: see `write`.
        weights: form of a folder's weights; None where it was not said.
    """
    path = folder.check_new(path)
    is_folder = path.suffix not in (*_FILES, ORBAX)
    if is_folder and re.fullmatch(r"\.[A-Za-z]\w*", path.suffix):  # but not model-v1.5
        raise ValueError(
            f"{path}: {path.suffix} is not written; use {', '.join(_FILES)}, {ORBAX}, or no suffix "
            "for a model folder"
        )
    if weights and not is_folder:
        raise ValueError(f"--weights={weights} is for model folders, and {path} says {path.suffix}")
    return path


def write(
    path: str | os.PathLike,
    contents: ModelFolder,
    weights: Literal["safetensors", "orbax"] | None = None,
) -> str:
    """Writes a model, whole or not at all.

    Args:
        path: with suffix .pth, .pt, .safetensors or .npz a file of released names, which holds
            `ModelFolder.describe` beside them; with .orbax an orbax checkpoint, likewise; with none
            a model folder. Must not exist; the folders above it are made.
        contents: the model.
        weights: form of a folder's weights; None: orbax.

    Returns:
        What was written, for people.

    Raises:
        ValueError: if the path cannot be written, or the network has no released layout.
    """
    path = check(path, weights)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ORBAX:
            from pst_jax import checkpoint  # here alone: the rest needs no orbax

            checkpoint.save_model(path, dict(contents.variables), contents.describe())
            return "orbax checkpoint"
        if path.suffix not in _FILES:
            folder.write(path, contents, weights or "orbax")
            return f"model folder, its weights as {weights or 'orbax'}"
        _FILES[path.suffix](path, _released(contents), json.dumps(contents.describe()))
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error}") from None
    return f"{path.suffix} of released names"


def _released(contents: ModelFolder) -> Released:
    try:
        return to_torch(contents.variables, contents.make_model(), contents.preprocess.size_px)
    except ValueError as error:
        raise ValueError(f"{error}; a model folder or {ORBAX} can hold any model") from None
