"""The names and layouts in which each family's tensors were released: a table per family.

Paths are ours, as in `trees`.
"""

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import einops
import jax.numpy as jnp
import numpy as np

from pst_jax.convert import trees
from pst_jax.models.swin import Swin
from pst_jax.models.video import VideoModel
from pst_jax.models.visformer import Visformer
from pst_jax.models.vit import ViT

Arrays = Mapping[str, np.ndarray]

# What precedes a released name in the various files: a wrapper, the recogniser, nothing.
_PREFIX = re.compile(r"^((module|model|_orig_mod)\.)*((backbone|cls_head|base_model)\.)?")
# What the released modules keep beside weights and we compute or do not need: constants, and the
# number of batches that a running statistic has seen.
_BUFFER = re.compile(
    r"(^|\.)(relative_position_index(_old)?|attn_mask|num_batches_tracked|n_averaged)$"
)


@dataclasses.dataclass(frozen=True)
class Layout:
    """A rule of layout.

    Attributes:
        paths: regex of the paths that it is for.
        patterns: of einops, from the released layout to ours; where files differ, told apart by
            the number of axes, the video network's first.
        sizes: of a model, the axes that our layout joins.
    """

    paths: str
    patterns: tuple[str, ...]
    sizes: Callable[[VideoModel], dict[str, int]] = lambda model: {}


@dataclasses.dataclass(frozen=True)
class Family:
    """How the tensors of a family were released.

    Attributes:
        network: the family.
        mark: regex of a name, bare or ours, that only this family has.
        renames: regex and replacement, from our path to the released name, applied in this order.
        layouts: the first whose paths match holds; without one both layouts are equal.
    """

    network: type[VideoModel]
    mark: str
    renames: tuple[tuple[str, str], ...]
    layouts: tuple[Layout, ...]


_LEAVES = (
    (r"/(scale|kernel)$", ".weight"),
    (r"/(mean|var)$", r".running_\1"),
    (r"/", "."),
)
_PATCH = "o i h w -> (h w i) o"
_DENSE = Layout(r"/kernel$", ("o i -> i o",))

_ALL = (
    Family(
        Swin,
        r"^(layers[._]\d+[._]blocks|features\.\d+\.\d+\.attn\.)",
        (
            (r"^head", "cls_head.fc_cls"),
            (r"^(?!cls_head)", "backbone."),
            (r"layers_(\d+)_blocks_(\d+)/", r"layers.\1.blocks.\2."),
            (r"layers_(\d+)_downsample/", r"layers.\1.downsample."),
            *_LEAVES,
        ),
        (
            Layout(
                r"^patch_embed/proj/kernel$",
                ("o i t h w -> (t h w i) o", _PATCH),  # of a video, of an image network
                lambda model: dict(zip("thw", model.patch_size)),
            ),
            _DENSE,
        ),
    ),
    Family(
        ViT,
        r"^(blocks[._]\d+|[Tt]ransformer[./])",
        ((r"^blocks_(\d+)/", r"blocks.\1."), (r"^", "base_model."), *_LEAVES),
        (
            Layout(
                r"^patch_embed/proj/kernel$",
                (_PATCH,),
                lambda model: {"h": model.patch_size, "w": model.patch_size},
            ),
            _DENSE,
        ),
    ),
    Family(
        Visformer,
        r"^stage\d[._]",
        (
            (r"^stem_conv/", "stem.0/"),
            (r"^stem_norm/", "stem.1/bn/"),
            (r"^(stage1)_blocks_(\d+)/conv", r"\1.\2.mlp.conv"),
            (r"^(stage\d)_blocks_(\d+)/", r"\1.\2."),
            (r"mlp/fc1/", "mlp.conv1/"),
            (r"mlp/fc2/", "mlp.conv3/"),
            (r"(norm[12]?)/", r"\1.bn/"),
            (r"^", "base_model."),
            *_LEAVES,
        ),
        (
            Layout(r"^patch_embed1/proj/kernel$", (_PATCH,), lambda model: {"h": 4, "w": 4}),
            Layout(r"^patch_embed[23]/proj/kernel$", (_PATCH,), lambda model: {"h": 2, "w": 2}),
            Layout(r"^(stem_conv|stage1_.*/conv2)/kernel$", ("o i h w -> h w i o",)),
            Layout(r"^stage.*/kernel$", ("o i 1 1 -> i o",)),
            Layout(r"^pos_embed[123]$", ("n c h w -> n h w c",)),
            _DENSE,
        ),
    ),
)


FAMILIES: Mapping[type[VideoModel], Family] = {family.network: family for family in _ALL}


def family_of(model: VideoModel) -> Family:
    """Returns the model's row of the table."""
    return FAMILIES[type(model)]


