"""Predictions of whole videos from their views, and what they are worth."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import scipy.special
from jax.sharding import Mesh

from pst_jax import sharding
from pst_jax.data import loader
from pst_jax.data.index import Record
from pst_jax.data.transforms import ClipSpec

AVERAGES = ("prob", "logit", "sum")


@dataclasses.dataclass(frozen=True)
class Predictions:
    """One prediction per video.

    Attributes:
        scores: float32 [V, K], averaged over views; zero where a video could not be read.
        labels: int32 [V].
        is_read: bool [V], whether the video could be read.
        num_views: views that were predicted, in all.
        problems: why videos could not be read, once each.
        seconds_per_clip: median over the batches, without reading and compiling.
    """

    scores: np.ndarray
    labels: np.ndarray
    is_read: np.ndarray
    num_views: int
    problems: tuple[str, ...]
    seconds_per_clip: float


def predict_all(
    predict: Callable[[Any, jax.Array], jax.Array],
    params: Any,
    records: Sequence[Record],
    clip: ClipSpec,
    mesh: Mesh,
    *,
    batch_size: int,
    num_clips: int = 1,
    num_crops: int = 1,
    average: str = "prob",
    shuffle_frames: bool = False,
    seed: int = 0,
    num_threads: int = 2,
) -> Predictions:
    """Predicts every view of every video once, and averages by video.

    Args:
        predict: of `training.step.make_predict`.
        params: the model's.
        records: V videos.
        clip: how clips are taken.
        mesh: of `sharding.make_mesh`.
        batch_size: clips per batch over all devices.
        num_clips: temporal clips per video.
        num_crops: spatial crops of each, 1 or 3.
        average: over a video's views: "prob" (softmax, then mean), "logit" (mean) or "sum".
        shuffle_frames: whether the frames of a clip come in a random order.
        seed: of that order.
        num_threads: threads that decode.

    Returns:
        Predictions in the order of `records`.

    Raises:
        ValueError: for an unknown average, or an argument that `eval_batches` refuses.
    """
    if average not in AVERAGES:
        raise ValueError(f"average={average!r} must be one of {', '.join(AVERAGES)}")
    batches = loader.eval_batches(
        records,
        clip,
        batch_size=batch_size,
        num_clips=num_clips,
        num_crops=num_crops,
        shuffle_frames=shuffle_frames,
        seed=seed,
        num_threads=num_threads,
    )
    scores, counts, problems, seconds = None, np.zeros(len(records), np.int64), {}, []
    with contextlib.closing(batches):
        for batch in batches:
            video = sharding.shard_batch({"video": batch["video"]}, mesh)["video"]
            start = time.perf_counter()
            logits = np.asarray(predict(params, video))
            seconds.append((time.perf_counter() - start) / len(logits))
            views = scipy.special.softmax(logits, axis=1) if average == "prob" else logits
            if scores is None:
                scores = np.zeros((len(records), logits.shape[1]))
            rows = batch["index"][batch["mask"]]
            np.add.at(scores, rows, views[batch["mask"]])
            np.add.at(counts, rows, 1)
            problems |= dict.fromkeys(problem for problem in batch["problem"] if problem)
    if not counts.any():
        raise ValueError(
            f"none of {len(records)} videos could be read; the first: {next(iter(problems), '')}"
        )
    if average != "sum":
        scores = scores / np.maximum(counts, 1)[:, None]
    return Predictions(
        scores=scores.astype(np.float32),
        labels=np.array([record.label for record in records], np.int32),
        is_read=counts > 0,
        num_views=int(counts.sum()),
        problems=tuple(problems),
        seconds_per_clip=float(np.median(seconds[1:] or seconds)),
    )


def accuracy(predictions: Predictions, has_reversed_pairs: bool = False) -> dict[str, Any]:
    """Computes accuracies over the videos that could be read.

    Args:
        predictions: of `predict_all`.
        has_reversed_pairs: whether class 2k + 1 is class 2k played backwards.

    Returns:
        "top1", "top5", "mean_class" (mean over classes of their top-1), each in [0, 1];
        "within_pair" with reversed pairs: how often the label's score is above its twin's, or
        equal to it where the label is the first of the two; "per_class": top-1 by class, None
        where the class has no video.
    """
    scores = predictions.scores[predictions.is_read]
    labels = predictions.labels[predictions.is_read]
    # Stable: ties go to the lower class, as in argmax.
    order = np.argsort(-scores, axis=1, kind="stable")
    is_hit = order == labels[:, None]
    top1, top5 = is_hit[:, 0], is_hit[:, :5].any(axis=1)
    per_class = [
        float(top1[labels == k].mean()) if (labels == k).any() else None
        for k in range(scores.shape[1])
    ]
    result = {
        "top1": _mean(top1),
        "top5": _mean(top5),
        "mean_class": _mean([value for value in per_class if value is not None]),
    }
    if has_reversed_pairs:
        rows = np.arange(len(labels))
        own, twin = scores[rows, labels], scores[rows, labels ^ 1]
        result["within_pair"] = _mean((own > twin) | ((own == twin) & (labels % 2 == 0)))
    return result | {"per_class": per_class}


def _mean(values: Any) -> float:
    return float(np.mean(values)) if len(values) else 0.0
