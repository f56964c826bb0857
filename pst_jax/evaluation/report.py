"""The report of a trained model: report.json, report.html, predictions.npz; and tables of runs.

`python -m pst_jax.evaluation.report RUN [RUN ...]` prints the table of runs that eval.py has
evaluated.
"""

import copy
import dataclasses
import importlib.metadata
import json
import os
import pathlib
import platform
import tempfile
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from absl import app
from jax.sharding import Mesh
from ml_collections import ConfigDict
from tabulate import tabulate

from pst_jax import checkpoint, config_keys, experiment, files, sharding
from pst_jax.data import crashes
from pst_jax.evaluation import benchmark, clips, cost, page, views
from pst_jax.evaluation.averages import parse_views
from pst_jax.training.step import make_predict
from pst_jax.training.writer import METRICS, read_metrics, read_unreadable

FILE, PAGE, PREDICTIONS = "report.json", "report.html", "predictions.npz"
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "av", "numpy")
_ONE_VIEW = (1, 1)
_ITS_OWN = "give the --config and the flags that it was trained with"


@dataclasses.dataclass(frozen=True)
class _Run:
    """A trained run: where it lies, its resolved config, its model, variables and step."""

    directory: pathlib.Path
    config: dict[str, Any]
    model: nn.Module
    variables: dict[str, Any]
    step: int


def evaluate(
    config: ConfigDict,
    workdir: str | os.PathLike,
    checkpoint_dir: str | os.PathLike | None = None,
    views_text: str | None = None,
    against: str | os.PathLike | None = None,
) -> dict[str, Any]:
    """Evaluates the newest checkpoint of a run on its test videos.

    One view per video is always measured, and beside it the views asked for. Writes to `workdir`
    predictions.npz (video_id, label, is_read, and scores [V, K] averaged over the views asked
    for), report.json and report.html.

    Args:
        config: that of the run.
        workdir: where the files go.
        checkpoint_dir: the run whose checkpoint is evaluated; None: workdir.
        views_text: CLIPSxCROPS; None: `config.eval.views`.
        against: another run, evaluated on the same videos, that report.html compares by frame.

    Returns:
        The report, as written.

    Raises:
        ValueError: if the config, the data, a checkpoint or the other run do not fit.
    """
    workdir, config = _check_workdir(workdir), copy.deepcopy(config)
    if views_text is not None:
        config.eval.views = views_text
    section = config.eval
    built = experiment.build(config, is_training=False)
    wanted = parse_views(section.views)
    mesh = sharding.make_mesh()
    run = _restore(pathlib.Path(checkpoint_dir or workdir), built.model, config.clip.size_px, mesh)
    _check_writable(workdir)
    # Shapes tell no twin from its PST, and no pattern from another.
    resolved = json.loads(config.to_json())
    _check_config(run, resolved, ("model.", "clip.", "pixels.", "seed"), _ITS_OWN)
    _check_classes(run, built.class_names)
    same = {
        "fingerprint": built.fingerprints["test"],
        "views": section.views,
        "average": section.average,
    }
    other = None if against is None else _read_other(pathlib.Path(against), run, same, mesh)
    predict = make_predict(built.model, mesh, normalise=built.normalise)
    crash_log = crashes.open_log(workdir, built.clip.decoder)

    def measure(view, **options):
        found = views.predict_all(
            predict,
            run.variables,
            built.test_records,
            built.view_clip(view[1]),
            mesh,
            batch_size=section.batch_size,
            num_clips=view[0],
            num_crops=view[1],
            average=section.average,
            num_threads=config.data.num_threads,
            num_workers=config.data.num_workers,
            crash_log=crash_log,
            seed=config.seed,
            **options,
        )
        return found, views.accuracy(found, section.has_reversed_pairs)

    measured = {view: measure(view) for view in dict.fromkeys((_ONE_VIEW, wanted))}
    predictions, figures = measured[wanted]
    if section.shuffle_frames:
        _, shuffled = measure(wanted, shuffle_frames=True)
        names = [name for name in ("top1", "within_pair") if name in shuffled]
        figures |= {f"{name}_shuffled": shuffled[name] for name in names}
    report = {
        **figures,
        "top1_unreadable_wrong": figures["top1"] * float(predictions.is_read.mean()),
        "evaluations": [_row(view, *found) for view, found in measured.items()],
        **same,
        "num_videos": len(built.test_records),
        "num_views": predictions.num_views,
        "num_unreadable": int((~predictions.is_read).sum()),
        "unreadable": list(predictions.problems),
        "replaced_in_training": read_unreadable(run.directory, run.step),
        "confusion": views.confusion(predictions).tolist(),
        "class_names": built.class_names,
        **_cost(built, predict, run.variables, mesh),
        **_settings(config, built, run, mesh),
        "against": other and other[0].directory.name,
    }
    if jax.process_index() == 0:
        _save(workdir, report, built.test_records, predictions)
        one_view = measured[_ONE_VIEW][0]
        _write_page(workdir, report, built, run, one_view, predictions, other)
    return report


