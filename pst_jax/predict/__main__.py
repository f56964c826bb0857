"""Predicts videos: `python -m pst_jax.predict VIDEO... --model FOLDER`.

VIDEO is a file, a folder (all videos below it) or a glob in quotes. FOLDER is a model folder, as
`python -m pst_jax.convert` writes it; by default what the variable PST_JAX_MODEL names. Exit codes:
0 done, 1 error, or a video could not be read: the others are predicted all the same.
"""

import argparse

from pst_jax.command_line import run_command
from pst_jax.evaluation.averages import parse_views


def main(args: argparse.Namespace) -> int | None:
    """Predicts every video, and writes what was asked for."""
    from pst_jax.predict import command  # after the flags: a wrong one is told at once

    return command.run(args)


def _views(text: str) -> tuple[int, int]:
    try:
        return parse_views(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be an integer of at least 1")
    return int(text)


def _seconds(text: str) -> float:
    try:
        if 0 < float(text) < float("inf"):
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} must be a number of seconds above 0")


def make_parser() -> argparse.ArgumentParser:
    """Makes the parser of the command."""
    parser = argparse.ArgumentParser(
        "python -m pst_jax.predict",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("videos", nargs="+", metavar="VIDEO", help="file, folder, or glob in quotes")
    add("--model", metavar="FOLDER", help="model folder; default: $PST_JAX_MODEL")
    add("--views", type=_views, metavar="CxR", help="clips in time x crops, such as 4x3")
    add("--topk", type=_count, default=5, help="labels shown per video (5)")
    add("--labels", metavar="FILE", help="a class name per line, or kinetics400")
    add("--batch_size", type=_count, default=1, help="views at once; more on accelerators (1)")
    out = dict(nargs="?", const="-", metavar="FILE")
    add("--json", **out, help="write JSON; without FILE to the terminal, in place of the table")
    add("--csv", **out, help="write CSV, likewise")
    add("--features", metavar="NPZ", help="write the features of every view")
    add("--overlay", metavar="MP4", help="write the video with its labels over time")
    add("--window", type=_seconds, metavar="S", help="slide a window of so many seconds")
    add("--hop", type=_seconds, metavar="S", help="between windows; default: as the window")
    return parser


if __name__ == "__main__":
    run_command(main, make_parser())
