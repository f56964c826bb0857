"""Where metrics go: a JSONL file and TensorBoard events."""

import json
import os
import pathlib

import tensorboardX


class MetricWriter:
    """Appends metrics by step; a resumed run drops what it is about to repeat.

    Attributes:
        path: the JSONL file, one object per line with "step" and "split".
    """

    def __init__(self, workdir: pathlib.Path, first_step: int):
        """Opens the files of a run that goes on after `first_step` steps."""
        self.path = workdir / "metrics.jsonl"
        if self.path.exists():
            kept = [row for row in read_metrics(self.path) if row["step"] <= first_step]
            scratch = self.path.with_suffix(".tmp")
            scratch.write_text("".join(json.dumps(row) + "\n" for row in kept))
            os.replace(scratch, self.path)
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
