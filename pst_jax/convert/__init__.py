"""Weights from and to the released systems' names, and from one model to another."""

from pst_jax.convert.fit import init_from_2d, init_from_file
from pst_jax.convert.released import from_torch, to_torch

__all__ = ["from_torch", "init_from_2d", "init_from_file", "to_torch"]
