"""Predictions of whole videos from their views, and what they are worth."""

import contextlib
import dataclasses
import pathlib
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from pst_jax import files, sharding
from pst_jax.data import loader
from pst_jax.data.records import Record
from pst_jax.data.transforms import ClipSpec
from pst_jax.evaluation import averages
from pst_jax.evaluation.averages import AVERAGES


@dataclasses.dataclass(frozen=True)
class Predictions:
    """One prediction per video.

    Attributes:
        scores: float32 [V, K], averaged over the views that could be read; zero where none was.
        labels: int32 [V].
        seen: int64 [V, views], how often each view of each video was predicted: once, or never
            where its frames could not be read.
        problems: why videos could not be read, once each.
        average: how views were averaged.
    """

    scores: np.ndarray
    labels: np.ndarray
    seen: np.ndarray
    problems: tuple[str, ...]
    average: str = "prob"

    @property
    def is_read(self) -> np.ndarray:
        """Whether every view of a video could be read, bool [V]; no other video counts."""
        return self.seen.all(axis=1)

    @property
    def num_views(self) -> int:
        """Views that were predicted, in all."""
        return int(self.seen.sum())

    @property
    def probabilities(self) -> np.ndarray:
        """float32 [V, K]: the scores, where they are logits by softmax."""
        return averages.probabilities(self.scores, self.average)


@dataclasses.dataclass
class ViewSums:
    """What one host adds up: scores float64 [V, K], seen int64 [V, views], problems by video."""

    scores: np.ndarray | None
    seen: np.ndarray
    problems: dict[int, str]


def predict_all(
    predict: Callable[[Any, jax.Array], jax.Array],
    variables: Any,
    records: Sequence[Record],
    clip: ClipSpec,
    mesh: Mesh,
    *,
    batch_size: int,
    average: str = "prob",
    **options: Any,
) -> Predictions:
    """Predicts every view of every video once, over all hosts, and averages by video.

    Args:
        predict: of `training.step.make_predict`.
        variables: the model's.
        records: V videos, the same on all hosts.
        clip: how clips are taken.
        mesh: of `sharding.make_mesh`.
        batch_size: clips per batch over all devices of all hosts.
        average: over a video's views: "prob" (softmax, then mean), "logit" (mean) or "sum".
        **options: of `loader.eval_batches`: num_clips, num_crops, shuffle_frames, seed,
            num_threads, num_workers, crash_log.

    Returns:
        Predictions in the order of `records`, on all hosts.

    Raises:
        ValueError: for an unknown average, or an argument that `eval_batches` refuses.
    """
    if average not in AVERAGES:
        raise ValueError(f"average={average!r} must be one of {', '.join(AVERAGES)}")
    sums = sum_views(
        predict,
        variables,
        records,
        clip,
        mesh,
        batch_size=batch_size // jax.process_count(),
        average=average,
        host_index=jax.process_index(),
        host_count=jax.process_count(),
        **options,
    )
    return combine(sharding.gather_from_hosts(sums), records, average)


def sum_views(
    predict: Callable[[Any, jax.Array], jax.Array],
    variables: Any,
    records: Sequence[Record],
    clip: ClipSpec,
    mesh: Mesh,
    *,
    average: str,
    num_clips: int = 1,
    num_crops: int = 1,
    **options: Any,
) -> ViewSums:
    """Predicts one host's share of the views, and adds them up by video.

    Args:
        predict: as for `predict_all`.
        variables: likewise.
        records: likewise.
        clip: likewise.
        mesh: likewise.
        average: likewise.
        num_clips: temporal clips per video.
        num_crops: spatial crops of each, 1 or 3.
        **options: of `loader.eval_batches`; batch_size is this host's.

    Returns:
        The sums over this host's views.
    """
    batches = loader.eval_batches(
        records, clip, num_clips=num_clips, num_crops=num_crops, **options
    )
    sums = ViewSums(None, np.zeros((len(records), num_clips * num_crops), np.int64), {})
    with contextlib.closing(batches):
        for batch in batches:
            video = sharding.shard_batch({"video": batch["video"]}, mesh)["video"]
            logits = sharding.local_rows(predict(variables, video))
            scores = averages.view_scores(logits, average)
            if sums.scores is None:
                sums.scores = np.zeros((len(records), logits.shape[1]))
            is_valid = batch["mask"]
            rows = batch["index"][is_valid]
            np.add.at(sums.scores, rows, scores[is_valid])
            np.add.at(sums.seen, (rows, batch["view"][is_valid]), 1)
            sums.problems |= {
                int(row): problem
                for row, problem in zip(batch["index"], batch["problem"])
                if problem
            }
    return sums


def combine(hosts: Sequence[ViewSums], records: Sequence[Record], average: str) -> Predictions:
    """Adds up what the hosts have summed, and averages by video.

    Args:
        hosts: the sums of each host.
        records: V videos.
        average: as for `predict_all`.

    Raises:
        ValueError: if no video could be read.
    """
    scores, seen = sum(host.scores for host in hosts), sum(host.seen for host in hosts)
    problems = {row: text for host in hosts for row, text in sorted(host.problems.items())}
    if not seen.all(axis=1).any():
        first = problems[min(problems)]
        raise ValueError(f"none of {len(records)} videos could be read; the first: {first}")
    scores = averages.over_views(scores, np.maximum(seen.sum(axis=1), 1)[:, None], average)
    return Predictions(
        scores=scores.astype(np.float32),
        labels=np.array([record.label for record in records], np.int32),
        seen=seen,
        problems=tuple(problems[row] for row in sorted(problems)),
        average=average,
    )


def save(path: pathlib.Path, records: Sequence[Record], predictions: Predictions) -> None:
    """Writes an .npz: video_id [V], label [V], is_read [V], scores [V, K], average."""
    with files.replacing(path) as scratch, scratch.open("wb") as file:
        np.savez_compressed(
            file,
            video_id=np.array([record.video_id for record in records]),
            label=predictions.labels,
            is_read=predictions.is_read,
            scores=predictions.scores,
            average=predictions.average,
        )


def load(path: pathlib.Path) -> Predictions:
    """Reads what `save` wrote, views counting as one; raises ValueError where it is damaged."""
    try:
        with np.load(path) as saved:
            seen = saved["is_read"][:, None].astype(np.int64)
            return Predictions(saved["scores"], saved["label"], seen, (), str(saved["average"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} cannot be read ({error}): evaluate that run again") from None


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


def confusion(predictions: Predictions) -> np.ndarray:
    """Counts the videos that could be read by label and predicted class: int64 [K, K]."""
    num_classes = predictions.scores.shape[1]
    counts = np.zeros((num_classes, num_classes), np.int64)
    is_read = predictions.is_read
    predicted = predictions.scores[is_read].argmax(axis=1)
    np.add.at(counts, (predictions.labels[is_read], predicted), 1)
    return counts


def _mean(values: Any) -> float:
    return float(np.mean(values)) if len(values) else 0.0
