"""What the overrides of `create_model` may be, and how to say so."""

import contextlib
import dataclasses
import math
import numbers
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

import jax.numpy as jnp


def freeze(value: Any) -> Any:
    """Lists, as JSON and configs have them, to the tuples that modules need."""
    return tuple(freeze(item) for item in value) if isinstance(value, list | tuple) else value


def _is_integer(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_count(value: Any, least: int = 1) -> bool:
    return _is_integer(value) and value >= least


def _is_tuple_of_counts(value: Any) -> bool:
    return isinstance(value, tuple) and all(map(_is_count, value))


def _is_triple(value: Any) -> bool:
    return _is_tuple_of_counts(value) and len(value) == 3


def _are_levels(value: Any) -> bool:
    return value is None or (
        isinstance(value, tuple)
        and len(value) > 0
        and all(level is None or _is_integer(level) for level in value)
    )


_COUNT = (_is_count, "an integer of at least 1")
_PER_STAGE = (_is_tuple_of_counts, "integers of at least 1, one per stage, such as (2, 2, 6, 2)")
_TRIPLE = (_is_triple, "three positive integers (t, h, w)")
_RATE = (lambda v: _is_number(v) and 0 <= v < 1, "a rate in [0, 1)")
_TRUTH = (lambda v: isinstance(v, bool), "True or False")


def _one_of(*allowed: str) -> tuple:
    return (lambda v: v in allowed, f"one of {', '.join(map(repr, allowed))}")


# By key; where families differ, by key and type of the family's own value.
_KINDS = {
    "num_classes": _COUNT,
    "num_frames": _COUNT,
    "image_size": _COUNT,
    "embed_dim": _COUNT,
    "init_channels": _COUNT,
    "depth": _COUNT,
    "depths": _PER_STAGE,
    ("num_heads", int): _COUNT,
    ("num_heads", tuple): _PER_STAGE,
    ("patch_size", int): _COUNT,
    ("patch_size", tuple): _TRIPLE,
    "window": _TRIPLE,
    "mlp_ratio": (
        lambda v: _is_number(v) and 0 < v < math.inf,
        "a number above 0",
    ),
    "drop_path_rate": _RATE,
    "head_dropout": _RATE,
    "qkv_bias": _TRUTH,
    "remat": _TRUTH,
    "temporal_shift": _TRUTH,
    "spatial_shift": _TRUTH,
    "mixers": (lambda v: isinstance(v, str), "a text: methods by name, joined by +"),
    # Options of methods.
    "shift_stages": (_is_tuple_of_counts, "a tuple of stages, counted from 1, or ()"),
    "shift_blocks": _one_of("every", "odd"),
    "shift_back": _TRUTH,
    "alternate": _TRUTH,
    "shift_bias": _TRUTH,
    "fold_div": (
        lambda v: _is_count(v, 0) and v != 1,
        "0 (no channel shift) or an integer of at least 2",
    ),
    "levels": (_are_levels, "a tuple of levels (integers, or None for none), or None"),
}


def check(values: Mapping[str, Any], fields: Mapping[str, dataclasses.Field]) -> None:
    """Raises ValueError for a value of the wrong type or range.

    Args:
        values: by key, as given.
        fields: of the family's module, by name: their types and defaults tell kinds apart where
            families differ.
    """
    for key, value in values.items():
        field = fields.get(key)
        kind = _KINDS.get(key) or _KINDS.get((key, type(getattr(field, "default", None))))
        if kind is None and field is not None and get_origin(field.type) is Literal:
            kind = _one_of(*get_args(field.type))
        if kind and not kind[0](value):
            raise ValueError(f"{key}={value!r} must be {kind[1]}")


def float_dtype(value: Any) -> jnp.dtype:
    """Returns the compute dtype that is named, or raises ValueError."""
    with contextlib.suppress(TypeError):  # no dtype at all
        dtype = jnp.dtype(value)
        if dtype.name in ("float32", "bfloat16", "float16"):
            return dtype
    raise ValueError(f"dtype={value!r} must be 'float32', 'bfloat16' or 'float16'")
