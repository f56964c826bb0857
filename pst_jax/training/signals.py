"""Stopping on a signal, after the step at work."""

import contextlib
import signal
from collections.abc import Callable, Iterator

from absl import logging


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Yields a function that tells whether SIGINT or SIGTERM came; a second SIGINT ends at once."""
    came = []

    def remember(number, frame):
        if came and number == signal.SIGINT:
            raise KeyboardInterrupt
        came.append(number)
        logging.warning("signal %d: stopping after this step", number)

    previous = {n: signal.signal(n, remember) for n in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
