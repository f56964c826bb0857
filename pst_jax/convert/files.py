"""Weights from any file or folder that people have, told by its content and never by its name.

Nothing that comes with weights is run, and PyTorch is not needed.
"""

import codecs
import dataclasses
import functools
import json
import os
import pathlib
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors

from pst_jax.convert import folder, torch_files, trees
from pst_jax.convert.preprocess import Preprocess
from pst_jax.models.values import freeze

# The key under which files of ours hold `ModelFolder.describe`, as JSON.
DESCRIPTION = "pst_jax"
# Of a training framework's file, the entries that hold weights, the likeliest first.
_KEYS = ("state_dict", "model", "model_state", "module", "net", "params")
_KEYS += ("state_dict_ema", "model_ema", "ema", "teacher", "student")
_MAX_NPZ_RATIO = 20
_GET_AGAIN = "download or copy it again"
# What such files are instead, by how they begin, and what to do.
_OTHERS = (
    (b"version https://git-lfs", "a git-lfs pointer, not the file itself", "run `git lfs pull`"),
    (b"<!doctype", "a web page, saved in place of the file", "download the file itself"),
    (b"<html", "a web page, saved in place of the file", "download the file itself"),
    (b"<?xml", "an error message of a server, saved in place of the file", "download it again"),
    (b"\x1f\x8b", "compressed by gzip", "gunzip it first"),
    (b"\x89hdf\r\n", "an HDF5 file", "save its weights as .npz or .safetensors"),
)


@dataclasses.dataclass(frozen=True)
class Source:
    """Weights as they were found.

    Attributes:
        path: where.
        kind: what it is, such as "PyTorch (zip)", for people.
        arrays: name -> array.
        is_ours: whether names and layouts are ours (`trees`), or released ones.
        arguments: of `create_model`, where it says them.
        context: what else it says, where it is ours: "preprocess", "labels", "card", "untrained" as
            in `ModelFolder`; of a run "config" and "step".
        remarks: what was left out or replaced by nothing, for people.
    """

    path: pathlib.Path
    kind: str
    arrays: Mapping[str, Any]
    is_ours: bool
    arguments: Mapping[str, Any] | None = None
    context: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    @functools.cached_property
    def sha256(self) -> str | None:
        """Of the file; None for a directory."""
        return folder.sha256(self.path) if self.path.is_file() else None


def read(path: str | pathlib.Path, key: str | None = None) -> Source:
    """Reads weights.

    Args:
        path: a PyTorch file, .safetensors or .npz of released names; a model folder; an orbax
            checkpoint; a working directory of train.py.
        key: of a PyTorch file, the entry that holds the weights; None: the likeliest. Must not be
            given with anything else.

    Raises:
        ValueError: if there is nothing, or nothing that can be read safely: what it is, and what
            to do.
    """
    if not os.fspath(path):
        raise ValueError("the source is empty: name a file or folder")
    path = pathlib.Path(path)
    if path.is_file():
        head = _read_head(path)
        if torch_files.is_torch(path):
            return _read_torch(path, key)
    elif not path.exists():
        raise ValueError(f"{path}: there is no such file or directory")
    if key is not None:
        raise ValueError(f"--key={key!r} is for PyTorch files, which {path} is not: leave it out")
    if path.is_dir():
        return _read_directory(path)
    if not path.is_file():
        raise ValueError(f"{path} is no plain file: name one, or a folder")
    if _is_safetensors(head):
        return _read_safetensors(path)
    if head[:4] == b"PK\x03\x04":
        return _read_npz(path)
    raise ValueError(
        f"{path} is no file of weights that is known: give .pth or .pt of PyTorch, .safetensors, "
        ".npz, a model folder, an orbax checkpoint, or a working directory of train.py"
    )


def _read_head(path: pathlib.Path) -> bytes:
    """Returns how a file begins; raises ValueError where that tells that it is something else."""
    try:
        with path.open("rb") as opened:
            head = opened.read(512)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    if not head.strip():
        raise ValueError(f"{path} is empty: {_GET_AGAIN}")
    text = head.removeprefix(codecs.BOM_UTF8).lstrip().lower()
    for beginning, what, remedy in _OTHERS:
        if text.startswith(beginning):
            raise ValueError(f"{path} is {what}: {remedy}")
    return head


def _read_directory(path: pathlib.Path) -> Source:
    from pst_jax import checkpoint  # here alone, so that converting files needs no orbax

    if folder.is_model_folder(path):
        found = folder.read(path)
        names = ("preprocess", "labels", "card", "untrained")
        context = {name: getattr(found, name) for name in names}
        arrays = trees.flatten(found.variables)
        return Source(path, "model folder", arrays, True, found.arguments, context)
    if checkpoint.is_model(path):
        variables, config = checkpoint.restore_model(path)
        said = _said(path, config)
        return Source(path, "orbax checkpoint", _numpy(variables), True, *said)
    path = checkpoint.run_directory(path)
    if not (path / checkpoint.DIRECTORY).is_dir():
        raise ValueError(
            f"{path} is no model folder, no orbax checkpoint and no working directory of train.py: "
            "name one of these, or a file of weights"
        )
    variables, step = checkpoint.restore_variables(path)
    context = {"step": step}
    if (path / "config.json").exists():
        context["config"] = _read_run(path)
    arguments = _arguments_of(context.get("config"))
    return Source(path, f"run, step {step}", _numpy(variables), True, arguments, context)


