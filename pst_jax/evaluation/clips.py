"""Which clips the report shows, read again as the model saw them."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import scipy.special

from pst_jax import sharding
from pst_jax.data.clips import load_view
from pst_jax.data.records import Record
from pst_jax.data.transforms import ClipSpec
from pst_jax.evaluation.page import FrameCurves, SeenClip
from pst_jax.evaluation.views import Predictions
from pst_jax.training.step import make_predict

# Frames of a clip, uint8 [1, F, S, S, 3], to logits by frame after embedding, float32 [1, T, K].
FramePredict = Callable[[np.ndarray], Any]


def worst(
    records: Sequence[Record], predictions: Predictions, clip: ClipSpec, count: int = 8
) -> list[SeenClip]:
    """Returns the clips that went wrong with the least probability on their label.

    Args:
        records: V videos.
        predictions: of one view each.
        clip: how that view was taken.
        count: how many at the most.
    """
    probabilities = predictions.probabilities
    predicted = probabilities.argmax(axis=1)
    on_label = probabilities[np.arange(len(records)), predictions.labels]
    is_wrong = predictions.is_read & (predicted != predictions.labels)
    rows = np.flatnonzero(is_wrong)
    rows = rows[np.argsort(on_label[rows], kind="stable")][:count]
    return [
        SeenClip(
            video_id=records[row].video_id,
            label=int(predictions.labels[row]),
            predicted=int(predicted[row]),
            label_probability=float(on_label[row]),
            predicted_probability=float(probabilities[row, predicted[row]]),
            frames=load_view(records[row], clip),
        )
        for row in rows
    ]


def most_different(mine: Predictions, other: Predictions) -> list[int]:
    """Returns the videos on which two runs differ most in the probability of the label.

    Args:
        mine: of V videos.
        other: of the same.

    Returns:
        The two rows with the largest lead of `mine` and the one with the smallest (where it
        trails, if it does), as far as both could read so many.
    """
    rows = np.flatnonzero(mine.is_read & other.is_read)
    labels = mine.labels[rows]
    lead = mine.probabilities[rows, labels] - other.probabilities[rows, labels]
    order = rows[np.argsort(-lead, kind="stable")]
    return list(dict.fromkeys([*order[:2].tolist(), *order[-1:].tolist()]))


def frame_predict(model: nn.Module, variables: dict[str, Any], **options: Any) -> FramePredict:
    """Compiles the prediction of every frame of one clip, on one device.

    Args:
        model: of `create_model`.
        variables: the model's.
        **options: of `make_predict`: normalise.
    """
    mesh = sharding.make_mesh(1)
    predict = make_predict(model, mesh, "frame_logits", **options)
    # By way of the host, which holds them all, wherever they lie.
    variables = jax.device_put(jax.tree.map(np.asarray, variables), sharding.replicated(mesh))
    return lambda frames: predict(variables, frames)


def frame_curves(
    runs: dict[str, FramePredict], records: Sequence[Record], rows: Sequence[int], clip: ClipSpec
) -> list[FrameCurves]:
    """Predicts every frame of some clips by several models, as LAPS's slides show it.

    Args:
        runs: name -> its prediction by frame.
        records: V videos.
        rows: the videos to show.
        clip: how their clips are taken.
    """
    shown = []
    for row in rows:
        frames = load_view(records[row], clip)
        label = records[row].label
        curves = {
            name: scipy.special.softmax(np.asarray(predict(frames[None]))[0], axis=-1)[:, label]
            for name, predict in runs.items()
        }
        shown.append(FrameCurves(records[row].video_id, label, frames, curves))
    return shown
