"""One optimizer step, as a function of state and batch."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import optax
from jax.sharding import Mesh

from pst_jax import sharding
from pst_jax.ops.pixels import normalise
from pst_jax.training import losses, metrics
from pst_jax.training.state import TrainState

Batch = dict[str, Any]


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    label_smoothing: float = 0.0,
    seed: int = 0,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """Compiles the training step: state replicated, batch over the mesh's devices.

    Args:
        model: of `create_model`.
        optimizer: of `optim`.
        mesh: of `sharding.make_mesh`.
        label_smoothing: see `losses.cross_entropy`.
        seed: of drop path and dropout; with the step it determines every draw.

    Returns:
        (state, batch) -> (state, metrics). The batch holds video uint8 [B, F, H, W, 3], label
        int32 [B] and mask bool [B]; the metrics are those of `metrics.sums` and "grad_norm". The
        state passed in is donated.
    """

    def train_step(state, batch):
        rng = jax.random.fold_in(jax.random.key(seed), state.step)

        def loss_of(params):
            logits = model.apply(
                {"params": params}, normalise(batch["video"]), train=True, rngs={"dropout": rng}
            )
            each = losses.cross_entropy(logits, batch["label"], label_smoothing)
            sums = metrics.sums(logits, each, batch["label"], batch["mask"])
            return sums["loss"] / sums["count"], sums

        gradients, sums = jax.grad(loss_of, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        sums["grad_norm"] = optax.tree.norm(gradients)
        return TrainState(state.step + 1, params, opt_state), sums

    same = sharding.replicated(mesh)
    return jax.jit(
        train_step,
        in_shardings=(same, sharding.over_batch(mesh)),
        out_shardings=(same, same),
        donate_argnums=0,
    )


def make_predict(
    model: nn.Module, mesh: Mesh, output: str = "logits"
) -> Callable[[Any, jax.Array], jax.Array]:
    """Compiles inference, the batch over the mesh's devices.

    Args:
        model: of `create_model`.
        mesh: of `sharding.make_mesh`.
        output: of the model's call: "logits" or "frame_logits".

    Returns:
        (params, video uint8 [B, F, H, W, 3]) -> float32 [B, K], or [B, T, K] by frame.
    """

    def predict(params, video):
        return model.apply({"params": params}, normalise(video), train=False, output=output)

    over_batch = sharding.over_batch(mesh)
    return jax.jit(
        predict,
        in_shardings=(sharding.replicated(mesh), over_batch),
        out_shardings=over_batch,
    )
