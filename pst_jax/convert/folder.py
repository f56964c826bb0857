"""A model is a folder: weights, and all that is needed to use them, in plain files.

    model.safetensors   variables by path, as in `trees`; or model.orbax/, an orbax checkpoint
    config.json         the arguments of `create_model`
    preprocess.json     how a clip is taken from a video: the fields of `Preprocess`
    labels.txt          the name of each class, a line each
    model_card.md       where it comes from, and what was measured
    SHA256SUMS          of all of these, as `sha256sum --check SHA256SUMS` reads them

Nothing in it is a program; what it describes is built from `create_model` alone.
"""

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any, Literal

import jax
import numpy as np
import safetensors
import safetensors.numpy

from pst_jax.convert import trees
from pst_jax.convert.preprocess import Preprocess
from pst_jax.models.variants import create_model
from pst_jax.models.video import VideoModel

SUMS = "SHA256SUMS"
CONFIG, PREPROCESS, LABELS, CARD = "config.json", "preprocess.json", "labels.txt", "model_card.md"
WEIGHTS = {"safetensors": "model.safetensors", "orbax": "model.orbax"}
# Raised where a later layout could not be read by earlier code.
_FORMAT = 1
_AGAIN = "convert or copy the model again"


@dataclasses.dataclass(frozen=True)
class ModelFolder:
    """What a model folder holds.

    Attributes:
        arguments: of `create_model`, as JSON holds them.
        variables: of the model, float32 arrays.
        preprocess: how it takes clips.
        labels: a name per class.
        card: the model card, Markdown.
        untrained: paths of variables that started anew and were not trained since.

    Raises:
        ValueError: if they do not fit together.
    """

    arguments: Mapping[str, Any]
    variables: Mapping[str, Any]
    preprocess: Preprocess
    labels: tuple[str, ...]
    card: str
    untrained: tuple[str, ...] = ()

    def __post_init__(self):
        model, clip = self.make_model(), self.preprocess
        check_labels(self.labels, model.num_classes)
        size_px = getattr(model, "image_size", clip.size_px)
        if clip.num_frames > model.num_frames or clip.size_px != size_px:
            raise ValueError(
                f"preprocess takes {clip.num_frames} frames of {clip.size_px} px, the model was "
                f"built for {model.num_frames} of {size_px}: take those, or build it for others by "
                "its arguments num_frames and image_size"
            )

    def make_model(self) -> VideoModel:
        """Makes the network."""
        return create_model(**self.arguments)

    def describe(self) -> dict[str, Any]:
        """Returns all but the variables, as JSON holds it."""
        return {
            "format": _FORMAT,
            "model": dict(self.arguments),
            "untrained": list(self.untrained),
            "preprocess": dataclasses.asdict(self.preprocess),
            "labels": list(self.labels),
            "card": self.card,
        }


def is_model_folder(path: pathlib.Path) -> bool:
    """Tells whether a directory is a model folder, whole or not."""
    return (path / CONFIG).is_file() and any((path / w).exists() for w in WEIGHTS.values())


