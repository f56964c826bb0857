"""Times the reading of clips: how fast, where the time goes, how many cores feed a model.

    python -m pst_jax.data.benchmark                          three generated data sets
    python -m pst_jax.data.benchmark SOURCE --model pst_tiny  one's own, and what a model needs
    python -m pst_jax.data.benchmark SOURCE --memory          whether memory stays flat

Clips are those of the released recipe for Kinetics: 32 frames, every second one, shorter side 256,
a random box resized to 224 x 224, mirrored or not. "Per core" is per second of CPU time. The
pipeline takes turns with the barest code that decodes and resizes the same frames, nothing checked,
and each with itself: a ratio within that interval is noise. Files are read again and again, so
that they come from the system's cache.
"""

import argparse
import contextlib
import dataclasses
import functools
import gc
import itertools
import json
import os
import pathlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import av
import numpy as np
import scipy.stats
from tabulate import tabulate
from tqdm import tqdm

from pst_jax import files
from pst_jax.command_line import integer_in, new_parser, run_command
from pst_jax.data import clips, index, loader, prepare
from pst_jax.data.bare import Bare
from pst_jax.data.frames import VideoError, as_it_is
from pst_jax.data.pack import Settings
from pst_jax.data.records import Record
from pst_jax.data.sources import open_record
from pst_jax.data.transforms import ClipSpec

SPEC = ClipSpec(32, 224, short_side_px=256, sampling="dense", stride_frames=2, flip="all")
STAGES = ("read", "decode", "resize", "augment", "batch", "transfer")

_SEED = 0
_MAX_VIDEOS = 64  # that are read, spread over the list
_TURN_CLIPS = 4  # some tenths of a second
_MIN_ROUNDS = 5
_POINTS = 50  # of a memory run
_WARM_UP = 0.5  # of the clips of a memory run: caches fill and the heap grows to its size


def generate(folder: pathlib.Path, num_videos: int = 4, num_frames: int = 300) -> dict[str, str]:
    """Writes videos of 340 x 256 px with moving waves and a sensor's noise, in three forms.

    Args:
        folder: an empty one.
        num_videos: in each.
        num_frames: of each video, at 30 per second.

    Returns:
        By name, what `index.read_dataset` takes: the files as x264 writes them by default, and both
        forms that `prepare` makes of them.
    """
    raw = folder / "raw"
    (raw / "waves").mkdir(parents=True)
    for number in range(num_videos):
        _write_waves(raw / "waves" / f"{number}.mp4", num_frames, seed=number)
    forms = {
        "prepared h264": Settings(),
        "prepared jpeg": Settings("jpeg", gop=None, crf=None, quality=90),
    }
    for name, settings in forms.items():
        prepare.prepare(str(raw), folder / name, settings, num_workers=os.cpu_count() or 1)
    return {"raw mp4": str(raw)} | {name: str(folder / name) for name in forms}


