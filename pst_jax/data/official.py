"""Lists of published data sets as they are downloaded: Something-Something, Kinetics, Diving48.

Videos are looked for by their ids wherever they lie below the root, as people lay them out in many
ways; the ids are the publisher's, so that a fingerprint does not depend on that.
"""

import collections
import csv
import json
import os
import re
from pathlib import Path
from typing import Any

from pst_jax.data.index import SPLIT_WORD, VIDEO_SUFFIXES
from pst_jax.data.records import Listing, Record
from pst_jax.data.text_lists import read_text, with_unique_ids

_MAX_DEPTH = 4  # folders below the root in which videos are looked for
_CLIP_TIMES = re.compile("_[0-9]{6}_[0-9]{6}$")  # of a Kinetics clip; some file names lack them

# What a list says: ids of videos, their labels, names of the classes where they are known.
Said = tuple[list[str], list[int], tuple[str, ...] | None]


class UnlabelledError(ValueError):
    """A list of a test set, whose labels were never published."""


def is_list(text: str) -> bool:
    """Whether a file of that text is a list of a published data set, by how it begins."""
    return any(told_by.match(text) for told_by, _, _ in _KINDS)


def read_list(path: Path, text: str, root: str) -> Listing:
    """Reads a list of a published data set.

    Args:
        path: the list; beside it lies what numbers its classes: `...-labels.csv` or
            `labels.json` of Something-Something, the list of the training set of Kinetics,
            `Diving48_vocab.json`.
        text: what it holds, such that `is_list`.
        root: the folder below which its videos lie, whether flat or by class, as files or as
            folders of frames.

    Returns:
        All that it lists. What does not lie below `root` is in `missing` and has the path where
        the publisher puts it.

    Raises:
        UnlabelledError: if it has no labels.
        ValueError: naming the file: if it lacks a field, its classes' numbers cannot be found, or
            do not have a label of it.
    """
    read, place = next((read, place) for told_by, read, place in _KINDS if told_by.match(text))
    video_ids, labels, class_names = read(path, text)
    if not video_ids:
        raise ValueError(f"{path}: lists no video: download it again")
    found = find_videos(root, set(video_ids))
    # A file named without its times is the clip where the list has one clip of it alone.
    bare = [_CLIP_TIMES.sub("", name) for name in video_ids]
    count = collections.Counter(bare)
    paths = [
        found.get(name) or (found.get(stem) if count[stem] == 1 else None)
        for name, stem in zip(video_ids, bare)
    ]
    records = with_unique_ids(
        Record(found_at or os.path.join(root, place.format(id=name, list=path.stem)), label, name)
        for found_at, label, name in zip(paths, labels, video_ids)
    )
    missing = tuple(record for record, path in zip(records, paths) if path is None)
    return Listing(records, class_names, missing)


def find_videos(root: str, frame_folders: set[str]) -> dict[str, str]:
    """Finds every video below a folder, each folder of which is listed once.

    Args:
        root: the folder.
        frame_folders: names that, where folders have them, make these videos: folders of frames.

    Returns:
        Name without suffix -> path. Of two of one name the first is taken, but any in a folder
        named "replacement...", as Kinetics has for files that were published broken, goes first.

    Raises:
        ValueError: if the folder cannot be listed.
    """
    found: dict[str, str] = {}
    _find_below(root, frame_folders, found, _MAX_DEPTH)
    return found


