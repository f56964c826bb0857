"""Prepares videos for training: `python -m pst_jax.data.prepare SRC DST`.

SRC is a data set's folder, a list or a folder of class folders. Every video is decoded once and
written to DST (to DST/<split> for each split), small and quick to decode, in shards with a
manifest.jsonl. Train from DST as from SRC: a clip holds the same frames.

The same command goes on where it was stopped. A video that cannot be read is passed over, with
the reason in the manifest; delete a shard to have it made again. One that lacks a missing video
which has come since is made again.

Exit codes: 0 done (also where videos of a published list are missing); 1 error, or a video could
not be read (with --verify, not again): all else is prepared all the same.
"""

import argparse
import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

from tqdm import tqdm

from pst_jax import files
from pst_jax.command_line import integer_in, new_parser, run_command
from pst_jax.data import index, shards
from pst_jax.data.frames import VideoError
from pst_jax.data.isolate import Crash, map_isolated
from pst_jax.data.pack import VERSION, Packed, Settings, Skipped, pack
from pst_jax.data.records import Listing, Record, fingerprint

MAX_SECONDS = 3600  # that a video may take: a decoder can hang
_SHOWN = 10  # of the videos that could not be read


@dataclasses.dataclass
class Summary:
    """What there is of a list, and what was done in this run.

    Attributes:
        num_videos: of the list.
        num_prepared: those that could be read.
        bytes_prepared: of their payload.
        num_done: videos that this run tried.
        num_frames: that it wrote.
        bytes_in: of the files that it read, of those that could be.
        bytes_out: of what it wrote.
        seconds: that it took.
        missing: {video_id, path, reason} of those of a published list that were not there.
        unreadable: likewise of all others.
        damaged: likewise of those that `verify` could not read again.
    """

    num_videos: int
    num_prepared: int = 0
    bytes_prepared: int = 0
    num_done: int = 0
    num_frames: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0
    missing: list[dict[str, str]] = dataclasses.field(default_factory=list)
    unreadable: list[dict[str, str]] = dataclasses.field(default_factory=list)
    damaged: list[dict[str, str]] = dataclasses.field(default_factory=list)


