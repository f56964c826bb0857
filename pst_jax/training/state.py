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
        batch_stats: the running statistics of its BatchNorms; {} where it has none.
        opt_state: the optimizer's.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any

    @classmethod
    def create(
        cls, variables: dict[str, Any], optimizer: optax.GradientTransformation
    ) -> "TrainState":
        """Returns the state before the first step, from a model's variables."""
        params = variables["params"]
        batch_stats = variables.get("batch_stats", {})
        return cls(jnp.zeros((), jnp.int32), params, batch_stats, optimizer.init(params))

    @property
    def variables(self) -> dict[str, Any]:
        """For the model's `apply`: "params", and "batch_stats" where there are any."""
        return join(self.params, self.batch_stats)


def join(params: Any, batch_stats: Any) -> dict[str, Any]:
    """Returns a model's variables; without statistics, those of a model that has none."""
    return {"params": params} | ({"batch_stats": batch_stats} if batch_stats else {})
