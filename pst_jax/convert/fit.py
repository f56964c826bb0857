"""Starts a model from the weights of another: a 2D image model, or a video model to fine-tune."""

import dataclasses
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pst_jax.convert import files, names, resize, trees
from pst_jax.convert.files import Source
from pst_jax.convert.names import Arrays
from pst_jax.convert.released import read_names
from pst_jax.models.swin import Swin
from pst_jax.models.video import VideoModel
from pst_jax.models.visformer import Visformer
from pst_jax.models.vit import ViT

Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Weights:
    """The weights to start from.

    Attributes:
        arrays: path -> array in our layout; what is unknown keeps its name.
        misfits: path -> why what was given for it has no such layout.
        is_image: whether a Swin's bias tables are those of a 2D image network.
        renamed: path -> the bare released name of what was given for it.
    """

    arrays: Arrays
    misfits: Mapping[str, str] = dataclasses.field(default_factory=dict)
    is_image: bool = False
    renamed: Mapping[str, str] = dataclasses.field(default_factory=dict)


def _inflate(kernel: np.ndarray, shape: Shape, model: Swin, is_image: bool) -> np.ndarray:
    return resize.inflate_patch_kernel(kernel, model.patch_size[0])


def _resize_table(table: np.ndarray, shape: Shape, model: Swin, is_image: bool) -> np.ndarray:
    return resize.resize_bias_table(table, model.bias_window, is_image=is_image)


def _resize_volume(table: np.ndarray, shape: Shape, model: Swin, is_image: bool) -> np.ndarray:
    return np.asarray(jax.image.resize(table, shape, "linear"))


def _resize_tokens(table: np.ndarray, shape: Shape, model: ViT, is_image: bool) -> np.ndarray:
    return resize.resize_token_positions(table, shape)


def _resize_grid(table: np.ndarray, shape: Shape, model: Visformer, is_image: bool) -> np.ndarray:
    return resize.resize_grid(table, shape[1:3])


_TABLE = "/relative_position_bias_table"
# By family: the paths of what depends on the size of the input, and how it is made to fit. All
# else must have the model's shape.
_ADAPTERS: dict[type[VideoModel], dict[str, Callable[..., np.ndarray]]] = {
    Swin: {
        r"^patch_embed/proj/kernel$": _inflate,
        f"{_TABLE}$": _resize_table,
        r"^pos_embed/embedding$": _resize_volume,
    },
    ViT: {r"^pos_embed$": _resize_tokens},
    Visformer: {r"^pos_embed[123]$": _resize_grid},
}
# Of an image network, what no video network has: the representation layer of ImageNet-21k, and a
# distilled network's second token and classifier.
_IMAGE_ONLY = re.compile(r"^(pre_logits|dist_token|head_dist)\b")
_ANOTHER = (
    "the checkpoint does not fit the model, which must be as deep and wide, with as many heads:"
)
# The attentions ahead of a block's last one, and their norms.
_FURTHER = re.compile(r"^(.*/)(attn|norm1)_\d+/")


def init_from_2d(
    state_dict: Arrays, model: VideoModel, *, seed: int = 0, image_size: int = 224
) -> dict[str, Any]:
    """Starts a video model from a 2D one: its weights made to fit the video, and a new head.

    A Swin's patch kernel and bias tables are inflated; position embeddings are resized, and
    repeated where frames have their own; running statistics of a Visformer are taken over. Where
    a block has several attentions, each starts as a copy of the image network's one.

    Args:
        state_dict: ImageNet weights, released name -> array; a ViT's may be those of the JAX ViT.
            Head, buffers and what serves distillation alone are dropped.
        model: of `create_model`.
        seed: of the new head.
        image_size: side of the input; matters to a Swin with a position embedding alone.

    Returns:
        Variables for `model.apply`.

    Raises:
        ValueError: if the state dict is no flat mapping of names to float arrays, or listing the
            keys that do not fit.

    Source: Video-Swin (CVPR 2022), Section 3.3; the released PST repeats the table over all
    2T - 1 differences of time. TimeSformer (ICML 2021) for the copies.
    """
    given = _by_path(read_names(state_dict, model), model, image_size)
    kept = {path: value for path, value in given.arrays.items() if not path.startswith("head/")}
    given = dataclasses.replace(given, arrays=kept, is_image=True)
    return fit(given, model, seed=seed, image_size=image_size)[0]


