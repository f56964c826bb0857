"""Which network weights belong to, as far as their names and shapes tell."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pst_jax.convert import names, other_names, released
from pst_jax.models.swin import Swin
from pst_jax.models.values import freeze
from pst_jax.models.variants import VARIANTS, create_model, nearest
from pst_jax.models.video import VideoModel
from pst_jax.models.visformer import Visformer
from pst_jax.models.vit import ViT
from pst_jax.ops.relative_bias import table_rows

Shapes = Mapping[str, tuple[int, ...]]

# Classes of ImageNet-1k and -21k: heads of such files classify images.
_IMAGE_CLASSES = (1000, 21841, 21843)
_INDEX = re.compile(r"\.relative_position_index(_old)?$")
_SAY = "say which network it is to become by --arch"


def describe(arrays: Mapping[str, Any], arch: str | None, overrides: Mapping[str, Any]) -> dict:
    """Returns the arguments of `create_model` for weights of released names.

    A published row is told by family, sizes and, of a Swin, the index buffers beside its tables.
    Several rows hold the same tensors, and differ in how frames meet alone: then the release says
    which one it is, or `arch` must.

    Args:
        arrays: name -> array, with or without the released prefixes; counts and index buffers
            included.
        arch: of `create_model`, where the caller knows it; sizes are read off the shapes then too.
        overrides: of `create_model`, which go before what the shapes tell; "num_classes" too.

    Raises:
        ValueError: if the network cannot be told, listing those that it may be.
    """
    given = {names.bare_name(name): np.asarray(value) for name, value in arrays.items()}
    family = next((f for f in _SIZES if _is_of(f, given)), None)
    if family is None:
        raise ValueError(
            f"its names ({', '.join(list(given)[:5])}, ...) are those of no network that is known: "
            "a Swin, Visformer or ViT as released, of timm, or a Video-Swin of torchvision; rename "
            "them to one of these"
        )
    arrays = other_names.to_released(given, family.__name__)
    shapes = {name: value.shape for name, value in arrays.items()}
    sizes = _SIZES[family](shapes)
    if arch is None:
        is_image = _is_image(family, shapes) or any(n.startswith("Transformer/") for n in given)
        is_first_tokshift = any(n.startswith("transformer.encoder.") for n in given)
        arch = _tell(family, sizes, arrays, is_image, is_first_tokshift)
    if arch not in VARIANTS:
        raise ValueError(f"--arch={arch!r} is unknown{nearest(arch, VARIANTS)}")
    if VARIANTS[arch].family is not family:
        raise ValueError(
            f"these are the weights of a {family.__name__}, and {arch} is a "
            f"{VARIANTS[arch].family.__name__}: use a model of that family"
        )
    usual = create_model(arch)
    own = {key: value for key, value in sizes.items() if getattr(usual, key) != value}
    if "embed_dim" in own and "num_heads" not in (*sizes, *overrides):
        raise ValueError(
            f"its sizes are not those of {arch} ({_text(own)}), and how many heads attention has "
            "cannot be seen: say it by --overrides '{\"num_heads\": N}'"
        )
    classes = _num_classes(family, shapes)
    return {"name": arch, **({"num_classes": classes} if classes else {}), **own, **overrides}


def _is_of(family: type[VideoModel], shapes: Shapes) -> bool:
    return any(re.search(names.FAMILIES[family].mark, name) for name in shapes)


def _tell(
    family: type[VideoModel],
    sizes: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    is_image: bool,
    is_first_tokshift: bool,
) -> str:
    """Returns the row that weights belong to, if one does, or one is what was released."""
    if is_image:
        of_size = _of_size(family, {k: v for k, v in sizes.items() if k != "patch_size"})
        raise ValueError(
            f"these are the weights of an image network, {_text(sizes)}: {_SAY}, such as "
            f"{', '.join(of_size) or 'a row of that family'}"
        )
    found = _of_size(family, sizes)
    if family is Swin:
        found = {name: model for name, model in found.items() if _has_tables(model, arrays)}
    if is_first_tokshift:  # its names are its own
        found = {name: model for name, model in found.items() if name.startswith("tokshift")}
    # Ablations of a row, by their names, hold the tensors of the row, and were not released.
    roots = [n for n in found if not any(n.startswith(f"{other}_") for other in found)]
    if len(roots) == 1 and (family is Swin or is_first_tokshift):
        return roots[0]
    if not found:
        raise ValueError(
            f"a {family.__name__} of {_text(sizes)} is no published row: {_SAY}; sizes are taken "
            "from the file"
        )
    raise ValueError(
        f"{len(found)} networks have these tensors, and differ in how frames meet alone: {_SAY}: "
        f"{', '.join(found)}"
    )


def _of_size(family: type[VideoModel], sizes: Mapping[str, Any]) -> dict[str, VideoModel]:
    """Returns the rows of a family that have the sizes; of equal networks the first."""
    found = {}
    for name, variant in VARIANTS.items():
        if variant.family is family:
            model = create_model(name)
            fits = all(getattr(model, key) == value for key, value in sizes.items())
            if fits and model not in found.values():
                found[name] = model
    return found


def _has_tables(model: Swin, arrays: Mapping[str, Any]) -> bool:
    """Tells whether tables have the model's rows, and index buffers, if any, are its own."""
    try:
        released.check_released(model)
    except ValueError:
        return False
    buffers = released.index_buffers(model)
    for name, value in arrays.items():
        index = _INDEX.search(name)
        if index:
            mine = buffers.get(index[0].removeprefix("."))
            if mine is None or not np.array_equal(mine, np.asarray(value)):
                return False
        elif name.endswith(".relative_position_bias_table"):
            if np.shape(value)[0] != table_rows(model.bias_window):
                return False
    return len(buffers) == len({m[0] for name in arrays if (m := _INDEX.search(name))} or buffers)


