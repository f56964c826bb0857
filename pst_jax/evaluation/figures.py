"""Pictures of an evaluation, as data URIs: plots as SVG, frames as JPEG.

Figures are made without pyplot, so no window system and no state that outlives a call is involved.
The same inputs give the same bytes.
"""

import base64
import functools
import io
import math
import warnings
from collections.abc import Callable, Mapping, Sequence

import matplotlib.image
import matplotlib.style
import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter, StrMethodFormatter

# Colour, marker, and the marker as a character, of each run in a plot; told apart by the colour
# blind too (Okabe and Ito's colours).
LINES = (
    ("#0072B2", "o", "●"),
    ("#D55E00", "s", "■"),
    ("#009E73", "^", "▲"),
    ("#CC79A7", "D", "◆"),
    ("#E69F00", "v", "▼"),
    ("#555555", "p", "⬟"),
)
# Of the width of a plot of frame curves: where its axis begins, and what it spans. The page lays
# the frames out by them, so that each stands above its place on the axis.
AXIS_LEFT, AXIS_WIDTH = 0.07, 0.92
MAX_NAMED = 50  # classes: with more, the axes of the confusion matrix carry numbers
MAX_COUNTED = 25  # classes: with more, its cells carry no counts
_MAX_NAME = 28  # characters of a class name on an axis
_MAX_POINTS = 400  # of a learning curve
_MAX_SIDE_PX = 112  # of a frame in a strip: twice what the page shows, for fine screens
_INK, _FAINT = "#333333", "#dddddd"
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pst_jax",  # without one, ids are drawn at random
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#999999",
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _FAINT,
    "legend.frameon": False,
}


def _as_svg(draw: Callable[..., Figure]) -> Callable[..., str]:
    """Makes of a function that draws a Figure one that returns it as the data URI of an SVG."""

    @functools.wraps(draw)
    def uri(*args, **kwargs) -> str:
        picture = io.BytesIO()
        with matplotlib.style.context(["default", _STYLE]), warnings.catch_warnings():
            # The reader's browser has fonts for what the font measured here lacks.
            warnings.filterwarnings("ignore", message="Glyph .* missing")
            figure = draw(*args, **kwargs)
            # Without white around it, unless its axes were put where the page expects them.
            box = "tight" if figure.get_layout_engine() else None
            figure.savefig(picture, format="svg", bbox_inches=box, metadata={"Date": None})
        return _data_uri("image/svg+xml", picture.getvalue())

    return uri


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


@_as_svg
def confusion(counts: np.ndarray, names: Sequence[str]) -> Figure:
    """Draws a confusion matrix, coloured by each true class's shares.

    Args:
        counts: int [K, K]: videos of class row that were predicted as class column.
        names: K class names; shown up to MAX_NAMED classes.

    Returns:
        Data URI of an SVG, at most 9 inches wide; rows without videos are grey.
    """
    num_classes, totals = len(counts), counts.sum(axis=1, keepdims=True)
    shares = np.full(counts.shape, np.nan)
    np.divide(counts, totals, out=shares, where=totals > 0)
    side = float(np.clip(3 + 0.4 * num_classes, 4.5, 9))
    figure = Figure((side, side), layout="constrained")
    axes = figure.add_subplot(xlabel="predicted", ylabel="true")
    axes.set_facecolor("#eeeeee")
    # The root: a share of 2 % can still be seen.
    image = axes.imshow(shares, "Blues", norm=PowerNorm(0.5, 0, 1), interpolation="none")
    axes.spines[:].set_visible(True)
    if num_classes <= MAX_NAMED:
        labels = [_label(k, name) for k, name in enumerate(names)]
        size = min(9, 350 / num_classes)
        options = {"parse_math": False, "fontsize": size}  # a dollar is a dollar
        axes.set_xticks(range(num_classes), labels, rotation=90, **options)
        axes.set_yticks(range(num_classes), labels, **options)
        axes.tick_params(length=0)
    else:
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(25, steps=[1, 2, 5, 10], integer=True))
    if num_classes <= MAX_COUNTED:
        _write_counts(axes, counts, shares, cell_pt=side * 72 * 0.75 / num_classes)
    _add_scale(figure, image, axes)
    return figure


def _write_counts(axes, counts: np.ndarray, shares: np.ndarray, cell_pt: float) -> None:
    size = min(9, cell_pt / (0.85 * len(str(counts.max()))))
    for row, column in np.argwhere(counts):
        colour = "white" if shares[row, column] > 0.35 else _INK
        where = {"ha": "center", "va": "center", "fontsize": size, "color": colour}
        axes.text(column, row, str(counts[row, column]), **where)


def _label(index: int, name: str) -> str:
    """Cuts a long name short, behind its number: what is left may not tell it from others."""
    return name if len(name) <= _MAX_NAME else f"{index} {name[: _MAX_NAME - 4]}…"


def _percents() -> PercentFormatter:
    return PercentFormatter(1, decimals=0, symbol=" %")


def _add_scale(figure: Figure, image, axes) -> None:
    scale = figure.colorbar(
        image, ax=axes, shrink=0.6, aspect=40, ticks=[0, 0.05, 0.2, 0.5, 1], format=_percents()
    )
    scale.set_label("share of the true class's videos")
    scale.solids.set_rasterized(True)  # one picture instead of 256 shapes
    scale.outline.set_visible(False)


