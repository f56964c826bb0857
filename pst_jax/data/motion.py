"""Writes a generated data set of real video files that shows whether a model sees time.

    python -m pst_jax.data.motion ROOT --train 150 --test 20 --contact_sheet sheet.png

writes lossless h264 files of small moving shapes in 16 classes (20 with --difficulty hard): eight
motions and the same motions backwards. A backward clip holds exactly the frames of its forward
twin in reverse order, so without the order of frames no model gets more than half of them right.

    ROOT/train/left/00000.mp4 ...    one folder per class; twins share their number
    ROOT/train.csv, ROOT/test.csv    path,label (paths relative to ROOT)
    ROOT/labels.txt                  class names, in the order of the labels
    ROOT/motion.json                 the settings that made it

An interrupted run continues where it stopped; the csv files are written last.
"""

import contextlib
import csv
import dataclasses
import io
import itertools
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from absl import app, flags
from av.video.reformatter import VideoReformatter
from tqdm import tqdm

from pst_jax import files
from pst_jax.data.motion_scenes import (
    HARD_PAIRS,
    PAIRS,
    SPLITS,
    MotionSpec,
    class_names,
    flip_labels,
    pairs,
    render,
    reverse_labels,
)

__all__ = [
    "HARD_PAIRS",
    "PAIRS",
    "MotionSpec",
    "Summary",
    "class_names",
    "contact_sheet",
    "flip_labels",
    "generate",
    "pairs",
    "render",
    "reverse_labels",
]

# Raise when a change of the scenes changes pixels: old and new files must not be mixed.
RECIPE = 1

# qp 0 keeps every sample as it was, whatever the order of frames: the reason why twins decode to
# exactly the same pictures.
LOSSLESS = {"qp": "0", "preset": "ultrafast", "threads": "1"}


class Summary(NamedTuple):
    """What a call of `generate` did."""

    num_written: int
    num_kept: int
    seconds: float


class Job(NamedTuple):
    """A scene to render once, and its files: (path below the root, is_reversed)."""

    split: str
    pair: int
    index: int
    files: tuple[tuple[str, bool], ...]


def generate(
    root: str | os.PathLike,
    spec: MotionSpec,
    num_train: int,
    num_test: int,
    seed: int = 0,
    *,
    workers: int = 0,
    paired_train: bool = True,
    overwrite: bool = False,
) -> Summary:
    """Writes the data set, or what is missing of it, below `root`.

    The decoded frames depend on the settings alone, not on `workers` or on interruptions.

    Args:
        root: a new folder, or that of an earlier run with the same settings.
        spec: size and look of the clips.
        num_train: training clips per class; at least 1.
        num_test: test clips per class; at least 1. Test clips always come as pairs of twins.
        seed: at least 0. Training and test scenes differ under any seed.
        workers: processes; 0 works in this one. With more, a script that calls this needs
            `if __name__ == "__main__":` around it.
        paired_train: whether the training clips too are pairs of twins; if not, every training
            clip is a scene of its own.
        overwrite: deletes the clips of an earlier run first.

    Returns:
        How many files were written, how many were there already, and the seconds it took.

    Raises:
        ValueError: if an argument is out of its range, if `root` cannot be written, or if it
            holds something else than a data set of the same settings.
    """
    counts = {"train": num_train, "test": num_test}
    least = {"num_train": (num_train, 1), "num_test": (num_test, 1), "seed": (seed, 0)}
    for name, (value, allowed) in {**least, "workers": (workers, 0)}.items():
        if value < allowed:
            raise ValueError(f"{name}={value} must be at least {allowed}")
    start, root = time.monotonic(), Path(root)
    settings = {
        "recipe": RECIPE,
        **dataclasses.asdict(spec),
        "num_train": num_train,
        "num_test": num_test,
        "seed": seed,
        "paired_train": paired_train,
    }
    jobs = _plan(spec, counts, paired_train)
    try:
        _claim(root, settings, spec, overwrite)
        num_missing = {job: len(_missing(root, job)) for job in jobs}
        num_new, num_files = sum(num_missing.values()), sum(len(job.files) for job in jobs)
        todo = [job for job in jobs if num_missing[job]]
        # disable=None: no bar where no person watches.
        with tqdm(total=num_files, initial=num_files - num_new, unit="clip", disable=None) as bar:
            for num_written in _run(partial(_write_job, root, spec, seed), todo, workers):
                bar.update(num_written)
        _write_lists(root, spec, jobs)
    except OSError as error:
        raise ValueError(
            f"root={str(root)!r} must be a folder that can be written: {error}"
        ) from error
    return Summary(num_new, num_files - num_new, time.monotonic() - start)