def _write_waves(path: pathlib.Path, num_frames: int, seed: int) -> None:
    rng, (y, x) = np.random.default_rng(seed), np.mgrid[:256, :340]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.height, stream.width, stream.pix_fmt = 256, 340, "yuv420p"
        for k in range(num_frames):
            waves = np.sin([(x + 3 * k) / 17, (y - 2 * k) / 23, (x + y + k) / 31]) * 80 + 128
            pixels = waves.transpose(1, 2, 0) + rng.normal(0, 5, (256, 340, 3))
            pixels = pixels.clip(0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def readable(source: str) -> list[Record]:
    """Picks some videos of a data set, of its first split, that can be read.

    Raises:
        ValueError: if there is none.
    """
    records = next(iter(index.read_dataset(source).values())).records
    found = []
    for record in records[:: -(-len(records) // _MAX_VIDEOS)]:
        with contextlib.suppress(VideoError), open_record(record) as video:
            video.read([0], as_it_is)
            found.append(record)
    if not found:
        raise ValueError(f"{source}: no video can be read: see python -m pst_jax.data.inspect")
    return found


def compare(records: Sequence[Record], seconds: float) -> dict[str, Any]:
    """Times the pipeline, in one thread, and the bare code in turn.

    Args:
        records: of `readable`.
        seconds: to spend, about.

    Returns:
        JSON values: clips_per_s_core of "pipeline" and "bare", "ratio" of the first to the second
        and "noise" of each to itself, each a median over the rounds with its 95 % interval, and
        "rounds". Where the bare code gives other frames, as of avi, "bare" and "ratio" are None.
    """
    from pst_jax.evaluation import benchmark as timing

    start = time.perf_counter()
    bare = _bare_if_right(records)
    turn_s = (time.perf_counter() - start) / 2
    rounds = max(_MIN_ROUNDS, int(seconds / (4 if bare else 2) / turn_s))
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(_batches(records)) for _ in range(2)]
        turns = [functools.partial(next, stream) for stream in streams]
        for _ in range(2) if bare else ():
            steps = itertools.count()
            turns.append(lambda steps=steps: bare.batch(next(steps), _TURN_CLIPS))
        spent = timing.interleave(turns, rounds, clock=time.process_time) / _TURN_CLIPS

    def ratio(a, b):  # of rates: the inverse of that of seconds
        return timing.paired_ratio(spent[:, b].sum(-1), spent[:, a].sum(-1))._asdict()

    figures = {"rounds": rounds, "pipeline": float(1 / np.median(spent[:, :2]))}
    noise = {"pipeline": ratio([0], [1])}
    if bare is None:
        return figures | {"bare": None, "ratio": None, "noise": noise}
    noise["bare"] = ratio([2], [3])
    figures["bare"] = float(1 / np.median(spent[:, 2:]))
    return figures | {"ratio": ratio([0, 1], [2, 3]), "noise": noise}


def _bare_if_right(records: Sequence[Record]) -> Bare | None:
    """The bare code, where it makes the loader's clips: it goes by times that avi has not."""
    try:
        bare = Bare(records, SPEC, _SEED)
        with _batches(records, flip="none") as batches:
            is_right = (bare.batch(0, _TURN_CLIPS) == next(batches)["video"]).all()
    except (av.error.FFmpegError, ValueError, TypeError, RuntimeError):
        return None
    return bare if is_right else None


def _batches(records: Sequence[Record], **changes: Any) -> AbstractContextManager[Iterator]:
    """Batches of a turn each, made when they are asked for; more than any run takes."""
    spec = dataclasses.replace(SPEC, **changes)
    options = dict(batch_size=_TURN_CLIPS, num_epochs=10**6, seed=_SEED, num_threads=0)
    return contextlib.closing(loader.train_batches(records, spec, **options))


def shares(records: Sequence[Record], num_clips: int = 16) -> dict[str, float]:
    """Measures where the time goes, in one thread.

    Args:
        records: of `readable`.
        num_clips: to read, in batches of a turn's.

    Returns:
        Of each of `STAGES` its share; they add up to 1. "read" opens and lists a file, "decode"
        makes RGB frames, "resize" squares, "transfer" is to jax's first device.
    """
    import jax

    spent = dict.fromkeys(STAGES, 0.0)
    jax.block_until_ready(jax.device_put(np.zeros(1, np.uint8)))  # its start is not the transfer's
    for start in range(0, num_clips, _TURN_CLIPS):
        rows = []
        for position in range(start, start + _TURN_CLIPS):
            rng = np.random.default_rng([_SEED, position])
            rows.append(_timed_clip(records[position % len(records)], rng, spent))
        with _adding(spent, "batch"):
            batch = np.stack(rows)
        with _adding(spent, "transfer"):
            jax.block_until_ready(jax.device_put(batch))
    total = sum(spent.values())
    return {stage: spent[stage] / total for stage in STAGES}


def _timed_clip(record: Record, rng: np.random.Generator, spent: dict[str, float]) -> np.ndarray:
    """Makes a clip as `clips.load_train_clips` does, stage by stage."""
    with contextlib.ExitStack() as stack:
        with _adding(spent, "read"):
            video = stack.enter_context(open_record(record, SPEC.decoder))
        indices = clips.choose_frames(video.num_frames, SPEC, rng=rng)
        cut, cutting = clips.random_cut(SPEC, rng), {"resize": 0.0}

        def each(frame):
            with _adding(cutting, "resize"):
                return cut(frame)

        with _adding(spent, "decode"):
            clip = video.read(indices, each)
        spent["decode"] -= cutting["resize"]
        spent["resize"] += cutting["resize"]
    with _adding(spent, "augment"):
        clips.change_clip(clip, record.label, SPEC, rng)
    return clip


@contextlib.contextmanager
def _adding(spent: dict[str, float], stage: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    spent[stage] += time.perf_counter() - start


def rate(records: Sequence[Record], seconds: float, num_threads: int, num_workers: int) -> float:
    """Returns the clips per second, by the clock, of the loader on its threads and processes."""
    options = dict(batch_size=_TURN_CLIPS, num_epochs=10**6, seed=_SEED)
    options |= dict(num_threads=num_threads, num_workers=num_workers)
    with contextlib.closing(loader.train_batches(records, SPEC, **options)) as batches:
        # What was made before the clock started must not count: as much is made ahead at its end.
        for _ in range(2 * max(num_threads, 1) * max(num_workers, 1)):
            next(batches)
        start, num_batches = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            next(batches)
            num_batches += 1
        return num_batches * _TURN_CLIPS / (time.perf_counter() - start)


def memory(records: Sequence[Record], num_clips: int, num_threads: int) -> dict[str, Any]:
    """Reads clips, in this process, and measures how its memory grows.

    Args:
        records: of `readable`.
        num_clips: to read, some hundreds at least.
        num_threads: of the loader; at least 1.

    Returns:
        JSON values: "clips" read and "resident_kb" then, at fifty points, and
        "kb_per_1000_clips": the slope by least squares over the second half, with its 95 %
        interval; "low" and "high" take the points for independent of each other.
    """
    every = max(1, num_clips // _POINTS)
    options = dict(batch_size=1, num_epochs=-(-num_clips // len(records)), seed=_SEED)
    num_read, resident_kb = [], []
    batches = loader.train_batches(records, SPEC, num_threads=num_threads, **options)
    with contextlib.closing(batches):
        for number, _ in enumerate(tqdm(batches, total=num_clips, unit="clip", disable=None), 1):
            if number % every == 0:
                gc.collect()
                num_read.append(number)
                resident_kb.append(_resident_kb())
            if number == num_clips:
                break
    skip = int(_WARM_UP * len(num_read))
    line = scipy.stats.linregress(num_read[skip:], resident_kb[skip:])
    half = line.stderr * scipy.stats.t.ppf(0.975, len(num_read) - skip - 2)
    slope = [1000 * value for value in (line.slope, line.slope - half, line.slope + half)]
    return {
        "clips": num_read,
        "resident_kb": resident_kb,
        "kb_per_1000_clips": dict(zip(("slope", "low", "high"), slope)),
    }


def _resident_kb() -> float:
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


def needed(args: argparse.Namespace) -> dict[str, Any] | None:
    """Says how many clips a second a model takes, by its measured or its given step time."""
    if args.model is None and args.step_ms is None:
        return None
    step_ms = args.step_ms
    if step_ms is None:
        from pst_jax.evaluation import benchmark as timing

        model = timing.parse_model(args.model, SPEC.num_frames)
        program = timing.compile_train(args.model, model, args.batch_size, SPEC.size_px)
        step_ms = 1000 * timing.median_seconds(program.run)
    return {
        "step_ms": step_ms,
        "batch_size": args.batch_size,
        "clips_per_s": 1000 * args.batch_size / step_ms,
    }


def as_text(figures: dict[str, Any]) -> str:
    """Formats what `main` measured as Markdown tables."""
    sets, need = figures["sets"], figures["model"]
    rate_rows, share_rows = [], []
    for name, found in sets.items():
        row = [name, found["pipeline"], found["bare"], _interval(found["ratio"])]
        row += [_interval(found["noise"]["pipeline"]), found["clips_per_s"]]
        rate_rows.append(row + ([need["clips_per_s"] / found["pipeline"]] if need else []))
        share_rows.append([name, *(found["shares"][stage] for stage in STAGES)])
    in_all = (
        f"in all, {figures['num_threads']} threads x {figures['num_workers'] or 'no'} processes"
    )
    headers = ["clips/s", "per core", "bare", "ratio [95 %]", "to itself", in_all]
    headers += ["cores for the model"] if need else []
    form = dict(tablefmt="github", missingval="-")
    lines = [tabulate(rate_rows, headers, floatfmt=".2f", **form), ""]
    lines += [tabulate(share_rows, ["share of time", *STAGES], floatfmt=".3f", **form)]
    if need:
        clips_per_s = f"{need['clips_per_s']:.1f} clips/s"
        lines += [
            "",
            f"The model takes {clips_per_s}: {need['step_ms']:.0f} ms a step of "
            f"{need['batch_size']} clips.",
        ]
    return "\n".join(lines)


def _interval(found: dict[str, float] | None) -> str | None:
    return found and "{median:.3f} [{low:.3f}, {high:.3f}]".format(**found)


def measure(records: Sequence[Record], args: argparse.Namespace) -> dict[str, Any]:
    """Measures all that the tables show of one data set."""
    figures = compare(records, 0.7 * args.seconds) | {"shares": shares(records)}
    in_all = rate(records, 0.3 * args.seconds, args.num_threads, args.num_workers)
    return figures | {"num_videos": len(records), "clips_per_s": in_all}


def main(args: argparse.Namespace) -> None:
    """Measures, prints and writes."""
    if args.json:
        files.check_writable(args.json)
    with tempfile.TemporaryDirectory() as scratch:
        sources = {args.source: args.source} if args.source else generate(pathlib.Path(scratch))
        if args.memory:
            records = [record for source in sources.values() for record in readable(source)]
            figures = memory(records, args.clips, max(args.num_threads, 1))
            first_mb, *_, last_mb = (kb / 1024 for kb in figures["resident_kb"])
            slope = "{slope:.1f} [{low:.1f}, {high:.1f}]".format(**figures["kb_per_1000_clips"])
            print(
                f"{args.clips} clips of {len(records)} videos: resident memory goes from "
                f"{first_mb:.0f} to {last_mb:.0f} MB, and in the second half changes by {slope} kB "
                "per 1,000 clips"
            )
        else:
            figures = {name: getattr(args, name) for name in ("num_threads", "num_workers")}
            figures |= {"cores": os.cpu_count(), "model": needed(args)}
            figures["sets"] = {
                name: measure(readable(source), args) for name, source in sources.items()
            }
            print(as_text(figures))
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(figures, indent=1) + "\n")


def make_parser() -> argparse.ArgumentParser:
    """Makes the parser of the command."""
    parser = new_parser("data.benchmark", __doc__)
    add = parser.add_argument
    add("source", metavar="SOURCE", nargs="?", help="as of training; default: generated ones")
    add("--json", metavar="FILE", help="write all figures")
    add("--num_threads", type=integer_in(0, 1024), default=2, metavar="N", help="(2)")
    add("--num_workers", type=integer_in(0, 1024), default=0, metavar="N", help="processes (0)")
    add("--seconds", type=integer_in(1, 10**5), default=60, metavar="S", help="per set (60)")
    need = parser.add_mutually_exclusive_group()
    need.add_argument("--model", metavar="NAME", help="whose training step is measured")
    need.add_argument("--step_ms", type=integer_in(1, 10**7), metavar="MS", help="or is given")
    add("--batch_size", type=integer_in(1, 10**5), default=8, metavar="B", help="of a step (8)")
    add("--memory", action="store_true", help="how memory grows instead")
    add("--clips", type=integer_in(100, 10**8), default=10_000, metavar="N", help="for it (10000)")
    return parser


if __name__ == "__main__":
    run_command(main, make_parser())
