"""How a model takes clips from videos: what preprocess.json says, and the released recipes."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from pst_jax.data.sampling import SAMPLINGS
from pst_jax.evaluation.averages import AVERAGES
from pst_jax.models.values import freeze
from pst_jax.models.variants import VARIANTS, nearest
from pst_jax.models.video import VideoModel

Channels = tuple[float, float, float]


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """From a video to the network's input, and from several views to one prediction.

    Attributes:
        num_frames: of a clip.
        stride_frames: distance of its frames; see `data.sampling`.
        sampling: "dense", "uniform" or "linspace", likewise.
        size_px: height and width of a clip.
        short_side_px: of the frames that the middle square is cut from; three crops are cut from
            frames whose shorter side is `size_px`.
        num_clips: clips in time per video, where nothing else is asked for.
        num_crops: crops of each, 1 or 3, likewise.
        average: over the views: "prob" (softmax, then mean), "logit" (mean) or "sum".
        mean: of red, green and blue, on 0..255.
        std: likewise.

    Raises:
        ValueError: naming the field that does not fit.
    """

    num_frames: int
    stride_frames: int
    sampling: str
    size_px: int
    short_side_px: int
    num_clips: int = 1
    num_crops: int = 1
    average: str = "prob"
    mean: Channels = (123.675, 116.28, 103.53)
    std: Channels = (58.395, 57.12, 57.375)

    def __post_init__(self):
        for name in ("num_frames", "stride_frames", "size_px", "num_clips"):
            self._require(name, _is_count(getattr(self, name)), "an integer of at least 1")
        is_enough = _is_count(self.short_side_px) and self.short_side_px >= self.size_px
        self._require("short_side_px", is_enough, f"an integer of at least size_px={self.size_px}")
        self._require("num_crops", self.num_crops in (1, 3), "1 or 3")
        self._require("sampling", self.sampling in SAMPLINGS, f"one of {', '.join(SAMPLINGS)}")
        self._require("average", self.average in AVERAGES, f"one of {', '.join(AVERAGES)}")
        self._require("mean", _are_channels(self.mean, 0), "three numbers in [0, 255]")
        self._require("std", _are_channels(self.std, 1e-6), "three numbers in (0, 255]")

    def __str__(self):
        """Says it in words."""
        stride = "" if self.sampling == "uniform" else f", stride {self.stride_frames}"
        return f"{self.num_frames} frames ({self.sampling}{stride}) of {self.size_px} px"

    def _require(self, name: str, is_met: bool, what: str) -> None:
        if not is_met:
            raise ValueError(f"preprocess: {name}={getattr(self, name)!r} must be {what}")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Preprocess":
        """Makes one of what JSON holds; raises ValueError for a field too many or too few."""
        if not isinstance(values, Mapping):
            raise ValueError(f"preprocess is {values!r:.99}: it must be an object of fields")
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for key in values:
            if key not in fields:
                raise ValueError(f"preprocess has no field {key!r}{nearest(key, fields)}")
        required = [n for n, field in fields.items() if field.default is dataclasses.MISSING]
        if missing := [name for name in required if name not in values]:
            raise ValueError(f"preprocess lacks {', '.join(missing)}")
        return cls(**{key: freeze(value) for key, value in values.items()})


# By the beginning of a published row's source, the first that fits: the clips of its recipe, where
# they differ from PST's. Facts of the releases; a clip's size and length are the model's.
_RECIPES = (
    ("TokShift", {"stride_frames": 32, "mean": (127.5,) * 3, "std": (127.5,) * 3}),
    ("LAPS: ViT", {"stride_frames": 8, "mean": (127.5,) * 3, "std": (127.5,) * 3}),
    ("LAPS", {"stride_frames": 8, "mean": tuple(255 * x for x in (0.486, 0.457, 0.407))}),
)
_OF_LAPS = {"sampling": "linspace", "average": "sum"}
# Classes of Something-Something and Diving48, whose clips PST spreads over the whole video.
_UNIFORM_CLASSES = (174, 48)


def released(name: str, model: VideoModel) -> Preprocess:
    """Returns how the release of a row takes clips, one view per video.

    Args:
        name: of `create_model`.
        model: made of it: its clip length, its size where it has one, and its number of classes,
            by which PST's recipes for Kinetics-400 and the others are told apart.
    """
    source = VARIANTS[name].source or ""
    size_px = getattr(model, "image_size", 224)
    for beginning, own in _RECIPES:
        if source.startswith(beginning):
            return Preprocess(
                model.num_frames, size_px=size_px, short_side_px=size_px, **_OF_LAPS, **own
            )
    sampling = "uniform" if model.num_classes in _UNIFORM_CLASSES else "dense"
    return Preprocess(model.num_frames, 2, sampling, size_px, size_px * 8 // 7)


def of_run(config: Mapping[str, Any]) -> Preprocess:
    """Returns how a run takes clips in its test, one view per video.

    Args:
        config: of its config.json.

    Raises:
        ValueError: if it is not that of a run.
    """
    try:
        clip, evaluation, pixels = config["clip"], config["eval"], config["pixels"]
        usual = max(clip["short_side_px"], clip["size_px"])
        values = {k: clip[k] for k in ("num_frames", "stride_frames", "sampling", "size_px")}
        values["short_side_px"] = evaluation["short_side_px"] or usual
        values |= {"average": evaluation["average"], "mean": pixels["mean"], "std": pixels["std"]}
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"the run's config does not say how clips are taken ({error!r}): train.py writes it"
        ) from None
    return Preprocess.from_json(values)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**31


def _are_channels(value: Any, least: float) -> bool:
    is_three = isinstance(value, tuple) and len(value) == 3
    return is_three and all(
        isinstance(x, int | float) and not isinstance(x, bool) and least <= x <= 255 for x in value
    )
