"""Writing files whole or not at all, and showing their names."""

import contextlib
import os
import pathlib
import secrets
from collections.abc import Iterator

TERMINAL = "-"  # in place of a file's name


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a temporary name beside `path` that becomes `path` when the body succeeds.

    The name is drawn: it is no file of the user's, nor of another thread, process or host.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | os.PathLike) -> None:
    """Raises a `ValueError` unless a file of that name can be written."""
    path = pathlib.Path(path)
    if path.is_dir() or not (path.parent.is_dir() and os.access(path.parent, os.W_OK)):
        raise ValueError(
            f"{str(path)!r} cannot be written: name a file in a folder that exists and can be "
            "written to"
        )


def printable(text: str) -> str:
    """Returns a text for the terminal: a file's name need not be UTF-8, nor printable."""
    safe = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in safe)
