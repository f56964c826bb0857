"""What a data set's videos are and what is wrong with them: counted, compared, and all decoded."""

import collections
import contextlib
import dataclasses
import functools
import hashlib
import itertools
import os
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from pst_jax.data import decode
from pst_jax.data.index import VIDEO_SUFFIXES
from pst_jax.data.isolate import Crash, map_isolated
from pst_jax.data.records import Listing, Record, fingerprint
from pst_jax.data.sources import open_record

Places = Sequence[tuple[str, Record]]  # every record with the name of its split

_TIMEOUT_S = 1800  # for one video: an hour of Full HD takes less
_MAX_EMPTY = 1000  # classes without a video that are named: a label may be wrong by millions
_STEADY_S = 0.0015  # by which steps of one length differ where times are whole milliseconds


@dataclasses.dataclass(frozen=True)
class Facts:
    """What one video is, or the part of it that counts.

    Attributes:
        num_frames: how many frames it has.
        size: width x height of its frames in px, as they are decoded.
        duration_s: to the end of its last frame; None where it has no times, or a single frame.
        rate: frames per second, or "variable"; None likewise.
        form: container and codec, such as "mp4 h264"; None where it is no file of its own.
        is_rotated: whether its metadata ask a player to turn it, which is not done here.
    """

    num_frames: int
    size: str
    duration_s: float | None
    rate: str | None
    form: str | None
    is_rotated: bool


def examine(record: Record, is_quick: bool = False) -> Facts | str:
    """Decodes every frame of a video, of which no more than one is held.

    Args:
        record: the video.
        is_quick: whether its packets are listed, and no more than its first frame is decoded.

    Returns:
        What it is, or the reason why it cannot be read.
    """
    shapes = []

    def look(frame: np.ndarray) -> np.ndarray:
        shapes[:] = [frame.shape]
        return frame[:1, :1].copy()  # a view would hold the frame

    try:
        with open_record(record) as video:
            num_frames, times_s = video.num_frames, video.times_s
            video.read(np.arange(1 if is_quick else num_frames), look)
        is_file = record.entry is None and os.path.isfile(record.path)
        form, is_rotated = _read_header(record.path) if is_file else (None, False)
    except Exception as error:  # of any kind: one video must not end the survey of the others
        return getattr(error, "reason", None) or f"{type(error).__name__}: {error}"
    height, width, _ = shapes[0]
    return Facts(num_frames, f"{width}x{height}", *_timing(times_s), form, is_rotated)


def _read_header(path: str) -> tuple[str, bool]:
    """Returns a file's container and codec, and whether its frames are to be rotated."""
    with decode.open_stream(path) as stream:
        containers = stream.container.format.name.split(",")  # such as mov,mp4,m4a
        suffix = os.path.splitext(path)[1][1:].lower()
        container = suffix if suffix in containers else containers[0]
        is_rotated = next(stream.container.decode(stream)).rotation != 0
        return f"{container} {stream.codec_context.codec.canonical_name}", is_rotated


def _timing(times_s: np.ndarray | None) -> tuple[float | None, str | None]:
    """Returns the duration in seconds, and the rate in words."""
    if times_s is None or len(times_s) < 2:
        return None, None
    steps_s = np.diff(times_s)
    mean_s = float(steps_s.mean())
    is_steady = np.ptp(steps_s) <= _STEADY_S and mean_s > 0
    return len(times_s) * mean_s, f"{1 / mean_s:.4g}" if is_steady else "variable"


