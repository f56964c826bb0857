"""Data sets of TensorFlow Datasets that hold encoded videos, read and built without TensorFlow.

A data source is named "tfds:[DATA_DIR|]NAME[/CONFIG][:VERSION]:SPLIT", SPLIT as TFDS has them
(`train`, `train[:50%]`); without DATA_DIR it is looked for where TFDS does. Its files must be
ArrayRecord, which is all that TFDS reads at random.
"""

import contextlib
import functools
import math
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from pst_jax.data import decode, images
from pst_jax.data.frames import Frames, Loaded, VideoError
from pst_jax.data.index import TFDS
from pst_jax.data.records import Listing, Record
from pst_jax.data.text_lists import with_unique_ids

_NAME = re.compile(
    rf"{TFDS}(?:(?P<data_dir>.+)[|])?"
    r"(?P<builder>\w+(?:/[\w.+-]+)?(?::\d+\.\d+\.\d+)?):(?P<split>\w[^|]*)",
    re.DOTALL,
)
_BYTES, _IMAGES, _PIXELS = "bytes of a video file", "a list of images", "uint8 pixels"
# How they are stored; images that TFDS would decode are taken as they are, and checked.
_ENCODED = tfds.features.Tensor(shape=(), dtype=np.object_)
_STORED = {_BYTES: _ENCODED, _IMAGES: tfds.features.Sequence(_ENCODED)}


def read(source: str, data_dir: str | os.PathLike | None = None) -> Listing:
    """Lists the examples of a data source.

    Every record is read once for this, the videos of which are not decoded; a process remembers
    what it read.

    Args:
        source: "tfds:...", see above.
        data_dir: where the data sets lie, where `source` does not say so.

    Returns:
        Its examples. Ids are their feature `video_id` or `id`, or else their numbers; the names of
        the classes are those of its ClassLabel, if it has one.

    Raises:
        ValueError: if there is no such data set or split, it is not as ArrayRecord, or has not
            just one feature of videos and one of labels.
    """
    if data_dir is not None and "|" not in source:
        source = f"{TFDS}{os.fspath(data_dir)}|{source.removeprefix(TFDS)}"
    return _read(source)


def open_example(record: Record) -> AbstractContextManager[Frames]:
    """Opens the video of an example.

    Args:
        record: of `read`.

    Returns:
        A context manager of its frames; only those of a video file have times.

    Raises:
        VideoError: on entering it or reading, if the video is damaged.
        ValueError: as `read`.
    """
    raw, features = _open(record.path)
    key, kind = _video_feature(record.path, features)
    path = f"{record.path}#{record.entry}"
    video = _decode(raw[record.entry], {key: _STORED.get(kind, features[key])})[key]
    if kind == _BYTES:
        return decode.open_video(path, data=video)
    if not len(video):
        raise VideoError(path, "has no frame: take it off the list")
    if kind == _IMAGES:
        images_at = [f"{path}[{index}]" for index in range(len(video))]
        load = lambda index: images.decode_image(video[index], images_at[index])  # noqa: E731
    else:
        load = video.__getitem__
    return contextlib.nullcontext(Loaded(path, len(video), load))


def build(name: str, listings: Mapping[str, Listing], data_dir: str | os.PathLike) -> None:
    """Stores the videos of lists, encoded as they are, as a data set of TFDS.

    In one process and without looking at the videos: for large data, and to re-encode it, there is
    `prepare`.

    Args:
        name: of the data set, lower case: it is then "tfds:<data_dir>|<name>:<split>".
        listings: by split; those `missing` are left out, the order of the others is kept. All
            videos are files, or all are folders of images.
        data_dir: where the data sets lie.

    Raises:
        ValueError: if names, classes or kinds are not as above, the data set exists already, or
            (a `VideoError`) a video cannot be read.
    """
    target = os.path.join(data_dir, name)
    if not re.fullmatch("[a-z][a-z0-9_]*", name) or not all(map(str.isidentifier, listings)):
        raise ValueError(f"name={name!r} and splits {list(listings)} must be words: [a-z0-9_]")
    if os.path.exists(target):
        raise ValueError(f"{target} exists: remove it or take another name")
    missing = {record for listing in listings.values() for record in listing.missing}
    records = {
        split: [record for record in listing.records if record not in missing]
        for split, listing in listings.items()
    }
    every = [record for split in records.values() for record in split]
    class_names = {listing.class_names for listing in listings.values()}
    kinds = {_IMAGES if os.path.isdir(record.path) else _BYTES for record in every}
    if len(kinds) != 1 or any(record.entry is not None for record in every):
        raise ValueError(f"{name}: its videos must all be files, or all folders of images")
    if len(class_names) > 1:
        raise ValueError(f"{name}: {', '.join(listings)} must have the same classes")
    names = class_names.pop()
    features = {
        "video": _STORED[kinds.pop()],
        "label": tfds.features.ClassLabel(names=names) if names else np.int64,
        "video_id": _ENCODED,  # need not be UTF-8
        "start_s": tfds.features.Scalar(np.float32),
        "end_s": tfds.features.Scalar(np.float32),
    }
    builder = _Encoded(
        name=name, records=records, features=features, data_dir=data_dir, file_format="array_record"
    )
    builder.download_and_prepare()