def _find_below(folder: str, frame_folders: set[str], found: dict[str, str], depth: int) -> None:
    try:
        with os.scandir(folder) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
    except OSError as error:
        raise ValueError(f"{folder}: cannot be searched for videos: {error}") from error
    folders, holds_frame_folders = [], False
    for entry in entries:  # first: a folder of that name may be of an extraction that failed
        stem, suffix = os.path.splitext(entry.name)
        if suffix.lower() in VIDEO_SUFFIXES:
            found.setdefault(stem, entry.path)
    for entry in entries:
        if entry.name.lower().endswith(VIDEO_SUFFIXES):
            continue
        if entry.name in frame_folders and entry.is_dir():
            found.setdefault(entry.name, entry.path)
            holds_frame_folders = True
        elif entry.name[0] != "." and entry.is_dir():
            folders.append(entry)
    # Beside frames of listed videos lie those of other splits: a hundred thousand folders.
    if depth and not holds_frame_folders:
        folders.sort(key=lambda entry: not entry.name.startswith("replacement"))
        for entry in folders:
            _find_below(entry.path, frame_folders, found, depth - 1)


def _read_something_v1(path: Path, text: str) -> Said:
    """Lines `id;label text`."""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    rows = [(number, *map(str.strip, line.partition(";")[::2])) for number, line in lines]
    if not any(label for _, _, label in rows):
        raise UnlabelledError(_unlabelled(path))
    numbers, labels_path = _class_numbers(path)
    labels = [_number(numbers, label, labels_path, f"{path}:{number}") for number, _, label in rows]
    return [video_id for _, video_id, _ in rows], labels, _in_order(numbers)


def _read_something_v2(path: Path, text: str) -> Said:
    """[{"id", "template": "Putting [something] onto [something]", ...}, ...]."""
    entries = _entries(path, text)
    if not any("template" in entry for entry in entries):
        raise UnlabelledError(_unlabelled(path))
    numbers, labels_path = _class_numbers(path)
    video_ids, labels = [], []
    for place, entry in enumerate(entries):
        where = f"{path}: entry {place}"
        label = _field(entry, "template", str, where).replace("[", "").replace("]", "")
        labels.append(_number(numbers, label, labels_path, where))
        video_ids.append(str(_field(entry, "id", str | int, where)))
    return video_ids, labels, _in_order(numbers)


def _read_kinetics(path: Path, text: str) -> Said:
    """A header and lines `label,youtube_id,time_start,time_end,split`; classes by alphabet."""
    rows = _kinetics_rows(path, text)
    train_path = path.with_name(SPLIT_WORD.sub("train", path.name))
    train_rows = rows
    if train_path.name != path.name:
        if not train_path.is_file():
            raise ValueError(
                f"{path}: its classes are numbered by those of the training set: put its list, "
                f"{train_path.name}, beside it"
            )
        train_rows = _kinetics_rows(train_path, read_text(train_path))
    class_names = sorted({label for label, _, _ in train_rows})
    numbers = {name: number for number, name in enumerate(class_names)}
    labels = [_number(numbers, label, train_path, where) for label, _, where in rows]
    return [video_id for _, video_id, _ in rows], labels, tuple(class_names)


def _kinetics_rows(path: Path, text: str) -> list[tuple[str, str, str]]:
    """Label, id of the clip, and where it stands."""
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    if "label" not in reader.fieldnames:
        raise UnlabelledError(_unlabelled(path))
    rows, name = [], str(path)
    for row in reader:
        where = f"{name}:{reader.line_num}"
        values = [row.get(key) for key in ("label", "youtube_id", "time_start", "time_end")]
        if not all(values) or not all(re.fullmatch("[0-9]{1,6}", time) for time in values[2:]):
            raise ValueError(
                f"{where}: label, youtube_id, time_start and time_end (whole seconds) are "
                f"{values}: correct the line or download the list again"
            )
        label, youtube_id, start_s, end_s = values
        rows.append((label, f"{youtube_id}_{int(start_s):06d}_{int(end_s):06d}", where))
    return rows


