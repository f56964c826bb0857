"""What a list of videos says: one type for every way to store them."""

import dataclasses
import hashlib
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Record:
    """One labelled video, or a part of one.

    Attributes:
        path: where it lies, ready to be opened by `frames.open_frames`: a video file, a folder of
            images, or, where `entry` is given, what holds it among others.
        label: class number, from 0.
        video_id: names the video within its list (the path below the data root; a second line
            of the same file gets `#2`), so that results do not depend on where the data lies.
        start_s: where the part that counts begins, in seconds since the first frame.
        end_s: where it ends (the first time that is no more of it); None: with the video.
        entry: of a record in a shard, or an example in a TFDS data source: its number there.
        num_frames: frames that it must have, where a manifest says so.
    """

    path: str
    label: int
    video_id: str
    start_s: float = 0.0
    end_s: float | None = None
    entry: int | None = None
    num_frames: int | None = None


@dataclasses.dataclass(frozen=True)
class Listing:
    """What a list of videos holds.

    Attributes:
        records: every video that it lists, in its order.
        class_names: one per class, where they are known.
        missing: those of `records` that the list of a published data set names and the disk lacks.
            Of Kinetics some always are; of one's own lists none is looked for before it is read.
    """

    records: tuple[Record, ...]
    class_names: tuple[str, ...] | None = None
    missing: tuple[Record, ...] = ()

    @property
    def present(self) -> tuple[Record, ...]:
        """The others: what training takes, as it would have to replace the missing."""
        missing = set(self.missing)
        return tuple(record for record in self.records if record not in missing)


def fingerprint(records: Iterable[Record]) -> str:
    """Names a list of videos by what it holds and in which order.

    Args:
        records: the list; its root does not matter, only video ids and labels do.

    Returns:
        `<count>:<sha256 in hex>`; resuming on another list must be refused by comparing it.
    """
    digest = hashlib.sha256()
    count = 0
    for record in records:
        # JSON-like framing is not needed: a newline cannot stand in an id read from lines.
        # A file name need not be UTF-8.
        line = f"{record.label} {record.video_id}\n"
        digest.update(line.encode("utf-8", "surrogateescape"))
        count += 1
    return f"{count}:{digest.hexdigest()}"
