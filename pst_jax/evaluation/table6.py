"""Table 6 of the PST paper, measured: PST beside the 2D Swin and Video-Swin of its size.

    python -m pst_jax.evaluation.table6 --names swin2d_t,video_swin_t,pst_t --rounds 20

The rows take turns in one run (see `benchmark`), all of them in memory. Beside them stand the
paper's GFLOPs and its latencies on a V100; its columns of memory and throughput, and PST-B's
latency, were not at hand.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import numpy as np
from absl import app, flags
from tabulate import tabulate
from tqdm import tqdm

from pst_jax.evaluation import benchmark, cost
from pst_jax.huge_pages import use_huge_pages
from pst_jax.models.variants import create_model, nearest


@dataclasses.dataclass(frozen=True)
class Row:
    """A row: the paper's title and figures (None: not at hand), and how its model is made.

    `baseline` is the key of the 2D network of its size.
    """

    title: str
    baseline: str
    paper_gflops: float
    paper_ms: float | None
    model: str
    overrides: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def build(self, num_frames: int = 32, dtype: str = "float32") -> nn.Module:
        """Makes the model."""
        return create_model(self.model, num_frames=num_frames, dtype=dtype, **self.overrides)


# Source: PST (ECCV 2022), Table 6.
ROWS = {
    "swin2d_t": Row("2D Swin-T", "swin2d_t", 72, 29, "swin2d_tiny"),
    "video_swin_t": Row("Video-Swin-T", "swin2d_t", 106, 62, "videoswin_tiny_16"),
    "pst_t": Row("PST-T", "swin2d_t", 72, 31, "pst_tiny"),
    "swin2d_b": Row("2D Swin-B", "swin2d_b", 247, 71, "swin2d_base"),
    "video_swin_b": Row("Video-Swin-B", "swin2d_b", 321, 147, "videoswin_base_16"),
    "pst_b": Row("PST-B", "swin2d_b", 247, None, "pst_base"),
    "pst_b_dagger": Row("PST-B†", "swin2d_b", 252, 81, "pst_base_dagger"),
}
# Column, key of the figures, unit, format.
_COLUMNS = (
    ("Mparams", "params", 1e6, ".2f"),
    ("GFLOPs", "gflops", 1, ".3f"),
    ("peak MB", "peak_bytes", 1e6, ".1f"),
    ("ms", "seconds", 1e-3, ".2f"),
    ("clips/s", "clips_per_second", 1, ".2f"),
    ("ms / 2D [95 %]", "ratio", None, None),
    ("paper GFLOPs", "paper_gflops", 1, "g"),
    ("paper ms (V100)", "paper_ms", 1, "g"),
    ("paper ms / 2D", "paper_ratio", 1, ".2f"),
)


def measure(
    rows: Mapping[str, Row],
    rounds: int,
    *,
    mode: str = "forward",
    batch: int = 1,
    num_frames: int = 32,
    size_px: int = 224,
    dtype: str = "float32",
) -> dict[str, Any]:
    """Compiles all rows, and times them in turn on one device.

    Args:
        rows: by key.
        rounds: timed runs of each; at least 2.
        mode: of `benchmark.MODES`.
        batch: clips per run.
        num_frames: of a clip.
        size_px: height and width of a clip.
        dtype: compute dtype.

    Returns:
        JSON values: "rows", by key: "params", "gflops" (multiply-adds of a clip's forward),
        "peak_bytes", median "seconds" of a run, "clips_per_second", "ratio" of its seconds to its
        baseline's (None without one), and the paper's; "noise", the ratio of the first row's
        seconds to themselves; "frames".
    """
    models = {key: row.build(num_frames, dtype) for key, row in rows.items()}
    programs = [
        benchmark.MODES[mode](key, model, batch, size_px)
        for key, model in tqdm(models.items(), desc="compile", unit="row", disable=None)
    ]
    runs = [program.run for program in programs]
    *columns, again = benchmark.interleave([*runs, runs[0]], rounds).T
    seconds, figures = dict(zip(rows, columns)), {}
    for program, (key, row) in zip(programs, rows.items()):
        counted, median = cost.count(models[key], size_px), float(np.median(seconds[key]))
        base = rows.get(row.baseline) if row.baseline != key else None
        figures[key] = {
            "row": row.title,
            "params": counted.params,
            "gflops": counted.total / 1e9,
            "peak_bytes": program.analysis["peak_bytes"],
            "seconds": median,
            "clips_per_second": batch / median,
            "ratio": base and benchmark.paired_ratio(seconds[key], seconds[row.baseline])._asdict(),
            "paper_gflops": row.paper_gflops,
            "paper_ms": row.paper_ms,
            "paper_ratio": row.paper_ms / base.paper_ms if base and row.paper_ms else None,
        }
    noise = benchmark.paired_ratio(columns[0], again)
    return {"frames": num_frames, "rows": figures, "noise": noise._asdict()}


def as_text(figures: dict[str, Any]) -> str:
    """Formats the result of `measure` as a Markdown table."""

    def cell(value, unit, form):
        if value is None:
            return "-"
        return str(benchmark.Ratio(**value)) if form is None else f"{value / unit:{form}}"

    rows = list(figures["rows"].values())
    cells = [[row["row"], *(cell(row[key], *how) for _, key, *how in _COLUMNS)] for row in rows]
    headers = ["row", *(column for column, *_ in _COLUMNS)]
    align = ["left", *["right"] * len(_COLUMNS)]
    table = tabulate(cells, headers, tablefmt="github", colalign=align, disable_numparse=True)
    noise = benchmark.Ratio(**figures["noise"])
    return f"{table}\n\nRatio of {rows[0]['row']} to itself: {noise}"


def choose(names: list[str] | None) -> dict[str, Row]:
    """Returns the rows of these keys, in the table's order; None: all.

    Raises:
        ValueError: for an unknown key, naming those that are known.
    """
    for name in names or ():
        if name not in ROWS:
            raise ValueError(f"names has {name!r}, which is no row{nearest(name, ROWS)}")
    return {key: row for key, row in ROWS.items() if not names or key in names}


def main(argv: list[str]) -> None:
    """Prints the table."""
    if len(argv) > 1:
        raise app.UsageError(f"not understood: {' '.join(argv[1:])}; choose rows with --names")

    def work(options):
        return measure(
            choose(options.names),
            options.rounds,
            mode=options.mode,
            batch=options.batch,
            num_frames=options.frames or 32,
            size_px=options.size,
            dtype=options.dtype,
        )

    benchmark.run_command(work, as_text)


if __name__ == "__main__":
    use_huge_pages()
    benchmark.define_flags(rounds=10)
    flags.DEFINE_list("names", None, f"Rows to measure, of {', '.join(ROWS)}; default: all.")
    app.run(main)