@functools.lru_cache
def _open(path: str) -> tuple[Sequence[bytes], Mapping[str, Any]]:
    """The examples of a data source, undecoded, and its features."""
    match = _NAME.fullmatch(path)
    if not match:
        raise ValueError(f"{path!r} must be {TFDS}NAME:SPLIT or {TFDS}DATA_DIR|NAME:SPLIT")
    data_dir, name, split = match.group("data_dir", "builder", "split")
    try:
        builder = tfds.builder(name, data_dir=data_dir)
        return builder.as_data_source(split=split).data_source, dict(builder.info.features)
    except (
        ValueError,
        AssertionError,
        NotImplementedError,
        ImportError,
        OSError,
        RuntimeError,
    ) as error:
        reason = str(error).strip().split("\n")[0].rstrip(".")  # it goes on to list all there are
        raise ValueError(
            f"{path}: cannot be read: {reason[:200]}; it must lie in the data_dir of TFDS, "
            f"{data_dir or 'its own'} (config.data.root), as ArrayRecord"
            + (", without the feature Video" if isinstance(error, ImportError) else "")
        ) from error


def _decode(example: bytes, features: Mapping[str, Any]) -> dict[str, Any]:
    """Takes some features out of an example."""
    return tfds.features.FeaturesDict(features).deserialize_example_np(example)


@functools.lru_cache
def _read(path: str) -> Listing:
    examples, features = _open(path)
    _video_feature(path, features)
    label = _label_feature(path, features)
    names = getattr(features[label], "names", None)
    wanted = [key for key in (label, "video_id", "id", "start_s", "end_s") if key in features]
    records = []
    for number in range(len(examples)):
        try:
            values = _decode(examples[number], {key: features[key] for key in wanted})
        except RuntimeError as error:  # of ArrayRecord
            raise ValueError(
                f"{path}: example {number} cannot be read ({error}), nor its label: make it again"
            ) from error
        video_id = values.get("video_id", values.get("id", number))
        if isinstance(video_id, bytes):
            video_id = os.fsdecode(video_id)
        end_s = float(values.get("end_s", math.inf))
        records.append(
            Record(
                path,
                int(values[label]),
                str(video_id),
                float(values.get("start_s", 0.0)),
                None if math.isinf(end_s) else end_s,
                entry=number,
            )
        )
    if not records:
        raise ValueError(f"{path}: holds no example: name another split")
    return Listing(with_unique_ids(records), None if names is None else tuple(names))


def _kind(feature: Any) -> str | None:
    """How a feature can hold a video."""
    each = getattr(feature, "feature", None)  # of a sequence
    if isinstance(each, tfds.features.Image) or _is_scalar(each, np.object_):
        return _IMAGES
    if _is_scalar(feature, np.object_):
        return _BYTES
    shape = feature.shape
    if isinstance(shape, tuple) and len(shape) == 4 and shape[3] == 3:
        return _PIXELS if feature.np_dtype == np.uint8 else None
    return None


def _is_scalar(feature: Any, dtype: Any) -> bool:
    return getattr(feature, "shape", None) == () and np.issubdtype(feature.np_dtype, dtype)


def _video_feature(path: str, features: Mapping[str, Any]) -> tuple[str, str]:
    """Name and kind of the feature that holds the video."""
    kinds = {key: _kind(feature) for key, feature in features.items()}
    kinds = {key: kind for key, kind in kinds.items() if kind}
    if "video" not in kinds:  # texts are bytes too
        texts = (tfds.features.Text, tfds.features.ClassLabel)
        kinds = {
            key: kind
            for key, kind in kinds.items()
            if not isinstance(features[key], texts) and key not in ("video_id", "id")
        }
    key = "video" if "video" in kinds else next(iter(kinds), None)
    if key is None or (key != "video" and len(kinds) > 1):
        raise ValueError(
            f"{path}: of its features {list(features)} one alone, or the one named 'video', must "
            f"be {_BYTES}, {_IMAGES}, or {_PIXELS} [T, H, W, 3]"
        )
    return key, kinds[key]


def _label_feature(path: str, features: Mapping[str, Any]) -> str:
    if "label" in features and _is_scalar(features["label"], np.integer):
        return "label"
    labels = [key for key in features if isinstance(features[key], tfds.features.ClassLabel)]
    if len(labels) != 1:
        raise ValueError(
            f"{path}: of its features {list(features)} one alone must be a ClassLabel, or 'label' "
            "an integer"
        )
    return labels[0]


def _read_encoded(path: str) -> bytes | list[bytes]:
    """A video file's content, or that of the images of a folder."""
    try:
        if os.path.isdir(path):
            folder = pathlib.Path(path)
            return [(folder / name).read_bytes() for name in images.list_images(path)]
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise VideoError(path, f"cannot be read: {error}") from error


class _Encoded(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Builds a data set of encoded videos."""

    VERSION = tfds.core.Version("1.0.0")
    url_infos = None  # nothing is downloaded; what looks for it needs a package more

    def __init__(
        self,
        *,
        name: str,
        records: Mapping[str, list[Record]],
        features: dict[str, Any],
        **options: Any,
    ):
        self.name, self._records, self._features = name, records, features
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(self._features),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, Any]]]:
        return {split: self._generate_examples(split) for split in self._records}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, record in enumerate(self._records[split]):
            yield (
                number,
                {
                    "video": _read_encoded(record.path),
                    "label": record.label,
                    "video_id": os.fsencode(record.video_id),
                    "start_s": record.start_s,
                    "end_s": math.inf if record.end_s is None else record.end_s,
                },
            )