def _read_diving48(path: Path, text: str) -> Said:
    """[{"vid_name", "label", ...}, ...]; a file is one dive, whatever frame numbers stand there."""
    video_ids, labels = [], []
    for place, entry in enumerate(_entries(path, text)):
        where = f"{path}: entry {place}"
        video_ids.append(_field(entry, "vid_name", str, where))
        labels.append(_field(entry, "label", int, where))
    vocabulary = path.with_name("Diving48_vocab.json")
    class_names = None
    if vocabulary.is_file():
        words = _json(vocabulary, read_text(vocabulary))
        is_list = isinstance(words, list) and all(isinstance(each, list) for each in words)
        if not is_list:
            raise ValueError(f"{vocabulary}: must be a list of lists of words: download it again")
        class_names = tuple(" ".join(map(str, each)) for each in words)
    num_classes = len(class_names or ()) or 48
    for place, label in enumerate(labels):
        if not 0 <= label < num_classes:
            raise ValueError(
                f"{path}: entry {place}: label {label} must lie in [0, {num_classes - 1}], as "
                f"{vocabulary.name} has it: is one of them of another version?"
            )
    return video_ids, labels, class_names


# How a list begins, what reads it, and where below the root the publisher puts its videos.
_KINDS = (
    (
        re.compile(r"[0-9]+[ \t]*(;|\r?\n|$)"),
        _read_something_v1,
        "20bn-something-something-v1/{id}",
    ),
    (
        re.compile(r'\s*\[\s*\{[^{}]*"id"\s*:'),
        _read_something_v2,
        "20bn-something-something-v2/{id}.webm",
    ),
    (re.compile(r'\s*\[\s*\{[^{}]*"vid_name"\s*:'), _read_diving48, "rgb/{id}.mp4"),
    (re.compile(r"[^\n]*\byoutube_id\b"), _read_kinetics, "{list}/{id}.mp4"),
)


def _class_numbers(path: Path) -> tuple[dict[str, int], Path]:
    """The numbers of Something-Something's label texts, and the file that has them."""
    word = SPLIT_WORD.search(path.name)
    prefix = path.name[: word.start()] if word else ""
    names = [f"{prefix}labels.csv", f"{prefix}labels.json"]
    labels_path = next(
        (path.with_name(name) for name in names if path.with_name(name).is_file()), None
    )
    if labels_path is None:
        raise ValueError(
            f"{path}: its classes are numbered by {' or '.join(names)}, which does not lie beside "
            "it: put it there"
        )
    text = read_text(labels_path)
    if labels_path.suffix == ".csv":
        lines = [line.strip().strip('"') for line in text.splitlines() if line.strip()]
        numbers = {line: number for number, line in enumerate(lines)}
    else:
        content = _json(labels_path, text)
        content = content if isinstance(content, dict) else {}
        are_numbers = all(str(number).isdecimal() for number in content.values())
        numbers = {text: int(number) for text, number in content.items()} if are_numbers else {}
    if not numbers or sorted(numbers.values()) != list(range(len(numbers))):
        raise ValueError(
            f"{labels_path}: must number label texts from 0 on, each once: download it again"
        )
    return numbers, labels_path


def _number(numbers: dict[str, int], label: str, labels_path: Path, where: str) -> int:
    if label not in numbers:
        raise ValueError(
            f"{where}: label {label!r} is none of the {len(numbers)} of {labels_path.name}: is one "
            "of them of another version?"
        )
    return numbers[label]


def _in_order(numbers: dict[str, int]) -> tuple[str, ...]:
    return tuple(sorted(numbers, key=numbers.__getitem__))


def _entries(path: Path, text: str) -> list[dict[str, Any]]:
    entries = _json(path, text)
    for place, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise ValueError(f"{path}: entry {place} is {entry!r:.80}, no {{...}}")
    return entries


def _json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: is no whole JSON: {error}; download it again") from error


def _field(entry: dict[str, Any], key: str, kind: Any, where: str) -> Any:
    value = entry.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(
            f"{where}: {key} is {value!r:.80}, must be {'a number' if kind is int else 'a text'}: "
            "download the list again"
        )
    return value


def _unlabelled(path: Path) -> str:
    return f"{path}: has no labels, as lists of test sets: give the list of the validation set"
