"""Data sets of TFDS with encoded videos: built, listed and read, without TensorFlow."""

import json
import shutil
import sys

import layouts
import numpy as np
import pytest
import tensorflow_datasets as tfds

from pst_jax.data import tfds_source
from pst_jax.data.frames import VideoError, as_it_is
from pst_jax.data.index import read_dataset, read_index
from pst_jax.data.records import Listing, Record, fingerprint
from pst_jax.data.sources import open_record


def all_frames(record):
    with open_record(record) as video:
        times_s = None if video.times_s is None else video.times_s.tolist()
        return video.read(range(video.num_frames), as_it_is), times_s


@pytest.mark.parametrize("layout", [layouts.ssv1, layouts.ssv2, layouts.kinetics, layouts.csv_list])
def test_what_was_built_reads_as_the_files_do(layout, tmp_path):
    layout(tmp_path / "files")
    listings = read_dataset(tmp_path / "files")
    tfds_source.build("videos", listings, tmp_path / "sets")
    for split, listing in listings.items():
        stored = read_index(f"tfds:videos:{split}", root=tmp_path / "sets")
        kept = [record for record in listing.records if record not in listing.missing]
        assert stored.class_names == listing.class_names
        assert fingerprint(stored.records) == fingerprint(kept)
        for record, original in zip(stored.records, kept, strict=True):
            frames, times_s = all_frames(record)
            expected, expected_times_s = all_frames(original)
            np.testing.assert_array_equal(frames, expected)
            assert times_s == expected_times_s
    assert "tensorflow" not in sys.modules


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    layouts.diving48(folder / "files")
    tfds_source.build("dives", read_dataset(folder / "files"), folder / "sets")
    return folder / "sets"


def test_a_part_of_a_split_is_a_list_of_its_own(sets):
    whole = read_index(f"tfds:{sets}|dives:train").records
    half = read_index(f"tfds:{sets}|dives:train[50%:]").records
    assert [record.video_id for record in half] == [record.video_id for record in whole[3:]]
    np.testing.assert_array_equal(all_frames(half[0])[0], all_frames(whole[3])[0])
    versioned = read_index(f"tfds:{sets}|dives:1.0.0:train").records
    assert fingerprint(versioned) == fingerprint(whole)


def test_labels_above_the_classes_are_refused(sets):
    with pytest.raises(ValueError, match="has 2 classes, but num_classes=1"):
        read_index(f"tfds:{sets}|dives:train", num_classes=1)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nothing_here:train", "Dataset nothing_here not found"),
        ("dives:dev", "Unknown split 'dev'"),
        ("dives", "must be tfds:NAME:SPLIT"),
        ("dives:2.0.0:train", "Dataset dives not found; it must lie in"),
    ],
)
def test_what_cannot_be_found_is_one_line(source, message, sets):
    with pytest.raises(ValueError, match=message) as caught:
        read_index(f"tfds:{sets}|{source}")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def write_set(folder, name, features, examples):
    """A data set of others: any features."""

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION, url_infos = tfds.core.Version("1.0.0"), None

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            yield from enumerate(examples)

    Builder.name = name
    Builder(data_dir=folder, file_format="array_record").download_and_prepare()
    return f"tfds:{folder}|{name}:train"


def test_decoded_videos_and_labels_by_another_name_are_read(tmp_path):
    videos = [layouts.frames_of(seed) for seed in range(3)]
    features = {
        "clip": tfds.features.Tensor(shape=(None, 32, 40, 3), dtype=np.uint8),
        "note": tfds.features.Text(),
        "action": tfds.features.ClassLabel(names=["run", "jump"]),
    }
    examples = [
        {"clip": video, "note": "a note", "action": number % 2}
        for number, video in enumerate(videos)
    ]
    listing = read_index(write_set(tmp_path, "pixels", features, examples))
    assert listing.class_names == ("run", "jump")
    assert [(r.video_id, r.label) for r in listing.records] == [("0", 0), ("1", 1), ("2", 0)]
    for record, video in zip(listing.records, videos, strict=True):
        np.testing.assert_array_equal(all_frames(record)[0], video)


def test_a_set_without_one_video_or_one_label_is_refused(tmp_path):
    label, data = tfds.features.Scalar(np.int64), tfds.features.Tensor(shape=(), dtype=np.object_)
    cases = {
        "none": ({"label": label, "text": tfds.features.Text()}, {"label": 0, "text": ""}),
        "two": ({"label": label, "a": data, "b": data}, {"label": 0, "a": b"", "b": b""}),
        "no_label": ({"video": data}, {"video": b""}),
    }
    messages = {"none": "one alone, or the one named 'video'", "no_label": "must be a ClassLabel"}
    for name, (features, example) in cases.items():
        source = write_set(tmp_path, name, features, [example])
        with pytest.raises(ValueError, match=messages.get(name, messages["none"])):
            read_index(source)


def test_a_damaged_video_is_named_by_source_and_number(tmp_path):
    features = {
        "video": tfds.features.Tensor(shape=(), dtype=np.object_),
        "label": tfds.features.Scalar(np.int64),
    }
    source = write_set(tmp_path, "bad", features, [{"video": b"no video", "label": 4}])
    (record,) = read_index(source).records
    with pytest.raises(VideoError, match=r"bad:train#0: is not a video"), open_record(record):
        pass


def test_only_what_can_be_stored_is_built(sets, tmp_path):
    layouts.class_folders(tmp_path / "files")
    listings = read_dataset(tmp_path / "files")
    with pytest.raises(ValueError, match="all be files, or all folders"):
        tfds_source.build("mixed", listings, tmp_path)
    with pytest.raises(ValueError, match="dives exists: remove it"):
        tfds_source.build("dives", listings, sets)
    with pytest.raises(ValueError, match="must be words"):
        tfds_source.build("No Name", listings, tmp_path)
    gone = Listing((Record(str(tmp_path / "gone.mp4"), 0, "gone"),))
    with pytest.raises(VideoError, match="gone.mp4: cannot be read"):
        tfds_source.build("gone", {"train": gone}, tmp_path / "sets")
    assert not (tmp_path / "sets" / "gone" / "1.0.0").exists()


def test_the_files_are_as_tfds_reads_them_itself(sets):
    data = tfds.builder("dives", data_dir=sets).as_data_source("test")
    assert data[1]["video_id"] == b"0fUzH_tZMQ8_00007" and data[1]["label"] == 1
    assert json.loads((sets / "dives/1.0.0/dataset_info.json").read_text())["fileFormat"]


def test_a_damaged_shard_is_named_when_listed_and_when_read(sets, tmp_path):
    shutil.copytree(sets, tmp_path / "sets")
    source = f"tfds:{tmp_path / 'sets'}|dives:train"
    records = read_index(source).records
    (shard,) = (tmp_path / "sets" / "dives").rglob("dives-train.array_record*")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    tfds_source._open.cache_clear()
    problems = []
    for record in records:
        try:
            all_frames(record)
        except VideoError as error:
            problems.append(str(error))
    assert problems and all("cannot be read" in problem for problem in problems)
    tfds_source._read.cache_clear()
    with pytest.raises(ValueError, match=r"example \d+ cannot be read .*, nor its label"):
        read_index(source)