def write(
    path: str | os.PathLike,
    contents: ModelFolder,
    weights: Literal["safetensors", "orbax"] = "safetensors",
) -> None:
    """Writes a model folder, whole or not at all.

    Args:
        path: a folder that does not exist; made with those that it will lie in.
        contents: what it holds.
        weights: the form of the weights.

    Raises:
        ValueError: if the folder exists or cannot be written.
    """
    path = check_new(path)
    scratch = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        scratch.mkdir(parents=True)
        described = contents.describe()
        config = {key: described[key] for key in ("format", "model", "untrained")}
        _write_json(scratch / CONFIG, config)
        _write_json(scratch / PREPROCESS, dataclasses.asdict(contents.preprocess))
        (scratch / LABELS).write_text("\n".join(contents.labels) + "\n", encoding="utf-8")
        (scratch / CARD).write_text(contents.card, encoding="utf-8")
        if weights == "orbax":
            from pst_jax import checkpoint  # here alone: the rest needs no orbax

            checkpoint.save_model(scratch / WEIGHTS[weights], dict(contents.variables), described)
        else:
            write_safetensors(scratch / WEIGHTS[weights], trees.flatten(contents.variables))
        sums = "".join(f"{sha256(scratch / name)}  {name}\n" for name in _files(scratch))
        (scratch / SUMS).write_text(sums, encoding="utf-8")
        os.rename(scratch, path)
    except OSError as error:
        raise ValueError(f"{path} cannot be written: {error}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def read(path: str | os.PathLike) -> ModelFolder:
    """Reads a model folder, whose files are verified before any of them is used.

    Args:
        path: the folder.

    Returns:
        What it holds; its variables fit its model.

    Raises:
        ValueError: naming the file that is missing, damaged or does not fit, and the remedy.
    """
    path = pathlib.Path(path)
    _verify(path)
    config, fields = _read_json(path / CONFIG), _read_json(path / PREPROCESS)
    if config.get("format") != _FORMAT:
        raise ValueError(
            f"{path / CONFIG} has format {config.get('format')!r}, this version reads {_FORMAT}: "
            "use the version of pst_jax that wrote it, or convert the model again"
        )
    try:
        model = create_model(**config["model"])
        preprocess = Preprocess.from_json(fields)
        contents = ModelFolder(
            arguments={**config["model"], "num_classes": model.num_classes},
            variables=_read_variables(path, model, preprocess.size_px),
            preprocess=preprocess,
            labels=read_labels(path / LABELS),
            card=(path / CARD).read_text(encoding="utf-8"),
            untrained=tuple(map(str, config.get("untrained", ()))),
        )
    except (TypeError, KeyError, OverflowError, MemoryError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} does not describe a model ({error}): {_AGAIN}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return contents


def read_labels(name: str | os.PathLike) -> tuple[str, ...]:
    """Reads the names of classes: a file with a line each, or a list that comes with the library.

    Args:
        name: path of the file, or "kinetics400".

    Raises:
        ValueError: if there is no such file or list, or it is no UTF-8 text.
    """
    shipped = pathlib.Path(__file__).parent / "labels"
    path = pathlib.Path(name)
    if not path.exists() and (shipped / f"{name}.txt").is_file():
        path = shipped / f"{name}.txt"
    try:
        return tuple(path.read_text(encoding="utf-8-sig").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        lists = ", ".join(sorted(file.stem for file in shipped.glob("*.txt")))
        raise ValueError(
            f"labels={str(name)!r} cannot be read ({error}): name a UTF-8 file with a line for "
            f"each class, or a list that comes with the library: {lists}"
        ) from None


def check_labels(labels: tuple[str, ...], num_classes: int) -> None:
    """Raises ValueError unless there is a printable name of its own for every class."""
    if len(labels) != num_classes:
        raise ValueError(
            f"{len(labels)} labels for num_classes={num_classes}: give a line for each class"
        )
    for number, label in enumerate(labels):
        if not label.strip() or not label.isprintable():
            raise ValueError(f"label {number} is {label!r}: give it a name that can be printed")
    if len(set(labels)) < len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise ValueError(f"the label {twice!r} stands twice: give each class a name of its own")


def write_safetensors(
    path: pathlib.Path, arrays: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes arrays by name, and texts beside them."""
    # The library takes an array's memory as it lies, and gives files that it writes to the owner
    # alone.
    whole = {name: np.require(value, requirements="C") for name, value in arrays.items()}
    path.write_bytes(safetensors.numpy.save(whole, metadata and dict(metadata)))


def check_new(path: str | os.PathLike) -> pathlib.Path:
    """Returns the path as one; raises ValueError where nothing new can be written to it."""
    if not os.fspath(path):
        raise ValueError("the destination is empty: name a file or folder")
    path = pathlib.Path(path)
    if path.exists() or path.is_symlink():
        raise ValueError(f"{path} exists: move it away, or name another destination")
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise ValueError(f"{path} cannot be written: {above} is no folder that can be written to")
    return path


def _read_variables(path: pathlib.Path, model: VideoModel, size_px: int) -> dict[str, Any]:
    """Reads the weights, which must be those of the model."""
    file = path / WEIGHTS["safetensors"]
    if file.is_file():
        try:
            flat = safetensors.numpy.load_file(file)
        except (safetensors.SafetensorError, OSError) as error:
            raise ValueError(f"{file.name} cannot be read ({error}): {_AGAIN}") from None
    else:
        from pst_jax import checkpoint  # here alone: the rest needs no orbax

        flat = trees.flatten(checkpoint.restore_model(path / WEIGHTS["orbax"])[0])
    shapes = {name: leaf.shape for name, leaf in trees.expected(model, size_px).items()}
    if lines := trees.misfits(flat, shapes):
        raise ValueError(f"the weights are not those of {CONFIG}:{trees.listing(lines)}")
    return jax.tree.map(np.asarray, trees.unflatten(flat))


def _verify(path: pathlib.Path) -> None:
    """Raises ValueError where a file is not the one that was written, or lies there besides."""
    if not path.is_dir():
        raise ValueError(f"{path} is no model folder: make one by python -m pst_jax.convert")
    if (path / "checkpoints").is_dir() and not (path / SUMS).exists():
        raise ValueError(
            f"{path} is a run of train.py: make a model folder of it by python -m pst_jax.convert "
            f"{path} FOLDER"
        )
    try:
        lines = (path / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise ValueError(
            f"{path} has no {SUMS} that can be read: it is no model folder; make one by "
            "python -m pst_jax.convert"
        ) from None
    sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    found = set(_files(path))
    needed = {CONFIG, PREPROCESS, LABELS, CARD}
    if missing := sorted(((needed | sums.keys()) - found) | (needed - sums.keys())):
        raise ValueError(f"{path} lacks {missing[0]}, or {SUMS} does: {_AGAIN}")
    # Somebody's notes may lie beside; what would be read as weights may not.
    weights = tuple(WEIGHTS.values())
    if unknown := sorted(name for name in found - sums.keys() if name.startswith(weights)):
        raise ValueError(f"{path / unknown[0]} is not in {SUMS}: {_AGAIN}")
    if not any(name.startswith(weights) for name in sums):
        raise ValueError(f"{path} holds no {' or '.join(weights)}: {_AGAIN}")
    for name, digest in sums.items():
        if sha256(path / name) != digest:
            raise ValueError(
                f"{path / name} is not the file that was saved ({SUMS} says so): {_AGAIN}; after "
                f"a change of your own, write its line anew by sha256sum"
            )


def _files(path: pathlib.Path) -> list[str]:
    """Names of all files below a folder but for the list of sums, sorted."""
    names = (file.relative_to(path).as_posix() for file in path.rglob("*") if file.is_file())
    return sorted(name for name in names if name != SUMS)


def sha256(file: pathlib.Path) -> str:
    """Returns the hash of a file's bytes, in hex."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _write_json(file: pathlib.Path, value: Any) -> None:
    file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _read_json(file: pathlib.Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(value, dict):
            return value
        reason = f"a {type(value).__name__} and no object"
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error)
    raise ValueError(f"{file} cannot be read ({reason}): {_AGAIN}")
