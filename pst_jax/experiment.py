"""From a resolved config to what it describes: the one place below the scripts that reads one."""

import dataclasses
import functools
import os
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
from absl import logging
from ml_collections import ConfigDict

from pst_jax import config_keys
from pst_jax.data import clips, label_maps
from pst_jax.data.index import read_class_names, read_index
from pst_jax.data.records import Listing, Record, fingerprint
from pst_jax.data.transforms import ClipSpec
from pst_jax.evaluation.averages import AVERAGES, parse_views
from pst_jax.models.variants import create_model, nearest
from pst_jax.ops import normalise
from pst_jax.ops.augment import Augmentation
from pst_jax.training import optim


@dataclasses.dataclass(frozen=True)
class Experiment:
    """What a config describes, apart from numbers that the loop reads.

    Attributes:
        model: the network.
        clip: how training takes clips.
        augmentation: what training does to clips besides, on the device.
        normalise: pixels to the network's input, in training and evaluation alike.
        eval_short_side_px: of the frames in evaluation; 0: as `clips.view_spec` says.
        train_records: videos to train on; none where it was built for evaluation.
        test_records: videos to evaluate on.
        class_names: one per class; None where the data have none.
    """

    model: nn.Module
    clip: ClipSpec
    augmentation: Augmentation
    normalise: Callable[[jax.Array], jax.Array]
    eval_short_side_px: int
    train_records: tuple[Record, ...]
    test_records: tuple[Record, ...]
    class_names: tuple[str, ...] | None

    @property
    def fingerprints(self) -> dict[str, str]:
        """Count and hash of the lists."""
        lists = {"train": self.train_records, "test": self.test_records}
        return {name: fingerprint(records) for name, records in lists.items() if records}

    def view_clip(self, num_crops: int) -> ClipSpec:
        """Returns how evaluation takes clips."""
        return clips.view_spec(self.clip, num_crops, self.eval_short_side_px)


def build(config: ConfigDict, is_training: bool = True) -> Experiment:
    """Builds an experiment; generates the embedded data set where the config asks for it.

    Args:
        config: resolved, see `configs/common.py`.
        is_training: whether the list of training videos is needed.

    Raises:
        ValueError: naming the key or the file that does not fit.
    """
    config_keys.check(config.to_dict())
    model = build_model(config)
    if model.num_frames != config.clip.num_frames:
        raise ValueError(
            f"config.model.num_frames={model.num_frames} and config.clip.num_frames="
            f"{config.clip.num_frames} must be the same"
        )
    clip = build_clip(config)
    _check_evaluation(config)
    if "motion" in config.data:
        _generate_motion(config)
    splits = ("train", "test") if is_training else ("test",)
    records, class_names = _read_lists(config, splits)
    return Experiment(
        model,
        clip,
        Augmentation(**_plain(config.augment)),
        build_normalise(config),
        config.eval.short_side_px,
        records.get("train", ()),
        records["test"],
        class_names,
    )


def build_model(config: ConfigDict) -> nn.Module:
    """Makes the model of `config.model`: a name, num_classes, and overrides."""
    return create_model(**_plain(config.model))


def build_normalise(config: ConfigDict) -> Callable[[jax.Array], jax.Array]:
    """Makes `ops.normalise` by the channel statistics of `config.pixels`."""
    return functools.partial(
        normalise, mean=tuple(config.pixels.mean), std=tuple(config.pixels.std)
    )


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
    if section.schedule == "epoch_steps":
        if section.warmup_epochs:
            raise ValueError(
                f"config.optim.warmup_epochs={section.warmup_epochs} must be 0 for "
                "config.optim.schedule='epoch_steps', which has no warm-up"
            )
        return optim.epoch_steps(
            section.learning_rate, section.milestones, section.decay_factor, steps_per_epoch
        )
    raise ValueError(
        f"config.optim.schedule={section.schedule!r} must be 'epoch_cosine', 'step_cosine' or "
        "'epoch_steps'"
    )


def build_optimizer(config: ConfigDict, schedule: optim.Schedule, params: Any):
    """Makes the optimizer of `config.optim`."""
    section = config.optim
    groups = tuple(optim.Group(*group) for group in section.groups)
    options = {"clip_norm": section.clip_norm}
    if section.optimizer == "sgd":
        return optim.sgd(schedule, params, groups, momentum=section.momentum, **options)
    return optim.adamw(schedule, params, groups, beta2=section.beta2, **options)