def check_family(names: Mapping[str, Any], model: VideoModel) -> None:
    """Raises ValueError where names, bare or ours, are those of another family than the model's."""
    for family in FAMILIES.values():
        if isinstance(model, family.network):
            continue
        if any(re.search(family.mark, name) for name in names):
            raise ValueError(
                f"these are the weights of a {family.network.__name__}, and the model is a "
                f"{type(model).__name__}: use a model of that family"
            )


def released_name(path: str, model: VideoModel) -> str:
    """Returns the name of a tensor of ours, such as `head/kernel`, in the released recogniser."""
    for pattern, replacement in family_of(model).renames:
        path = re.sub(pattern, replacement, path)
    return path


def bare_name(name: str) -> str:
    """Strips what precedes a released name: the wrapper and the recogniser's part."""
    return _PREFIX.sub("", name)


def bare_names(state_dict: Arrays) -> dict[str, np.ndarray]:
    """Strips prefixes, and drops what is no weight (constants, counts of batches).

    Raises:
        ValueError: if this is no flat mapping of names to float arrays, or two names become one.
    """
    weights = {name: value for name, value in _flat(state_dict).items() if not _BUFFER.search(name)}
    check_unique((name, bare_name(name)) for name in weights)
    return {bare_name(name): value for name, value in float_arrays(weights).items()}


def constants(state_dict: Mapping[str, Any]) -> list[str]:
    """Returns a line for every entry that is no weight, and so dropped."""
    return [f"dropped: {name}, no weight" for name in state_dict if _BUFFER.search(name)]


def _flat(state_dict: Any) -> dict[str, Any]:
    """Returns a state dict as a dict; raises ValueError if it is no flat mapping by name."""
    if not isinstance(state_dict, Mapping):
        raise ValueError(
            f"the state dict is a {type(state_dict).__name__}: give a mapping of names to arrays"
        )
    given = dict(state_dict)
    if inner := {key: value for key, value in given.items() if isinstance(value, Mapping)}:
        arrays = {key: sum(hasattr(v, "shape") for v in m.values()) for key, m in inner.items()}
        best = max(arrays, key=arrays.get)
        remedy = f"the inner one, [{best!r}]" if arrays[best] else "a flat one, name -> array"
        raise ValueError(f"the state dict is a mapping of mappings, {[*inner]}: give {remedy}")
    for key in given:
        if not isinstance(key, str):
            raise ValueError(f"the state dict has the key {key!r}: keys must be names, as text")
    return given


def check_unique(renamed: Iterable[tuple[str, str]]) -> None:
    """Raises ValueError listing where two names, given with what they become, become one."""
    first, lines = {}, []
    for given, name in renamed:
        if name in first:
            lines.append(f"twice: {first[name]!r} and {given!r} are both {name}")
        first.setdefault(name, given)
    if lines:
        raise ValueError("keep one of several names of a weight:" + trees.listing(lines))


def float_arrays(values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns values as arrays; raises ValueError listing those that are no float arrays."""
    arrays, lines = {}, []
    for name, value in values.items():
        try:
            arrays[name] = np.asarray(value)
            reason = f"dtype {arrays[name].dtype}"
            is_float = jnp.issubdtype(arrays[name].dtype, jnp.floating)
        except (TypeError, ValueError, RuntimeError) as error:  # ragged, or on another device
            reason, is_float = str(error), False
        if not is_float:
            lines.append(f"no float array: {name} is {type(value).__name__}, {reason}")
    if lines:
        raise ValueError(
            "weights must be float arrays (of a tensor v: v.detach().cpu().float().numpy()):"
            + trees.listing(lines)
        )
    return arrays


def to_our_layout(path: str, value: np.ndarray, model: VideoModel) -> np.ndarray:
    """Turns a released tensor into the layout of our `path`; the bits stay the same.

    Raises:
        ValueError: if no released tensor of that name has such axes.
    """
    layout = _layout_of(path, model)
    if layout is None:
        return value
    forms = [pattern.split(" -> ")[0] for pattern in layout.patterns]
    for form, pattern in zip(forms, layout.patterns):
        if value.ndim == len(form.split()):
            with contextlib.suppress(einops.EinopsError):  # not 1 where it must be
                return einops.rearrange(value, pattern)
    raise ValueError(" or ".join(f"not [{form.replace(' ', ', ')}]" for form in forms))


def to_released_layout(path: str, value: np.ndarray, model: VideoModel) -> np.ndarray:
    """Undoes `to_our_layout` for a video model."""
    layout = _layout_of(path, model)
    if layout is None:
        return value
    released, ours = layout.patterns[0].split(" -> ")
    return einops.rearrange(value, f"{ours} -> {released}", **layout.sizes(model))


def _layout_of(path: str, model: VideoModel) -> Layout | None:
    layouts = family_of(model).layouts
    return next((layout for layout in layouts if re.search(layout.paths, path)), None)
