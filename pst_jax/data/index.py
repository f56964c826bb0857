"""Lists of videos and their labels, from the files and folders people already have."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from etils import epath

from pst_jax.data.records import Listing, Record
from pst_jax.data.text_lists import local_root, read_csv, read_text

VIDEO_SUFFIXES = (".mp4", ".webm", ".avi", ".mkv", ".mov", ".m4v", ".mpg", ".mpeg", ".flv", ".wmv")
MANIFEST = "manifest.jsonl"  # of a folder of shards
TFDS = "tfds:"  # begins the name of a TFDS data source

# What names of lists and folders call the parts of a data set.
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
SPLIT_WORD = re.compile(rf"(?<![a-z])({'|'.join(_SPLITS)})(?![a-z])", re.IGNORECASE)
_LIST_SUFFIXES = (".csv", ".txt", ".json")
_LIST_FOLDERS = ("labels", "annotations")  # where published lists lie, beside their videos


def read_index(
    source: str | Path, root: str | Path | None = None, num_classes: int | None = None
) -> Listing:
    """Reads one list of videos, whatever it is; what a file lists is told by its content.

    Args:
        source: a file: a list of one's own (see `read_csv`) or of a published data set (see
            `official.read_list`); or a folder: of a folder per class (see `read_folder`) or of
            shards and their manifest; or "tfds:NAME[/CONFIG]:SPLIT" (see `tfds_source.read`). A
            file, or a folder of shards, may lie in a bucket (gs://...).
        root: for a file, the folder its videos lie below; by default its own, or of a published
            list in `labels` or `annotations` the one around. For "tfds:", the `data_dir` of TFDS.
        num_classes: where given, every label must be below it.

    Returns:
        The videos, with the names of the classes where the list or its folders have them.

    Raises:
        ValueError: if `source` does not exist, a line or folder of it is not usable, or no video
            of a published list lies below `root`.
    """
    listing = _read(source, root, num_classes)
    _check_found(source, [listing])
    return listing


def read_dataset(path: str | Path, root: str | Path | None = None) -> dict[str, Listing]:
    """Reads all lists of a data set.

    Args:
        path: a folder with lists whose names tell the split (`train.csv`, `labels/train.json`,
            `Diving48_V2_test.json`; those without labels are passed over), or with the folders
            `train`, `val`, ... and no others; or anything that `read_index` takes.
        root: as for `read_index`; by default `path`, if that is a folder with lists.

    Returns:
        By split, of "train", "validation", "test" those that there are; of what is no more than
        one list, by "".

    Raises:
        ValueError: as `read_index`; if a split has two lists, or other class folders than another.
    """
    if str(path).startswith(TFDS) or not (folder := _as_path(path)).is_dir():
        return {"": read_index(path, root)}
    listings = {}
    if not (folder / MANIFEST).is_file():
        listings = _read_lists(folder, root) or {
            split: read_index(each) for split, each in _split_folders(folder).items()
        }
    listings = listings or {"": read_index(folder)}
    _check_found(folder, listings.values())
    class_names = {listing.class_names for listing in listings.values()} - {None}
    if len(class_names) > 1:
        different = set.union(*map(set, class_names)) - set.intersection(*map(set, class_names))
        raise ValueError(
            f"{folder}: {' and '.join(listings)} have different classes "
            f"({', '.join(sorted(different)) or 'in another order'}), so that labels would not "
            "agree: make empty class folders"
        )
    return listings


def _read(source: str | Path, root: str | Path | None, num_classes: int | None) -> Listing:
    path, noun = _as_path(source), "classes"
    if str(source).startswith(TFDS):
        from pst_jax.data import tfds_source  # what a data set does not need is not imported

        listing = tfds_source.read(str(source), root)
    elif path.is_dir():
        listing, noun = _read_directory(path), "class folders"
    elif path.is_file():
        listing = _read_file(path, root, num_classes)
    else:
        raise ValueError(
            f"source={str(source)!r} does not exist: give a text file of lines 'path,label' or a "
            "folder that holds one folder of videos per class"
        )
    if num_classes is not None:
        found = max((record.label + 1 for record in listing.records), default=0)
        found = max(found, len(listing.class_names or ()))
        if found > num_classes:
            raise ValueError(
                f"{source}: has {found} {noun}, but num_classes={num_classes}: raise num_classes "
                f"or remove {'folders' if noun == 'class folders' else 'classes'}"
            )
    return listing


def _as_path(source: str | Path) -> Path:
    path = epath.Path(source)
    try:
        path.exists()
    except ImportError as error:  # of what opens a bucket
        raise ValueError(f"{source}: {error}, or copy it to a local disk") from error
    return path


def _read_directory(folder: Path) -> Listing:
    if (folder / MANIFEST).is_file():
        from pst_jax.data import shards

        return shards.read_manifest(folder)
    from pst_jax.data import official

    published = [file for _, file in _find_lists(folder) if official.is_list(read_text(file))]
    inside = published or list(_split_folders(folder).values())
    if inside:
        raise ValueError(
            f"{folder}: holds {', '.join(str(each.relative_to(folder)) for each in inside)}: give "
            "one of them"
        )
    return read_folder(folder)


def _read_file(path: Path, root: str | Path | None, num_classes: int | None) -> Listing:
    from pst_jax.data import official

    text = read_text(path)
    if path.suffix == ".json" and not official.is_list(text):
        raise ValueError(
            f"{path}: is no list that is known: those of Something-Something have an id and a "
            "template, those of Diving48 a vid_name; write one of 'path,label' instead"
        )
    if not official.is_list(text):
        return Listing(read_csv(path, root, num_classes))
    around = path.parent.parent if path.parent.name in _LIST_FOLDERS else path.parent
    return official.read_list(path, text, local_root(path, root or around))


def _read_lists(folder: Path, root: str | Path | None) -> dict[str, Listing]:
    """The listings of a folder's lists, by split."""
    from pst_jax.data import official

    listings, files = {}, {}
    for split, file in _find_lists(folder):
        if split in files and files[split].stem == file.stem:
            continue  # Kinetics comes as csv, and as json besides
        try:
            listing = _read_file(file, root or folder, None)
        except official.UnlabelledError:
            continue
        if split in files:
            raise ValueError(
                f"{folder}: {files[split].name} and {file.name} both list its {split} split: give "
                "one of them, or take one away"
            )
        listings[split], files[split] = listing, file
    return listings


def _find_lists(folder: Path) -> list[tuple[str, Path]]:
    """Splits and their lists, in the order of the splits; of one name, csv comes first."""
    found = []
    for where in (folder, *(folder / name for name in _LIST_FOLDERS)):
        for file in where.iterdir() if where.is_dir() else ():
            word = SPLIT_WORD.search(file.stem)
            if word and file.suffix in _LIST_SUFFIXES and file.name[0] != "." and file.is_file():
                found.append((_SPLITS[word[0].lower()], file))
    order = list(_SPLITS.values())
    rank = lambda each: (order.index(each[0]), each[1].stem, _LIST_SUFFIXES.index(each[1].suffix))  # noqa: E731
    return sorted(found, key=rank)


def _split_folders(folder: Path) -> dict[str, Path]:
    """Folders by split, if there are no others."""
    folders = [each for each in folder.iterdir() if each.name[0] != "." and each.is_dir()]
    found = {_SPLITS.get(each.name.lower(), ""): each for each in folders}
    if "" in found or len(found) < len(folders):
        return {}
    return {split: found[split] for split in dict.fromkeys(_SPLITS.values()) if split in found}


def _check_found(source: str | Path, listings: Iterable[Listing]) -> None:
    """Refuses a data set of which nothing lies where it is looked for."""
    records = [record for listing in listings for record in listing.records]
    if records and len(records) == sum(len(listing.missing) for listing in listings):
        raise ValueError(
            f"{source}: lists {len(records)} videos, and none is found, such as "
            f"{records[0].path!r}: give the folder in which they lie as the root"
        )


def read_folder(root: str | Path) -> Listing:
    """Reads a folder of one folder per class; labels number the class names in sorted order.

    Args:
        root: folder with `<class name>/<video>`, where a video is a file or a folder of numbered
            images; hidden entries and files that are not videos by their suffix are passed over.

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
    records = []
    for label, class_name in enumerate(class_names):
        with os.scandir(root / class_name) as scanned:
            files = sorted(filter(_is_video, scanned), key=lambda file: file.name)
        for file in files:
            path, video_id = os.path.abspath(file), f"{class_name}/{file.name}"
            records.append(Record(path, label, video_id))
    if not records:
        raise ValueError(
            f"{root}: holds no <class>/<video>: videos end in {', '.join(VIDEO_SUFFIXES)}"
        )
    return Listing(tuple(records), class_names)


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


def _is_video(entry: os.DirEntry) -> bool:
    """Whether what lies in a class folder is a video, as a file or as a folder of frames."""
    from pst_jax.data import images

    if entry.name[0] == ".":
        return False
    if entry.name.lower().endswith(VIDEO_SUFFIXES):
        return True
    return entry.is_dir() and images.holds_frames(entry.path)
