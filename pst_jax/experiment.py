"""From a resolved config to what it describes: the one place below the scripts that reads one."""

import dataclasses
import os
import pathlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
from ml_collections import ConfigDict

from pst_jax.data.index import Record, fingerprint, read_index
from pst_jax.data.transforms import ClipSpec
from pst_jax.evaluation.views import AVERAGES
from pst_jax.models.variants import create_model, nearest
from pst_jax.training import optim


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What a config describes, apart from numbers that the loop reads.

    Attributes:
        model: the network.
        clip: how training takes clips.
        eval_clip: how evaluation takes clips.
        train_records: videos to train on.
        test_records: videos to evaluate on.
    """

    model: nn.Module
    clip: ClipSpec
    eval_clip: ClipSpec
    train_records: tuple[Record, ...]
    test_records: tuple[Record, ...]

    @property
    def fingerprints(self) -> dict[str, str]:
        """Count and hash of both lists."""
        return {"train": fingerprint(self.train_records), "test": fingerprint(self.test_records)}


def build(config: ConfigDict) -> Experiment:
    """Builds an experiment; generates the embedded data set where the config asks for it.

    Raises:
        ValueError: naming the key or the file that does not fit.
    """
    model = build_model(config)
    if model.num_frames != config.clip.num_frames:
        raise ValueError(
            f"config.model.num_frames={model.num_frames} and config.clip.num_frames="
            f"{config.clip.num_frames} must be the same"
        )
    known = {field.name for field in dataclasses.fields(ClipSpec)}
    for key in config.clip:
        if key not in known:
            raise ValueError(f"config.clip has no key {key!r}{nearest(key, known)}")
    clip = ClipSpec(**_plain(config.clip))
    _check_evaluation(config)
    if "motion" in config.data:
        _generate_motion(config)
    eval_clip = dataclasses.replace(
        clip, short_side_px=config.eval.short_side_px or clip.size_px, short_side_max_px=None
    )
    return Experiment(model, clip, eval_clip, *_records(config))


def build_model(config: ConfigDict) -> nn.Module:
    """Makes the model of `config.model`: a name, num_classes, and overrides."""
    return create_model(**_plain(config.model))


def build_schedule(config: ConfigDict, num_steps: int, steps_per_epoch: int) -> optim.Schedule:
    """Makes the learning-rate schedule of `config.optim`."""
    section = config.optim
    if section.schedule == "epoch_cosine":
        return optim.epoch_cosine(
            section.learning_rate,
            config.train.num_epochs,
            steps_per_epoch,
            section.warmup_epochs,
        )
    if section.schedule == "step_cosine":
        warmup = round(section.warmup_epochs * steps_per_epoch)
        if warmup >= num_steps:
            raise ValueError(
                f"config.optim.warmup_epochs={section.warmup_epochs} are {warmup} steps, the run "
                f"has {num_steps}: make the warm-up shorter"
            )
        return optim.step_cosine(section.learning_rate, num_steps, warmup)
    raise ValueError(
        f"config.optim.schedule={section.schedule!r} must be 'epoch_cosine' or 'step_cosine'"
    )


def parse_views(views: str) -> tuple[int, int]:
    """Reads "CLIPSxCROPS", such as "4x3"."""
    clips, _, crops = views.partition("x")
    if not (clips.isdigit() and crops.isdigit() and int(clips) > 0 and int(crops) in (1, 3)):
        raise ValueError(f"views={views!r} must be CLIPSxCROPS with 1 or 3 crops, such as 4x3")
    return int(clips), int(crops)


def _plain(section: ConfigDict) -> dict[str, Any]:
    return {key: value for key, value in section.items() if value is not None}


def _records(config: ConfigDict) -> tuple[tuple[Record, ...], tuple[Record, ...]]:
    """Reads both lists; the class folders of one must be those of the other."""
    root = pathlib.Path(config.data.root)
    (train, train_names), (test, test_names) = (
        read_index(root / config.data[split], root, config.model.num_classes)
        for split in ("train", "test")
    )
    if train_names and test_names and train_names != test_names:
        different = sorted(set(train_names) ^ set(test_names))
        raise ValueError(
            f"{root}: config.data.train and config.data.test have different class folders "
            f"({', '.join(different)} in one alone), so that labels would not agree: make empty "
            "ones, or give lists of 'path,label'"
        )
    return train, test


def _check_evaluation(config: ConfigDict) -> None:
    """Refuses before training what evaluation could not do after it."""
    section = config.eval
    parse_views(section.views)
    if section.average not in AVERAGES:
        raise ValueError(
            f"config.eval.average={section.average!r} must be one of {', '.join(AVERAGES)}"
        )
    if section.has_reversed_pairs and config.model.num_classes % 2:
        raise ValueError(
            f"config.eval.has_reversed_pairs needs pairs of classes, and config.model.num_classes="
            f"{config.model.num_classes} is odd"
        )


def check_same(
    old: dict[str, Any], new: dict[str, Any], what: str, is_checked: Callable[[str], bool]
) -> None:
    """Raises ValueError naming the keys in which two resolved configs differ.

    Args:
        old: as read from config.json.
        new: likewise, of the config at hand.
        what: whose config the old one is, for the message.
        is_checked: which keys, such as "optim.learning_rate", must agree.
    """
    old, new = _flat(old), _flat(new)
    different = [
        f"{key}: {old.get(key)!r} there, {new.get(key)!r} here"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and is_checked(key)
    ]
    if different:
        raise ValueError(
            f"{what} holds a run of another config: use another --workdir, or the same --config "
            "and flags:\n  " + "\n  ".join(different)
        )


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flattens nested dicts to {"a.b": value}."""
    flat = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _generate_motion(config: ConfigDict) -> None:
    from pst_jax.data import motion

    section = config.data.motion
    spec = motion.MotionSpec(section.size_px, section.num_frames, section.difficulty)
    motion.generate(
        config.data.root,
        spec,
        section.train_per_class,
        section.test_per_class,
        section.seed,
        workers=os.cpu_count() or 1,
    )
