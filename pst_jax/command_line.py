"""What the scripts share: flags that explain themselves, and errors of one line."""

import sys
from collections.abc import Callable

from absl import app, flags, logging

from pst_jax.huge_pages import use_huge_pages

ERROR = 1


def run_script(main: Callable[[], int | None], required: tuple[str, ...] = ()) -> None:
    """Parses the flags, runs `main` and exits; a mistake that a user can mend is one line.

    Args:
        main: does the work with the flags' values; returns the exit code, None for 0.
        required: names of the flags that must be given.
    """
    use_huge_pages()
    flags.mark_flags_as_required(required)
    app.run(lambda argv: _run(main, argv), flags_parser=_parse)


def _parse(argv: list[str]) -> list[str]:
    """Parses flags; a config key that does not exist is reported as any wrong flag is."""
    try:
        return flags.FLAGS(argv)
    except flags.UnparsedFlagAccessError:
        raise
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        text = str(error.args[0] if error.args else error).strip()
        if "Traceback" in text:  # an error that the config file raised itself
            text = text.splitlines()[-1]
        print(f"{argv[0]}: {text}\nTry {argv[0]} --help.", file=sys.stderr)
        sys.exit(ERROR)


def _run(main: Callable[[], int | None], argv: list[str]) -> int | None:
    if len(argv) > 1:
        logging.error("not understood: %s; flags begin with --", " ".join(argv[1:]))
        return ERROR
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # orbax tells every step of a save
    try:
        return main()
    except (ValueError, OSError) as error:
        logging.error("%s", error)
    except KeyboardInterrupt:
        logging.error("interrupted; what was saved before is whole")
    return ERROR
