"""The prediction command: videos by name in, tables and files out."""

import argparse
import dataclasses
import glob
import os
import pathlib
import sys
import time

from tqdm import tqdm

from pst_jax import files
from pst_jax.command_line import ERROR
from pst_jax.convert.folder import check_labels, read_labels
from pst_jax.data.frames import VideoError
from pst_jax.data.index import VIDEO_SUFFIXES
from pst_jax.predict import overlay, results
from pst_jax.predict.predictor import Predictor, load
from pst_jax.predict.results import Result
from pst_jax.predict.timeline import timeline

MODEL_VARIABLE = "PST_JAX_MODEL"


def run(args: argparse.Namespace) -> int | None:
    """Predicts every video, and writes what was asked for.

    Args:
        args: of the command, see `__main__`.

    Returns:
        The exit code: 1 where a video could not be read, or its overlay not be written.

    Raises:
        ValueError: before a video is read, if there is none, the model cannot be loaded, or a
            result could not be written; at the end, if one could not all the same.
    """
    paths = find_videos(args.videos)
    _check_outputs(args, paths)
    model = load(_model_folder(args.model), args.batch_size)
    labels = model.contents.labels
    if args.labels:
        labels = read_labels(args.labels)
        check_labels(labels, len(model.contents.labels))
    if model.contents.untrained:
        names = ", ".join(model.contents.untrained)
        warning = f"warning: {names} started anew and untrained: the probabilities mean nothing"
        tqdm.write(warning, file=sys.stderr)
    found: list[Result] = []
    try:
        for path in tqdm(paths, unit="video", disable=None if len(paths) > 1 else True):
            try:
                found.append(_predict(model, path, args))
            except VideoError as error:
                found.append(Result(path, problem=error.reason))
        if args.overlay and found[0].segments and not found[0].problem:
            found[0] = _overlaid(found[0], labels, args)
    finally:  # what was predicted before an error is not lost
        if found:
            header = _header(model, args)
            results.write(found, labels, args.topk, header, args.json, args.csv, args.features)
    return ERROR if any(result.problem for result in found) else None


def find_videos(names: list[str]) -> list[str]:
    """Returns the files that names stand for, each once, as first named: files, folders, globs.

    Raises:
        ValueError: for a folder or glob that holds no video.
    """
    found = []
    for name in names:
        if os.path.isdir(name):
            below = sorted(pathlib.Path(name).rglob("*"))
            inside = [str(f) for f in below if f.suffix.lower() in VIDEO_SUFFIXES and f.is_file()]
            if not inside:
                raise ValueError(
                    f"{name} holds no video: they end in {', '.join(VIDEO_SUFFIXES)}; give others "
                    "by name"
                )
            found += inside
        elif glob.has_magic(name) and not os.path.exists(name):
            matching = sorted(filter(os.path.isfile, glob.glob(name, recursive=True)))
            if not matching:
                raise ValueError(f"no file matches {name!r}")
            found += matching
        else:
            found.append(name)  # whether it can be read is said beside the other videos
    once: dict[str, str] = {}
    for path in found:
        once.setdefault(os.path.abspath(path), path)
    return list(once.values())


def _predict(model: Predictor, path: str, args: argparse.Namespace) -> Result:
    """Predicts a video: by its views, or by a window that slides over it."""
    if not (args.overlay or args.window):
        clips, crops = args.views or (None, None)
        found = model(path, num_clips=clips, num_crops=crops, with_features=bool(args.features))
        return Result(path, found.probabilities, found.features)
    start = time.monotonic()
    windows = dict(window_s=args.window, hop_s=args.hop)
    segments, problem = [], ""
    try:
        for segment in timeline(path, model.clip_spec(), model.clip_probabilities, **windows):
            segments.append(segment)
    except VideoError as error:  # what came before it breaks off is not lost
        if not segments:
            raise
        problem = error.reason
    seconds = time.monotonic() - start
    return Result(path, segments=tuple(segments), seconds=seconds, problem=problem)


def _overlaid(result: Result, labels: tuple[str, ...], args: argparse.Namespace) -> Result:
    """Writes the overlay of a result; where that fails, the result stays and says why."""
    start, problem = time.monotonic(), ""
    try:
        overlay.overlay(result.path, args.overlay, result.segments, labels, topk=args.topk)
    except (ValueError, OSError) as error:
        problem = f"no overlay: {error}"
    seconds = result.seconds + time.monotonic() - start
    return dataclasses.replace(result, seconds=seconds, problem=problem)


def _header(model: Predictor, args: argparse.Namespace) -> dict[str, str | None]:
    """What results are traced by; a window is one view, so that nothing is averaged."""
    preprocess = model.contents.preprocess
    clips, crops = args.views or (preprocess.num_clips, preprocess.num_crops)
    is_window = args.overlay or args.window
    return {
        "model": _model_folder(args.model),
        "views": None if is_window else f"{clips}x{crops}",
        "average": None if is_window else preprocess.average,
    }


def _model_folder(name: str | None) -> str:
    name = name or os.environ.get(MODEL_VARIABLE)
    if not name:
        raise ValueError(
            f"say which model by --model FOLDER, or by the variable {MODEL_VARIABLE}: python -m "
            "pst_jax.convert makes one of a run or of released weights"
        )
    return name


def _check_outputs(args: argparse.Namespace, paths: list[str]) -> None:
    """Raises ValueError, before anything is computed, where a result could not be written."""
    for name in (args.json, args.csv, args.features):
        if name not in (None, files.TERMINAL):
            files.check_writable(name)
    if args.json == args.csv == files.TERMINAL:
        raise ValueError("--json and --csv cannot both go to the terminal: name a file for one")
    if args.overlay:
        if len(paths) != 1:
            raise ValueError(f"--overlay takes one video, and {len(paths)} were given")
        overlay.check(paths[0], args.overlay)
        if os.path.lexists(args.overlay):
            raise ValueError(f"--overlay={args.overlay} exists: move it away, or name another")
    if args.overlay or args.window:
        for flag in ("features", "views"):
            if getattr(args, flag):
                raise ValueError(f"--{flag} does not go with --overlay and --window")
    elif args.hop:
        raise ValueError("--hop needs --window or --overlay")
