"""Video action recognition by temporal patch shift and leap attention, in JAX and Flax."""

from pst_jax import ops
from pst_jax.models.variants import create_model, list_models

__version__ = "0.1.0"
__all__ = ["create_model", "list_models", "ops"]