def _is_image(family: type[VideoModel], shapes: Shapes) -> bool:
    """Tells whether weights are an image network's, which only some can be seen to be."""
    if family is Swin:
        return len(shapes.get("patch_embed.proj.weight", ())) == 4
    return "dist_token" in shapes


def _num_classes(family: type[VideoModel], shapes: Shapes) -> int | None:
    """Returns the classes of the head, None where it classifies images or is not there."""
    if _is_image(family, shapes):
        return None
    weight = shapes.get("fc_cls.weight") or shapes.get("head.weight")
    return weight[0] if weight and weight[0] not in _IMAGE_CLASSES else None


def _depth(pattern: str, shapes: Shapes) -> int:
    """Returns how many blocks have names of a pattern with their number as its group."""
    numbers = (re.search(pattern, name) for name in shapes)
    return max((int(number[1]) + 1 for number in numbers if number), default=0)


def _sizes_of_swin(shapes: Shapes) -> dict[str, Any]:
    depths, num_heads = [], []
    for stage in range(_depth(r"^layers\.(\d+)\.blocks", shapes)):
        depths.append(_depth(rf"^layers\.{stage}\.blocks\.(\d+)\.", shapes))
        table = shapes.get(f"layers.{stage}.blocks.0.attn.relative_position_bias_table")
        if table:
            num_heads.append(table[-1])
    kernel = shapes.get("patch_embed.proj.weight", ())
    sizes = {"embed_dim": kernel[0] if kernel else 0, "depths": depths, "num_heads": num_heads}
    sizes["mlp_ratio"] = _mlp_ratio(shapes.get("layers.0.blocks.0.mlp.fc1.weight"))
    if len(kernel) == 5:
        sizes["patch_size"] = kernel[2:]
    return _plain(sizes)


def _sizes_of_visformer(shapes: Shapes) -> dict[str, Any]:
    positions = shapes.get("pos_embed1", (0,))
    return _plain(
        {
            "init_channels": shapes.get("stem.0.weight", (0,))[0],
            "embed_dim": shapes.get("patch_embed2.proj.weight", (0,))[0],
            "depths": [_depth(rf"^stage{stage}\.(\d+)\.", shapes) for stage in (1, 2, 3)],
            "mlp_ratio": _mlp_ratio(shapes.get("stage2.0.mlp.conv1.weight")),
            "image_size": positions[-1] * 8,
        }
    )


def _sizes_of_vit(shapes: Shapes) -> dict[str, Any]:
    kernel, positions = shapes.get("patch_embed.proj.weight", (0,)), shapes.get("pos_embed", ())
    sizes = {"embed_dim": kernel[0], "patch_size": kernel[-1]}
    sizes["depth"] = _depth(r"^blocks\.(\d+)\.", shapes)
    sizes["mlp_ratio"] = _mlp_ratio(shapes.get("blocks.0.mlp.fc1.weight"))
    if len(positions) == 3:
        extra = 2 if "dist_token" in shapes else 1
        sizes["image_size"] = math.isqrt(max(positions[1] - extra, 0)) * kernel[-1]
    return _plain(sizes)


def _mlp_ratio(kernel: tuple[int, ...] | None) -> float | None:
    """Returns the width of an MLP over that of the tokens, of its first kernel [hidden, C, ...]."""
    return kernel[0] / kernel[1] if kernel and len(kernel) > 1 and kernel[1] else None


def _plain(sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Python's integers, and nothing that a file lacks."""
    return {key: freeze(value) for key, value in sizes.items() if value}


_SIZES: dict[type[VideoModel], Callable[[Shapes], dict[str, Any]]] = {
    Swin: _sizes_of_swin,
    ViT: _sizes_of_vit,
    Visformer: _sizes_of_visformer,
}


def _text(sizes: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in sizes.items())
