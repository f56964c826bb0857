"""What the scripts share: flags that explain themselves, and errors of one line."""

import argparse
import os
import re
import sys
from collections.abc import Callable

from absl import app, flags, logging

from pst_jax.files import printable
from pst_jax.huge_pages import use_huge_pages

ERROR = 1


def use_compilation_cache() -> None:
    """Keeps compiled programs between commands, where jax's own variables do not say otherwise."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if os.path.isabs(base):  # as it is not where nobody has a home
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.join(base, "pst_jax"))


def run_script(main: Callable[[], int | None], required: tuple[str, ...] = ()) -> None:
    """Parses the flags, runs `main` and exits; a mistake that a user can mend is one line.

    Args:
        main: does the work with the flags' values; returns the exit code, None for 0.
        required: names of the flags that must be given.
    """
    use_huge_pages()
    flags.mark_flags_as_required(required)
    app.run(lambda argv: _run(main, argv), flags_parser=_parse)


def new_parser(module: str, description: str) -> argparse.ArgumentParser:
    """Makes the parser of `python -m pst_jax.<module>`; the description keeps its lines."""
    return argparse.ArgumentParser(
        f"python -m pst_jax.{module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def integer_in(least: int, most: int) -> Callable[[str], int]:
    """Returns what parses an argument as an integer in [least, most], none of them negative."""

    def parse(text: str) -> int:
        if not re.fullmatch("[0-9]{1,10}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} must be an integer in [{least}, {most}]")
        return int(text)

    return parse


def run_command(main: Callable[[argparse.Namespace], int | None], parser: argparse.ArgumentParser):
    """Parses the arguments of a command with positional ones, runs `main` and exits likewise.

    Args:
        main: does the work with what was parsed; returns the exit code, None for 0.
        parser: of the command.
    """
    use_huge_pages()
    use_compilation_cache()
    arguments = parser.parse_args()
    logging.use_absl_handler()
    logging.set_verbosity(logging.ERROR)  # what libraries tell besides
    say = lambda text: print(f"{parser.prog}: {_lines(text)}", file=sys.stderr)  # noqa: E731
    sys.exit(_guarded(lambda: main(arguments), say))


def _lines(text: str) -> str:
    """Makes each line of a message one that a terminal can show."""
    return "\n".join(map(printable, text.split("\n")))


def _guarded(work: Callable[[], int | None], say: Callable[[str], None]) -> int | None:
    """Runs `work`; a mistake that a user can mend is one line."""
    try:
        return work()
    except (ValueError, OSError, OverflowError, MemoryError) as error:
        say(str(error))
    except KeyboardInterrupt:
        say("interrupted; what was saved before is whole")
    return ERROR


def _parse(argv: list[str]) -> list[str]:
    """Parses flags; a config key that does not exist is reported as any wrong flag is."""
    try:
        return flags.FLAGS(argv)
    except flags.UnparsedFlagAccessError:
        raise
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        print(f"{argv[0]}: {_explain(error, argv)}\nTry {argv[0]} --help.", file=sys.stderr)
        sys.exit(ERROR)


def _explain(error: Exception, argv: list[str]) -> str:
    """Says what is wrong with the flags."""
    text = str(error.args[0] if error.args else error).strip()
    if "Traceback" in text:  # an error that the config file raised itself
        return text.splitlines()[-1]
    # A key that the config lacks comes alone, without the flag and the section it was in.
    key = re.search(r"\w+", text)
    paths = [arg.partition("=")[0] for arg in argv if re.match("--?config[.]", arg)]
    flag = next((path for path in paths if key and key[0] in path.split(".")), None)
    if isinstance(error, AttributeError | KeyError) and flag:
        near = re.search(r'Did you mean "(\w+)"', text)
        hint = (
            f"did you mean {near[1]!r}?" if near else "those that can be set are in the config file"
        )
        return f"{flag}: there is no key {key[0]!r}; {hint}"
    return text


def _run(main: Callable[[], int | None], argv: list[str]) -> int | None:
    if len(argv) > 1:
        logging.error("not understood: %s; flags begin with --", " ".join(argv[1:]))
        return ERROR
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # orbax tells every step of a save
    return _guarded(main, lambda text: logging.error("%s", text))