def survey(
    listings: Mapping[str, Listing], num_workers: int, is_quick: bool = False
) -> dict[str, Any]:
    """Examines every video of a data set, in processes that a damaged one may take down.

    Args:
        listings: by the name of the split, see `index.read_dataset`.
        num_workers: processes, at least 1.
        is_quick: see `examine`.

    Returns:
        What can be written as JSON: "splits" (name -> see `_describe`), "unreadable" (of all
        splits, a list of {"path", "reason"}), "overlap" (videos of several splits: a list of
        {"reason", "videos": {split: [video_id]}}), "extra" (videos that lie beside those listed
        and stand in no list: a list of paths), "is_quick".

        What the disk lacks of a published list is "missing" alone: of Kinetics some always are.
        What is missing of one's own list is "unreadable" besides.
    """
    places = [(split, record) for split in listings for record in listings[split].records]
    firsts: dict[Hashable, Record] = {}  # each once, in the order of the lists
    for record in itertools.chain(*(listing.present for listing in listings.values())):
        firsts.setdefault(_part(record), record)
    found: dict[Hashable, Facts | str] = {}
    examined = map_isolated(
        functools.partial(examine, is_quick=is_quick), firsts.values(), num_workers, _TIMEOUT_S
    )
    with contextlib.closing(examined):
        shown = tqdm(examined, total=len(firsts), unit="video", disable=None)
        for part, result in zip(firsts, shown):
            is_crash = isinstance(result, Crash)
            found[part] = f"{result.reason}: take it off the list" if is_crash else result
    duplicates, overlap = find_repeated(places)
    num_classes = max(
        [len(listing.class_names or ()) for listing in listings.values()]
        + [record.label + 1 for _, record in places]
    )
    splits = {
        name: _describe(listing, found, num_classes)
        | {"duplicates": [group for split, group in duplicates if split == name]}
        for name, listing in listings.items()
    }
    unreadable = {
        problem["path"]: problem for split in splits.values() for problem in split["unreadable"]
    }
    return {
        "splits": splits,
        "unreadable": list(unreadable.values()),
        "overlap": overlap,
        "extra": find_extra(record for _, record in places),
        "is_quick": is_quick,
    }


def _part(record: Record) -> Hashable:
    """What is read of which file; of shards, those that could not be prepared share an entry."""
    place = None if record.entry is None else (record.entry, record.video_id)
    return record.path, place, record.start_s, record.end_s


def _describe(
    listing: Listing, found: Mapping[Hashable, Facts | str], num_classes: int
) -> dict[str, Any]:
    """Describes a split: its list, what there is of it, and what its videos are."""
    records, expected = listing.records, set(listing.missing)
    is_missing = lambda record: record.entry is None and not os.path.exists(record.path)  # noqa: E731
    missing = [record for record in records if record in expected or is_missing(record)]
    results = [(record, found[_part(record)]) for record in listing.present]
    facts = [result for _, result in results if isinstance(result, Facts)]
    tally = lambda values: dict(collections.Counter(v for v in values if v).most_common())  # noqa: E731
    about = {
        "num_videos": len(records),
        "fingerprint": fingerprint(records),
        "classes": _describe_classes(listing, num_classes),
        "frames": _spread([fact.num_frames for fact in facts]),
        "seconds": _spread([fact.duration_s for fact in facts if fact.duration_s is not None]),
        "sizes": tally(fact.size for fact in facts),
        "rates": tally(fact.rate for fact in facts),
        "forms": tally(fact.form for fact in facts),
        "num_rotated": sum(fact.is_rotated for fact in facts),
        "missing": [record.path for record in missing],
        "unreadable": [
            {"path": _name(record), "reason": result}
            for record, result in results
            if isinstance(result, str)
        ],
    }
    if expected:  # what training takes, and its checkpoints carry
        about["fingerprint_without_missing"] = fingerprint(listing.present)
    return about


def _name(record: Record) -> str:
    return record.path if record.entry is None else f"{record.path}:{record.video_id}"


