"""From the logits of a video's views to one prediction, in the ways of the released systems."""

import numbers
import re

import numpy as np
import scipy.special

AVERAGES = ("prob", "logit", "sum")
# More than any system's by far: a slip of the keyboard is told, and not tried for hours.
MOST_CLIPS = 1000


def parse_views(views: str) -> tuple[int, int]:
    """Reads "CLIPSxCROPS", such as "4x3", to (temporal clips, spatial crops)."""
    match = re.fullmatch("([0-9]{1,9})x([13])", views)
    if not match or not 1 <= int(match[1]) <= MOST_CLIPS:
        raise ValueError(
            f"views={views!r} must be CLIPSxCROPS with 1 to {MOST_CLIPS} clips and 1 or 3 crops, "
            "such as 4x3"
        )
    return int(match[1]), int(match[2])


def check_views(num_clips: int, num_crops: int) -> None:
    """Raises a `ValueError` unless a video can be seen in so many temporal clips and crops."""
    if not isinstance(num_clips, numbers.Integral) or not 1 <= num_clips <= MOST_CLIPS:
        raise ValueError(f"num_clips={num_clips!r} must be an integer in [1, {MOST_CLIPS}]")
    if not isinstance(num_crops, numbers.Integral) or num_crops not in (1, 3):
        raise ValueError(f"num_crops={num_crops!r} must be 1 (the middle) or 3")


def view_scores(logits: np.ndarray, average: str) -> np.ndarray:
    """Returns what is averaged of logits float32 [V, K]: for "prob" their softmax."""
    return scipy.special.softmax(logits, axis=1) if average == "prob" else logits


def over_views(total: np.ndarray, count: np.ndarray | int, average: str) -> np.ndarray:
    """Returns scores from their sum over `count` views; for "sum" the sum itself."""
    return total if average == "sum" else total / count


def probabilities(scores: np.ndarray, average: str) -> np.ndarray:
    """Returns probabilities [V, K] from averaged scores: where they are logits, by softmax."""
    return scores if average == "prob" else scipy.special.softmax(scores, axis=1)