def _read_run(path: pathlib.Path) -> dict[str, Any]:
    """Reads what a run was made of."""
    file = path / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(config["model"], dict):
            return config
        reason = "it has no model"
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error)
    raise ValueError(f"{file} cannot be read ({reason}): name a working directory of train.py")


def _arguments_of(config: Any) -> dict[str, Any] | None:
    """Returns the arguments of `create_model`, less what a config leaves to the named model."""
    section = config.get("model") if isinstance(config, dict) else None
    if not isinstance(section, dict) or "name" not in section:
        return None
    return {key: freeze(value) for key, value in section.items() if value is not None}


def _said(path: pathlib.Path, described: Any) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """Returns arguments and context of a file of ours, as JSON holds them.

    Args:
        path: of the file, for the message.
        described: `ModelFolder.describe`; or a run's config; or anything.
    """
    arguments = _arguments_of(described)
    if arguments is None:
        return None, {}
    if "preprocess" not in described:
        return arguments, {"config": described} if "clip" in described else {}
    try:
        return arguments, {
            "preprocess": Preprocess.from_json(described["preprocess"]),
            "labels": tuple(map(str, described["labels"])),
            "card": str(described["card"]),
            "untrained": tuple(map(str, described["untrained"])),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path}: what it says of its model makes no sense ({error}): convert it anew"
        ) from None


def _numpy(variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {path: np.asarray(leaf) for path, leaf in trees.flatten(variables).items()}


def _read_torch(path: pathlib.Path, key: str | None) -> Source:
    file = torch_files.read(path)
    name, tensors = _find_weights(path, file.content, key)
    remarks = [f"left out: {line}" for line in _beside(file.content, name)]
    remarks += [f"replaced by nothing: {name}" for name in file.stubbed]
    text = file.content.get(DESCRIPTION) if isinstance(file.content, dict) else None
    said = _said(path, _from_json(path, text))
    # Now, and of these alone: what is told of them, and what is made of them, both need all.
    arrays = {name: tensor.load() for name, tensor in tensors.items()}
    return Source(path, f"PyTorch ({file.layout})", arrays, False, *said, tuple(remarks))


def _tensors(content: Any) -> dict[str, Any]:
    """Returns the tensors of a mapping by name."""
    if not isinstance(content, dict):
        return {}
    return {
        name: value
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, torch_files.Tensor)
    }


def _find_weights(path: pathlib.Path, content: Any, key: str | None) -> tuple[str, dict[str, Any]]:
    """Returns the entry that holds weights, "" for the file itself, and its tensors by name."""
    entries = {"": content} | (content if isinstance(content, dict) else {})
    found = {name: tensors for name, entry in entries.items() if (tensors := _tensors(entry))}
    if key is not None:
        if key not in found:
            named = ", ".join(map(repr, filter(None, found))) or "none"
            raise ValueError(f"{path} has no entry {key!r} of tensors by name; it has: {named}")
        return key, found[key]
    # The file itself last but for others: a trainer may leave a number beside its entries.
    for name in (*_KEYS, "", *found):
        if name in found:
            return name, found[name]
    raise ValueError(
        f"{path} holds no tensors by name: give a checkpoint with a state dict, such as "
        "torch.save(model.state_dict(), file) writes"
    )


def _beside(content: dict, name: str) -> list[str]:
    """Names what lies beside the weights, and how to take other weights instead."""
    beside = {key: value for key, value in content.items() if key not in (name, DESCRIPTION)}
    if not name:
        beside = {k: v for k, v in beside.items() if not isinstance(v, torch_files.Tensor)}
    return [
        f"{key} (weights too: --key {key})" if _tensors(value) else str(key)
        for key, value in beside.items()
    ]


def _is_safetensors(head: bytes) -> bool:
    return len(head) > 8 and int.from_bytes(head[:8], "little") < 2**27 and head[8:9] == b"{"


def _read_safetensors(path: pathlib.Path) -> Source:
    try:
        with safetensors.safe_open(path, "np") as opened:
            metadata = opened.metadata() or {}
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}
    except (safetensors.SafetensorError, OSError, TypeError) as error:
        raise ValueError(f"{path} cannot be read ({error}): {_GET_AGAIN}") from None
    except AttributeError as error:  # a dtype that numpy lacks
        raise ValueError(f"{path} has weights of a dtype that is not read ({error})") from None
    said = _said(path, _from_json(path, metadata.get(DESCRIPTION)))
    return Source(path, "safetensors", arrays, False, *said)


def _read_npz(path: pathlib.Path) -> Source:
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > max(2**20, _MAX_NPZ_RATIO * path.stat().st_size):
            raise ValueError(f"it would unpack to {unpacked} bytes")
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        if not arrays or not all(isinstance(value, np.ndarray) for value in arrays.values()):
            raise ValueError("a zip file of something else")
    # What a damaged header can make numpy raise is not documented.
    except (ValueError, OSError, EOFError, TypeError, SyntaxError, MemoryError) as error:
        raise ValueError(f"{path} is no .npz of arrays ({error}): {_GET_AGAIN}") from None
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{path} is cut off or damaged ({error}): {_GET_AGAIN}") from None
    text = arrays.pop(DESCRIPTION, None)
    said = _said(path, _from_json(path, None if text is None else str(text)))
    return Source(path, "npz", arrays, False, *said)


def _from_json(path: pathlib.Path, text: Any) -> Any:
    """Reads what a file of ours says of its model."""
    if text is None:
        return None
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}: its entry {DESCRIPTION!r} is no JSON ({error}): make it anew"
        ) from None
