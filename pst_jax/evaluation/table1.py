"""Table 1 (e) of the PST paper: what each space-time attention costs, and its training memory.

    python -m pst_jax.evaluation.table1

Each row's training step is compiled for the device at hand, and not run: the memory is the
compiled program's, for one clip, and stands beside the paper's as a ratio to the 2D network.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from absl import app, flags
from tabulate import tabulate
from tqdm import tqdm

from pst_jax.evaluation import benchmark, cost
from pst_jax.models.variants import create_model


@dataclasses.dataclass(frozen=True)
class Row:
    """A row: the paper's title, GFLOPs and GB of training memory, and our model."""

    title: str
    paper_gflops: int
    paper_gb: float
    model: str


# Source: PST (ECCV 2022), Table 1 (e); Swin-T, 32 frames.
ROWS = (
    Row("average pool (2D)", 72, 3.7, "swin_tiny_avgpool"),
    Row("joint", 106, 20.2, "swin_tiny_joint"),
    Row("local", 88, 11.0, "swin_tiny_local"),
    Row("sparse", 72, 4.0, "swin_tiny_sparse"),
    Row("channel only", 72, 3.7, "swin_tiny_channel"),
    Row("patch only", 72, 3.7, "swin_tiny_patch"),
    Row("PST", 72, 3.7, "pst_tiny"),
)


def measure(
    num_frames: int = 32, size_px: int = 224, overrides: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Compiles the training step of every row.

    Args:
        num_frames: of a clip.
        size_px: height and width of a clip.
        overrides: further ones of `create_model`, of every row's.

    Returns:
        A dict by row: "row", "gflops" (multiply-adds, forward), "paper_gflops", "peak_bytes" of
        the compiled step for one clip, "ratio" to the first row's, "paper_ratio" likewise.
    """
    figures = []
    for row in tqdm(ROWS, desc="compile", unit="row", disable=None):
        model = create_model(row.model, num_frames=num_frames, **(overrides or {}))
        program = benchmark.compile_train(row.title, model, 1, size_px)
        peak = program.analysis["peak_bytes"]
        first = figures[0]["peak_bytes"] if figures else peak
        figures.append(
            {
                "row": row.title,
                "gflops": cost.count(model, size_px).total / 1e9,
                "paper_gflops": row.paper_gflops,
                "peak_bytes": peak,
                "ratio": peak / first,
                "paper_ratio": row.paper_gb / ROWS[0].paper_gb,
            }
        )
    return figures


def as_text(figures: list[dict[str, Any]]) -> str:
    """Formats the result of `measure` as a Markdown table."""
    headers = ["row", "GFLOPs", "paper GFLOPs", "training MB", "over 2D", "paper: over 2D"]
    cells = [
        [
            row["row"],
            f"{row['gflops']:.3f}",
            row["paper_gflops"],
            f"{row['peak_bytes'] / 1e6:.0f}",
            f"{row['ratio']:.2f}",
            f"{row['paper_ratio']:.2f}",
        ]
        for row in figures
    ]
    align = ["left", *["right"] * (len(headers) - 1)]
    return tabulate(cells, headers, tablefmt="github", colalign=align, disable_numparse=True)


def main(argv: list[str]) -> None:
    """Prints the table."""
    if len(argv) > 1:
        raise app.UsageError(f"not understood: {' '.join(argv[1:])}")
    print(as_text(measure(FRAMES.value, SIZE.value)))


if __name__ == "__main__":
    FRAMES = flags.DEFINE_integer("frames", 32, "Frames of a clip.", lower_bound=1)
    SIZE = flags.DEFINE_integer("size", 224, "Height and width of a clip.", lower_bound=1)
    app.run(main)
