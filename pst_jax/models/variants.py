"""The table of models: one entry per published row, and how a model is made of an entry."""

import dataclasses
import difflib
import inspect
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
        raise ValueError(f"model {name!r} is unknown{nearest(name, VARIANTS)}")
    if num_classes < 1:
        raise ValueError(f"num_classes={num_classes}: it must be at least 1")
    variant = VARIANTS[name]
    attributes = [f.name for f in dataclasses.fields(variant.family) if f.name not in _FIXED]
    signature = inspect.signature(variant.schedule).parameters.values()
    options = [p.name for p in signature if p.kind is p.KEYWORD_ONLY]
    for key in overrides:
        if key not in attributes + options:
            raise ValueError(f"{name} has no override {key!r}{nearest(key, attributes + options)}")
    overrides = {key: _freeze(value) for key, value in overrides.items()}
    values = dict(variant.attributes)
    values |= {key: value for key, value in overrides.items() if key in attributes}
    if "dtype" in values:
        values["dtype"] = jnp.dtype(values["dtype"])
    model = variant.family(num_classes=num_classes, mixers=(), **values)
    _check_shape(name, model)
    chosen = {key: value for key, value in overrides.items() if key in options}
    return model.clone(mixers=variant.schedule(model.depths, model.window, **chosen))


def nearest(key: str, known: Any) -> str:
    """Returns the tail of an error message: the nearest known name, and all of them."""
    close = difflib.get_close_matches(key, list(known), n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return f"{hint} Known: {', '.join(sorted(known))}"


def _freeze(value: Any) -> Any:
    """Lists, as JSON and configs have them, to the tuples that modules need."""
    return tuple(_freeze(item) for item in value) if isinstance(value, list | tuple) else value


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
    for key in ("patch_size", "window"):
        value = getattr(model, key)
        if len(value) != 3 or min(value) < 1:
            raise ValueError(f"{name}: {key}={value} must be three positive integers (t, h, w)")
    choices = {"bias_keys": ("own", "first_frame"), "pos_embed": ("none", "space_time")}
    for key, allowed in choices.items():
        if getattr(model, key) not in allowed:
            raise ValueError(f"{name}: {key}={getattr(model, key)!r} must be one of {allowed}")
    if model.bias_keys == "first_frame" and model.bias_frames == "window":
        raise ValueError(
            f"{name}: bias_keys='first_frame' needs a bias table over the clip; use 'own'"
        )
