"""Video action recognition by temporal patch shift, in JAX and Flax."""

import importlib

__version__ = "0.1.0"
__all__ = ["convert", "create_model", "list_models", "load", "ops"]

_FROM = {
    "create_model": "pst_jax.models.variants",
    "list_models": "pst_jax.models.variants",
    "load": "pst_jax.predict.predictor",
}


def __getattr__(name: str):
    """Imports a public name when it is first used: data workers need no jax."""
    if name in _FROM:
        return getattr(importlib.import_module(_FROM[name]), name)
    if name in __all__:
        return importlib.import_module(f"pst_jax.{name}")
    raise AttributeError(f"module 'pst_jax' has no attribute {name!r}")
