"""Lists of one's own: text files of one line per video."""

import dataclasses
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from etils import epath

from pst_jax.data.records import Record

# Path and label as texts, start_s, end_s, num_frames.
_Fields = tuple[str, str, float, float | None, int | None]

_COLUMNS = ("path", "label", "start", "end")
_TIME = re.compile(r"[0-9]{1,9}(?:[.][0-9]*)?")
# Without a header, lines of four columns are told by their form: the last three are numbers.
_PART_LINE = re.compile(r".+,\s*[+-]?[0-9]{1,9}\s*,\s*[+-]?[0-9.]+\s*,\s*([+-]?[0-9.]+)?")
_FRAMES_LINE = re.compile(r"(.+)\s([0-9]{1,9})\s([0-9]{1,9})")


def read_csv(
    csv_path: str | Path, root: str | Path | None = None, num_classes: int | None = None
) -> tuple[Record, ...]:
    """Reads lines `path,label[,start,end]` or `path label`, with or without a header.

    Or, as mmaction lists folders of frames, `folder num_frames label`; that these are folders is
    looked for. `start` and `end` are seconds since the first frame, each may be left out. The
    label is what stands behind the last separator, so a path may contain spaces.

    Args:
        csv_path: the text file, UTF-8; empty lines are passed over.
        root: the folder that paths are relative to; by default the file's own. An absolute path
            must lie below it.
        num_classes: where given, every label must be below it.

    Returns:
        One record per line, in the file's order.

    Raises:
        ValueError: naming file and line: a line without a label, a label that is no integer or
            out of range, a path outside `root`; or a file without any video.
    """
    csv_path = epath.Path(csv_path)
    text, root = read_text(csv_path), local_root(csv_path, root)
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1)]
    lines = [(f"{csv_path}:{number}", line) for number, line in lines if line]
    header = tuple(re.split(r"\s*,\s*|\s+", lines[0][1].lower())) if lines else ()
    if header in (_COLUMNS, _COLUMNS[:2]):
        del lines[0]
    if not lines:
        raise ValueError(f"{csv_path}: lists no video: write one line 'path,label' per video")
    split = _splitter(header, [line for _, line in lines], root)
    records = []
    for where, line in lines:
        path, label, start_s, end_s, num_frames = split(line, where)
        path, video_id = _below_root(path, root, where)
        label = _label(label, num_classes, where)
        records.append(Record(path, label, video_id, start_s, end_s, num_frames=num_frames))
    return with_unique_ids(records)


def with_unique_ids(records: Iterable[Record]) -> tuple[Record, ...]:
    """Gives the second record of an id `#2` behind it, and so on."""
    seen: dict[str, int] = {}
    unique = []
    for record in records:
        count = seen[record.video_id] = seen.get(record.video_id, 0) + 1
        if count > 1:
            record = dataclasses.replace(record, video_id=f"{record.video_id}#{count}")
        unique.append(record)
    return tuple(unique)


def read_text(path: Path) -> str:
    """Reads a list; raises a ValueError where it is no UTF-8."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        if "\0" in text:
            raise ValueError("it holds zero bytes, as UTF-16 does")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path}: cannot be read as a text file: {error}; give lines 'path,label' as UTF-8"
        ) from error
    return text


def local_root(path: Path, root: str | Path | None) -> str:
    """Returns the absolute path of a list's data root, by default its own folder."""
    root = path.parent if root is None else root
    if "://" in str(root):
        raise ValueError(
            f"{path}: its videos cannot be opened in a bucket: give a local folder as the root, or "
            "prepare them as shards, which may lie there"
        )
    return os.path.abspath(root)


def _splitter(header: tuple[str, ...], lines: list[str], root: str) -> Callable[..., _Fields]:
    """Returns what splits the lines of a list, `split(line, where)`."""
    if header == _COLUMNS:
        return _split_part
    if header == _COLUMNS[:2]:
        return _split_line
    matches = [_FRAMES_LINE.fullmatch(line) for line in lines]
    # The path of a file may end in a number too: that is then no folder.
    if all(matches) and any(os.path.isdir(os.path.join(root, match[1])) for match in matches):
        return _split_frames
    return _split_by_form


def _split_by_form(line: str, where: str) -> _Fields:
    return (_split_part if _PART_LINE.fullmatch(line) else _split_line)(line, where)


def _split_part(line: str, where: str) -> _Fields:
    """`path,label,start,end`, in seconds."""
    path, *rest = (part.strip() for part in line.rsplit(",", 3))
    if len(rest) < 3:
        raise ValueError(f"{where}: {line!r} must be 'path,label,start,end', as its header says")
    label, *times = rest
    if not all(_TIME.fullmatch(time) for time in times if time):
        raise ValueError(
            f"{where}: start {times[0]!r} and end {times[1]!r} must be seconds or empty"
        )
    start_s, end_s = float(times[0] or 0), float(times[1]) if times[1] else None
    if end_s is not None and end_s <= start_s:
        raise ValueError(f"{where}: end {end_s} s must be later than start {start_s} s")
    return _unquoted(path), label, start_s, end_s, None


def _split_frames(line: str, where: str) -> _Fields:
    """`folder num_frames label`."""
    path, num_frames, label = line.rsplit(None, 2)
    if not int(num_frames):
        raise ValueError(f"{where}: {path!r} has 0 frames: take it off the list")
    return path, label, 0.0, None, int(num_frames)


def _split_line(line: str, where: str) -> _Fields:
    """Splits at the last comma, or, where that leaves no label, at the last white space."""
    by_comma = line.rsplit(",", 1)
    by_space = line.rsplit(None, 1)
    parts = by_comma
    if len(by_comma) < 2 or (not _is_integer(by_comma[1].strip()) and _is_integer(by_space[-1])):
        parts = by_space
    if len(parts) < 2 or not parts[0].strip() or not parts[1].strip():
        raise ValueError(f"{where}: {line!r} has no label: write 'path,label' or 'path label'")
    return _unquoted(parts[0].strip()), parts[1].strip(), 0.0, None, None


def _unquoted(path: str) -> str:
    if len(path) > 1 and path[0] == path[-1] == '"':
        path = path[1:-1].replace('""', '"')  # as the csv writers of spreadsheets quote
    return path


def _is_integer(text: str) -> bool:
    # Not what int() takes besides, such as 1_0; nine digits fit an int32.
    return re.fullmatch("[+-]?[0-9]{1,9}", text) is not None


def _label(text: str, num_classes: int | None, where: str) -> int:
    if not _is_integer(text):
        raise ValueError(
            f"{where}: label {text[:40]!r} is not an integer (of at most 9 digits): number the "
            "classes from 0, below a header 'path,label' or none"
        )
    label = int(text)
    if label < 0 or (num_classes is not None and label >= num_classes):
        highest = "" if num_classes is None else f" to {num_classes - 1} (num_classes - 1)"
        raise ValueError(
            f"{where}: label {label} is out of range: allowed is 0{highest or ' and above'}; "
            "correct the line or num_classes"
        )
    return label


def _below_root(path: str, root: str, where: str) -> tuple[str, str]:
    """Returns the absolute path and the path below `root`, by name: links are not resolved."""
    full = os.path.normpath(os.path.join(root, path))
    relative = os.path.relpath(full, root)
    if relative == os.curdir or relative.split(os.sep)[0] == os.pardir:
        raise ValueError(
            f"{where}: path {path!r} leaves the data root {root!r}: move the file below it or "
            "give another root"
        )
    return full, Path(relative).as_posix()
