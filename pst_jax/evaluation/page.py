"""An evaluation as one HTML page that needs nothing else: no script, no file, no network."""

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

import jinja2
import numpy as np

from pst_jax.evaluation import figures

_AVERAGES = {"prob": "mean of probabilities", "logit": "mean of logits", "sum": "sum of logits"}
_MAX_WORST, _MAX_UNREADABLE, _MAX_OPEN_CLASSES = 8, 100, 60
_FRAME_PX = 84  # the widest a frame of a strip is shown
# No document can hold these: controls, halves of surrogate pairs (file names that are no UTF-8).
_UNSHOWABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


@dataclasses.dataclass(frozen=True)
class SeenClip:
    """A clip that went wrong, as the model saw it.

    Attributes:
        video_id: names the video.
        label: its class.
        predicted: the class that was predicted.
        label_probability: of the label, by this view.
        predicted_probability: of the predicted class, by this view.
        frames: uint8 [T, S, S, 3].
    """

    video_id: str
    label: int
    predicted: int
    label_probability: float
    predicted_probability: float
    frames: np.ndarray


@dataclasses.dataclass(frozen=True)
class FrameCurves:
    """Predictions of models by frame of one clip.

    Attributes:
        video_id: names the video.
        label: its class.
        frames: uint8 [F, S, S, 3], what the models saw.
        curves: name of the run -> float [T], probability of the label by frame after embedding;
            T may be F or a part of it, and differ between runs.
    """

    video_id: str
    label: int
    frames: np.ndarray
    curves: dict[str, np.ndarray]


def render(
    report: dict[str, Any],
    history: Sequence[dict],
    worst: Sequence[SeenClip],
    curves: Sequence[FrameCurves],
) -> str:
    """Renders the page of an evaluation.

    Args:
        report: what report.json holds; "run", the name of the run, heads the page where given.
        history: rows of metrics.jsonl; empty: no learning curves.
        worst: clips that went wrong, the first of them shown.
        curves: clips with predictions by frame; empty: that section is left out.

    Returns:
        A whole HTML document; the same inputs give the same text.
    """
    counts, names = np.array(report["confusion"]), class_names(report)
    return _template().render(
        figures=figures,
        report=report,
        names=names,
        rows=_rows(report),
        settings=_settings(report),
        averages=_AVERAGES,
        max_unreadable=_MAX_UNREADABLE,
        confusion=figures.confusion(counts, [_showable(name) for name in names]),
        pairs=confused_pairs(counts),
        num_wrong=int(counts.sum() - np.trace(counts)),
        classes=_classes(report["per_class"], counts, names),
        max_open=_MAX_OPEN_CLASSES,
        worst=[(clip, *_strip(clip.frames)) for clip in worst[:_MAX_WORST]],
        learning=figures.learning(history),
        curves=_draw_curves(curves, len(names)),
    )


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pst_jax.evaluation", "."),
        autoescape=True,  # by the name's ending it would be off
        undefined=jinja2.StrictUndefined,
        finalize=_showable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "views": _views}
    return environment.get_template("page.html.jinja")


def class_names(report: dict[str, Any]) -> list[str]:
    """Returns a name for each of the report's classes: "class 3" where it has none.

    Raises:
        ValueError: if there are more names than classes.
    """
    given, num_classes = list(report.get("class_names") or []), len(report["per_class"])
    if len(given) > num_classes:
        raise ValueError(
            f"class_names has {len(given)} names for {num_classes} classes: give as many, in the "
            "order of the labels"
        )
    return given + [f"class {k}" for k in range(len(given), num_classes)]


def confused_pairs(counts: Any, limit: int = 10) -> list[tuple[int, int, int, float]]:
    """Finds what was mistaken for what, most often first.

    Args:
        counts: int [K, K]: videos of class row that were predicted as class column.
        limit: pairs at most.

    Returns:
        (true class, predicted class, videos, their share of the true class's videos); equal
        numbers by share, then by class.
    """
    counts = np.asarray(counts)
    totals = counts.sum(axis=1)
    pairs = [
        (t, p, int(counts[t, p]), float(counts[t, p] / totals[t]))
        for t, p in np.argwhere(counts).tolist()
        if t != p
    ]
    return sorted(pairs, key=lambda pair: (-pair[2], -pair[3], *pair[:2]))[:limit]