def learning(history: Sequence[Mapping]) -> str | None:
    """Draws loss, top-1 and learning rate against the step.

    Args:
        history: rows of metrics.jsonl, with "step" and "split"; long ones are averaged over
            neighbouring rows.

    Returns:
        Data URI of an SVG with a panel for each of the three that some row has; None: none has.
    """
    keys, splits = ("loss", "top1", "learning_rate"), ("train", "test")
    panels = {key: [_points(history, split, key) for split in splits] for key in keys}
    panels = {key: curves for key, curves in panels.items() if any(map(len, curves))}
    return _draw_learning(panels) if panels else None


@_as_svg
def _draw_learning(panels: Mapping[str, Sequence[np.ndarray]]) -> Figure:
    figure = Figure((10, 2.8), layout="constrained")
    widths = [1.6 if key == "learning_rate" else 3 for key in panels]
    grid = figure.add_gridspec(1, len(panels), width_ratios=widths)
    for place, (key, curves) in zip(grid, panels.items()):
        title = {"top1": "top-1"}.get(key, key.replace("_", " "))
        axes = figure.add_subplot(place, title=title, xlabel="step")
        for split, points, (colour, marker, _) in zip(("train", "test"), curves, LINES):
            if len(points):
                # Tests are rare: perhaps one at the end, which is no line.
                marker = marker if split == "test" or len(points) == 1 else None
                axes.plot(*points.T, color=colour, marker=marker, ms=4, lw=1.3, label=split)
        if key != "learning_rate":
            # Beside the title: no curve runs there.
            axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)
        axes.grid(axis="y", lw=0.6)
        axes.set_ylim(0, 1.02 if key == "top1" else None)
        axes.yaxis.set_major_formatter(
            _percents() if key == "top1" else StrMethodFormatter("{x:g}")
        )
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    return figure


def _points(history: Sequence[Mapping], split: str, key: str) -> np.ndarray:
    """Returns float [N, 2]: step and value, at most _MAX_POINTS, finite values alone."""
    rows = [(r["step"], r[key]) for r in history if r["split"] == split and r.get(key) is not None]
    points = np.array(rows, float).reshape(-1, 2)
    points = points[np.isfinite(points).all(axis=1)]
    if len(points) <= _MAX_POINTS:
        return points
    return np.stack([group.mean(axis=0) for group in np.array_split(points, _MAX_POINTS)])


@_as_svg
def frame_curves(
    curves: Mapping[str, np.ndarray], lines: Mapping[str, tuple], num_frames: int, chance: float
) -> Figure:
    """Draws the probability of the label by frame, a line per run.

    Args:
        curves: run -> float [T]; prediction t of T covers frames t * F / T to (t + 1) * F / T.
        lines: run -> its entry of LINES.
        num_frames: F, frames that the models saw.
        chance: probability of the label for a model that knows nothing.

    Returns:
        Data URI of an SVG whose axis spans AXIS_LEFT to AXIS_LEFT + AXIS_WIDTH of its width.
    """
    figure = Figure((10, 2.6))
    axes = figure.add_axes((AXIS_LEFT, 0.18, AXIS_WIDTH, 0.78))
    axes.axhline(chance, color="#777777", ls=(0, (4, 3)), lw=1)
    for name, values in curves.items():
        colour, marker, _ = lines[name]
        centres = (np.arange(len(values)) + 0.5) * num_frames / len(values) + 0.5
        axes.plot(centres, values, color=colour, marker=marker, ms=5, lw=1.6, clip_on=False)
    axes.set(xlim=(0.5, num_frames + 0.5), ylim=(0, 1), xlabel="frame")
    axes.set_ylabel("probability of the label")
    axes.xaxis.set_major_locator(MaxNLocator(16, integer=True))
    axes.grid(axis="y", lw=0.6)
    return figure


def strip(frames: np.ndarray, max_columns: int = 16) -> tuple[str, int, int]:
    """Lays the frames of a clip side by side.

    Args:
        frames: uint8 [T, H, W, 3].
        max_columns: more frames take further rows, of about equal length.

    Returns:
        Data URI of a JPEG, the number of columns, and the width of a frame in it in pixels.
    """
    factor = math.ceil(max(frames.shape[1:3]) / _MAX_SIDE_PX)
    height, width = (side // factor for side in frames.shape[1:3])
    blocks = frames[:, : height * factor, : width * factor]
    blocks = blocks.reshape(len(frames), height, factor, width, factor, 3)
    small = blocks.mean(axis=(2, 4)).round().astype(np.uint8)
    num_rows = math.ceil(len(small) / max_columns)
    num_columns = math.ceil(len(small) / num_rows)
    gap, missing = (max(1, width // 40),) * 2, num_rows * num_columns - len(small)
    small = np.pad(small, ((0, 0), gap, gap, (0, 0)), constant_values=255)
    small = np.pad(small, ((0, missing), (0, 0), (0, 0), (0, 0)), constant_values=255)
    grid = small.reshape(num_rows, num_columns, *small.shape[1:]).transpose(0, 2, 1, 3, 4)
    pixels = grid.reshape(num_rows * small.shape[1], num_columns * small.shape[2], 3)
    picture = io.BytesIO()
    # Full colour resolution: a frame may have 28 pixels.
    options = {"quality": 88, "subsampling": 0}
    matplotlib.image.imsave(picture, pixels, format="jpg", pil_kwargs=options)
    return _data_uri("image/jpeg", picture.getvalue()), num_columns, width


def spread(frames: np.ndarray, max_frames: int = 16) -> np.ndarray:
    """Returns at most `max_frames` of frames [T, ...], each the middle of an equal part of them."""
    num_shown = min(len(frames), max_frames)
    return frames[((np.arange(num_shown) + 0.5) * len(frames) / num_shown).astype(int)]
