"""Lists of videos and their labels, from the text files and folders people already have."""

import os
import re
from pathlib import Path

from pst_jax.data.records import Listing, Record

VIDEO_SUFFIXES = (".mp4", ".webm", ".avi", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv")


def read_index(
    source: str | Path, root: str | Path | None = None, num_classes: int | None = None
) -> Listing:
    """Reads a list of videos from a folder of class folders or from a text file.

    Args:
        source: a folder (see `read_folder`) or a file (see `read_csv`).
        root: for a file, the folder its paths are relative to; by default the file's own.
        num_classes: where given, every label must be below it.

    Returns:
        The videos, with the class names of a folder (a file has none).

    Raises:
        ValueError: if `source` does not exist or a line or folder of it is not usable.
    """
    source = Path(source)
    if source.is_dir():
        listing = read_folder(source)
        if num_classes is not None and len(listing.class_names) > num_classes:
            raise ValueError(
                f"{source}: has {len(listing.class_names)} class folders, but num_classes="
                f"{num_classes}: raise num_classes or remove folders"
            )
        return listing
    if source.is_file():
        return Listing(read_csv(source, root, num_classes))
    raise ValueError(
        f"source={str(source)!r} does not exist: give a text file of lines 'path,label' or a "
        "folder that holds one folder of videos per class"
    )


def read_csv(
    csv_path: str | Path, root: str | Path | None = None, num_classes: int | None = None
) -> tuple[Record, ...]:
    """Reads lines `path,label` or `path label` (the lists of mmaction), with or without a header.

    The label is what stands behind the last separator, so a path may contain spaces.

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
    csv_path = Path(csv_path)
    root = os.path.abspath(csv_path.parent if root is None else root)
    try:
        text = csv_path.read_text(encoding="utf-8-sig")
        if "\0" in text:
            raise ValueError("it holds zero bytes, as UTF-16 does")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{csv_path}: cannot be read as a text file: {error}; give lines 'path,label' as UTF-8"
        ) from error
    entries = []
    is_first = True
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{csv_path}:{number}"
        path, label = _split_line(line.strip(), where)
        is_header = is_first and (path.lower(), label.lower()) == ("path", "label")
        is_first = False
        if not is_header:
            entries.append((*_below_root(path, root, where), _label(label, num_classes, where)))
    if not entries:
        raise ValueError(f"{csv_path}: lists no video: write one line 'path,label' per video")
    return _with_unique_ids(entries)


def read_folder(root: str | Path) -> Listing:
    """Reads a folder of one folder per class; labels number the class names in sorted order.

    Args:
        root: folder with `<class name>/<video>`; hidden entries and files that are not videos
            by their suffix are passed over.

    Returns:
        The videos, sorted by class and file name, with the class names.

    Raises:
        ValueError: if there is no such folder or no video in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise ValueError(f"root={str(root)!r} is not a folder: give one with a folder per class")
    class_names = tuple(
        sorted(entry.name for entry in root.iterdir() if entry.is_dir() and entry.name[0] != ".")
    )
    entries = []
    for label, class_name in enumerate(class_names):
        for file in sorted((root / class_name).iterdir(), key=lambda file: file.name):
            if file.suffix.lower() in VIDEO_SUFFIXES and file.name[0] != ".":
                entries.append((os.path.abspath(file), f"{class_name}/{file.name}", label))
    if not entries:
        raise ValueError(
            f"{root}: holds no <class>/<video>: videos end in {', '.join(VIDEO_SUFFIXES)}"
        )
    return Listing(_with_unique_ids(entries), class_names)


def read_class_names(path: str | Path, num_classes: int) -> tuple[str, ...]:
    """Reads the names of the classes, one per line, in the order of the labels.

    Raises:
        ValueError: if the file cannot be read or names more classes than there are, or one twice.
    """
    try:
        names = tuple(Path(path).read_text(encoding="utf-8-sig").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as a list of class names: {error}") from error
    if len(names) > num_classes or len(set(names)) < len(names):
        raise ValueError(
            f"{path}: has {len(names)} lines, {len(set(names))} of them different, for "
            f"num_classes={num_classes}: write a name of its own on one line per class"
        )
    return names


def _split_line(line: str, where: str) -> tuple[str, str]:
    """Splits at the last comma, or, where that leaves no label, at the last white space."""
    by_comma = line.rsplit(",", 1)
    by_space = line.rsplit(None, 1)
    parts = by_comma
    if len(by_comma) < 2 or (not _is_integer(by_comma[1].strip()) and _is_integer(by_space[-1])):
        parts = by_space
    if len(parts) < 2 or not parts[0].strip() or not parts[1].strip():
        raise ValueError(f"{where}: {line!r} has no label: write 'path,label' or 'path label'")
    path, label = parts[0].strip(), parts[1].strip()
    if len(path) > 1 and path[0] == path[-1] == '"':
        path = path[1:-1].replace('""', '"')  # as the csv writers of spreadsheets quote
    return path, label


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


def _with_unique_ids(entries: list[tuple[str, str, int]]) -> tuple[Record, ...]:
    seen: dict[str, int] = {}
    records = []
    for path, relative, label in entries:
        seen[relative] = seen.get(relative, 0) + 1
        suffix = f"#{seen[relative]}" if seen[relative] > 1 else ""
        records.append(Record(path, label, relative + suffix))
    return tuple(records)
