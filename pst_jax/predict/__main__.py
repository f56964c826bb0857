"""Predicts videos: `python -m pst_jax.predict VIDEO... --model FOLDER`.

VIDEO is a file, a folder (all videos below it) or a glob in quotes. FOLDER is a model folder, as
`python -m pst_jax.convert` writes it; by default what the variable PST_JAX_MODEL names.

With --window S, windows of S seconds follow each other (or begin every --hop seconds); the last
one reaches back from the video's end by its full length, so that it may overlap the one before.

Exit codes: 0 done, 1 error, or a video could not be read or its overlay not be written: all else
is predicted and written all the same.
"""

import argparse
from collections.abc import Callable

from pst_jax.command_line import integer_in, new_parser, run_command
from pst_jax.evaluation.averages import parse_views
from pst_jax.files import TERMINAL


def main(args: argparse.Namespace) -> int | None:
    """Predicts every video, and writes what was asked for."""
    from pst_jax.predict import command  # after the flags: a wrong one is told at once

    return command.run(args)


def _views(text: str) -> tuple[int, int]:
    try:
        return parse_views(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _seconds(text: str) -> float:
    try:
        if 1e-3 <= float(text) <= 1e6:  # so that no count of windows overflows
            return float(text)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r} must be a number of seconds in [0.001, 1000000]")


def _file(suffix: str, flag: str = "") -> Callable[[str], str]:
    """A file's name; where `flag` may stand without one, it takes up the VIDEO behind it."""

    def parse(text: str) -> str:
        if text.endswith(suffix) or (flag and text == TERMINAL):
            return text
        remedy = f": put {flag} last, or write {flag}=FILE" if flag else ""
        raise argparse.ArgumentTypeError(f"{text!r} must end in {suffix}{remedy}")

    return parse


def make_parser() -> argparse.ArgumentParser:
    """Makes the parser of the command."""
    parser = new_parser("predict", __doc__)
    add = parser.add_argument
    add("videos", nargs="+", metavar="VIDEO", help="file, folder, or glob in quotes")
    add("--model", metavar="FOLDER", help="model folder; default: $PST_JAX_MODEL")
    add("--views", type=_views, metavar="CxR", help="clips in time x crops, such as 4x3")
    add("--topk", type=integer_in(1, 10**6), default=5, help="labels shown per video (5)")
    add("--labels", metavar="FILE", help="a class name per line, or kinetics400")
    at_once = "views at once, at most; more on accelerators (1)"
    add("--batch_size", type=integer_in(1, 4096), default=1, help=at_once)
    out = dict(nargs="?", const=TERMINAL, metavar="FILE")
    instead = "write JSON; without FILE to the terminal, in place of the table"
    add("--json", **out, type=_file(".json", "--json"), help=instead)
    add("--csv", **out, type=_file(".csv", "--csv"), help="write CSV, likewise")
    add("--features", metavar="NPZ", type=_file(".npz"), help="write the features of every view")
    add("--overlay", metavar="MP4", help="write the video with its labels over time")
    add("--window", type=_seconds, metavar="S", help="slide a window of so many seconds")
    add("--hop", type=_seconds, metavar="S", help="between windows; default: as the window")
    return parser


if __name__ == "__main__":
    run_command(main, make_parser())