def _check_workdir(workdir: str | os.PathLike) -> pathlib.Path:
    if not os.fspath(workdir):
        raise ValueError("--workdir is empty: name a folder for the report")
    return pathlib.Path(workdir)


def _check_writable(workdir: pathlib.Path) -> None:
    """Raises ValueError, before anything is measured, where the report could not be written."""
    if jax.process_index() != 0:
        return
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=workdir):
            pass
    except OSError as error:
        raise ValueError(f"workdir={str(workdir)!r} cannot be written: {error}") from None


def _restore(directory: pathlib.Path, model: nn.Module, size_px: int, mesh: Mesh) -> _Run:
    """Restores a run, named by its directory or by that of its checkpoints."""
    directory = checkpoint.run_directory(directory)
    expected = cost.abstract_variables(model, size_px)
    variables, step = checkpoint.restore_variables(directory, expected, sharding.replicated(mesh))
    return _Run(directory, _read_json(directory / "config.json"), model, variables, step)


def _read_json(file: pathlib.Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{file} cannot be read ({error}): name the workdir of a run as train.py and eval.py "
            "left it"
        ) from None


def _check_config(run: _Run, config: dict[str, Any], keys: tuple[str, ...], remedy: str) -> None:
    is_checked = lambda key: key.startswith(keys)  # noqa: E731
    config_keys.check_same(run.config, config, str(run.directory), is_checked, remedy)


def _check_classes(run: _Run, class_names: tuple[str, ...] | None) -> None:
    """Raises ValueError where the test videos' classes are not those of the training."""
    trained = run.config.get("class_names")
    if trained and class_names and trained != list(class_names):
        raise ValueError(
            f"{run.directory} was trained on the classes {trained}, the test videos have "
            f"{list(class_names)}: labels would not agree; use the lists it was trained with"
        )


def _read_other(
    directory: pathlib.Path, run: _Run, same: dict[str, Any], mesh: Mesh
) -> tuple[_Run, views.Predictions]:
    """Reads another run whose report has the `same` values, with clips of the same kind."""
    for name in (FILE, PREDICTIONS, "config.json"):
        if not (directory / name).is_file():
            raise ValueError(f"--against={directory} has no {name}: evaluate that run first")
    report = _read_json(directory / FILE)
    for key, value in same.items():
        if report.get(key) != value:
            raise ValueError(
                f"--against={directory} was evaluated with {key} {report.get(key)!r}, here it is "
                f"{value!r}: evaluate it likewise first"
            )
    config = _read_json(directory / "config.json")
    model = experiment.build_model(ConfigDict(config))
    other = _restore(directory, model, config["clip"]["size_px"], mesh)
    _check_config(other, run.config, ("clip.", "model.num_classes"), "compare runs of like clips")
    if other.step != report["step"]:
        raise ValueError(
            f"--against={directory} was evaluated after step {report['step']}, its newest "
            f"checkpoint is of step {other.step}: evaluate it again"
        )
    return other, views.load(directory / PREDICTIONS)


def _row(view: tuple[int, int], predictions: views.Predictions, figures: dict) -> dict[str, Any]:
    """One line of the report's table: the accuracies of one number of views."""
    names = ("top1", "top5", "mean_class", "within_pair")
    return {
        "views": "{}x{}".format(*view),
        "average": predictions.average,
        "num_views": predictions.num_views,
        "num_read": int(predictions.is_read.sum()),
        **{name: figures[name] for name in names if name in figures},
    }


