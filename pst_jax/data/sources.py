"""Opens a record, whatever form its video has."""

import contextlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager

import cv2

from pst_jax.data import decode
from pst_jax.data.frames import Frames, Part, VideoError
from pst_jax.data.records import Record

# What those that read files may raise besides: one video must not end the work on all others.
_OF_LIBRARIES = (OSError, RuntimeError, MemoryError, cv2.error)


@contextlib.contextmanager
def open_record(record: Record, decoder: str = "pyav") -> Iterator[Frames]:
    """Opens the video of a record, or the part of it that counts.

    Args:
        record: of `index.read_index`.
        decoder: of video files: "pyav" or "opencv".

    Yields:
        Its frames.

    Raises:
        VideoError: if it cannot be read, or has not as many frames as its record says.
    """
    try:
        with _open_whole(record, decoder) as whole:
            if record.num_frames not in (None, whole.num_frames):
                raise VideoError(
                    whole.path,
                    f"has {whole.num_frames} frames, {record.num_frames} by its list: correct the "
                    "list, or prepare it again",
                )
            is_part = record.start_s > 0 or record.end_s is not None
            yield Part(whole, record.start_s, record.end_s) if is_part else whole
    except _OF_LIBRARIES as error:
        what = str(error).strip() or "it does not say why"
        raise VideoError(record.path, f"cannot be read: {type(error).__name__}: {what}") from error


def _open_whole(record: Record, decoder: str) -> AbstractContextManager[Frames]:
    # What a data set does not need is not imported.
    if record.entry is not None and record.path.startswith("tfds:"):
        from pst_jax.data import tfds_source

        return tfds_source.open_example(record)
    if record.entry is not None:
        from pst_jax.data import shards

        return shards.open_entry(record)
    if os.path.isdir(record.path):
        from pst_jax.data import images

        return images.open_folder(record.path)
    if decoder == "opencv":
        from pst_jax.data import opencv

        return opencv.open_video(record.path)
    return decode.open_video(record.path)