def _rows(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Lists the evaluations; the headline's is marked, and followed by its shuffled twin."""

    def is_headline(row):
        return all(row[key] == report[key] for key in ("views", "average"))

    evaluations = list(report.get("evaluations") or [])
    if not any(map(is_headline, evaluations)):
        evaluations.insert(0, report)
    rows = []
    for row in evaluations:
        rows.append({**row, "is_headline": is_headline(row), "is_shuffled": False})
        if is_headline(row) and report.get("top1_shuffled") is not None:
            shuffled = {k: report.get(f"{k}_shuffled") for k in ("top1", "within_pair")}
            rows.append({**row, **dict.fromkeys(("top5", "mean_class")), **shuffled})
            rows[-1] |= {"is_headline": False, "is_shuffled": True}
    return rows


def _settings(report: dict[str, Any]) -> list[tuple[str, str]]:
    """Lists what made the figures: (what, value), without what the report lacks."""
    versions = ", ".join(f"{k} {v}" for k, v in report.get("versions", {}).items()) or None
    shown = [
        ("model", report.get("model"), "{}"),
        ("compared with", report.get("against"), "{}"),
        ("hash of the config", report.get("config_hash"), "{}"),
        ("test videos", _fingerprint(report.get("fingerprint")), "{}"),
        ("training videos", _fingerprint(report.get("fingerprint_train")), "{}"),
        ("seed", report.get("seed"), "{}"),
        ("training step", report.get("step"), "{:,}"),
        ("parameters", report.get("params"), "{:,}"),
        ("GFLOPs per clip (multiply-adds)", report.get("gflops"), "{:.3f}"),
        ("ms per clip (forward, one per device)", report.get("ms_per_clip"), "{:.2f}"),
        ("device", report.get("device"), "{}"),
        ("versions", versions, "{}"),
    ]
    return [(what, text.format(value)) for what, value, text in shown if value is not None]


def _fingerprint(text: str | None) -> str | None:
    number, _, digest = (text or "").partition(":")
    return f"{int(number):,}, list's SHA-256 {digest}" if digest else text


def _classes(accuracies: Sequence, counts: np.ndarray, names: Sequence[str]) -> list[tuple]:
    """Returns (class, name, accuracy or None, hits, videos), the worst first, None last."""
    hits, totals = np.diag(counts).tolist(), counts.sum(axis=1).tolist()
    rows = [
        (k, names[k], None if _is_missing(value) else float(value), hits[k], totals[k])
        for k, value in enumerate(accuracies)
    ]
    return sorted(rows, key=lambda row: (row[2] is None, row[2] or 0, row[0]))


def _strip(frames: np.ndarray, **options) -> tuple[str, int, bool]:
    """Returns a strip's data URI, the most pixels it is shown wide, whether it is magnified."""
    uri, num_columns, width_px = figures.strip(frames, **options)
    return uri, num_columns * _FRAME_PX, width_px < _FRAME_PX


def _draw_curves(curves: Sequence[FrameCurves], num_classes: int) -> list[tuple]:
    """Returns (clip, strip's data URI, magnified?, plot's data URI, runs with their lines)."""
    # A run keeps its colour through the page, whichever runs a clip has.
    runs = dict.fromkeys(name for clip in curves for name in clip.curves)
    lines = {run: figures.LINES[i % len(figures.LINES)] for i, run in enumerate(runs)}
    drawn = []
    for clip in curves:
        uri, _, is_magnified = _strip(figures.spread(clip.frames))
        plot = figures.frame_curves(clip.curves, lines, len(clip.frames), 1 / num_classes)
        drawn.append((clip, uri, is_magnified, plot, {run: lines[run] for run in clip.curves}))
    return drawn


def _is_missing(value: Any) -> bool:
    return value is None or jinja2.is_undefined(value) or math.isnan(value)


def _percent(value: Any, digits: int = 1) -> str:
    """Formats a share in [0, 1] as a percentage without its sign; a dash where there is none."""
    return "–" if _is_missing(value) else f"{value * 100:.{digits}f}"


def _views(text: str) -> str:
    """Spells CLIPSxCROPS."""
    clips, crops = (int(number) for number in text.split("x"))
    return f"{clips} clip{'s' * (clips > 1)} × {crops} crop{'s' * (crops > 1)}"


def _showable(value: Any) -> Any:
    # What is escaped already, as a macro's output, is no plain string.
    return _UNSHOWABLE.sub("\ufffd", value) if type(value) is str else value
