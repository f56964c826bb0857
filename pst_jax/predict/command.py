"""The prediction command: videos by name in, tables and files out."""

import argparse
import glob
import os
import pathlib
import time

from tqdm import tqdm

from pst_jax.command_line import ERROR
from pst_jax.convert.folder import check_labels, read_labels
from pst_jax.data.decode import VideoError
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
        The exit code: 1 where a video could not be read.

    Raises:
        ValueError: before a video is read, if there is none, the model cannot be loaded, or a
            result could not be written.
    """
    paths = find_videos(args.videos)
    _check_outputs(args, paths)
    model = load(_model_folder(args.model), args.batch_size)
    labels = model.contents.labels
    if args.labels:
        labels = read_labels(args.labels)
        check_labels(labels, len(model.contents.labels))
    found = []
    try:
        for path in tqdm(paths, unit="video", disable=None if len(paths) > 1 else True):
            try:
                found.append(_predict(model, path, labels, args))
            except VideoError as error:
                found.append(Result(path, problem=error.reason))
    finally:  # what was predicted before an error is not lost
        if found:
            results.write(found, labels, args.topk, args.json, args.csv, args.features)
    return ERROR if any(result.problem for result in found) else None


def find_videos(names: list[str]) -> list[str]:
    """Returns the files that names stand for, each once: files, folders, globs.

    Raises:
        ValueError: for a folder or glob that holds no video.
    """
    found = []
    for name in names:
        if os.path.isdir(name):
            files = sorted(pathlib.Path(name).rglob("*"))
            inside = [str(f) for f in files if f.suffix.lower() in VIDEO_SUFFIXES and f.is_file()]
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
    return list(dict.fromkeys(found))


def _predict(
    model: Predictor, path: str, labels: tuple[str, ...], args: argparse.Namespace
) -> Result:
    """Predicts a video: by its views, or by a window that slides over it."""
    if not (args.overlay or args.window):
        clips, crops = args.views or (None, None)
        found = model(path, num_clips=clips, num_crops=crops, with_features=bool(args.features))
        return Result(path, found.probabilities, found.features)
    start = time.monotonic()
    windows = dict(window_s=args.window, hop_s=args.hop)
    segments = tuple(timeline(path, model.clip_spec(), model.clip_probabilities, **windows))
    if args.overlay:
        overlay.overlay(path, args.overlay, segments, labels, topk=args.topk)
    return Result(path, segments=segments, seconds=time.monotonic() - start)


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
    for flag, suffix in (("json", ".json"), ("csv", ".csv"), ("features", ".npz")):
        name = getattr(args, flag)
        if name in (None, results.TERMINAL):
            continue
        if not name.endswith(suffix):
            raise ValueError(f"--{flag}={name}: name a file that ends in {suffix}")
        if not pathlib.Path(name).parent.is_dir():
            raise ValueError(f"--{flag}={name}: there is no such folder")
    if args.json == args.csv == results.TERMINAL:
        raise ValueError("--json and --csv cannot both go to the terminal: name a file for one")
    if args.overlay:
        if len(paths) != 1:
            raise ValueError(f"--overlay takes one video, and {len(paths)} were given")
        overlay.check(paths[0], args.overlay)
    if args.overlay or args.window:
        for flag in ("features", "views"):
            if getattr(args, flag):
                raise ValueError(f"--{flag} does not go with --overlay and --window")
    elif args.hop:
        raise ValueError("--hop needs --window or --overlay")
