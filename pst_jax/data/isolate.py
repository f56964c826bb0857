"""Maps a function over items in processes whose death costs one item and nothing else.

A damaged video can take the decoder's whole process down. The processes are started as new
interpreters that import the function's module and never the caller's script: the script needs no
`if __name__ == "__main__":`, and what it imports (jax, say) is not in them.
"""

import contextlib
import dataclasses
import functools
import io
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

_LOOK_AHEAD = 4  # items that are worked on or wait for an earlier one, per process

_PROGRAM = "import sys; from pst_jax.data import isolate; isolate._serve(int(sys.argv[1]))"


@dataclasses.dataclass(frozen=True)
class Crash:
    """Stands for the result of an item whose process died or took too long: why, in words."""

    reason: str


def map_isolated(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    num_workers: int,
    timeout_s: float | None = None,
) -> Iterator[Any]:
    """Calls a function on every item, in other processes; one that dies is replaced.

    Args:
        function: can be pickled, and is defined in a module that can be imported.
        items: can be pickled; taken as they are needed, a few per process ahead.
        num_workers: processes, at least 1; each works on one item at a time.
        timeout_s: seconds that an item may take (a new process's start not counted), or no limit.

    Returns:
        A generator of the results in the order of the items, a `Crash` where there is none, to be
        closed (`contextlib.closing`) if it is left early. It ends its processes in every case.

    Raises:
        ValueError: if num_workers is below 1.
        Exception: while iterating, what the function raised, at its item's turn.
    """
    if num_workers < 1:
        raise ValueError(f"num_workers={num_workers} must be at least 1")
    return _results(pickle.dumps(function), enumerate(items), num_workers, timeout_s)


def _results(
    function: bytes, items: Iterator[tuple[int, Any]], num_workers: int, timeout_s: float | None
) -> Iterator[Any]:
    processes: list[_Process] = []
    outcomes: dict[int, Any] = {}
    num_taken = num_given = 0
    most_ahead = _LOOK_AHEAD * num_workers
    try:
        while True:
            idle = [process for process in processes if process.place is None]
            while (idle or len(processes) < num_workers) and num_taken - num_given < most_ahead:
                entry = next(items, None)
                if entry is None:
                    break
                num_taken += 1
                if not idle:
                    processes.append(_Process(function, timeout_s))
                process = idle.pop() if idle else processes[-1]
                process.give(*entry)
            if num_taken == num_given:
                return
            _await(processes)
            for process in list(processes):
                place, outcome = process.place, process.outcome()
                if outcome is not None:
                    outcomes[place] = outcome
                    if isinstance(outcome, Crash):
                        process.close()
                        processes.remove(process)
            while num_given in outcomes:
                outcome = outcomes.pop(num_given)
                num_given += 1
                yield outcome if isinstance(outcome, Crash) else outcome.unpack()
    finally:
        for process in processes:
            process.close()


@dataclasses.dataclass(frozen=True)
class _Outcome:
    """What the function returned or raised; kept pickled until its turn."""

    data: bytes

    def unpack(self) -> Any:
        has_raised, value = pickle.loads(self.data)
        if has_raised:
            raise value
        return value


class _Process:
    """A process that calls the function on one item at a time."""

    def __init__(self, function: bytes, timeout_s: float | None):
        self.place: int | None = None
        self.deadline = float("inf")
        self._timeout_s = float("inf") if timeout_s is None else timeout_s
        self._item: bytes | None = None  # until the process is up
        self._is_up = False
        self.pipe, theirs = multiprocessing.Pipe()
        # What can be imported here can be there; -P: and nothing else, from the working folder.
        path = os.pathsep.join(os.path.abspath(folder) for folder in sys.path)
        with theirs:
            self._popen = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM, str(theirs.fileno())],
                env=os.environ | {"PYTHONPATH": path},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        spec = sys.modules["__main__"].__spec__
        self._send(pickle.dumps((function, spec and spec.name)))

    def give(self, place: int, item: Any) -> None:
        """Sends an item, or keeps it until the process is up."""
        self.place, self._item = place, pickle.dumps(item)
        if self._is_up:
            self._begin()

    def outcome(self) -> _Outcome | Crash | None:
        """What became of the item; None while it is worked on."""
        if self.place is None:
            return None
        if not self.pipe.poll():
            if time.monotonic() < self.deadline:
                return None
            return Crash(f"took longer than {self._timeout_s:g} s")
        try:
            data = self.pipe.recv_bytes()
        except (EOFError, OSError):
            return self._death()
        if data:
            self.place, self.deadline = None, float("inf")
            return _Outcome(data)
        self._is_up = True
        self._begin()
        return None

    def close(self) -> None:
        """Ends the process, whatever it does."""
        self._popen.kill()
        self._popen.wait()
        self.pipe.close()

    def _begin(self) -> None:
        self.deadline = time.monotonic() + self._timeout_s
        self._send(self._item)

    def _send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # it died: reading from it will tell
            self.pipe.send_bytes(data)

    def _death(self) -> Crash:
        code = self._popen.wait()
        if not self._is_up:
            # The next would fare no better.
            raise ChildProcessError(
                f"a process could not be started: it ended with exit code {code}"
            )
        if code >= 0:
            return Crash(f"its process ended with exit code {code}")
        name = signal.Signals(-code).name
        hint = ", perhaps for lack of memory" if name == "SIGKILL" else ""
        return Crash(f"its process was ended by {name} ({signal.strsignal(-code)}{hint})")


def _await(processes: list[_Process]) -> None:
    """Waits until one of the processes that work has something to say, or is late."""
    deadline = min(process.deadline for process in processes)
    timeout_s = None if deadline == float("inf") else max(0.0, deadline - time.monotonic())
    wait([process.pipe for process in processes if process.place is not None], timeout_s)


class _Unpickler(pickle.Unpickler):
    """Finds what is defined in the module that `python -m` runs, by that module's own name."""

    def __init__(self, data: bytes, main: str | None):
        super().__init__(io.BytesIO(data))
        self._main = main

    def find_class(self, module: str, name: str) -> Any:
        if module == "__main__" and self._main is None:
            raise ValueError(f"{name} is defined in a script: move it to a module to import")
        return super().find_class(self._main if module == "__main__" else module, name)


def _serve(descriptor: int) -> None:
    """Calls the function on what comes through the pipe, until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller ends its processes itself
    pipe = Connection(descriptor)
    with contextlib.suppress(EOFError, OSError):
        data, main = pickle.loads(pipe.recv_bytes())
        try:
            function = _Unpickler(data, main).load()
        except Exception as error:
            function = functools.partial(_raise, error)
        pipe.send_bytes(b"")  # it is up
        while True:
            pipe.send_bytes(_answer(function, _Unpickler(pipe.recv_bytes(), main)))


def _raise(error: Exception, item: Any) -> None:
    raise error


def _answer(function: Callable[[Any], Any], item: _Unpickler) -> bytes:
    """What the function makes of an item, or raises, pickled."""
    try:
        return pickle.dumps((False, function(item.load())))
    except Exception as error:
        with contextlib.suppress(Exception):
            data = pickle.dumps((True, error))
            pickle.loads(data)  # an exception with arguments of its own may fail only here
            return data
        return pickle.dumps((True, RuntimeError(f"{type(error).__name__}: {error}")))
