"""Batches of clips for training and evaluation.

Everything random is a function of the seed and of a position in the stream, never of what ran
before: the batches do not depend on how many threads or processes make them, and resuming at a
step is skipping to it.
"""

import atexit
import contextlib
import dataclasses
import functools
import itertools
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import grain
import numpy as np
from absl import flags

from pst_jax.data import clips, crashes, transforms
from pst_jax.data.crashes import CrashLog
from pst_jax.data.frames import VideoError
from pst_jax.data.records import Record
from pst_jax.data.transforms import ClipSpec

Batch = dict[str, np.ndarray]

_NUM_REPLACEMENTS = 5
# Apart from each other, so that no two uses of one seed share their numbers.
_CLIP, _REPLACEMENT, _FRAME_ORDER, _ORDER = range(4)
_OPEN: weakref.WeakSet = weakref.WeakSet()


def num_train_steps(num_clips: int, batch_size: int, num_epochs: int, host_count: int = 1) -> int:
    """Returns how many batches `train_batches` yields on every host, for its arguments.

    Args:
        num_clips: of an epoch: the number of videos times `ClipSpec.num_repeats`.
        batch_size: clips per batch on a host.
        num_epochs: passes over the list.
        host_count: hosts that share the work.

    Returns:
        num_clips * num_epochs // (batch_size * host_count). Since batches run over the border
        of epochs, this is at least num_epochs * (num_clips // global batch), the count of the
        released code, which drops each epoch's rest.
    """
    return num_clips * num_epochs // (batch_size * host_count)


def train_batches(
    records: Sequence[Record],
    spec: ClipSpec,
    *,
    batch_size: int,
    num_epochs: int,
    seed: int,
    start_step: int = 0,
    num_threads: int = 2,
    num_workers: int = 0,
    host_index: int = 0,
    host_count: int = 1,
    crash_log: CrashLog | None = None,
) -> Iterator[Batch]:
    """Yields shuffled training batches, each video once per epoch (in `num_repeats` clips).

    Each epoch has an order of its own; batches run over the border of epochs, and only the last
    clips of the last epoch, too few for a batch, are left out. The global batch of a step is the
    next batch_size * host_count clips of the order, cut into one block per host, so that the
    number of hosts may change between runs where the global batch does not.

    A video that cannot be read is replaced by another, which depends on seed and video only; the
    caller counts `problem` and decides how many are too many.

    Args:
        records: the list of videos; must be the same on all hosts and on resuming.
        spec: how clips are taken.
        batch_size: clips per batch on this host, B.
        num_epochs: passes over the list.
        seed: at least 0; equal seeds give equal batches.
        start_step: batches to pass over (at no cost): the number of steps done before resuming.
        num_threads: threads that decode, per process; 0 decodes when asked.
        num_workers: processes that decode. They start Python anew: the caller's script needs the
            usual `if __name__ == "__main__":`.
        host_index: this host, in [0, host_count - 1].
        host_count: hosts that share the work.
        crash_log: which videos take processes down; they are replaced as others that cannot be
            read. Where one is given and `num_workers` is not 0, a process that such a video takes
            down is started again.

    Returns:
        A generator of `num_train_steps` - `start_step` dicts, to be closed (`contextlib.closing`
        or `.close()`) if it is left early: video uint8 [B, T, S, S, 3], label int32 [B], index
        int32 [B] (place in `records` of the video seen), position int32 [B] (of the clip in the
        stream over all epochs: what is drawn for it later depends on that), mask bool [B] (all
        true), problem unicode [B] ('' or, for a replaced video, 'path: reason').

    Raises:
        ValueError: if an argument is out of range, a label has no entry in `flip_labels` or
            `reverse_labels`, or `num_repeats` does not divide the batch; while
            iterating (as `VideoError`), if five replacements cannot be read either.
    """
    _check_stream(records, batch_size, seed, num_threads, num_workers, host_index, host_count)
    transforms.check_at_least("num_epochs", num_epochs, 1)
    transforms.check_at_least("start_step", start_step, 0)
    for mode, labels in ((spec.flip, spec.flip_labels), (spec.reverse, spec.reverse_labels)):
        for label in {record.label for record in records} if mode == "swap" else ():
            transforms.changed_label(label, mode, labels)
    repeats = spec.num_repeats
    if batch_size % repeats:
        raise ValueError(f"batch_size={batch_size} must be a multiple of num_repeats={repeats}")
    num_steps = num_train_steps(len(records) * repeats, batch_size, num_epochs, host_count)
    load = _TrainBatch(tuple(records), spec, seed, batch_size, crash_log)
    # A batch is made as a whole: of clips batched behind processes, it depends on their number.
    batches = grain.MapDataset.range(num_steps * host_count).map(load)
    batches = batches[host_index::host_count][start_step:]
    return _iterate(batches, num_threads, num_workers, crash_log, spec.decoder)


