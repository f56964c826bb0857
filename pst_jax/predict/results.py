"""What was predicted, as a table, JSON, CSV and features."""

import contextlib
import csv
import dataclasses
import io
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tabulate import tabulate

from pst_jax import files
from pst_jax.files import TERMINAL
from pst_jax.predict.predictor import Prediction
from pst_jax.predict.timeline import Segment


@dataclasses.dataclass(frozen=True)
class Result:
    """What became of one video.

    Attributes:
        path: the video.
        probabilities: float32 [K]; None where it could not be read, or by segments.
        features: float32 [views, C], where they were asked for.
        segments: what a window saw that slid over it.
        seconds: that this took.
        problem: why it could not be read, or where it has segments, its overlay not be written;
            "" where they could.
    """

    path: str
    probabilities: np.ndarray | None = None
    features: np.ndarray | None = None
    segments: tuple[Segment, ...] = ()
    seconds: float | None = None
    problem: str = ""


def write(
    found: Sequence[Result],
    labels: tuple[str, ...],
    topk: int,
    header: Mapping[str, str | None],
    json_file: str | None = None,
    csv_file: str | None = None,
    features_file: str | None = None,
) -> None:
    """Writes results where they were asked for; to the terminal as a table unless one goes there.

    The terminal comes first; where one output fails the others are written.

    Args:
        found: of some videos.
        labels: the name of each class.
        topk: labels per video.
        header: what results are traced by, see `as_json`.
        json_file: name of the file, "-" for the terminal, None for none.
        csv_file: likewise.
        features_file: an .npz: path [V], features float32 [V, views, C] of the videos read.

    Raises:
        ValueError: naming every output that could not be written.
    """
    rows = list(_rows(found, labels, topk))
    shown = [
        row | {name: files.printable(row[name]) for name in ("video", "label")} for row in rows
    ]
    texts = {
        TERMINAL: as_table(found, shown) + "\n",  # unless another takes its place
        json_file: as_json(found, labels, topk, header),
        csv_file: as_csv(shown if csv_file == TERMINAL else rows),
    }
    problems: list[str] = []
    for name, text in texts.items():
        with _noting(problems, name):
            if name == TERMINAL:
                print(text, end="", flush=True)
            elif name:
                with files.replacing(pathlib.Path(name)) as scratch:
                    scratch.write_text(text, encoding="utf-8", errors="backslashreplace")
    if features_file:
        with _noting(problems, features_file):
            _write_features(features_file, found)
    if problems:
        raise ValueError("; ".join(problems))


@contextlib.contextmanager
def _noting(problems: list[str], name: str | None) -> Iterator[None]:
    """Notes why an output cannot be written, and goes on."""
    try:
        yield
    except (OSError, ValueError) as error:
        what = "the terminal" if name == TERMINAL else name
        problems.append(f"{what} cannot be written: {getattr(error, 'strerror', None) or error}")


def _write_features(name: str, found: Sequence[Result]) -> None:
    read = [result for result in found if result.features is not None]
    with files.replacing(pathlib.Path(name)) as scratch, scratch.open("wb") as file:
        np.savez(
            file,
            path=np.array([result.path for result in read]),
            features=np.array([result.features for result in read]),
        )


def _top(probabilities: np.ndarray, labels: tuple[str, ...], topk: int) -> list[dict[str, Any]]:
    prediction = Prediction(labels, probabilities)
    return [
        {
            "label": labels[number],
            "class": number,
            "probability": round(float(probabilities[number]), 6),
        }
        for number in prediction.order(topk)
    ]


def _rows(found: Sequence[Result], labels: tuple[str, ...], topk: int) -> Iterator[dict[str, Any]]:
    """Yields a row per video, or segment of one, and rank."""
    for result in found:
        parts = [({}, result.probabilities)] if result.probabilities is not None else []
        parts += [(_times(s), s.probabilities) for s in result.segments]
        for times, probabilities in parts:
            for rank, top in enumerate(_top(probabilities, labels, topk), start=1):
                yield {"video": result.path, **times, "rank": rank, **top}


def _times(segment: Segment) -> dict[str, float]:
    """In seconds, to the millisecond."""
    return {"start_s": round(segment.start_s, 3), "end_s": round(segment.end_s, 3)}


def as_json(
    found: Sequence[Result],
    labels: tuple[str, ...],
    topk: int,
    header: Mapping[str, str | None],
) -> str:
    """Formats results for programs: the header, and "videos".

    Each has its "path" and "top", "segments" or "problem". The header says by what they were made:
    "model", "views" ("4x3") and "average", the last two None where a window slid over the video.
    """
    videos = []
    for result in found:
        video = {"path": result.path}
        if result.problem:
            video["problem"] = result.problem
        if result.probabilities is not None:
            video["top"] = _top(result.probabilities, labels, topk)
        if result.segments:
            video["segments"] = [
                _times(s) | {"top": _top(s.probabilities, labels, topk)} for s in result.segments
            ]
            video["seconds"] = round(result.seconds, 3)
        videos.append(video)
    return json.dumps({**header, "videos": videos}, indent=2) + "\n"


def as_csv(rows: Sequence[dict[str, Any]]) -> str:
    """Formats rows as comma-separated values with a header."""
    columns = ["video", "start_s", "end_s", "rank", "label", "class", "probability"]
    if not any("start_s" in row for row in rows):
        columns = [column for column in columns if not column.endswith("_s")]
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_table(found: Sequence[Result], rows: Sequence[dict[str, Any]]) -> str:
    """Formats results for people: videos in turn, then what went wrong, and the speed."""
    shown = []
    for row in rows:
        time = f"{_clock(row['start_s'])}-{_clock(row['end_s'])}" if "start_s" in row else None
        is_first = row["rank"] == 1
        cells = [row["video"] if is_first else ""]
        cells += [time if is_first else ""] if time else []
        shown.append([*cells, row["label"], f"{row['probability']:.1%}"])
    headers = ["video", "time", "label", "probability"]
    if not any("start_s" in row for row in rows):
        headers.remove("time")
    lines = []
    if shown:
        align = ["left"] * (len(headers) - 1) + ["right"]
        lines.append(tabulate(shown, headers, colalign=align, disable_numparse=True))
    for result in found:
        if result.problem:
            what = "" if result.segments else "cannot be read: "
            lines.append(files.printable(f"{what}{result.path}: {result.problem}"))
    for result in found:
        if result.segments:
            length = result.segments[-1].end_s
            lines.append(
                f"{length:.1f} s of video in {result.seconds:.1f} s: "
                f"{length / result.seconds:.2f} times real time"
            )
    return "\n".join(lines)


def _clock(seconds: float) -> str:
    """Formats a time as h:mm:ss.s, hours where there are any."""
    minutes, rest = divmod(round(seconds, 1), 60)  # first, so that no minute has 60 seconds
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"
