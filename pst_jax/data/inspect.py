"""Tells what a data set holds and what is wrong with it: `python -m pst_jax.data.inspect PATH`.

PATH is the folder of a data set (Something-Something, Kinetics-400, Diving48, prepared shards,
lists train.csv and test.csv, folders of classes), one list, or tfds:NAME:SPLIT. Every frame of
every video is decoded once, in processes that a damaged video may take down.

With --sheet OUT, a PNG or HTML page shows random batches of the training split as the model sees
them: cropped, augmented and mixed as --config says, and mapped back to pixels.

What the disk lacks of a published list is listed as missing; what is missing of a list of one's
own cannot be read. Repeated videos, such in several splits, and files that no list names are told,
and no error.

Exit codes: 0 every video that is there can be read; 1 some cannot, or an error.
"""

import argparse
import json
import os
import pathlib
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tabulate import tabulate

from pst_jax import files
from pst_jax.command_line import ERROR, integer_in, new_parser, run_command
from pst_jax.data import survey
from pst_jax.data.index import VIDEO_SUFFIXES, read_dataset
from pst_jax.data.records import Listing
from pst_jax.files import TERMINAL

_MAX_LINES = 50  # of a list of files in the text; the JSON has them all
_MAX_NAMES = 5  # of videos that are the same
_MAX_KINDS = 4  # of sizes, rates and codecs


def main(args: argparse.Namespace) -> int | None:
    """Inspects a data set; returns the exit code."""
    for out in (args.json, args.sheet):
        if out not in (None, TERMINAL):
            files.check_writable(out)
    if os.path.isfile(args.path) and args.path.lower().endswith(VIDEO_SUFFIXES):
        raise ValueError(
            f"{args.path} is a video: give the folder of a data set, or a list such as train.csv"
        )
    draw = _prepare_sheet(args)  # what is wrong with the config is told first
    listings = read_dataset(args.path, args.root)
    found = survey.survey(listings, args.num_workers, args.quick)
    # A file's name need not be UTF-8: what is not is escaped.
    as_json = json.dumps({"path": args.path, **found}, indent=2) + "\n"
    if args.json not in (None, TERMINAL):
        with files.replacing(pathlib.Path(args.json)) as scratch:
            scratch.write_text(as_json)
    print(as_json if args.json == TERMINAL else report(args.path, found), end="", flush=True)
    if args.sheet:
        draw(_training_split(listings))
        if args.json != TERMINAL:
            print(f"batches are drawn to {files.printable(args.sheet)}")
    return ERROR if found["unreadable"] else None


def _prepare_sheet(args: argparse.Namespace):
    """Returns what draws the sheet of a list; jax is imported for none but this."""
    if not args.sheet:
        for flag in ("config", "batches", "seed"):
            if getattr(args, flag) is not None:
                raise ValueError(f"--{flag} is for --sheet OUT: give both or none")
        return None
    from pst_jax.explain import sheets

    folder = args.path if os.path.isdir(args.path) else os.path.dirname(args.path)
    recipe = sheets.read_recipe(args.config, args.seed, args.root or folder)
    return lambda listing: sheets.draw(listing, recipe, args.sheet, args.batches or 1)


def _training_split(listings: dict[str, Listing]) -> Listing:
    return listings.get("train") or next(iter(listings.values()))


def report(path: str, found: dict[str, Any]) -> str:
    """Formats what `survey.survey` found for people.

    Args:
        path: of the data set.
        found: what was found.

    Returns:
        Lines, of which file names are made such as a terminal can show.
    """
    splits = found["splits"]
    columns = [_column(split) for split in splits.values()]
    rows = [[what, *(column[what] for column in columns)] for what in columns[0]]
    lines = [path, ""]
    lines += tabulate(
        rows,
        ["", *(name or "the list" for name in splits)],
        tablefmt="simple",
        disable_numparse=True,
    ).split("\n")
    lines.append("")
    for name, split in splits.items():
        lines.append(f"{_title('fingerprint', name)}: {split['fingerprint']}")
        if "fingerprint_without_missing" in split:
            lines.append(f"  without the missing: {split['fingerprint_without_missing']}")
    for name, split in splits.items():
        lines += _listed(_title("missing", name), split["missing"])
        lines += _listed(_title("duplicates", name), map(_duplicate, split["duplicates"]))
    lines += _listed("in several splits", map(_overlap, found["overlap"]))
    lines += _listed("beside those listed, in no list", found["extra"])
    unreadable = [f"{problem['path']}: {problem['reason']}" for problem in found["unreadable"]]
    lines += _listed("cannot be read", unreadable)
    if not unreadable:
        what = "headers and first frames" if found["is_quick"] else "all frames of all videos"
        lines += ["", f"{what} can be read"]
    return "\n".join(map(files.printable, lines)) + "\n"


