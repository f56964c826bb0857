"""Contact sheets of training batches as the model sees them, so that a person can look.

The clips go through the loader and the device functions of the training step; then the
normalisation is undone. One row is one clip.
"""

import contextlib
import dataclasses
import functools
import importlib.util
import io
import math
import os
import pathlib
import textwrap
import warnings
from collections.abc import Sequence
from typing import Any

import jax
import jinja2
import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pst_jax import config_keys, experiment, files
from pst_jax.data import loader
from pst_jax.data.index import read_class_names
from pst_jax.data.records import Listing, Record
from pst_jax.data.transforms import ClipSpec
from pst_jax.evaluation import figures
from pst_jax.ops import pixels
from pst_jax.ops.augment import Augmentation, augment

NUM_SHOWN = 8  # frames of a clip, side by side
MAX_CLIPS = 16  # of a batch
_LEAST_SHARE = 0.01  # of a label that is named

_INK, _FAINT, _WARNING = "#333333", "#777777", "#b3261e"
_STYLE = {"font.size": 8, "text.color": _INK}
# In inches.
_DPI = 150
_TEXT, _SIDE, _GAP, _MARGIN, _HEAD = 2.7, 1.1, 0.05, 0.2, 0.65
_LINE = 0.15
_WRAP, _MAX_LINES = 36, 7  # characters of a line in _TEXT; lines beside a clip


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What training does to a clip before the model sees it.

    Attributes:
        name: of the config, for the heading.
        clip: how clips are taken.
        augmentation: what is done to them on the device.
        mean: of each channel, on 0..255, by which pixels are normalised.
        std: likewise.
        batch_size: clips of a batch.
        num_classes: of the model; None: as many as the data have.
        class_names: of a file that the config names.
        seed: of all that is random.
    """

    name: str = "no config"
    clip: ClipSpec = ClipSpec(32, 224)
    augmentation: Augmentation = Augmentation()
    mean: tuple[float, float, float] = pixels.IMAGENET_MEAN
    std: tuple[float, float, float] = pixels.IMAGENET_STD
    batch_size: int = MAX_CLIPS
    num_classes: int | None = None
    class_names: tuple[str, ...] = ()
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Row:
    """One clip of a sheet.

    Attributes:
        frames: uint8 [n, S, S, 3], those that are shown.
        labels: (name, share of the target), the largest first; shares other than 1 where clips
            are mixed.
        video_id: names the video.
        note: "", or what else is to be told.
    """

    frames: np.ndarray
    labels: tuple[tuple[str, float], ...]
    video_id: str
    note: str


def read_recipe(config: str | None, seed: int | None = None, root: str = "") -> Recipe:
    """Reads from a config what a sheet needs; no model is built, and no list is read.

    Args:
        config: FILE or FILE:ARG, as train.py takes it; None: the defaults of `Recipe`.
        seed: in place of the config's.
        root: folder of the data set, where the config's file of class names may lie.

    Raises:
        ValueError: if the file or the class names cannot be read, or a key has no such value.
    """
    if config is None:
        return Recipe(seed=seed or 0)
    loaded = _load_config(config)
    config_keys.check(loaded.to_dict())
    loaded.seed = loaded.seed if seed is None else seed
    clip = experiment.build_clip(loaded)
    num_clips, num_classes = min(loaded.train.batch_size, MAX_CLIPS), loaded.model.num_classes
    names = os.path.join(root, loaded.data.class_names)
    return Recipe(
        name=config,
        clip=clip,
        augmentation=Augmentation(**loaded.augment),
        mean=tuple(loaded.pixels.mean),
        std=tuple(loaded.pixels.std),
        batch_size=math.ceil(num_clips / clip.num_repeats) * clip.num_repeats,
        num_classes=num_classes,
        # Without names a sheet shows the numbers.
        class_names=read_class_names(names, num_classes) if os.path.isfile(names) else (),
        seed=loaded.seed,
    )


def _load_config(name: str) -> Any:
    path, _, argument = name.partition(":")
    if not os.path.isfile(path):
        raise ValueError(f"config={path!r} does not exist: give a file such as configs/motion.py")
    spec = importlib.util.spec_from_file_location("config", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return module.get_config(argument) if argument else module.get_config()
    except Exception as error:  # a config is a program: whatever it raises is its own mistake
        raise ValueError(
            f"config={name!r} cannot be loaded: {type(error).__name__}: {error}; give what "
            "train.py takes, from the folder where it is run"
        ) from error


def draw(listing: Listing, recipe: Recipe, out: str | os.PathLike, num_batches: int = 1) -> None:
    """Draws the first training batches of a run by this recipe.

    Args:
        listing: see `training_rows`.
        recipe: likewise.
        out: the picture, named .png, or the page, named .html, which needs no other file.
        num_batches: how many.

    Raises:
        ValueError: as `training_rows`.
        OSError: if `out` cannot be written.
    """
    batches = training_rows(listing, recipe, num_batches)
    heading, out = _heading(recipe), pathlib.Path(out)
    is_page = out.suffix.lower() == ".html"
    content = as_page(batches, heading).encode() if is_page else as_png(batches, heading)
    with files.replacing(out) as scratch:
        scratch.write_bytes(content)


def training_rows(listing: Listing, recipe: Recipe, num_batches: int = 1) -> list[list[Row]]:
    """Makes the clips of the first training batches, as the training step sees them.

    Of a batch no more than MAX_CLIPS clips are made. Each is the clip that training makes; only
    with whom it is mixed may depend on the size of the batch.

    Args:
        listing: the training split; what it lacks is left out.
        recipe: what training does to a clip.
        num_batches: how many.

    Returns:
        A row per clip, by batch.

    Raises:
        ValueError: if there is no video, none can be read, or a label is not below the number of
            classes.
    """
    records = listing.present
    names = listing.class_names or recipe.class_names
    stream = _batches(records, recipe, num_batches)
    return [_rows(batch, records, names, recipe) for batch in stream]


def _batches(records: Sequence[Record], recipe: Recipe, num_batches: int) -> list[loader.Batch]:
    num_clips = num_batches * recipe.batch_size
    stream = loader.train_batches(
        records,
        recipe.clip,
        batch_size=recipe.batch_size,
        num_epochs=max(1, math.ceil(num_clips / max(1, len(records) * recipe.clip.num_repeats))),
        seed=recipe.seed,
    )
    with contextlib.closing(stream):
        return [batch for _, batch in zip(range(num_batches), stream)]


def _rows(
    batch: loader.Batch, records: Sequence[Record], names: Sequence[str], recipe: Recipe
) -> list[Row]:
    """Makes rows of a batch as the training step sees it."""
    num_classes = recipe.num_classes or 1 + max(record.label for record in records)
    if max(batch["label"]) >= num_classes:
        raise ValueError(
            f"label {max(batch['label'])} is not below the {num_classes} classes of {recipe.name}: "
            "give a config of this data set"
        )
    videos, targets = _seen(batch, num_classes, recipe)
    rows = []
    for video, target, index, problem in zip(videos, targets, batch["index"], batch["problem"]):
        classes = [k for k in np.argsort(-target, kind="stable") if target[k] >= _LEAST_SHARE]
        labels = [(names[k] if k < len(names) else f"class {k}", float(target[k])) for k in classes]
        note = f"in place of {problem}" if problem else ""
        rows.append(Row(video, tuple(labels), records[index].video_id, note))
    return rows


def _seen(batch: loader.Batch, num_classes: int, recipe: Recipe) -> tuple[np.ndarray, np.ndarray]:
    """Returns the shown frames as pixels, uint8 [B, n, S, S, 3], and targets, float32 [B, K]."""
    mean, std = np.array(recipe.mean), np.array(recipe.std)
    video, targets = jax.jit(augment, static_argnums=(4, 5))(
        batch["video"],
        jax.nn.one_hot(batch["label"], num_classes),
        batch["position"],
        jax.random.key(recipe.seed),
        recipe.augmentation,
        functools.partial(pixels.normalise, mean=recipe.mean, std=recipe.std),
    )
    shown = np.stack([figures.spread(clip, NUM_SHOWN) for clip in np.asarray(video)])
    return (shown * std + mean).round().clip(0, 255).astype(np.uint8), np.asarray(targets)


def _heading(recipe: Recipe) -> str:
    clip = recipe.clip
    shown = figures.spread(np.arange(clip.num_frames), NUM_SHOWN)
    is_part = len(shown) < clip.num_frames
    numbers = f" (0 to {clip.num_frames - 1}), of which {', '.join(map(str, shown))}"
    device = (f", {k} {v}" for k, v in dataclasses.asdict(recipe.augmentation).items() if v)
    return (
        f"{recipe.name}, seed {recipe.seed}: {clip.num_frames} frames{numbers if is_part else ''} "
        f"of {clip.size_px} px, sampling {clip.sampling}, crop {clip.crop}, flip {clip.flip}"
        f", reverse {clip.reverse}, policy {clip.policy}{''.join(device)}"
    )


def as_png(batches: Sequence[Sequence[Row]], heading: str) -> bytes:
    """Draws batches below each other.

    Args:
        batches: of rows, all with as many frames.
        heading: the first line.

    Returns:
        A PNG.
    """
    pitch = _SIDE + 2 * _GAP
    num_shown = len(batches[0][0].frames)
    width = 2 * _MARGIN + _TEXT + num_shown * (_SIDE + _GAP)
    height = 2 * _MARGIN + sum(_HEAD + pitch * len(rows) for rows in batches)
    with matplotlib.style.context(["default", _STYLE]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure((width, height), dpi=_DPI)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.axis("off")
        top = _MARGIN
        for number, rows in enumerate(batches, start=1):
            title = f"batch {number} of {len(batches)}"
            axes.text(_MARGIN, top, title, va="top", fontsize=12, weight="bold")
            axes.text(_MARGIN, top + 0.28, heading, va="top", color=_FAINT, parse_math=False)
            top += _HEAD
            for row in rows:
                _draw_row(axes, top, row)
                top += pitch
        picture = io.BytesIO()
        FigureCanvasAgg(figure).print_png(picture)
    return picture.getvalue()


def _draw_row(axes: Axes, top: float, row: Row) -> None:
    """Writes what a clip is, and its frames beside that."""
    max_lines = 3 if len(row.labels) == 1 else 2
    lines = [
        (line, {"weight": "bold"})
        for label in row.labels
        for line in _wrap(_label(label), max_lines)
    ]
    # The end of a name tells it from others.
    name = row.video_id if len(row.video_id) <= 2 * _WRAP else f"…{row.video_id[1 - 2 * _WRAP :]}"
    lines += [(name[k : k + _WRAP], {"color": _FAINT}) for k in range(0, len(name), _WRAP)]
    lines += [(line, {"color": _WARNING}) for line in _wrap(row.note, 2)]
    for number, (line, style) in enumerate(lines[:_MAX_LINES]):
        where = top + 0.02 + _LINE * number
        text = files.printable(line)
        axes.text(_MARGIN, where, text, va="top", parse_math=False, **style)
    left = _MARGIN + _TEXT
    for frame in row.frames:  # above a line that is too wide all the same
        axes.imshow(frame, extent=(left, left + _SIDE, top + _SIDE, top), aspect="auto", zorder=4)
        left += _SIDE + _GAP


def _label(label: tuple[str, float]) -> str:
    name, share = label
    return name if share > 1 - _LEAST_SHARE else f"{share:.0%} {name}"


def _wrap(text: str, max_lines: int) -> list[str]:
    return textwrap.wrap(text, _WRAP, max_lines=max_lines, placeholder=" …")


def as_page(batches: Sequence[Sequence[Row]], heading: str) -> str:
    """Renders batches as an HTML page that needs nothing else; arguments as for `as_png`."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pst_jax.explain", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=lambda value: files.printable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"label": _label, "strip": figures.strip}
    return environment.get_template("sheet.html.jinja").render(heading=heading, batches=batches)