def eval_batches(
    records: Sequence[Record],
    spec: ClipSpec,
    *,
    batch_size: int,
    num_clips: int = 1,
    num_crops: int = 1,
    seed: int = 0,
    shuffle_frames: bool = False,
    host_index: int = 0,
    host_count: int = 1,
    num_threads: int = 2,
    num_workers: int = 0,
    crash_log: CrashLog | None = None,
) -> Iterator[Batch]:
    """Yields every view of every video exactly once, in order, padded to full batches.

    All views of a video follow each other. All hosts get the same number of batches. A video
    that cannot be read is never replaced: its rows have a false mask and say why.

    Args:
        records: the list of videos; must be the same on all hosts.
        spec: how clips are taken; random crops and flips are not used.
        batch_size: rows per batch on this host, B.
        num_clips: clips per video, see `sampling.clip_indices`.
        num_crops: 1 (the middle) or 3 (left, right, middle, or top, bottom, middle).
        seed: for `shuffle_frames`.
        shuffle_frames: give the frames in a random order that depends on seed and video.
        host_index: this host, in [0, host_count - 1].
        host_count: hosts that share the work.
        num_threads: threads that decode, per process; 0 decodes when asked.
        num_workers: processes that decode, see `train_batches`.
        crash_log: see there.

    Returns:
        A generator of dicts, to be closed if it is left early: video uint8 [B, T, S, S, 3],
        label int32 [B], index int32 [B] (place in `records`, -1 in padding), view int32 [B]
        (crop * num_clips + clip), mask bool [B] (false in padding and for a video that cannot be
        read; then the frames are black), problem unicode [B] ('' or 'path: reason').

    Raises:
        ValueError: if an argument is out of range.
    """
    _check_stream(records, batch_size, seed, num_threads, num_workers, host_index, host_count)
    transforms.check_at_least("num_clips", num_clips, 1)
    if num_crops not in (1, 3):
        raise ValueError(f"num_crops={num_crops}: allowed are 1 and 3")
    if spec.short_side_px < spec.size_px or (num_crops == 3 and spec.short_side_px > spec.size_px):
        raise ValueError(
            f"short_side_px={spec.short_side_px} must be at least size_px={spec.size_px}, and "
            f"equal to it for num_crops=3 (num_crops={num_crops}): give evaluation its own spec"
        )
    load = _EvalClip(tuple(records), spec, num_clips, num_crops, seed, shuffle_frames, crash_log)
    global_batch = batch_size * host_count
    num_rows = -(-len(records) * num_clips * num_crops // global_batch) * global_batch
    rows = grain.MapDataset.range(num_rows).map(load)
    batches = rows.batch(batch_size, drop_remainder=True, batch_fn=_stack)
    batches = batches[host_index::host_count]
    return _iterate(batches, num_threads, num_workers, crash_log, spec.decoder)


@dataclasses.dataclass(frozen=True)
class _TrainBatch:
    """Makes a batch of the shuffled stream by its number; sent to the worker processes."""

    records: tuple[Record, ...]
    spec: ClipSpec
    seed: int
    batch_size: int
    crash_log: CrashLog | None

    def __call__(self, number: int) -> Batch:
        size_px, repeats = self.spec.size_px, self.spec.num_repeats
        shape = (self.batch_size, self.spec.num_frames, size_px, size_px, 3)
        video = np.empty(shape, dtype=np.uint8)  # clips are written where they stay
        start = int(number) * self.batch_size
        rows = []
        for first in range(0, self.batch_size, repeats):
            positions = range(start + first, start + first + repeats)
            rows += self._load(positions, video[first : first + repeats])
        return _stack(rows) | {"video": video}

    def _load(self, positions: range, out: np.ndarray) -> list[dict[str, Any]]:
        """Reads the clips of one video into `out`, uint8 [R, T, S, S, 3]; returns the rest."""
        epoch, place = divmod(positions[0] // len(positions), len(self.records))
        index = first = int(epoch_order(len(self.records), self.seed, epoch)[place])
        problem = None
        for attempt in range(1 + _NUM_REPLACEMENTS):
            # The same numbers for every attempt: all but the video stays as it was.
            rngs = [clip_rng(self.seed, position) for position in positions]
            record = self.records[index]
            try:
                with crashes.reading(self.crash_log, record):
                    loaded = clips.load_train_clips(record, self.spec, rngs, out)
            except VideoError as error:
                problem = problem or error
                index = self._replacement(first, attempt)
                continue
            fields = dict(index=index, is_valid=True, problem=str(problem or ""))
            return [
                _row(label=label, position=position, **fields)
                for position, (_, label) in zip(positions, loaded)
            ]
        raise VideoError(
            problem.path,
            f"{problem.reason}; nor can {_NUM_REPLACEMENTS} others be read in its place",
        )

    def _replacement(self, first: int, attempt: int) -> int:
        """Another video than the first, where there is another."""
        rng = np.random.default_rng([self.seed, _REPLACEMENT, first, attempt])
        step = 1 + int(rng.integers(max(len(self.records) - 1, 1)))
        return (first + step) % len(self.records)


@dataclasses.dataclass(frozen=True)
class _EvalClip:
    """Makes one row of the evaluation; sent to the worker processes."""

    records: tuple[Record, ...]
    spec: ClipSpec
    num_clips: int
    num_crops: int
    seed: int
    shuffle_frames: bool
    crash_log: CrashLog | None

    def __call__(self, row: int) -> dict[str, Any]:
        size_px, num_frames = self.spec.size_px, self.spec.num_frames
        index, view = divmod(int(row), self.num_clips * self.num_crops)
        black = np.zeros((num_frames, size_px, size_px, 3), dtype=np.uint8)
        if index >= len(self.records):
            row = _row(label=0, index=-1, is_valid=False, problem="", view=0)
            return row | {"video": black}
        record = self.records[index]
        fields = dict(label=record.label, index=index, view=view)
        try:
            with crashes.reading(self.crash_log, record):
                video = clips.load_view(record, self.spec, view, self.num_clips, self.num_crops)
        except VideoError as error:
            return _row(is_valid=False, problem=str(error), **fields) | {"video": black}
        if self.shuffle_frames:
            rng = np.random.default_rng([self.seed, _FRAME_ORDER, index])
            video = video[rng.permutation(num_frames)]
        return _row(is_valid=True, problem="", **fields) | {"video": video}


def clip_rng(seed: int, position: int) -> np.random.Generator:
    """Returns what draws the clip at a position of the stream of training."""
    return np.random.default_rng([seed, _CLIP, position])


@functools.lru_cache(maxsize=4)  # batches at work may reach over epochs
def epoch_order(num_records: int, seed: int, epoch: int) -> np.ndarray:
    """The order of one epoch, int64 [num_records].

    Not grain's shuffle: it seeds epoch e by seed + e, so that neighbouring seeds share orders, and
    takes half a millisecond per video in short lists.
    """
    return np.random.default_rng([seed, _ORDER, epoch]).permutation(num_records)


def _row(*, is_valid, problem, **numbers) -> dict[str, Any]:
    row = dict(mask=np.bool_(is_valid), problem=problem)
    return row | {name: np.int32(number) for name, number in numbers.items()}


def _stack(rows: Sequence[dict[str, Any]]) -> Batch:
    """Copies clips (often views of larger ones) once, into the batch."""
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _iterate(
    batches: grain.MapDataset,
    num_threads: int,
    num_workers: int,
    crash_log: CrashLog | None,
    decoder: str,
) -> Iterator[Batch]:
    stream = _restarted(batches, num_threads, num_workers, crash_log, decoder)
    _OPEN.add(stream)
    return stream


def _restarted(batches, num_threads, num_workers, crash_log, decoder) -> Iterator[Batch]:
    """Yields batches; goes on where a video has taken a process down, without that video."""
    num_done = 0
    while True:
        done = itertools.count(num_done)
        stream = _generate(batches[num_done:], num_threads, num_workers)
        try:
            with contextlib.closing(stream):
                yield from map(lambda batch, _: batch, stream, done)
            return
        except RuntimeError as error:  # what grain raises where a process of its has gone
            if crash_log is None or "terminated unexpectedly" not in str(error):
                raise
            num_done = next(done)
            if not crash_log.settle(decoder):
                raise ValueError(
                    f"a process that reads videos has ended, and none of the videos that it was "
                    f"reading is to blame ({error}): was it killed for want of memory? Try less "
                    "config.data.num_workers or config.data.num_threads"
                ) from error


def _generate(batches: grain.MapDataset, num_threads: int, num_workers: int) -> Iterator[Batch]:
    """Yields batches in order and shuts threads and processes down at the end or on close()."""
    if not len(batches):
        return
    # The buffer counts batches: grain's default of 500 is meant for single small examples.
    options = grain.ReadOptions(num_threads=num_threads, prefetch_buffer_size=num_threads)
    stream = batches.to_iter_dataset(options)
    if num_workers:
        # grain's processes read absl flags, which only absl.app.run would have parsed.
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        stream = stream.mp_prefetch(grain.MultiprocessingOptions(num_workers=num_workers))
    with contextlib.closing(iter(stream)) as iterator:
        yield from map(_own, iterator) if num_workers else iterator


def _own(batch: Batch) -> Batch:
    """Copies a batch out of the memory of the process that made it, which is freed at once.

    Else it lies there for as long as anybody holds the batch, such as a jax array on a CPU, and a
    program that ends meanwhile complains of memory that leaks.
    """
    return {name: np.array(value) for name, value in batch.items()}


@atexit.register
def _close_all() -> None:
    """Closes what is still open when the program ends: grain's own clean-up then comes too late."""
    for batches in list(_OPEN):
        with contextlib.suppress(ValueError):  # another thread waits in it
            batches.close()


def _check_stream(records, batch_size, seed, num_threads, num_workers, host_index, host_count):
    if not len(records):
        raise ValueError("records is empty: give at least one video")
    transforms.check_at_least("batch_size", batch_size, 1)
    transforms.check_at_least("seed", seed, 0)
    transforms.check_at_least("num_threads", num_threads, 0)
    transforms.check_at_least("num_workers", num_workers, 0)
    transforms.check_at_least("host_count", host_count, 1)
    if not 0 <= host_index < host_count:
        raise ValueError(
            f"host_index={host_index} must lie in [0, host_count - 1] = [0, {host_count - 1}]"
        )