def _title(what: str, split: str) -> str:
    return f"{what} of {split}" if split else what


def _column(split: dict[str, Any]) -> dict[str, str]:
    """What the table says of a split."""
    classes = split["classes"]
    histogram = sorted(classes["histogram"], key=lambda entry: entry["num_videos"])
    low, high = classes["labels"]
    return {
        "videos": f"{split['num_videos']:,}",
        "classes": f"{classes['num_classes']:,}",
        "labels": f"{low} to {high}",
        "smallest class": _class(histogram[0]),
        "largest class": _class(histogram[-1]),
        "empty classes": f"{classes['num_empty']:,}",
        "frames (min, median, max)": _range(split["frames"], "{:,.0f}"),
        "seconds (min, median, max)": _range(split["seconds"], "{:,.2f}"),
        "frame sizes in px": _kinds(split["sizes"]),
        "frames per second": _kinds(split["rates"]),
        "container and codec": _kinds(split["forms"]),
        "rotated in metadata": f"{split['num_rotated']:,}",
        "missing": f"{len(split['missing']):,}",
        "duplicates": f"{len(split['duplicates']):,}",
        "cannot be read": f"{len(split['unreadable']):,}",
    }


def _class(entry: dict[str, Any]) -> str:
    name = files.printable(entry["name"] or f"class {entry['label']}")
    return f"{textwrap.shorten(name, 40, placeholder=' …')}: {entry['num_videos']:,}"


def _range(spread: dict[str, float] | None, form: str) -> str:
    return ", ".join(map(form.format, spread.values())) if spread else "not known"


def _kinds(counts: dict[str, int]) -> str:
    """Names the most frequent, a line each."""
    first = list(counts.items())[:_MAX_KINDS]
    lines = [f"{kind}: {count:,}" for kind, count in first] or ["not known"]
    if len(counts) > len(first):
        rest = sum(counts.values()) - sum(count for _, count in first)
        lines.append(f"{len(counts) - len(first):,} others: {rest:,}")
    return "\n".join(lines)


def _duplicate(group: dict[str, Any]) -> str:
    labels = sorted(set(group["labels"]))
    but = f", but labels {', '.join(map(str, labels))}" if len(labels) > 1 else ""
    return f"{_first(group['videos'], ' = ')} ({group['reason']}{but})"


def _overlap(group: dict[str, Any]) -> str:
    sides = (f"{split}: {_first(ids, ', ')}" for split, ids in group["videos"].items())
    return f"{'; '.join(sides)} ({group['reason']})"


def _first(names: Sequence[str], between: str) -> str:
    rest = len(names) - _MAX_NAMES
    return between.join(names[:_MAX_NAMES]) + (f" and {rest:,} more" if rest > 0 else "")


def _listed(title: str, entries: Iterable[str]) -> Iterator[str]:
    """Yields a heading and the entries below it; nothing where there are none."""
    entries = list(entries)
    if entries:
        yield from ("", f"{title}: {len(entries):,}")
        yield from (f"  {entry}" for entry in entries[:_MAX_LINES])
    if len(entries) > _MAX_LINES:
        yield f"  and {len(entries) - _MAX_LINES:,} more: see --json FILE"


def make_parser() -> argparse.ArgumentParser:
    """Makes the parser of the command."""
    parser = new_parser("data.inspect", __doc__)
    add = parser.add_argument
    add("path", metavar="PATH", help="folder of a data set, or a list")
    add("--root", metavar="DIR", help="folder that the paths in lists are relative to")
    add("--json", metavar="FILE", help="write all that was found; - to the terminal, as JSON alone")
    cores = os.cpu_count() or 1
    workers = f"processes that decode; default: one per core ({cores})"
    add("--num_workers", type=integer_in(1, 1024), default=cores, metavar="N", help=workers)
    add("--quick", action="store_true", help="list packets, and decode the first frame alone")
    add("--sheet", type=_picture, metavar="OUT", help="draw training batches: .png or .html")
    config = "recipe of --sheet, as train.py takes it; default: random crops of 32 frames of 224 px"
    add("--config", metavar="FILE[:ARG]", help=config)
    add("--batches", type=integer_in(1, 16), metavar="N", help="batches to draw (1)")
    add("--seed", type=integer_in(0, 2**31 - 1), metavar="S", help="default: the config's, or 0")
    return parser


def _picture(text: str) -> str:
    if not text.lower().endswith((".png", ".html")):
        raise argparse.ArgumentTypeError(f"{text!r} must end in .png or .html")
    return text


if __name__ == "__main__":
    run_command(main, make_parser())
