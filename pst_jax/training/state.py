"""What training carries from step to step, and a checkpoint holds."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax


@flax.struct.dataclass
class TrainState:
    """The whole state of a run: nothing else decides how it goes on.

    Attributes:
        step: int32 [], optimizer steps done; also the position in the data.
        params: the model's parameters.
        opt_state: the optimizer's.
    """

    step: jax.Array
    params: Any
    opt_state: Any

    @classmethod
    def create(cls, params: Any, optimizer: optax.GradientTransformation) -> "TrainState":
        """Returns the state before the first step."""
        return cls(jnp.zeros((), jnp.int32), params, optimizer.init(params))