def prepare(
    source: str,
    target: str | os.PathLike,
    settings: Settings,
    *,
    num_workers: int = 1,
    verify: bool = False,
    timeout_s: float = MAX_SECONDS,
) -> dict[str, Summary]:
    """Prepares every split of a data set, or goes on with it.

    Args:
        source: as `index.read_dataset` takes it.
        target: a local folder; made where there is none.
        settings: how videos are packed.
        num_workers: processes.
        verify: read and decode all that is written once more, to the end.
        timeout_s: what a video takes longer than cannot be read.

    Returns:
        What was done of each split, of what is no more than one list by `""`.

    Raises:
        ValueError: if source or target cannot be used, or the target holds something else.
        OSError: if it cannot be written.
    """
    if "://" in str(target):
        raise ValueError(
            f"DST={str(target)!r} must be a local folder: copy it to the bucket when it is done"
        )
    target = pathlib.Path(target).resolve()
    if "://" not in source and target.is_relative_to(pathlib.Path(source).resolve()):
        raise ValueError(f"DST={str(target)!r} lies in SRC={source!r}: give a folder elsewhere")
    splits = index.read_dataset(source)
    summaries = {}
    for split, listing in splits.items():
        folder = target / split
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"DST={str(target)!r} cannot be written ({error.strerror}): give a folder that can"
            ) from error
        with _locked(folder):
            _claim(folder, listing, settings)
            summary = _prepare_list(listing, folder, settings, num_workers, timeout_s)
            if verify:
                summary.damaged = _verify(folder, num_workers, timeout_s)
        summaries[split] = summary
    return summaries


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[None]:
    """Keeps others from the folder; the lock ends with the process, however that ends."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"{folder} is being prepared: wait for the other process") from error
        yield
    finally:
        os.close(descriptor)


def _claim(folder: pathlib.Path, listing: Listing, settings: Settings) -> None:
    """Writes what is prepared and how, or compares it with what the folder says."""
    # What a part is does not show in its id.
    parts = (
        dataclasses.replace(record, video_id=f"{record.start_s} {record.end_s}")
        for record in listing.records
    )
    wanted = {
        "version": VERSION,
        "source": fingerprint(listing.records),
        "parts": fingerprint(parts),
        "class_names": listing.class_names and list(listing.class_names),
        **dataclasses.asdict(settings),
    }
    path = folder / shards.DATASET
    if not path.exists():
        if any(not _is_left_over(file) for file in folder.iterdir()):
            raise ValueError(f"{folder} holds other files: give a new or an empty folder")
        _write(path, json.dumps(wanted, indent=1) + "\n")
    found = shards.read_dataset(path.parent)
    for name in wanted:
        if found.get(name) != wanted[name]:
            what = "class names" if name == "class_names" else f"{name}={found.get(name)!r}"
            raise ValueError(
                f"{folder} was prepared with other {what} than asked for now ({name}="
                f"{wanted[name]!r}): give another folder, or delete this one"
            )
    for file in filter(_is_left_over, folder.iterdir()):
        file.unlink()


def _is_left_over(file: pathlib.Path) -> bool:
    """Whether a run that was killed was about to write a file of ours here."""
    names = f"{re.escape(shards.DATASET)}|{re.escape(shards.MANIFEST)}|.*[.]array_record"
    return re.fullmatch(rf"[.]({names})[.]\d+[.][0-9a-f]+[.]tmp", file.name) is not None


def _prepare_list(
    listing: Listing,
    folder: pathlib.Path,
    settings: Settings,
    num_workers: int,
    timeout_s: float,
) -> Summary:
    """Makes the shards that are not there, then the manifest."""
    records, size = listing.records, settings.videos_per_shard
    groups = [records[start : start + size] for start in range(0, len(records), size)]
    paths = [
        folder / f"{number:05d}-of-{len(groups):05d}.array_record" for number in range(len(groups))
    ]
    missing = set(listing.missing)
    done = _read_shards([path for path in paths if path.exists()])
    to_do = {
        path: group
        for path, group in zip(paths, groups)
        if path not in done or _has_come(done[path], group, missing)
    }
    jobs = [(r, settings, r in missing) for group in to_do.values() for r in group]
    summary = Summary(len(records))
    start_s = time.monotonic()
    with (
        _progress(folder.name, len(records), len(jobs)) as bar,
        contextlib.closing(map_isolated(_pack, jobs, num_workers, timeout_s)) as results,
    ):
        for path, group in to_do.items():
            shards.write_shard(path, _counted(group, results, summary, bar))
    summary.seconds = time.monotonic() - start_s
    lines = [line for path in paths for line in shards.shard_lines(str(path))]
    _write(folder / shards.MANIFEST, "".join(json.dumps(line) + "\n" for line in lines))
    shards.read_manifest(str(folder))  # should a shard of another list lie there
    summary.bytes_prepared = sum(line["bytes"] for line in lines)
    summary.num_prepared = sum(line["status"] == "ok" for line in lines)
    summary.missing = _problems(records, lines, "missing")
    summary.unreadable = _problems(records, lines, "unreadable")
    return summary


def _read_shards(paths: Sequence[pathlib.Path]) -> dict[pathlib.Path, list[dict[str, Any]]]:
    """The lines of shards that are there; all that are damaged are told at once."""
    lines, damaged = {}, []
    for path in paths:
        try:
            lines[path] = shards.shard_lines(str(path))
        except VideoError as error:
            damaged.append(str(error))
    if damaged:
        raise ValueError("; ".join(damaged))
    return lines


def _has_come(
    lines: Sequence[dict[str, Any]], group: Sequence[Record], missing: set[Record]
) -> bool:
    """Whether a shard lacks what was missing when it was made, and is there now."""
    return any(
        line["status"] == "missing" and record not in missing for line, record in zip(lines, group)
    )


def _problems(
    records: Sequence[Record], lines: Sequence[dict[str, Any]], status: str
) -> list[dict[str, str]]:
    return [
        {"video_id": record.video_id, "path": record.path, "reason": line["reason"]}
        for record, line in zip(records, lines)
        if line["status"] == status
    ]


def _pack(job: tuple[Record, Settings, bool]) -> tuple[Packed | Skipped, int]:
    """Packs a video, or says why not; and the bytes that it took before."""
    record, settings, is_missing = job
    try:
        return pack(record, settings), _num_bytes(record)
    except VideoError as error:
        return Skipped(error.reason, "missing" if is_missing else "unreadable"), 0


def _num_bytes(record: Record) -> int:
    if record.entry is not None:  # one of many in a file
        return 0
    with contextlib.suppress(OSError):  # gone meanwhile
        if os.path.isdir(record.path):
            return sum(entry.stat().st_size for entry in os.scandir(record.path))
        return os.path.getsize(record.path)
    return 0


def _counted(
    group: Sequence[Record], results: Iterator[Any], summary: Summary, bar: tqdm
) -> Iterator[tuple[Record, Packed | Skipped]]:
    """What becomes of the videos of a shard, in order; they are counted as they pass."""
    for record, result in zip(group, results):
        packed, bytes_in = (Skipped(result.reason), 0) if isinstance(result, Crash) else result
        summary.num_done += 1
        if isinstance(packed, Packed):
            summary.num_frames += packed.num_frames
            summary.bytes_in += bytes_in
            summary.bytes_out += sum(map(len, packed.payload))
        bar.update()
        yield record, packed


def _progress(name: str, num_videos: int, num_left: int) -> tqdm:
    return tqdm(total=num_videos, initial=num_videos - num_left, desc=name, unit="video")


def _verify(folder: pathlib.Path, num_workers: int, timeout_s: float) -> list[dict[str, str]]:
    """Reads every video to its end; returns those that cannot be read, with the reason."""
    lines = [json.loads(line) for line in (folder / shards.MANIFEST).read_text().splitlines()]
    records = shards.read_manifest(str(folder)).records
    jobs = [(record, line["sha1"]) for record, line in zip(records, lines) if line["sha1"]]
    damaged = []
    with (
        _progress(f"{folder.name}: verify", len(jobs), len(jobs)) as bar,
        contextlib.closing(map_isolated(_check, jobs, num_workers, timeout_s)) as results,
    ):
        for (record, _), reason in zip(jobs, results):
            bar.update()
            if reason:
                reason = reason.reason if isinstance(reason, Crash) else reason
                damaged.append({"video_id": record.video_id, "path": record.path, "reason": reason})
    return damaged


def _check(job: tuple[Record, str]) -> str:
    try:
        shards.check(*job)
    except VideoError as error:
        return error.reason
    return ""


def _write(path: pathlib.Path, text: str) -> None:
    with files.replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def summarise(split: str, summary: Summary) -> str:
    """Returns some lines for a person."""
    per_s = 1 / max(summary.seconds, 1e-9)
    lines = [
        f"{split or 'all'}: {summary.num_prepared} of {summary.num_videos} videos are prepared, "
        f"{summary.bytes_prepared / 1e6:.1f} MB",
        f"  now: {summary.num_done} videos in {summary.seconds:.0f} s, "
        f"{summary.num_done * per_s:.2f} videos/s, {summary.num_frames * per_s:.0f} frames/s, "
        f"{summary.bytes_in / 1e6:.1f} MB in, {summary.bytes_out / 1e6:.1f} MB out",
    ]
    kinds = {"missing": summary.missing, "UNREADABLE": summary.unreadable}
    for what, problems in (kinds | {"DAMAGED": summary.damaged}).items():
        lines += [f"  {what}: {len(problems)}"] if problems else []
        lines += [
            f"    {problem['video_id']}: {problem['reason']}" for problem in problems[:_SHOWN]
        ]
        if len(problems) > _SHOWN:
            lines.append(f"    and {len(problems) - _SHOWN} more: in the manifest")
    return "\n".join(map(files.printable, lines))


def main(args: argparse.Namespace) -> int | None:
    """Prepares, and says what was done."""
    is_h264 = args.format == "h264"
    if args.crf is not None and not is_h264 or args.quality is not None and is_h264:
        raise ValueError("--crf is of --format h264, --quality of jpeg: leave the other out")
    settings = Settings(
        args.format,
        args.short_side,
        gop=args.gop if is_h264 else None,
        crf=(21 if args.crf is None else args.crf) if is_h264 else None,
        quality=None if is_h264 else (90 if args.quality is None else args.quality),
        videos_per_shard=args.videos_per_shard,
    )
    if args.json:
        files.check_writable(args.json)
    summaries = prepare(
        args.source, args.target, settings, num_workers=args.num_workers, verify=args.verify
    )
    for split, summary in summaries.items():
        print(summarise(split, summary))
    if args.verify:
        num_damaged = sum(len(summary.damaged) for summary in summaries.values())
        print(f"verified: all was decoded once more, {num_damaged} of it damaged")
    if args.json:
        report = {split: dataclasses.asdict(summary) for split, summary in summaries.items()}
        _write(pathlib.Path(args.json), json.dumps(report, indent=1) + "\n")
    return int(any(summary.unreadable or summary.damaged for summary in summaries.values()))


def make_parser() -> argparse.ArgumentParser:
    """Makes the parser of the command."""
    parser = new_parser("data.prepare", __doc__)
    add = parser.add_argument
    add("source", metavar="SRC", help="data set, list, or folder of class folders")
    add("target", metavar="DST", help="local folder; a bucket's is copied from it")
    jpeg = "h264, or jpeg: five times the bytes for twice the speed (h264)"
    add("--format", choices=("h264", "jpeg"), default="h264", help=jpeg)
    side = "shorter side in px; smaller videos are not enlarged (256)"
    add("--short_side", type=integer_in(16, 4096), default=256, metavar="PX", help=side)
    keyframes = "frames from keyframe to keyframe, of h264 (12)"
    add("--gop", type=integer_in(1, 250), default=12, metavar="N", help=keyframes)
    add("--crf", type=integer_in(0, 51), metavar="N", help="of h264; less is better (21)")
    add("--quality", type=integer_in(1, 100), metavar="Q", help="of jpeg; more is better (90)")
    workers = integer_in(1, 1024)
    add("--num_workers", type=workers, default=os.cpu_count(), metavar="N", help="processes")
    per_shard = integer_in(1, 10**6)
    add("--videos_per_shard", type=per_shard, default=1024, metavar="N", help="in a file (1024)")
    add("--verify", action="store_true", help="decode all that was written once more")
    add("--json", metavar="FILE", help="write the summary and every video that cannot be read")
    return parser


if __name__ == "__main__":
    run_command(main, make_parser())