def _plan(spec: MotionSpec, counts: dict[str, int], paired_train: bool) -> list[Job]:
    """Lists every scene of the data set with its files."""
    jobs = []
    for split, (pair, names) in itertools.product(SPLITS, enumerate(pairs(spec.difficulty))):
        is_paired = split == "test" or paired_train
        for i in range(counts[split]):
            index = (i, i) if is_paired else (2 * i, 2 * i + 1)
            files = [
                (f"{split}/{name}/{n:05d}.mp4", is_reversed)
                for name, n, is_reversed in zip(names, index, (False, True))
            ]
            groups = [files] if is_paired else [files[:1], files[1:]]
            jobs += [Job(split, pair, n, tuple(group)) for n, group in zip(index, groups)]
    return jobs


def _claim(root: Path, settings: dict, spec: MotionSpec, overwrite: bool) -> None:
    """Makes the folders; refuses a root that holds anything but a run of the same settings."""
    record = root / "motion.json"
    if record.exists():
        earlier = json.loads(record.read_text())
        fields = [k for k in {**settings, **earlier} if settings.get(k) != earlier.get(k)]
        if overwrite:
            _clear(root)
        elif fields:
            raise ValueError(
                f"root={str(root)!r} holds clips made with other settings: "
                + ", ".join(f"{k} {earlier.get(k)!r}, not {settings.get(k)!r}" for k in fields)
                + "; choose another folder (config.data.root), or replace them by --overwrite of "
                "python -m pst_jax.data.motion (overwrite=True)"
            )
    else:
        names = (*SPLITS, *(f"{split}.csv" for split in SPLITS), "labels.txt")
        theirs = [name for name in names if (root / name).exists()]
        if theirs:
            raise ValueError(
                f"root={str(root)!r} holds {', '.join(theirs)} of something else (there is no "
                "motion.json): choose another folder"
            )
    for split, name in itertools.product(SPLITS, class_names(spec.difficulty)):
        (root / split / name).mkdir(parents=True, exist_ok=True)
    with files.replacing(record) as temporary:
        temporary.write_text(json.dumps(settings, indent=2) + "\n")


def _clear(root: Path) -> None:
    """Deletes what an earlier run wrote, and nothing else; the lists go first."""
    for split in SPLITS:
        (root / f"{split}.csv").unlink(missing_ok=True)
    for split, name in itertools.product(SPLITS, class_names("hard")):
        folder = root / split / name
        for path in folder.glob("*.mp4*"):
            path.unlink()
        with contextlib.suppress(OSError):  # absent, or a file of the user's in it
            folder.rmdir()


def _missing(root: Path, job: Job) -> list[tuple[str, bool]]:
    # Files appear under their name only when complete; an empty one is a crashed file system's.
    def is_done(path):
        return path.exists() and path.stat().st_size > 0

    return [(name, is_reversed) for name, is_reversed in job.files if not is_done(root / name)]


def _run(work: partial, jobs: list[Job], workers: int) -> Iterator[int]:
    """Yields work(job) of every job, from `workers` processes."""
    if not workers or not jobs:
        yield from map(work, jobs)
        return
    # Not forked: the caller may run the threads of jax, which do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=context) as pool:
        yield from pool.map(work, jobs, chunksize=8)


def _write_job(root: Path, spec: MotionSpec, seed: int, job: Job) -> int:
    """Renders one scene, writes those of its files that are missing, returns how many."""
    missing = _missing(root, job)
    clip = render(spec, job.pair, job.index, split=job.split, seed=seed)
    # Both twins are encoded from the same converted frames: nothing is rounded twice.
    convert = VideoReformatter().reformat
    frames = [
        convert(av.VideoFrame.from_ndarray(rgb, format="rgb24"), format="yuv420p") for rgb in clip
    ]
    for name, is_reversed in missing:
        with files.replacing(root / name) as temporary:
            _encode(temporary, frames[::-1] if is_reversed else frames, spec.fps)
    return len(missing)