def _describe_classes(listing: Listing, num_classes: int) -> dict[str, Any]:
    """Counts the videos of each class."""
    counts = collections.Counter(record.label for record in listing.records)
    names = listing.class_names or ()
    empty = (label for label in range(num_classes) if label not in counts)
    return {
        "num_classes": num_classes,
        "labels": [min(counts), max(counts)],
        "num_empty": num_classes - len(counts),
        "empty": list(itertools.islice(empty, _MAX_EMPTY)),
        "histogram": [
            {"label": label, "name": names[label] if label < len(names) else None, "num_videos": n}
            for label, n in sorted(counts.items())
        ],
    }


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    if not values:
        return None
    reductions = (("min", np.min), ("median", np.median), ("max", np.max))
    return {name: round(float(reduce(values)), 3) for name, reduce in reductions}


def find_repeated(places: Places) -> tuple[list[tuple[str, dict]], list[dict]]:
    """Finds videos that stand twice in a list, or in the lists of several splits.

    Files are the same where they have the same bytes; those of a size of their own are not read.
    The images of folders are not compared.

    Args:
        places: the records of all splits.

    Returns:
        Duplicates: the split's name and {"reason", "videos": [video_id], "labels": [int]}; and
        the overlap of splits, see `survey`.
    """
    contents = _hash_contents({r.path for _, r in places if r.entry is None})

    def content(place):
        path, *part = _part(place[1])
        return contents.get(path, path), *part

    duplicates, overlap, is_told = [], [], set()
    for group in _groups(places, content):
        is_one_file = len({record.path for _, record in group}) == 1
        reason = "same file" if is_one_file else "same content"
        by_split = _groups(group, lambda place: place[0], at_least=1)
        for same in (each for each in by_split if len(each) > 1):
            ids, labels = zip(*((record.video_id, record.label) for _, record in same))
            found = {"reason": reason, "videos": list(ids), "labels": list(labels)}
            duplicates.append((same[0][0], found))
        if len(by_split) > 1:
            overlap.append(_overlap(reason, group))
            is_told |= {record.video_id for _, record in group}
    for group in _groups(places, lambda place: place[1].video_id):
        if len({split for split, _ in group}) > 1 and group[0][1].video_id not in is_told:
            overlap.append(_overlap("same name", group))
    return duplicates, overlap


def _groups(places: Places, key: Callable, at_least: int = 2) -> list[Places]:
    found = collections.defaultdict(list)
    for place in places:
        found[key(place)].append(place)
    return [group for group in found.values() if len(group) >= at_least]


def _overlap(reason: str, group: Places) -> dict[str, Any]:
    videos = collections.defaultdict(list)
    for split, record in group:
        videos[split].append(record.video_id)
    return {"reason": reason, "videos": dict(videos)}


def _hash_contents(paths: Iterable[str]) -> dict[str, str]:
    """Returns the hash of every file that has another's size; none is that of an empty one."""
    by_size = collections.defaultdict(list)
    for path in paths:
        if os.path.isfile(path) and os.path.getsize(path):
            by_size[os.path.getsize(path)].append(path)
    hashes = {}
    for path in itertools.chain(*(same for same in by_size.values() if len(same) > 1)):
        with contextlib.suppress(OSError), open(path, "rb") as file:  # unreadable is told elsewhere
            hashes[path] = hashlib.file_digest(file, "sha1").hexdigest()
    return hashes


def find_extra(records: Iterable[Record]) -> list[str]:
    """Lists the videos, or folders of images, that lie beside listed ones and are not listed."""
    listed = {os.path.abspath(record.path) for record in records if record.entry is None}
    folders = collections.defaultdict(set)  # -> whether folders, files, or both are listed in it
    for path in listed:
        folders[os.path.dirname(path)].add(os.path.isdir(path))
    extra = []
    for folder, kinds in folders.items():
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                is_video = entry.is_dir() or entry.name.lower().endswith(VIDEO_SUFFIXES)
                is_like_listed = is_video and entry.is_dir() in kinds and entry.name[0] != "."
                if is_like_listed and os.path.join(folder, entry.name) not in listed:
                    extra.append(os.path.join(folder, entry.name))
    return sorted(extra)
