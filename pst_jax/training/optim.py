"""Optimizers, learning-rate schedules and parameter groups."""

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import traverse_util

Schedule = Callable[[jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class Group:
    """Parameters that are trained alike.

    Attributes:
        pattern: regular expression searched for in a parameter's path, such as
            "layers_0_blocks_0/attn/qkv/kernel".
        lr_scale: factor on the learning rate.
        weight_decay: of AdamW decoupled, of SGD added to the gradient ahead of momentum, as in
            PyTorch; both times the learning rate.
    """

    pattern: str
    lr_scale: float
    weight_decay: float


def group_labels(params: Any, groups: tuple[Group, ...]) -> Any:
    """Returns the index of each parameter's group, as a tree like `params`.

    Raises:
        ValueError: naming the parameters that no group matches.
    """
    labels, orphans = {}, []
    for path in traverse_util.flatten_dict(params, sep="/"):
        found = (i for i, group in enumerate(groups) if re.search(group.pattern, path))
        labels[path] = next(found, None)
        if labels[path] is None:
            orphans.append(path)
    if orphans:
        raise ValueError(
            f"no parameter group matches {', '.join(orphans)}: add a last one with pattern ''"
        )
    return traverse_util.unflatten_dict(labels, sep="/")


def epoch_cosine(
    base_lr: float,
    num_epochs: int,
    steps_per_epoch: int,
    warmup_epochs: float = 2.5,
    warmup_ratio: float = 0.1,
) -> Schedule:
    """The released PST schedule: a cosine in steps of whole epochs, and a linear warm-up.

    The cosine runs from epoch 0, not from the end of the warm-up. Where the warm-up ends within
    an epoch and between two steps, the rest of that epoch keeps the last warm-up value, as
    released.

    Args:
        base_lr: peak learning rate.
        num_epochs: epochs until the rate would be 0.
        steps_per_epoch: steps of an epoch.
        warmup_epochs: length of the warm-up.
        warmup_ratio: factor at step 0.

    Returns:
        step -> learning rate, float32.
    """
    warmup = warmup_epochs * steps_per_epoch

    def schedule(step):
        epoch = step // steps_per_epoch
        rate = base_lr * 0.5 * (1 + jnp.cos(jnp.pi * epoch / num_epochs))
        if warmup == 0:
            return rate
        is_warming = (step <= warmup) | (epoch == math.floor(warmup) // steps_per_epoch)
        progress = jnp.minimum(step, math.floor(warmup)) / warmup
        return rate * jnp.where(is_warming, warmup_ratio + (1 - warmup_ratio) * progress, 1.0)

    return schedule


def step_cosine(base_lr: float, num_steps: int, warmup_steps: int) -> Schedule:
    """A linear warm-up from 0 and a cosine to 0, both by the step."""
    return optax.warmup_cosine_decay_schedule(0.0, base_lr, warmup_steps, num_steps)


def epoch_steps(
    base_lr: float, milestones: Sequence[float], decay_factor: float, steps_per_epoch: int
) -> Schedule:
    """A rate that falls by a factor at some epochs, without a warm-up (LAPS).

    Args:
        base_lr: learning rate of the first epoch.
        milestones: epochs done, ascending; the step that follows them is the first slower one.
        decay_factor: of the rate at each of them.
        steps_per_epoch: steps of an epoch.

    Returns:
        step -> learning rate, float32.
    """
    steps = [round(epoch * steps_per_epoch) for epoch in milestones]
    return optax.piecewise_constant_schedule(base_lr, dict.fromkeys(steps, decay_factor))


def adamw(
    schedule: Schedule,
    params: Any,
    groups: tuple[Group, ...],
    *,
    beta2: float = 0.999,
    clip_norm: float | None = None,
) -> optax.GradientTransformation:
    """AdamW by parameter groups, with an optional clip of the whole gradient's norm.

    Args:
        schedule: step -> learning rate.
        params: the parameters, for their paths.
        groups: see `Group`; the first match wins.
        beta2: decay of the second moment.
        clip_norm: largest global norm of the gradient; None: no clipping, as released.

    Returns:
        The optimizer; beta1 0.9, epsilon 1e-8.
    """

    def of_group(rate: Schedule, group: Group) -> optax.GradientTransformation:
        return optax.adamw(rate, b2=beta2, weight_decay=group.weight_decay)

    return _by_groups(of_group, schedule, params, groups, clip_norm)


def sgd(
    schedule: Schedule,
    params: Any,
    groups: tuple[Group, ...],
    *,
    momentum: float = 0.9,
    clip_norm: float | None = None,
) -> optax.GradientTransformation:
    """SGD with momentum by parameter groups; arguments and clip as for `adamw`."""

    def of_group(rate: Schedule, group: Group) -> optax.GradientTransformation:
        decay = optax.add_decayed_weights(group.weight_decay)
        return optax.chain(decay, optax.sgd(rate, momentum))

    return _by_groups(of_group, schedule, params, groups, clip_norm)


def _by_groups(
    of_group: Callable[[Schedule, Group], optax.GradientTransformation],
    schedule: Schedule,
    params: Any,
    groups: tuple[Group, ...],
    clip_norm: float | None,
) -> optax.GradientTransformation:
    def scaled(group: Group) -> Schedule:
        return lambda step: schedule(step) * group.lr_scale

    optimizer = optax.partition(
        {i: of_group(scaled(group), group) for i, group in enumerate(groups)},
        group_labels(params, groups),
    )
    return (
        optimizer
        if clip_norm is None
        else optax.chain(optax.clip_by_global_norm(clip_norm), optimizer)
    )
