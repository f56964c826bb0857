"""One optimizer step, as a function of state and batch."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from pst_jax import sharding
from pst_jax.ops import pixels
from pst_jax.ops.augment import Augmentation, augment
from pst_jax.training import losses, metrics
from pst_jax.training.state import TrainState, join

Batch = dict[str, Any]
# Video uint8 [..., 3] to the network's input, such as `ops.normalise`.
Normalise = Callable[[jax.Array], jax.Array]


def make_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    *,
    label_smoothing: float = 0.0,
    seed: int = 0,
    accumulate: int = 1,
    normalise: Normalise = pixels.normalise,
    augmentation: Augmentation = Augmentation(),  # noqa: B008, frozen
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """Compiles the training step: state replicated, batch over the mesh's devices.

    BatchNorm takes the statistics of the clips of all devices together, those of one microbatch at
    a time.

    Args:
        model: of `create_model`.
        optimizer: of `optim`.
        mesh: of `sharding.make_mesh`.
        label_smoothing: see `losses.cross_entropy`.
        seed: of drop path, dropout and augmentation; with the step, or with the positions of the
            clips, it determines every draw.
        accumulate: microbatches A that a batch is computed in, one after the other; clip i is in
            microbatch i % A. The gradient is that of the mean loss over the whole batch.
        normalise: of the pixels; inference needs the same.
        augmentation: of the clips. Those of a microbatch are mixed with each other.

    Returns:
        (state, batch) -> (state, metrics). The batch holds video uint8 [B, F, H, W, 3], label
        int32 [B], mask bool [B] and, for augmentation, position int32 [B] (in the stream), B a
        multiple of devices * A; the metrics are those of `metrics.sums` and "grad_norm". Hits are
        counted by the clips' own labels. The state passed in is donated.
    """

    def train_step(state, batch):
        key = jax.random.key(seed)
        rng = jax.random.fold_in(key, state.step)

        def gradients_of(batch_stats, part, rng, count=None):
            def loss_of(params):
                variables = join(params, batch_stats)
                video, targets = training_input(part, model, normalise, augmentation, key)
                logits, updated = apply_in_training(model, variables, video, rng)
                each = losses.cross_entropy(logits, targets, label_smoothing)
                sums = metrics.sums(logits, each, part["label"], part["mask"])
                return sums["loss"] / (sums["count"] if count is None else count), (sums, updated)

            return jax.grad(loss_of, has_aux=True)(state.params)

        if accumulate == 1:
            gradients, (sums, batch_stats) = gradients_of(state.batch_stats, batch, rng)
        else:
            parts = _microbatches(batch, accumulate, mesh)
            gradients, (sums, batch_stats) = _accumulated(gradients_of, state, parts, rng)
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        sums["grad_norm"] = optax.tree.norm(gradients)
        return TrainState(state.step + 1, params, batch_stats, opt_state), sums

    same = sharding.replicated(mesh)
    return jax.jit(
        train_step,
        in_shardings=(same, sharding.over_batch(mesh)),
        out_shardings=(same, same),
        donate_argnums=0,
    )


def training_input(
    batch: Batch,
    model: nn.Module,
    normalise: Normalise,
    augmentation: Augmentation,
    key: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    """Makes what a network is trained on of a batch: its input, and targets float32 [B, K]."""
    targets = jax.nn.one_hot(batch["label"], model.num_classes)
    if not augmentation.is_on:  # nor is the position needed
        return normalise(batch["video"]), targets
    return augment(batch["video"], targets, batch["position"], key, augmentation, normalise)


def apply_in_training(
    model: nn.Module, variables: dict[str, Any], video: jax.Array, rng: jax.Array
) -> tuple[jax.Array, Any]:
    """Applies a model with dropout, and with BatchNorm by the batch's own statistics.

    Args:
        model: of `create_model`.
        variables: its own.
        video: of `training_input`.
        rng: of dropout.

    Returns:
        Logits float32 [B, K], and the running statistics as the batch has moved them; {} where
        the model has none.
    """
    logits, updated = model.apply(
        variables, video, train=True, rngs={"dropout": rng}, mutable=["batch_stats"]
    )
    return logits, updated.get("batch_stats", {})


def _microbatches(batch: Batch, count: int, mesh: Mesh) -> Batch:
    """[B, ...] to [A, B / A, ...], every A-th clip, so that none has to change its device."""
    size = len(batch["label"])
    if size % (count * mesh.size):
        raise ValueError(
            f"a batch of {size} clips does not divide into accumulate={count} microbatches over "
            f"{mesh.size} devices: make the batch size a multiple of {count * mesh.size}"
        )
    over_second = NamedSharding(mesh, PartitionSpec(None, sharding.DATA_AXIS))
    split = lambda x: jnp.moveaxis(x.reshape(-1, count, *x.shape[1:]), 1, 0)  # noqa: E731
    return jax.lax.with_sharding_constraint(jax.tree.map(split, batch), over_second)


def _accumulated(gradients_of: Callable, state: TrainState, parts: Batch, rng: jax.Array) -> Any:
    """Adds up gradients and metrics over microbatches, and hands statistics from one to the next.

    Args:
        gradients_of: (statistics, microbatch, rng, clips of the batch) -> (gradients, (metrics,
            statistics)).
        state: before the step.
        parts: arrays [A, B / A, ...].
        rng: of the step.

    Returns:
        What `gradients_of` returns, of the whole batch.
    """
    count = parts["mask"].astype(jnp.float32).sum()

    def add(carry, numbered):
        total, batch_stats = carry
        number, part = numbered
        own = jax.random.fold_in(rng, number)
        found, (sums, batch_stats) = gradients_of(batch_stats, part, own, count)
        return (jax.tree.map(jnp.add, total, found), batch_stats), sums

    start = jax.tree.map(jnp.zeros_like, state.params), state.batch_stats
    numbers = jnp.arange(len(parts["label"]))
    (gradients, batch_stats), sums = jax.lax.scan(add, start, (numbers, parts))
    return gradients, (jax.tree.map(lambda each: each.sum(axis=0), sums), batch_stats)


def make_predict(
    model: nn.Module,
    mesh: Mesh,
    output: str = "logits",
    *,
    normalise: Normalise = pixels.normalise,
) -> Callable[[dict[str, Any], jax.Array], jax.Array]:
    """Compiles inference, the batch over the mesh's devices.

    Args:
        model: of `create_model`.
        mesh: of `sharding.make_mesh`.
        output: of the model's call: "logits" or "frame_logits".
        normalise: of the pixels, as in training.

    Returns:
        (variables, video uint8 [B, F, H, W, 3]) -> float32 [B, K], or [B, T, K] by frame.
    """

    def predict(variables, video):
        return model.apply(variables, normalise(video), train=False, output=output)

    over_batch = sharding.over_batch(mesh)
    return jax.jit(
        predict,
        in_shardings=(sharding.replicated(mesh), over_batch),
        out_shardings=over_batch,
    )