def init_from_file(
    path: str, model: VideoModel, *, seed: int = 0, image_size: int = 224
) -> tuple[dict[str, Any], list[str]]:
    """Starts a model from a checkpoint, 2D or video, and tells what was changed to fit.

    Args:
        path: whatever `files.read` reads: a PyTorch file, .safetensors or .npz of released names,
            a model folder, an orbax checkpoint, a working directory of train.py.
        model: of `create_model`.
        seed: of a new head.
        image_size: side of the input; matters to a Swin with a position embedding alone.

    Returns:
        Variables for `model.apply`, and a line for every array that is new, copied, inflated,
        resized or dropped.

    Raises:
        ValueError: for no path, a file of another kind, or one that does not fit the model.
    """
    try:
        if not isinstance(path, str | os.PathLike) or not os.fspath(path):
            raise ValueError("give the path of weights: a file, a model folder or a run")
        given = weights_of(files.read(path), model, image_size)
        return fit(given, model, seed=seed, image_size=image_size)
    except ValueError as error:
        raise ValueError(f"init_from={path!r}: {error}") from None


def weights_of(source: Source, model: VideoModel, image_size: int) -> Weights:
    """Puts weights as they were found under our paths and layouts.

    Args:
        source: of `files.read`.
        model: that they are for.
        image_size: side of the input; matters to a Swin with a position embedding alone.

    Raises:
        ValueError: if they are those of another family, or no float arrays.
    """
    if source.is_ours:
        names.check_family(source.arrays, model)
        return Weights(source.arrays)
    return _by_path(read_names(source.arrays, model), model, image_size)


def _by_path(given: Arrays, model: VideoModel, image_size: int) -> Weights:
    """Maps bare released names to our paths and layouts; what is unknown keeps its name."""
    paths = {
        names.bare_name(names.released_name(path, model)): path
        for path in trees.expected(model, image_size)
    }
    # An image model's classifier has another name, and its own class count.
    paths |= {"head.weight": "head/kernel", "head.bias": "head/bias"}
    names.check_unique((name, paths.get(name, name)) for name in given)
    found, misfits, renamed = {}, {}, {}
    for name, value in given.items():
        path = paths.get(name)
        if path is None:
            found[name] = value
            continue
        if path == "pos_embed" and "dist_token" in given and value.ndim == 3:
            value = value[:, np.arange(value.shape[1]) != 1]
        try:
            found[path] = names.to_our_layout(path, value, model)
            renamed[path] = name
        except ValueError as error:
            misfits[path] = f"misshapen: {path} is {value.shape}, {error}"
    # The patches of a 2D Swin have no axis of time: [o, i, h, w].
    is_image = isinstance(model, Swin) and np.ndim(given.get("patch_embed.proj.weight")) == 4
    return Weights(found, misfits, is_image, renamed)


