"""The table of models: one entry per published row, and how a model is made of an entry."""

import contextlib
import dataclasses
import difflib
import inspect
import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from pst_jax.models import schedules
from pst_jax.models.swin import Swin


@dataclasses.dataclass(frozen=True)
class Variant:
    """A row of the table.

    Attributes:
        family: the backbone.
        attributes: of the backbone, where they differ from its defaults.
        schedule: from depths and window, and options of its own, to the mixers.
        source: the published row; None where there is none.
        published: (GFLOPs, millions of parameters) as printed; None where they are not.
    """

    family: type[nn.Module]
    attributes: Mapping[str, Any]
    schedule: Callable[..., schedules.Mixers]
    source: str | None
    published: tuple[float | None, float | None] = (None, None)


_TINY = dict(embed_dim=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24))
_BASE = dict(embed_dim=128, depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32))
_TESTING = dict(embed_dim=16, depths=(2, 2), num_heads=(1, 2), num_frames=8, drop_path_rate=0.0)
# As released: the table spans the clip, and the bias takes the keys' time from its first frame.
_PST = dict(bias_frames="clip", bias_keys="first_frame")

VARIANTS: dict[str, Variant] = {
    "pst_tiny": Variant(
        Swin, _TINY | _PST, schedules.patch_shift_transformer, "PST (ECCV 2022): PST-T", (72, 28.5)
    ),
    "pst_base": Variant(
        Swin, _BASE | _PST, schedules.patch_shift_transformer, "PST (ECCV 2022): PST-B", (247, 88.8)
    ),
    "swin2d_tiny": Variant(
        Swin, _TINY, schedules.space_only, "PST (ECCV 2022): 2D Swin-T", (72, None)
    ),
    "swin2d_base": Variant(Swin, _BASE, schedules.space_only, "PST (ECCV 2022): 2D Swin-B"),
    "pst_testing": Variant(Swin, _TESTING | _PST, schedules.patch_shift_transformer, None),
}

# Set by the table, not by a caller.
_FIXED = ("mixers", "bias_frames", "num_classes", "parent", "name")


def list_models() -> list[str]:
    """Returns the names that `create_model` knows, sorted."""
    return sorted(VARIANTS)


def create_model(name: str, num_classes: int = 400, **overrides: Any) -> nn.Module:
    """Makes a model of the variant table.

    Args:
        name: one of `list_models()`.
        num_classes: classes of the head.
        **overrides: attributes of the backbone (`num_frames`, `patch_size`, `embed_dim`,
            `depths`, `num_heads`, `window`, `mlp_ratio`, `qkv_bias`, `drop_path_rate`,
            `head_dropout`, `pos_embed`, `bias_keys`, `dtype`, `remat`) and options of the
            variant's schedule (PST: `pattern`, `shift_stages`, `shift_back`, `alternate`,
            `shift_bias`). The default is the published row.

    Returns:
        A linen module: `init(rng, video, train=False)` gives its variables,
        `apply(variables, video, train=False)` logits float32 [B, num_classes], and with
        `method=model.features` the last tokens [B, T, H, W, C].

    Raises:
        ValueError: for an unknown name or override, or a value that does not fit.
    """
    if name not in VARIANTS:
        raise ValueError(f"model {name!r} is unknown{nearest(str(name), VARIANTS)}")
    variant = VARIANTS[name]
    attributes = [f.name for f in dataclasses.fields(variant.family) if f.name not in _FIXED]
    signature = inspect.signature(variant.schedule).parameters.values()
    options = [p.name for p in signature if p.kind is p.KEYWORD_ONLY]
    for key in overrides:
        if key not in attributes + options:
            raise ValueError(f"{name} has no override {key!r}{nearest(key, attributes + options)}")
    overrides = {key: _freeze(value) for key, value in overrides.items()}
    _check_kinds(name, overrides | {"num_classes": num_classes})
    values = dict(variant.attributes)
    values |= {key: value for key, value in overrides.items() if key in attributes}
    if "dtype" in values:
        values["dtype"] = _float_dtype(name, values["dtype"])
    model = variant.family(num_classes=num_classes, mixers=(), **values)
    _check_shape(name, model)
    chosen = {key: value for key, value in overrides.items() if key in options}
    stages = chosen.get("shift_stages", ())
    if any(stage > len(model.depths) for stage in stages):
        raise ValueError(f"{name}: shift_stages={stages}: its stages are 1 to {len(model.depths)}")
    return model.clone(mixers=variant.schedule(model.depths, model.window, **chosen))


