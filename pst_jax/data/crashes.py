"""Videos that take the process down that decodes them: found, and passed over from then on.

A library that decodes damaged files may write where it must not, and then nothing in its process
is told any more. So what is being read stands on disk while it is read. What stood there when a
process died is tried again in a process of its own; what takes that down too is to blame.
"""

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import threading
from collections.abc import Iterator

from absl import logging

from pst_jax import files
from pst_jax.data.frames import VideoError, as_it_is
from pst_jax.data.isolate import Crash, map_isolated
from pst_jax.data.records import Record
from pst_jax.data.sources import open_record

_FOUND = "crashing.json"
_MARKS = threading.local()  # a file per thread, open for as long as the thread lives


@dataclasses.dataclass(frozen=True)
class CrashLog:
    """What is being read, and what was found to take processes down.

    Attributes:
        directory: a folder of its own, on a local disk; made where it is missing.
        reasons: of each record known to crash, by what opens it.
    """

    directory: str
    reasons: dict[str, str] = dataclasses.field(default_factory=dict)

    @contextlib.contextmanager
    def reading(self, record: Record) -> Iterator[None]:
        """Notes that a record is read while the block runs.

        Raises:
            VideoError: if it is known to take processes down.
        """
        if _key(record) in self.reasons:
            raise VideoError(record.path, self.reasons[_key(record)])
        file = self._mark_file().fileno()
        text = json.dumps(dataclasses.asdict(record)).encode()
        os.pwrite(file, text, 0)  # stays when the process dies, though not when the machine does
        try:
            yield
        finally:
            os.ftruncate(file, 0)

    def settle(self, decoder: str = "pyav") -> int:
        """Tries again, each in a process of its own, what dead processes were reading.

        To be called while no thread of this process reads: its notes are then those of an earlier
        one of its number, as it happens in containers.

        Args:
            decoder: see `sources.open_record`.

        Returns:
            How many of them do crash, found now or before; they are passed over from now on, by
            this log and by those opened later.
        """
        self._recall()
        marks = [mark for mark in self._folder().glob("[0-9]*-*-*.mark") if not _is_another(mark)]
        suspects = {}
        for mark in marks:
            with contextlib.suppress(ValueError, TypeError):  # died between two clips
                record = Record(**json.loads(mark.read_text()))
                suspects[_key(record)] = record
        unknown = [record for key, record in suspects.items() if key not in self.reasons]
        tried = map_isolated(_read_all, [(record, decoder) for record in unknown], num_workers=1)
        found = [(r, crash) for r, crash in zip(unknown, tried) if isinstance(crash, Crash)]
        for record, crash in found:
            self.reasons[_key(record)] = f"takes its decoder down: {crash.reason}"
            logging.warning("%s %s; passed over", record.path, self.reasons[_key(record)])
        if found:
            self._recall()  # what another process has found meanwhile
            path = self._folder() / _FOUND
            with files.replacing(path) as scratch:
                scratch.write_text(json.dumps(self.reasons, indent=2) + "\n")
        for mark in marks:  # last: should this process be killed, all is tried again
            if _process_of(mark) == os.getpid():
                mark.write_bytes(b"")  # a thread may have it open
            else:
                mark.unlink(missing_ok=True)
        return sum(key in self.reasons for key in suspects)

    def _recall(self) -> None:
        path = self._folder() / _FOUND
        if path.exists():
            try:
                self.reasons.update(
                    {str(k): str(v) for k, v in json.loads(path.read_text()).items()}
                )
            except (ValueError, AttributeError) as error:
                raise ValueError(f"{path} is damaged ({error}): remove it") from None

    def _folder(self) -> pathlib.Path:
        folder = pathlib.Path(self.directory)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _mark_file(self) -> io.FileIO:
        opened = _MARKS.__dict__
        if self.directory not in opened:
            process = os.getpid()
            name = f"{process}-{_started(process)}-{threading.get_ident()}.mark"
            opened[self.directory] = io.FileIO(self._folder() / name, "w")  # closed with its thread
        return opened[self.directory]


def open_log(workdir: pathlib.Path, decoder: str) -> CrashLog:
    """Opens the log of a run, and settles what an earlier process of it left."""
    log = CrashLog(str(workdir / "crashes"))
    log.settle(decoder)
    return log


def reading(log: CrashLog | None, record: Record) -> contextlib.AbstractContextManager[None]:
    """Notes that a record is read, where there is a log."""
    return contextlib.nullcontext() if log is None else log.reading(record)


def _key(record: Record) -> str:
    """What is read of which file."""
    return f"{record.path} {record.entry} {record.start_s} {record.end_s}"


def _is_another(mark: pathlib.Path) -> bool:
    """Whether another process wrote it, which still runs."""
    process, started = _process_of(mark), mark.name.split("-")[1]
    if process == os.getpid():
        return False
    if started:
        return _started(process) == started
    try:  # a system that does not tell
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs, as another user
        pass
    return True


def _process_of(mark: pathlib.Path) -> int:
    return int(mark.name.partition("-")[0])


def _started(process: int) -> str:
    """When a process was started, in ticks since the machine was; "" where that is not told."""
    try:
        text = pathlib.Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    state, *fields = text.rpartition(")")[2].split()  # a name may hold anything
    return "" if state in ("Z", "X") else fields[18]


def _read_all(item: tuple[Record, str]) -> None:
    """Reads every frame of a record, a few at a time; runs in a process of its own."""
    record, decoder = item
    with contextlib.suppress(VideoError), open_record(record, decoder) as video:
        for start in range(0, video.num_frames, 16):
            video.read(range(start, min(start + 16, video.num_frames)), as_it_is)
