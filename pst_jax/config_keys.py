"""The keys of a config: what their values must be, and comparing configs key by key."""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

from pst_jax.models.variants import nearest
from pst_jax.training.optim import Group

# What may differ when a run goes on: nothing of it changes a parameter.
FREE = ("eval.", "train.log_every_steps", "train.checkpoint_every_steps", "data.num_threads")
FREE += ("train.eval_every_epochs", "data.num_workers", "data.root", "data.max_unreadable_share")
FREE += ("data.class_names", "class_names")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_integer(value: Any, least: int) -> bool:
    return isinstance(value, int) and _is_number(value) and least <= value < 2**32


def _are_groups(value: Any) -> bool:
    try:
        groups = [Group(*group) for group in value]
        for group in groups:
            re.compile(group.pattern)
    except (TypeError, re.error):
        return False
    return all(_is_number(x) and x >= 0 for g in groups for x in (g.lr_scale, g.weight_decay))


def _are_milestones(value: Any) -> bool:
    is_list = isinstance(value, tuple | list) and all(_is_number(x) and x > 0 for x in value)
    return is_list and all(a < b for a, b in itertools.pairwise(value))


def _are_channels(value: Any, is_allowed: Callable[[float], bool]) -> bool:
    is_list = isinstance(value, tuple | list) and len(value) == 3
    return is_list and all(_is_number(x) and is_allowed(x) for x in value)


_TEXT = (lambda value: isinstance(value, str), "a text")
_TRUTH = (lambda value: isinstance(value, bool), "True or False")
_COUNT = (lambda value: _is_integer(value, 1), "an integer of at least 1")
_COUNT_OR_0 = (lambda value: _is_integer(value, 0), "an integer of at least 0")
_ABOVE_0 = (lambda value: _is_number(value) and value > 0, "a number above 0")
_AT_LEAST_0 = (lambda value: _is_number(value) and value >= 0, "a number of at least 0")
_SHARE = (lambda value: _is_number(value) and 0 <= value <= 1, "a share in [0, 1]")
_BELOW_1 = (lambda value: _is_number(value) and 0 <= value < 1, "a number in [0, 1)")

# Every key of a config and what its value must be, but for the sections `model` and `clip`, which
# `create_model` and `ClipSpec` check, and `data.motion`, which most configs lack.
_KEYS = {
    "seed": _COUNT_OR_0,
    "init_from": _TEXT,
    "model.name": _TEXT,
    "data.root": _TEXT,
    "data.train": _TEXT,
    "data.test": _TEXT,
    "data.class_names": _TEXT,
    "data.num_threads": _COUNT_OR_0,
    "data.num_workers": _COUNT_OR_0,
    "data.max_unreadable_share": _SHARE,
    "clip.num_frames": _COUNT,
    "clip.size_px": _COUNT,
    "augment.colour_jitter": _SHARE,
    "augment.erase": _SHARE,
    "augment.mixup": _AT_LEAST_0,
    "augment.cutmix": _AT_LEAST_0,
    "pixels.mean": (
        lambda value: _are_channels(value, lambda x: 0 <= x <= 255),
        "three numbers in [0, 255], of red, green and blue",
    ),
    "pixels.std": (
        lambda value: _are_channels(value, lambda x: 0 < x <= 255),
        "three numbers in (0, 255], of red, green and blue",
    ),
    "optim.optimizer": (lambda value: value in ("adamw", "sgd"), "'adamw' or 'sgd'"),
    "optim.learning_rate": _ABOVE_0,
    "optim.schedule": _TEXT,
    "optim.warmup_epochs": _AT_LEAST_0,
    "optim.milestones": (_are_milestones, "a tuple of ascending epochs above 0"),
    "optim.decay_factor": _ABOVE_0,
    "optim.groups": (_are_groups, "triples (regular expression, factor, weight decay)"),
    "optim.beta2": _BELOW_1,
    "optim.momentum": _BELOW_1,
    "optim.clip_norm": (
        lambda value: value is None or _is_number(value) and value > 0,
        "a number above 0, or None",
    ),
    "optim.label_smoothing": _BELOW_1,
    "train.batch_size": _COUNT,
    "train.accumulate": _COUNT,
    "train.precise_bn_batches": _COUNT_OR_0,
    "train.num_epochs": _ABOVE_0,
    "train.log_every_steps": _COUNT,
    "train.checkpoint_every_steps": _COUNT,
    "train.eval_every_epochs": _COUNT_OR_0,
    "eval.batch_size": _COUNT,
    "eval.views": _TEXT,
    "eval.average": _TEXT,
    "eval.short_side_px": _COUNT_OR_0,
    "eval.has_reversed_pairs": _TRUTH,
    "eval.shuffle_frames": _TRUTH,
}
_MOTION_KEYS = {
    "data.motion.difficulty": _TEXT,
    "data.motion.size_px": _COUNT,
    "data.motion.num_frames": _COUNT,
    "data.motion.train_per_class": _COUNT,
    "data.motion.test_per_class": _COUNT,
    "data.motion.seed": _COUNT_OR_0,
}


def check(config: dict[str, Any]) -> None:
    """Raises ValueError for a key that is unknown or missing, and for a value of the wrong kind."""
    values = _flat(config)
    has_motion = any(key.startswith("data.motion.") for key in values)
    known = _KEYS | (_MOTION_KEYS if has_motion else {})
    for key in values:
        if not key.startswith(("model.", "clip.")):
            _check_known(key.split("."), known)
    missing = sorted(known.keys() - values.keys())
    if missing:
        raise ValueError(
            f"the config lacks {', '.join(missing)}: make it from configs.common.base()"
        )
    for key, (is_allowed, what) in known.items():
        if not is_allowed(values[key]):
            raise ValueError(f"config.{key}={values[key]!r} must be {what}")


def _check_known(path: list[str], known: Iterable[str]) -> None:
    """Raises ValueError where `path` leaves the keys that are known."""
    known = [key.split(".") for key in known]
    for depth, name in enumerate(path):
        beside = {key[depth] for key in known if key[:depth] == path[:depth] and len(key) > depth}
        if name not in beside:
            section = ".".join(["config", *path[:depth]])
            raise ValueError(f"{section} has no key {name!r}{nearest(name, beside)}")


def check_same(
    old: dict[str, Any],
    new: dict[str, Any],
    what: str,
    is_checked: Callable[[str], bool],
    remedy: str = "use another --workdir, or the same --config and flags",
) -> None:
    """Raises ValueError naming the keys in which two resolved configs differ.

    Args:
        old: as read from config.json.
        new: likewise, of the config at hand.
        what: whose config the old one is, for the message.
        is_checked: which keys, such as "optim.learning_rate", must agree.
        remedy: what to do, for the message.
    """
    old, new = _flat(old), _flat(new)
    different = [
        f"{key}: {old.get(key)!r} there, {new.get(key)!r} here"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and is_checked(key)
    ]
    if different:
        raise ValueError(
            f"{what} holds a run of another config: {remedy}:\n  " + "\n  ".join(different)
        )


def hash_of(config: dict[str, Any]) -> str:
    """Names a run by its resolved config: 12 hex digits, of all that changes its parameters."""
    kept = {key: value for key, value in _flat(config).items() if not key.startswith(FREE)}
    text = json.dumps(kept, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested dicts to {"a.b": value}."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