def nearest(key: str, known: Any) -> str:
    """Returns the tail of an error message: the nearest known name, and all of them."""
    close = difflib.get_close_matches(key, list(known), n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return f"{hint} Known: {', '.join(sorted(known))}"


def _freeze(value: Any) -> Any:
    """Lists, as JSON and configs have them, to the tuples that modules need."""
    return tuple(_freeze(item) for item in value) if isinstance(value, list | tuple) else value


def _is_count(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value >= 1


def _is_tuple_of_counts(value: Any) -> bool:
    return isinstance(value, tuple) and all(map(_is_count, value))


def _is_rate(value: Any) -> bool:
    return isinstance(value, numbers.Real) and 0 <= value < 1


# What a value must be, and how to say so, by key.
_KINDS = {
    ("num_classes", "num_frames", "embed_dim"): (_is_count, "an integer of at least 1"),
    ("depths", "num_heads"): (
        _is_tuple_of_counts,
        "integers of at least 1, one per stage, such as (2, 2, 6, 2)",
    ),
    ("patch_size", "window"): (
        lambda value: _is_tuple_of_counts(value) and len(value) == 3,
        "three positive integers (t, h, w)",
    ),
    ("shift_stages",): (_is_tuple_of_counts, "a tuple of stages, which are 1 to 4, or ()"),
    ("mlp_ratio",): (
        lambda value: isinstance(value, numbers.Real) and 0 < value < math.inf,
        "a number above 0",
    ),
    ("drop_path_rate", "head_dropout"): (_is_rate, "a rate in [0, 1)"),
    ("qkv_bias", "remat", "shift_back", "alternate", "shift_bias"): (
        lambda value: isinstance(value, bool),
        "True or False",
    ),
}


def _check_kinds(name: str, values: Mapping[str, Any]) -> None:
    """Raises ValueError for a value of the wrong type or range."""
    for keys, (is_allowed, what) in _KINDS.items():
        for key in keys:
            if key in values and not is_allowed(values[key]):
                raise ValueError(f"{name}: {key}={values[key]!r} must be {what}")


def _float_dtype(name: str, value: Any) -> jnp.dtype:
    with contextlib.suppress(TypeError):  # no dtype at all
        dtype = jnp.dtype(value)
        if dtype.name in ("float32", "bfloat16", "float16"):
            return dtype
    raise ValueError(f"{name}: dtype={value!r} must be 'float32', 'bfloat16' or 'float16'")


def _check_shape(name: str, model: Swin) -> None:
    """Raises ValueError where attributes contradict each other."""
    if not len(model.depths) == len(model.num_heads) > 0:
        raise ValueError(
            f"{name}: depths={model.depths} and num_heads={model.num_heads} must have one entry "
            "per stage each"
        )
    for stage, heads in enumerate(model.num_heads):
        channels = model.embed_dim * 2**stage
        if channels % heads:
            raise ValueError(
                f"{name}: num_heads={model.num_heads} does not divide the {channels} channels of "
                f"stage {stage + 1} (embed_dim={model.embed_dim})"
            )
    choices = {"bias_keys": ("own", "first_frame"), "pos_embed": ("none", "space_time")}
    for key, allowed in choices.items():
        if getattr(model, key) not in allowed:
            raise ValueError(f"{name}: {key}={getattr(model, key)!r} must be one of {allowed}")
    if model.bias_keys == "first_frame" and model.bias_frames == "window":
        raise ValueError(
            f"{name}: bias_keys='first_frame' needs a bias table over the clip; use 'own'"
        )
