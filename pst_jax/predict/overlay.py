"""Writes a video again with what a model says of it drawn into every frame."""

import bisect
import contextlib
import functools
import itertools
import os
import unicodedata
from collections.abc import Sequence

import cv2
import numpy as np

from pst_jax.data.decode import stream_frames
from pst_jax.data.encode import check_mp4, writing_mp4
from pst_jax.data.transforms import check_at_least
from pst_jax.predict.timeline import Segment

# Below this, letters of a legible size would cover the picture.
_LEAST_SIDE_PX = 128
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_BAR, _FIRST_BAR = (88, 96, 110), (24, 116, 205)


def overlay(
    path: str | os.PathLike,
    out: str | os.PathLike,
    segments: Sequence[Segment],
    labels: Sequence[str],
    *,
    topk: int = 3,
) -> None:
    """Writes `out`, an h264 mp4: the video with the likeliest labels of each time drawn into it.

    A frame shows the segment that holds its time. Where two overlap, they share what they have in
    common: the frame shows the one whose share it lies in. Frames with a side below 128 px are
    enlarged by a whole factor. The frames' times are kept; sound is not, and rotation noted in
    the metadata is not applied.

    Args:
        path: the video, see `open_video`.
        out: the file to write, see `check`.
        segments: what `timeline` yielded, at least one.
        labels: name of each class, K. Accents are left out and other scripts become question
            marks: the font has ASCII alone.
        topk: labels to draw, at least 1; of K at most.

    Raises:
        ValueError: if an argument is not as above; nothing is written then.
        VideoError: if the video cannot be read; nothing is written then.
    """
    check(path, out)
    check_at_least("topk", topk, 1)
    if not segments:
        raise ValueError("segments is empty: give at least one, as timeline yields them")
    if len(labels) != len(segments[0].probabilities):
        raise ValueError(
            f"labels has {len(labels)} names for {len(segments[0].probabilities)} classes: give "
            "one per class"
        )
    names = [to_ascii(label) for label in labels]
    rows = [
        [
            (names[k], float(s.probabilities[k]))
            for k in np.argsort(-s.probabilities, kind="stable")[:topk]
        ]
        for s in segments
    ]
    places = _Places(segments)
    with contextlib.closing(stream_frames(path)) as frames, writing_mp4(out) as write:
        for time_s, frame in frames:
            place = places.at(time_s)
            frame = _enlarged(frame)
            write(time_s, frame if place is None else draw(frame, rows[place]))


def check(path: str | os.PathLike, out: str | os.PathLike) -> None:
    """Raises a `ValueError` unless `out` can be written from `path`.

    It must be named .mp4, in a folder that exists and can be written to, and not be the video
    itself.
    """
    check_mp4(out)
    if os.path.realpath(path) == os.path.realpath(out) or (
        os.path.exists(path) and os.path.exists(out) and os.path.samefile(path, out)
    ):
        raise ValueError(f"{os.fspath(out)!r} is the video itself: name another file to write")


def to_ascii(text: str) -> str:
    """Returns what of a text can be drawn: no accents, ? for other scripts, blanks made single."""
    apart = unicodedata.normalize("NFKD", text)  # letters and accents
    plain = "".join(letter for letter in apart if not unicodedata.combining(letter))
    drawn = (letter if " " <= letter <= "~" else "?" for letter in " ".join(plain.split()))
    return "".join(drawn)


def draw(frame: np.ndarray, rows: Sequence[tuple[str, float]]) -> np.ndarray:
    """Draws labels with their probabilities into the lower left of a frame, a bar behind each.

    Args:
        frame: uint8 [H, W, 3].
        rows: (label in ASCII, probability in [0, 1]), from above to below.

    Returns:
        uint8 [H, W, 3], another array.
    """
    frame = frame.copy()
    height, width = frame.shape[:2]
    row_px = 8 + min(height, width) // 24
    pad = row_px // 5
    rows = rows[: max(1, (height - 4 * pad) // row_px)]
    box_width = min(width - 4 * pad, 20 * row_px)
    box_height = len(rows) * row_px
    left, top = 2 * pad, height - 2 * pad - box_height
    box = frame[top - pad : top + box_height + pad, left - pad : left + box_width + pad]
    box[:] = box // 4  # so that the picture shines through
    for rank, (label, probability) in enumerate(rows):
        row = frame[top + rank * row_px :][: row_px - 1, left : left + box_width]
        length = round(box_width * min(max(probability, 0.0), 1.0))
        row[:, :length] = _FIRST_BAR if rank == 0 else _BAR
        letters = _letters(label, f"{probability:.0%}", *row.shape[:2], pad)
        row += ((255 - row.astype(np.uint16)) * letters // 255).astype(np.uint8)
    return frame


@functools.lru_cache(maxsize=64)  # a segment's rows are the same in all of its frames
def _letters(label: str, share: str, height: int, width: int, pad: int) -> np.ndarray:
    """Writes a label at the left and its share at the right, white on black: uint8 [h, w, 1]."""
    # OpenCV sets small letters too close, large ones well: they are drawn large and made small.
    detail = -(-64 // height)
    large = np.zeros((detail * height, detail * width), np.uint8)
    right = detail * (width - pad)
    thickness = detail * height // 16
    scale = detail * height / 45  # capitals are 20 px high at scale 1, in OpenCV 4 and 5 alike

    def width_of(text: str) -> int:
        return cv2.getTextSize(text, _FONT, scale, thickness)[0][0]

    share_left = right - width_of(share)
    room = share_left - 3 * detail * pad
    if width_of(label) > room:
        while label and width_of(label + "..") > room:
            label = label[:-1]
        label = label.rstrip() + ".."
    for text, left in ((label, detail * pad), (share, share_left)):
        where = (left, detail * height * 3 // 4)
        cv2.putText(large, text, where, _FONT, scale, 255, thickness, cv2.LINE_AA)
    return cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA)[..., None]


def _enlarged(frame: np.ndarray) -> np.ndarray:
    factor = -(-_LEAST_SIDE_PX // min(frame.shape[:2]))
    return frame if factor == 1 else frame.repeat(factor, axis=0).repeat(factor, axis=1)


class _Places:
    """Finds the segment that a time lies in."""

    def __init__(self, segments: Sequence[Segment]):
        self._order = sorted(range(len(segments)), key=lambda place: segments[place].start_s)
        self._segments = [segments[place] for place in self._order]
        # Where one takes over from the one before: in the middle of what both hold.
        self._borders = [
            max(after.start_s, (after.start_s + before.end_s) / 2)
            for before, after in itertools.pairwise(self._segments)
        ]

    def at(self, time_s: float) -> int | None:
        """Returns the segment's place in the sequence, None between segments."""
        found = bisect.bisect_right(self._borders, time_s)
        segment = self._segments[found]
        is_inside = segment.start_s <= time_s < segment.end_s or time_s == segment.start_s
        return self._order[found] if is_inside else None
