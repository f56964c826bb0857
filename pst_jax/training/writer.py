"""Where metrics go, a JSONL file and TensorBoard events; and the list of replaced videos."""

import json
import pathlib
import re
from collections.abc import Sequence

import tensorboardX

from pst_jax import files

METRICS, UNREADABLE = "metrics.jsonl", "unreadable.txt"
_TEXT = {"encoding": "utf-8", "errors": "surrogateescape"}  # a file name need not be UTF-8


class UnreadableList:
    """Lists the videos that training replaced; a resumed run drops what it is about to repeat.

    Attributes:
        path: the text file, a line `step N: PATH: REASON` for each.
        count: how many there are.
    """

    def __init__(self, workdir: pathlib.Path, first_step: int):
        """Takes up the list of a run that goes on after `first_step` steps."""
        self.path = workdir / UNREADABLE
        kept = read_unreadable(workdir, first_step)
        if self.path.exists():
            with files.replacing(self.path) as scratch, scratch.open("w", **_TEXT) as file:
                file.writelines(line + "\n" for line in kept)
        self.count = len(kept)

    def add(self, step: int, problems: Sequence[str]) -> None:
        """Appends what was found in the batch of a step."""
        with self.path.open("a", **_TEXT) as file:
            file.writelines(f"step {step}: {problem}\n" for problem in problems)
        self.count += len(problems)


def read_unreadable(workdir: pathlib.Path, last_step: int) -> list[str]:
    """Reads the lines of a run's list up to a step; none where nothing was replaced."""
    path = workdir / UNREADABLE
    if not path.exists():
        return []
    found = [re.match(r"step (\d+): .*", line) for line in path.read_text(**_TEXT).split("\n")]
    return [match[0] for match in found if match and int(match[1]) <= last_step]


class MetricWriter:
    """Appends metrics by step; a resumed run drops what it is about to repeat.

    Attributes:
        path: the JSONL file, one object per line with "step" and "split".
    """

    def __init__(self, workdir: pathlib.Path, first_step: int):
        """Opens the files of a run that goes on after `first_step` steps."""
        self.path = workdir / METRICS
        if self.path.exists():
            kept = [row for row in read_metrics(self.path) if row["step"] <= first_step]
            with files.replacing(self.path) as scratch:
                scratch.write_text("".join(json.dumps(row) + "\n" for row in kept))
        self._file = self.path.open("a")
        self._events = tensorboardX.SummaryWriter(
            str(workdir / "tensorboard"), purge_step=first_step + 1
        )

    def write(self, step: int, split: str, values: dict[str, float]) -> None:
        """Writes one line of metrics, and an event for each."""
        self._file.write(json.dumps({"step": step, "split": split, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._events.add_scalar(f"{split}/{name}", value, step)

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(self, *error) -> None:
        """Flushes and closes both files."""
        self._file.close()
        self._events.close()


def read_metrics(path: pathlib.Path) -> list[dict]:
    """Reads a JSONL of metrics; a last line that a kill cut short is left out."""
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
