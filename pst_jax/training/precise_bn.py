"""Precise BatchNorm: running statistics measured anew, over many batches, by fixed parameters.

What training leaves is a moving average over batches of a network that has changed meanwhile.

Source: Wu & Johnson, "Rethinking 'Batch' in BatchNorm", 2021, section 3.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util
from jax.sharding import Mesh

from pst_jax import sharding
from pst_jax.data import loader
from pst_jax.data.records import Record
from pst_jax.data.transforms import ClipSpec
from pst_jax.ops import pixels
from pst_jax.ops.augment import Augmentation
from pst_jax.training.state import join
from pst_jax.training.step import Batch, Normalise, apply_in_training, training_input


def make_measure(
    model: nn.Module,
    mesh: Mesh,
    *,
    normalise: Normalise = pixels.normalise,
    augmentation: Augmentation = Augmentation(),  # noqa: B008, frozen
) -> Callable[[dict[str, Any], Batch, jax.Array], dict[str, Any]]:
    """Compiles what one batch's statistics are, every layer normalising by its own.

    A running statistic becomes m * running + (1 - m) * batch. At running = 0 that is the batch's
    part alone, and its derivative by running is m: both come from one forward pass, whatever the
    momentum m of each layer is.

    Paper/code difference: flax keeps the biased variance of a batch (over n values), PyTorch, and
    so the released LAPS, the unbiased one (over n - 1). Here as in flax: then the average below is
    the variance of all the clips together. n is clips x frames x pixels, in LAPS's last layer 8 x
    49 for a single clip, so that they are 0.3 % apart at most.

    Args:
        model: with BatchNorm.
        mesh: of `sharding.make_mesh`.
        normalise: of the pixels, as in training.
        augmentation: as in training, all of it: the statistics are those of what training sees, as
            the running ones that they replace.

    Returns:
        (variables, batch as for `make_train_step`, rng of all draws) -> a tree like
        variables["batch_stats"]: means and biased variances over the batch of all devices.
    """

    def measure(variables, batch, rng):
        def moved(running):
            joined = join(variables["params"], running)
            video, _ = training_input(batch, model, normalise, augmentation, rng)
            return apply_in_training(model, joined, video, rng)[1]

        zeros = jax.tree.map(jax.numpy.zeros_like, variables["batch_stats"])
        ones = jax.tree.map(jax.numpy.ones_like, zeros)
        shares, momenta = jax.jvp(moved, (zeros,), (ones,))
        return jax.tree.map(lambda share, m: share / (1 - m), shares, momenta)

    same = sharding.replicated(mesh)
    return jax.jit(
        measure, in_shardings=(same, sharding.over_batch(mesh), same), out_shardings=same
    )


def average(measured: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Averages the statistics of batches of equal size.

    Args:
        measured: trees of leaves "mean" and "var" (biased), one per batch.

    Returns:
        Such a tree, float32: the mean of the means, and as variance the mean of E[x^2] less the
        square of that mean: both those of all batches put together.
    """
    total, count = {}, 0
    for tree in measured:
        flat = traverse_util.flatten_dict(jax.device_get(tree))
        # In double precision, or a mean far from zero would drown the variance.
        flat = {path: np.asarray(leaf, np.float64) for path, leaf in flat.items()}
        for path, leaf in flat.items():
            square = flat[_mean_of(path)] ** 2 if path[-1] == "var" else 0
            total[path] = total.get(path, 0) + leaf + square
        count += 1
    mean = {path: value / count for path, value in total.items()}
    for path in mean:
        if path[-1] == "var":
            mean[path] = np.maximum(mean[path] - mean[_mean_of(path)] ** 2, 0)
    return traverse_util.unflatten_dict({k: v.astype(np.float32) for k, v in mean.items()})


def _mean_of(path: tuple[str, ...]) -> tuple[str, ...]:
    return (*path[:-1], "mean")


def stream(
    records: Sequence[Record],
    spec: ClipSpec,
    *,
    batch_size: int,
    num_batches: int,
    seed: int,
    step: int,
    **options: Any,
) -> Iterator[Batch]:
    """Yields training batches that seed and step determine, whatever was read before.

    Videos that cannot be read are replaced, as in training, which lists and counts them: it reads
    the same ones.

    Args:
        records: the list of videos.
        spec: how clips are taken.
        batch_size: clips per batch.
        num_batches: how many.
        seed: of the run; the training stream, which has it too, shares no draw with this one.
        step: after which the statistics are measured.
        **options: of `loader.train_batches`: num_threads, num_workers, crash_log.

    Returns:
        A generator of batches, to be closed if it is left early.
    """
    own_seed = int(np.random.SeedSequence([seed, step]).generate_state(1)[0])
    batches = loader.train_batches(
        records,
        spec,
        batch_size=batch_size,
        num_epochs=-(-num_batches * batch_size // (len(records) * spec.num_repeats)),
        seed=own_seed,
        **options,
    )
    with contextlib.closing(batches):
        for batch in itertools.islice(batches, num_batches):
            yield {name: batch[name] for name in ("video", "label", "mask", "position")}


def measure_all(
    measure: Callable,
    variables: dict[str, Any],
    batches: Iterable[Batch],
    mesh: Mesh,
    rng: jax.Array,
) -> dict[str, Any]:
    """Returns the statistics over `batches`, on every device.

    Args:
        measure: of `make_measure`.
        variables: the model's.
        batches: of equal size, such as those of `stream`.
        mesh: of `sharding.make_mesh`.
        rng: of dropout and augmentation; batch i folds i in.
    """
    measured = (
        measure(variables, sharding.shard_batch(batch, mesh), jax.random.fold_in(rng, number))
        for number, batch in enumerate(batches)
    )
    return jax.device_put(average(measured), sharding.replicated(mesh))