def _cost(built, predict, variables: dict[str, Any], mesh: Mesh) -> dict[str, float]:
    """Counts the model, and times it while nothing else runs, with one clip per device."""
    clip = built.view_clip(num_crops=1)
    counted = cost.count(built.model, clip.size_px)
    shape = (mesh.local_mesh.size, clip.num_frames, clip.size_px, clip.size_px, 3)
    video = sharding.shard_batch({"video": np.zeros(shape, np.uint8)}, mesh)["video"]
    seconds = benchmark.median_seconds(lambda: jax.block_until_ready(predict(variables, video)))
    return {
        "params": counted.params,
        "gflops": counted.total / 1e9,
        "ms_per_clip": seconds / mesh.size * 1e3,
    }


def _settings(config: ConfigDict, built, run: _Run, mesh: Mesh) -> dict[str, Any]:
    """What made the figures."""
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {
        "run": run.directory.name,
        "step": run.step,
        "seed": config.seed,
        "model": config.model.name,
        "config_hash": config_keys.hash_of(run.config),
        "fingerprint_train": run.config.get("fingerprints", {}).get("train"),
        "device": f"{mesh.size} x {jax.devices()[0].device_kind}",
        "versions": versions | {"python": platform.python_version()},
    }


def _save(workdir: pathlib.Path, report: dict[str, Any], records, predictions) -> None:
    workdir.mkdir(parents=True, exist_ok=True)
    views.save(workdir / PREDICTIONS, records, predictions)
    with files.replacing(workdir / FILE) as scratch:
        scratch.write_text(json.dumps(report, indent=2) + "\n")


def _write_page(workdir, report, built, run: _Run, one_view, predictions, other) -> None:
    """Writes report.html, with clips read once more and, against another run, curves by frame."""
    clip = built.view_clip(num_crops=1)
    worst = clips.worst(built.test_records, one_view, clip)
    curves = []
    if other is not None:
        rows = clips.most_different(predictions, other[1])
        names = [r.directory.name for r in (run, other[0])]
        if names[0] == names[1]:
            names = [str(r.directory) for r in (run, other[0])]
        runs = [_frame_predict(r) for r in (run, other[0])]
        curves = clips.frame_curves(dict(zip(names, runs)), built.test_records, rows, clip)
    metrics = run.directory / METRICS
    history = read_metrics(metrics) if metrics.is_file() else []
    with files.replacing(workdir / PAGE) as scratch:
        scratch.write_text(page.render(report, history, worst, curves), encoding="utf-8")


def _frame_predict(run: _Run) -> clips.FramePredict:
    normalise = experiment.build_normalise(ConfigDict(run.config))  # by its own statistics
    return clips.frame_predict(run.model, run.variables, normalise=normalise)


# Column, key of the report, format.
_COLUMNS = (
    ("top-1 %", "top1", lambda v: f"{v * 100:.1f}"),
    ("unreadable counted wrong: top-1 %", "top1_unreadable_wrong", lambda v: f"{v * 100:.1f}"),
    ("top-5 %", "top5", lambda v: f"{v * 100:.1f}"),
    ("within pairs %", "within_pair", lambda v: f"{v * 100:.1f}"),
    ("shuffled: top-1 %", "top1_shuffled", lambda v: f"{v * 100:.1f}"),
    ("shuffled: within pairs %", "within_pair_shuffled", lambda v: f"{v * 100:.1f}"),
    ("views", "views", str),
    ("average", "average", str),
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
    if not any(report.get("num_unreadable") for report in reports.values()):
        columns = [column for column in columns if column[1] != "top1_unreadable_wrong"]
    rows = [
        [name, *(show(report[key]) if key in report else "" for _, key, show in columns)]
        for name, report in reports.items()
    ]
    headers = ["run", *(title for title, _, _ in columns)]
    align = ["left", *["right"] * len(columns)]
    return tabulate(rows, headers, tablefmt="github", colalign=align, disable_numparse=True)


def main(argv: list[str]) -> None:
    """Prints the table of the runs given."""
    paths = [pathlib.Path(run) / FILE for run in argv[1:]]
    missing = [str(path) for path in paths if not path.is_file()]
    if missing or not paths:
        raise app.UsageError(
            f"no report: {', '.join(missing)}; evaluate the run first, by eval.py"
            if missing
            else "name the runs to compare: their working directories"
        )
    names = [path.parent.name for path in paths]
    if len(set(names)) < len(names):
        names = [str(path.parent) for path in paths]
    print(table({name: json.loads(path.read_text()) for name, path in zip(names, paths)}))


if __name__ == "__main__":
    app.run(main)