def build_clip(config: ConfigDict) -> ClipSpec:
    """Makes the specification of `config.clip`; labels may be named by their data set."""
    known = {field.name for field in dataclasses.fields(ClipSpec)}
    for key in config.clip:
        if key not in known:
            raise ValueError(f"config.clip has no key {key!r}{nearest(key, known)}")
    # The signs that the released RandAugment draws once are the run's.
    values = {"policy_seed": config.seed} | _plain(config.clip)
    maps = {"flip": label_maps.MIRRORED, "reverse": label_maps.REVERSED}
    try:
        for name in values.keys() & maps.keys():
            labels = f"{name}_labels"
            if values[name] == "none":
                values.pop(labels, None)  # switched off by one flag
            if labels in values:
                values[labels] = label_maps.resolve(values[labels], values[name], maps[name])
        clip = ClipSpec(**values)
    except ValueError as error:
        raise ValueError(f"config.clip: {error}") from None
    for name in maps:
        labels, num_classes = getattr(clip, f"{name}_labels") or (), config.model.num_classes
        outside = [label for label in labels if not 0 <= label < num_classes]
        if getattr(clip, name) == "skip" and outside:
            raise ValueError(
                f"config.clip.{name}_labels={labels} names {outside}: must lie in [0, "
                f"{num_classes - 1}], the classes of config.model.num_classes={num_classes}"
            )
        if getattr(clip, name) == "swap" and len(labels) != num_classes:
            raise ValueError(
                f"config.clip.{name}_labels has {len(labels)} classes, and config.model."
                f"num_classes={num_classes}: {name}='swap' needs the changed class of every class"
            )
    return clip


def _plain(section: ConfigDict) -> dict[str, Any]:
    return {key: value for key, value in section.items() if value is not None}


def _read_lists(
    config: ConfigDict, splits: tuple[str, ...]
) -> tuple[dict[str, tuple[Record, ...]], tuple[str, ...] | None]:
    """Reads lists by split, and the names of the classes where there are any."""
    root, num_classes = config.data.root, config.model.num_classes
    records, names = {}, {}
    if config.data.class_names:
        file = os.path.join(root, config.data.class_names)
        names["class_names"] = read_class_names(file, num_classes)
    for split in splits:
        try:
            listing = read_index(_source(config, split), root, num_classes)
        except ValueError as error:
            raise ValueError(f"config.data.{split}: {error}") from None
        records[split] = _present(listing, config, split) if split == "train" else listing.records
        if listing.class_names:
            names[split] = listing.class_names
    if len(set(names.values())) > 1:
        different = sorted(set.union(*map(set, names.values())))
        different = [n for n in different if any(n not in given for given in names.values())]
        raise ValueError(
            f"{root}: {' and '.join(f'config.data.{key}' for key in names)} have different classes "
            f"({', '.join(different) or 'in another order'}), so that labels would not agree: "
            "make empty class folders, or give lists of 'path,label'"
        )
    return records, next(iter(names.values()), None)


def _source(config: ConfigDict, split: str) -> str:
    source = config.data[split]
    return source if source.startswith("tfds:") else os.path.join(config.data.root, source)


def _present(listing: Listing, config: ConfigDict, split: str) -> tuple[Record, ...]:
    """The videos of a published list that are there; evaluation reports the others as unread."""
    if not listing.missing:
        return listing.records
    num_missing, num_listed = len(listing.missing), len(listing.records)
    what = (
        f"{_source(config, split)}: {num_missing} of the {num_listed} videos that it lists are "
        f"missing, the first of them {listing.missing[0].path}"
    )
    if num_missing > num_listed // 2:
        raise ValueError(f"{what}: config.data.root={config.data.root!r} must be the folder of all")
    logging.warning("%s; trained without", what)
    return listing.present


def _check_evaluation(config: ConfigDict) -> None:
    """Refuses before training what evaluation could not do after it."""
    section = config.eval
    _, num_crops = parse_views(section.views)
    if num_crops == 3 and section.short_side_px not in (0, config.clip.size_px):
        raise ValueError(
            f"config.eval.short_side_px={section.short_side_px} must be config.clip.size_px="
            f"{config.clip.size_px}, or 0, for three crops (config.eval.views={section.views!r})"
        )
    if 0 < section.short_side_px < config.clip.size_px:
        raise ValueError(
            f"config.eval.short_side_px={section.short_side_px} must be at least "
            f"config.clip.size_px={config.clip.size_px}, or 0"
        )
    if section.average not in AVERAGES:
        raise ValueError(
            f"config.eval.average={section.average!r} must be one of {', '.join(AVERAGES)}"
        )
    if section.has_reversed_pairs and config.model.num_classes % 2:
        raise ValueError(
            f"config.eval.has_reversed_pairs needs pairs of classes, and config.model.num_classes="
            f"{config.model.num_classes} is odd"
        )


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
