"""From the logits of a video's views to one prediction, in the ways of the released systems."""

import numpy as np
import scipy.special

AVERAGES = ("prob", "logit", "sum")


def parse_views(views: str) -> tuple[int, int]:
    """Reads "CLIPSxCROPS", such as "4x3", to (temporal clips, spatial crops)."""
    clips, _, crops = views.partition("x")
    if not (clips.isdigit() and crops.isdigit() and int(clips) > 0 and int(crops) in (1, 3)):
        raise ValueError(f"views={views!r} must be CLIPSxCROPS with 1 or 3 crops, such as 4x3")
    return int(clips), int(crops)


def view_scores(logits: np.ndarray, average: str) -> np.ndarray:
    """Returns what is averaged of logits float32 [V, K]: for "prob" their softmax."""
    return scipy.special.softmax(logits, axis=1) if average == "prob" else logits


def over_views(total: np.ndarray, count: np.ndarray | int, average: str) -> np.ndarray:
    """Returns scores from their sum over `count` views; for "sum" the sum itself."""
    return total if average == "sum" else total / count


def probabilities(scores: np.ndarray, average: str) -> np.ndarray:
    """Returns probabilities [V, K] from averaged scores: where they are logits, by softmax."""
    return scores if average == "prob" else scipy.special.softmax(scores, axis=1)