def _encode(path: Path, frames: list[av.VideoFrame], fps: int) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps, options=LOSSLESS)
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, "yuv420p"
        for time_index, frame in enumerate(frames):
            frame.pts = time_index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _decode(path: Path) -> np.ndarray:
    """Reads a whole file: uint8 [T, H, W, 3] RGB."""
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def _write_lists(root: Path, spec: MotionSpec, jobs: list[Job]) -> None:
    names = class_names(spec.difficulty)
    with files.replacing(root / "labels.txt") as temporary:
        temporary.write_text("\n".join(names) + "\n")
    for split in SPLITS:
        paths = [path for job in jobs if job.split == split for path, _ in job.files]
        rows = sorted((names.index(Path(path).parent.name), path) for path in paths)
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([("path", "label"), *((path, label) for label, path in rows)])
        with files.replacing(root / f"{split}.csv") as temporary:
            temporary.write_text(text.getvalue())


def contact_sheet(
    root: str | os.PathLike, path: str | os.PathLike, num_columns: int = 8, cell_px: int = 112
) -> None:
    """Draws one test clip per class of a written data set, a row each, as a picture file.

    Args:
        root: folder of the data set.
        path: the picture to write; its ending tells the format (.png, .jpg).
        num_columns: frames shown of each clip, evenly spaced from the first to the last.
        cell_px: side of a frame in the picture.

    Raises:
        ValueError: if the picture cannot be written.
    """
    root, label_px = Path(root), 190
    rows = []
    for name in (root / "labels.txt").read_text().split():
        clip = _decode(min((root / "test" / name).glob("*.mp4")))
        shown = clip[np.linspace(0, len(clip) - 1, num_columns).round().astype(int)]
        side = (cell_px, cell_px)
        cells = [cv2.resize(f, side, interpolation=cv2.INTER_NEAREST) for f in shown]
        label = np.full((cell_px, label_px, 3), 255, np.uint8)
        where, font = (10, cell_px // 2 + 7), cv2.FONT_HERSHEY_SIMPLEX
        cv2.putText(label, name, where, font, 0.75, (0, 0, 0), 2, cv2.LINE_AA)
        cells = [np.pad(c, ((2, 2), (2, 2), (0, 0)), constant_values=255) for c in [label, *cells]]
        rows.append(np.hstack(cells))
    try:
        is_written = cv2.imwrite(str(path), np.vstack(rows)[..., ::-1])
    except cv2.error:  # an ending that it does not know
        is_written = False
    if not is_written:
        raise ValueError(
            f"contact_sheet={str(path)!r} cannot be written: name a .png or .jpg file in a folder "
            "that exists"
        )


def _define_flags() -> None:
    # Not at import: a script that uses `generate` has flags of these names of its own.
    flags.DEFINE_integer("size", 28, "Height and width of the clips in pixels; even.")
    flags.DEFINE_integer("frames", 17, "Frames of a clip.")
    flags.DEFINE_enum("difficulty", "easy", ["easy", "hard"], "16 plain or 20 cluttered classes.")
    flags.DEFINE_integer("train", 150, "Training clips per class.")
    flags.DEFINE_integer("test", 20, "Test clips per class.")
    flags.DEFINE_integer("seed", 0, "Another seed gives other clips.")
    flags.DEFINE_integer("workers", os.cpu_count(), "Processes; 0 works in this one.")
    flags.DEFINE_bool("paired_train", True, "Training clips too come with their backward twins.")
    flags.DEFINE_bool("overwrite", False, "Replace the clips of an earlier run in ROOT.")
    flags.DEFINE_string("contact_sheet", None, "Also draw a clip per class into this picture.")


def main(argv: list[str]) -> None:
    """Writes the data set that the command line asks for."""
    if len(argv) != 2:
        raise app.UsageError("Name one folder: python -m pst_jax.data.motion ROOT")
    options, root = flags.FLAGS, Path(argv[1])
    try:
        spec = MotionSpec(options.size, options.frames, options.difficulty)
        summary = generate(
            root,
            spec,
            options.train,
            options.test,
            options.seed,
            workers=options.workers,
            paired_train=options.paired_train,
            overwrite=options.overwrite,
        )
        if options.contact_sheet:
            contact_sheet(root, options.contact_sheet)
    except ValueError as error:
        sys.exit(f"error: {error}")
    num_classes = len(class_names(spec.difficulty))
    print(f"{num_classes} classes x ({options.train} train + {options.test} test) clips in {root}")
    print(f"wrote {summary.num_written}, kept {summary.num_kept}, {summary.seconds:.1f} s")
    print(f"lists: {root / 'train.csv'}, {root / 'test.csv'}; names: {root / 'labels.txt'}")
    if options.contact_sheet:
        print(f"contact sheet: {options.contact_sheet}")


if __name__ == "__main__":
    _define_flags()
    app.run(main)
