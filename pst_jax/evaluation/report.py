"""The report of a trained model, and the table that sets reports side by side.

`python -m pst_jax.evaluation.report RUN [RUN ...]` prints the table of runs that eval.py has
evaluated.
"""

import importlib.metadata
import json
import os
import pathlib
import platform
from typing import Any

import jax
from absl import app
from ml_collections import ConfigDict
from tabulate import tabulate

from pst_jax import checkpoint, experiment, sharding
from pst_jax.evaluation import cost, views
from pst_jax.training.step import make_predict

FILE = "report.json"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "av", "numpy")


def evaluate(
    config: ConfigDict,
    workdir: str | os.PathLike,
    checkpoint_dir: str | os.PathLike | None = None,
    views_text: str | None = None,
) -> dict[str, Any]:
    """Evaluates the newest checkpoint of a run on its test videos, and writes report.json.

    Args:
        config: that of the run.
        workdir: where report.json goes.
        checkpoint_dir: the run whose checkpoint is evaluated; None: workdir.
        views_text: CLIPSxCROPS; None: `config.eval.views`.

    Returns:
        The report, as written.

    Raises:
        ValueError: if the config, the data or the checkpoint do not fit.
    """
    workdir, section = pathlib.Path(workdir), config.eval
    num_clips, num_crops = experiment.parse_views(views_text or section.views)
    source = pathlib.Path(checkpoint_dir or workdir)
    source = source.parent if source.name == checkpoint.DIRECTORY else source
    built = experiment.build(config)
    mesh = sharding.make_mesh()
    expected = cost.abstract_variables(built.model, built.clip.size_px)["params"]
    params, step = checkpoint.restore_params(source, expected, sharding.replicated(mesh))
    # Shapes tell no twin from its PST, and no pattern from another.
    experiment.check_same(
        json.loads((source / "config.json").read_text()),
        json.loads(config.to_json()),
        str(source),
        lambda key: key.startswith(("model.", "clip.", "seed")),
    )
    predict = make_predict(built.model, mesh)

    def run(**options):
        predictions = views.predict_all(
            predict,
            params,
            built.test_records,
            built.eval_clip,
            mesh,
            batch_size=section.batch_size,
            num_clips=num_clips,
            num_crops=num_crops,
            average=section.average,
            num_threads=config.data.num_threads,
            seed=config.seed,
            **options,
        )
        return predictions, views.accuracy(predictions, section.has_reversed_pairs)

    predictions, figures = run()
    if section.shuffle_frames:
        _, shuffled = run(shuffle_frames=True)
        figures |= {
            f"{name}_shuffled": shuffled[name]
            for name in ("top1", "within_pair")
            if name in shuffled
        }
    counted = cost.count(built.model, built.eval_clip.size_px)
    report = figures | {
        "num_videos": len(built.test_records),
        "num_views": predictions.num_views,
        "num_unreadable": int((~predictions.is_read).sum()),
        "unreadable": list(predictions.problems),
        "views": f"{num_clips}x{num_crops}",
        "average": section.average,
        "params": counted.params,
        "gflops": counted.total / 1e9,
        "ms_per_clip": predictions.seconds_per_clip * 1e3,
        "step": step,
        "seed": config.seed,
        "model": config.model.name,
        "fingerprint": built.fingerprints["test"],
        "device": f"{mesh.size} x {jax.devices()[0].device_kind}",
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES}
        | {"python": platform.python_version()},
    }
    _write(workdir, report)
    return report


def _write(workdir: pathlib.Path, report: dict[str, Any]) -> None:
    workdir.mkdir(parents=True, exist_ok=True)
    scratch = workdir / (FILE + ".tmp")
    scratch.write_text(json.dumps(report, indent=2) + "\n")
    os.replace(scratch, workdir / FILE)


# Column, key of the report, format.
_COLUMNS = (
    ("top-1 %", "top1", lambda v: f"{v * 100:.1f}"),
    ("top-5 %", "top5", lambda v: f"{v * 100:.1f}"),
    ("within pairs %", "within_pair", lambda v: f"{v * 100:.1f}"),
    ("shuffled: top-1 %", "top1_shuffled", lambda v: f"{v * 100:.1f}"),
    ("shuffled: within pairs %", "within_pair_shuffled", lambda v: f"{v * 100:.1f}"),
    ("videos", "num_videos", str),
    ("unreadable", "num_unreadable", str),
    ("params", "params", lambda v: f"{v:,}"),
    ("GFLOPs", "gflops", lambda v: f"{v:.3f}"),
    ("ms / clip", "ms_per_clip", lambda v: f"{v:.2f}"),
    ("step", "step", str),
)


def table(reports: dict[str, dict[str, Any]]) -> str:
    """Sets reports side by side.

    Args:
        reports: name of the run -> its report.

    Returns:
        A Markdown table with a row per run; columns that no run has are left out.
    """
    columns = [column for column in _COLUMNS if any(column[1] in r for r in reports.values())]
    rows = [
        [name, *(show(report[key]) if key in report else "" for _, key, show in columns)]
        for name, report in reports.items()
    ]
    headers = ["run", *(title for title, _, _ in columns)]
    align = ["left", *["right"] * len(columns)]
    return tabulate(rows, headers, tablefmt="github", colalign=align, disable_numparse=True)


def main(argv: list[str]) -> None:
    """Prints the table of the runs given."""
    files = [pathlib.Path(run) / FILE for run in argv[1:]]
    missing = [str(file) for file in files if not file.is_file()]
    if missing or not files:
        raise app.UsageError(
            f"no report: {', '.join(missing)}; evaluate the run first, by eval.py"
            if missing
            else "name the runs to compare: their working directories"
        )
    print(table({file.parent.name: json.loads(file.read_text()) for file in files}))


if __name__ == "__main__":
    app.run(main)
