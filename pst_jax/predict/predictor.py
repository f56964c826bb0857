"""A model that is ready to use: videos in, labelled probabilities out."""

import dataclasses
import functools
import os
from collections.abc import Iterator, Sequence
from typing import Literal

import jax
import numpy as np

from pst_jax import ops
from pst_jax.convert import folder
from pst_jax.convert.folder import ModelFolder
from pst_jax.data import clips
from pst_jax.data.transforms import ClipSpec, check_at_least
from pst_jax.evaluation import averages

Video = str | os.PathLike | np.ndarray


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a model says of one video.

    Attributes:
        labels: the name of each class.
        probabilities: float32 [K], over the views asked for.
        features: float32 [views, C], what the classifier sees of each view, averaged over its
            frames; None where they were not asked for.
    """

    labels: tuple[str, ...]
    probabilities: np.ndarray
    features: np.ndarray | None = None

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """Returns the k likeliest labels with their probabilities, the likeliest first."""
        return [
            (self.labels[number], float(self.probabilities[number])) for number in self.order(k)
        ]

    def order(self, k: int | None = None) -> list[int]:
        """Returns the numbers of the k likeliest classes; of equal ones the lower first."""
        return np.argsort(-self.probabilities, kind="stable")[:k].tolist()


class Predictor:
    """A model with its preprocessing and labels; made by `load`.

    Attributes:
        contents: of its model folder.
        model: the network.
        batch_size: views that go through the network at once, at most.
    """

    def __init__(self, contents: ModelFolder, batch_size: int = 1):
        check_at_least("batch_size", batch_size, 1)
        self.contents = contents
        self.model = contents.make_model()
        self.batch_size = batch_size
        self._variables = jax.device_put(contents.variables)
        preprocess = contents.preprocess
        normalise = functools.partial(ops.normalise, mean=preprocess.mean, std=preprocess.std)

        def run(variables, video, outputs):
            video = normalise(video)  # the parts that outputs share are computed once
            return [self.model.apply(variables, video, train=False, output=o) for o in outputs]

        self._run = jax.jit(run, static_argnums=2)

    def __call__(
        self,
        videos: Video | Sequence[Video],
        *,
        num_clips: int | None = None,
        num_crops: int | None = None,
        with_features: bool = False,
    ) -> Prediction | list[Prediction]:
        """Predicts a video, or several.

        Args:
            videos: path of a file; or frames, uint8 [F, H, W, 3], RGB, of any size and number; or
                a batch of those, uint8 [B, F, H, W, 3], or a list of these and paths.
            num_clips: clips in time per video, 1 to 1000; None: as preprocess.json says.
            num_crops: crops of each, 1 or 3; None: likewise.
            with_features: whether predictions have features.

        Returns:
            One prediction, or a list of them for a batch or list.

        Raises:
            VideoError: if a file cannot be read.
            ValueError: if an argument is not as above.
        """
        preprocess = self.contents.preprocess
        num_clips = preprocess.num_clips if num_clips is None else num_clips
        num_crops = preprocess.num_crops if num_crops is None else num_crops
        averages.check_views(num_clips, num_crops)
        views = dict(num_clips=num_clips, num_crops=num_crops, with_features=with_features)
        if isinstance(videos, str | os.PathLike):
            return self._predict(os.fspath(videos), **views)
        if isinstance(videos, list | tuple):
            return [self(video, **views) for video in videos]
        frames = np.asarray(videos)
        if frames.dtype != np.uint8 or frames.ndim not in (4, 5) or frames.shape[-1] != 3:
            raise ValueError(
                f"video is {frames.dtype} {list(frames.shape)}: give the path of a file, or pixels "
                "in 0..255 as uint8 [F, H, W, 3], or [B, F, H, W, 3] for several"
            )
        if 0 in frames.shape:
            raise ValueError(f"video has shape {list(frames.shape)}: give at least one frame")
        if frames.ndim == 5:
            return [self._predict(each, **views) for each in frames]
        return self._predict(frames, **views)

    def __repr__(self) -> str:
        name, preprocess = self.contents.arguments["name"], self.contents.preprocess
        return (
            f"Predictor({name}, {len(self.contents.labels)} classes, "
            f"{preprocess.num_frames} frames of {preprocess.size_px} px)"
        )

    def clip_spec(self, num_crops: int = 1) -> ClipSpec:
        """Returns how clips are taken from a video for so many crops."""
        made_by = self.contents.preprocess
        names = ("num_frames", "stride_frames", "sampling", "size_px", "short_side_px")
        spec = ClipSpec(**{name: getattr(made_by, name) for name in names}, crop="none")
        return clips.view_spec(spec, num_crops)

    def clip_probabilities(self, video: np.ndarray) -> np.ndarray:
        """Predicts clips as `clip_spec` takes them, uint8 [B, T, S, S, 3], to float32 [B, K]."""
        (logits,) = self._outputs(video, ("logits",))
        return averages.view_scores(logits, "prob")

    def save(
        self, path: str | os.PathLike, weights: Literal["safetensors", "orbax"] = "safetensors"
    ) -> None:
        """Writes a model folder, see `convert.folder.write`."""
        folder.write(path, self.contents, weights)

    def _predict(
        self,
        video: str | np.ndarray,
        num_clips: int,
        num_crops: int,
        with_features: bool,
    ) -> Prediction:
        views = clips.load_views(video, self.clip_spec(num_crops), num_clips, num_crops)
        outputs = ("logits", "frame_features") if with_features else ("logits",)
        logits, *features = self._outputs(views, outputs)
        average = self.contents.preprocess.average
        total = averages.view_scores(logits.astype(np.float64), average).sum(axis=0)
        scores = averages.over_views(total, len(views), average)
        return Prediction(
            self.contents.labels,
            averages.probabilities(scores[None], average)[0].astype(np.float32),
            features[0].mean(axis=1) if features else None,
        )

    def _outputs(self, views: np.ndarray, outputs: tuple[str, ...]) -> list[np.ndarray]:
        """Runs the network on uint8 [V, T, S, S, 3] in batches of one size.

        So a program is compiled once, and videos of as many views share it.
        """
        found = [
            [np.asarray(each)[:count] for each in self._run(self._variables, batch, outputs)]
            for batch, count in _batches(views, self.batch_size)
        ]
        return [np.concatenate(parts) for parts in zip(*found)]


def load(path: str | os.PathLike, batch_size: int = 1) -> Predictor:
    """Loads a model folder, whose files are verified before they are used.

    Args:
        path: the folder, as `Predictor.save` or `python -m pst_jax.convert` wrote it.
        batch_size: views that go through the network at once, at most; more than 1 pays on
            accelerators.

    Raises:
        ValueError: naming the file that is missing, damaged or does not fit, and the remedy.
    """
    return Predictor(folder.read(path), batch_size)


def _batches(views: np.ndarray, size: int) -> Iterator[tuple[np.ndarray, int]]:
    """Yields batches of one size, the last filled up, and how many rows count.

    The size is `size`, or the number of views where that is less: none is computed in vain.
    """
    size = min(size, len(views))
    for start in range(0, len(views), size):
        batch = views[start : start + size]
        fill = np.repeat(batch[-1:], size - len(batch), axis=0)
        yield np.concatenate([batch, fill]), len(batch)