def fit(
    given: Weights, model: VideoModel, *, seed: int, image_size: int
) -> tuple[dict[str, Any], list[str]]:
    """Adapts weights to a model: inflates, resizes, starts a new head; the rest is strict.

    Args:
        given: the weights.
        model: of `create_model`.
        seed: of what is new.
        image_size: side of the input; matters to a Swin with a position embedding alone.

    Returns:
        Variables for `model.apply`, and a line `kind: what` for every array that is new, copied,
        inflated, resized or dropped.

    Raises:
        ValueError: listing the keys that are unknown, missing or cannot be made to fit.
    """
    wanted = trees.expected(model, image_size)
    new = _new(given.arrays, wanted)
    changes, problems, flat = [f"new: {path} {wanted[path].shape}" for path in new], [], {}
    for path, start in wanted.items():
        if path in new:
            continue
        source = _source(path, given.arrays)
        value = given.arrays.get(source)
        if value is None:
            problems.append(given.misfits.get(path) or f"missing: {path} {start.shape}")
            continue
        try:
            fitted = _fit_one(path, value, start.shape, model, given.is_image)
            flat[path] = fitted.astype(start.dtype)
            changes += _changes(path, start.shape, source, value.shape, given.is_image)
        except ValueError as error:
            problems.append(f"misshapen: {path} is {value.shape}, not {start.shape}: {error}")
    dropped, unknown = _beside(given.arrays, wanted)
    replaced = [path for path in new if path in given.arrays]
    dropped += [f"dropped: {path} {given.arrays[path].shape}" for path in replaced]
    if problems or unknown:
        raise ValueError(_ANOTHER + trees.listing(problems + unknown))
    flat |= initial_leaves(model, new, seed, image_size)
    return trees.unflatten(flat), changes + dropped


def _new(given: Arrays, wanted: Mapping[str, jax.ShapeDtypeStruct]) -> list[str]:
    """Returns the paths that start afresh: a head of other classes, an embedding not given."""
    head = given.get("head/kernel")
    is_new_head = head is None or head.shape != wanted["head/kernel"].shape
    return [
        path
        for path in wanted
        if (path.startswith("head/") and is_new_head)
        or (path.startswith("pos_embed/") and path not in given)  # an option of Swin
    ]


def _beside(given: Arrays, wanted: Collection[str]) -> tuple[list[str], list[str]]:
    """Says what is given beside what is wanted: what may be dropped, and what is unknown."""
    rest = {path: f"{path} {value.shape}" for path, value in given.items() if path not in wanted}
    dropped = [f"dropped: {line}" for path, line in rest.items() if _IMAGE_ONLY.match(path)]
    unknown = [f"unknown: {line}" for path, line in rest.items() if not _IMAGE_ONLY.match(path)]
    return dropped, unknown


def _source(path: str, given: Arrays) -> str:
    """Returns where a leaf starts from: itself, or the last attention for one that is lacking."""
    further = _FURTHER.match(path)
    if further is None or any(name.startswith(further[0]) for name in given):
        return path
    return _FURTHER.sub(r"\1\2/", path)


def _changes(
    path: str, shape: Shape, source: str, source_shape: Shape, is_image: bool
) -> list[str]:
    """Says how a leaf came from its source, where that is worth a line."""
    lines = [f"copied: {source} -> {path}"] if source != path else []
    if source_shape != shape:
        kind = "inflated" if is_image else "resized"
        lines.append(f"{kind}: {path} {source_shape} -> {shape}")
    return lines


def initial_leaves(
    model: VideoModel, paths: Sequence[str], seed: int, image_size: int
) -> Mapping[str, jax.Array]:
    """Draws some of a model's initial variables, by path; the others are not computed."""
    shape = trees.video_for(model, image_size).shape

    @jax.jit
    def init(key):
        leaves = trees.flatten(model.init(key, jnp.zeros(shape), train=False))
        return {path: leaves[path] for path in paths}

    return init(jax.random.key(seed)) if paths else {}


def _fit_one(
    path: str, value: np.ndarray, shape: Shape, model: VideoModel, is_image: bool
) -> np.ndarray:
    """Makes one array fit `shape`, if that can be."""
    # A 2D table may by chance have as many rows as the model's.
    if value.shape == shape and not (is_image and path.endswith(_TABLE)):
        return value
    if value.ndim == len(shape) and value.shape[-1] == shape[-1]:
        for pattern, adapt in _ADAPTERS[names.family_of(model).network].items():
            if re.search(pattern, path):
                adapted = adapt(value, shape, model, is_image)
                if adapted.shape == shape:
                    return adapted
    raise ValueError("another architecture")
