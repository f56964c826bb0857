"""Weights from and to the released systems' names, and from one model to another."""

import importlib

__all__ = ["from_torch", "init_from_2d", "init_from_file", "to_torch"]

_FROM = {
    "from_torch": "released",
    "init_from_2d": "fit",
    "init_from_file": "fit",
    "to_torch": "released",
}


def __getattr__(name: str):
    """Imports a public name when it is first used: `record` runs where there is no jax."""
    if name in _FROM:
        return getattr(importlib.import_module(f"pst_jax.convert.{_FROM[name]}"), name)
    raise AttributeError(f"module 'pst_jax.convert' has no attribute {name!r}")
