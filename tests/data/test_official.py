"""Published data sets as they are downloaded: found wherever they lie, numbered as published."""

import json
import pathlib
import re
import shutil

import layouts
import pytest

from pst_jax.data import official
from pst_jax.data.frames import as_it_is
from pst_jax.data.index import read_dataset, read_index
from pst_jax.data.records import fingerprint
from pst_jax.data.sources import open_record

LAYOUTS = (layouts.ssv1, layouts.ssv2, layouts.kinetics, layouts.diving48)
NAMES = {
    "ssv1": tuple(text.replace("[", "").replace("]", "") for text in layouts.SOMETHING),
    "ssv2": tuple(text.replace("[", "").replace("]", "") for text in layouts.SOMETHING),
    "kinetics": layouts.KINETICS,
    "diving48": ("Back 15som 05Twis FREE", "Forward 25som NoTwis PIKE"),
}


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Name -> folder and what it holds; not to be changed."""
    root = tmp_path_factory.mktemp("sets")
    return {each.__name__: (root / each.__name__, each(root / each.__name__)) for each in LAYOUTS}


def pairs(listing):
    return [(record.video_id, record.label) for record in listing.records]


@pytest.mark.parametrize("name", NAMES)
def test_every_list_is_read_with_the_numbers_of_its_publisher(name, sets):
    folder, expected = sets[name]
    listings = read_dataset(folder)
    assert {split: pairs(listing) for split, listing in listings.items()} == expected
    for listing in listings.values():
        assert listing.class_names == NAMES[name]
        for record in set(listing.records) - set(listing.missing):
            number = int(record.video_id.split("_000012")[0][-5:]) % 100
            with open_record(record) as video:
                frames = video.read([0], as_it_is)
            assert video.num_frames == len(layouts.frames_of(number))
            assert frames.shape == (1, 32, 40, 3)


def test_what_kinetics_lacks_is_missing_where_it_is_expected(sets):
    folder, expected = sets["kinetics"]
    listings = read_dataset(folder)
    (missing,) = listings["train"].missing
    assert missing == listings["train"].records[-1] and not listings["validation"].missing
    assert missing.path == str(folder / "train" / f"{expected['train'][-1][0]}.mp4")


@pytest.mark.parametrize("name", NAMES)
def test_one_list_is_read_alone_and_its_root_may_be_named(name, sets):
    folder, expected = sets[name]
    lists = {"ssv2": "labels/train.json", "diving48": "Diving48_V2_train.json"}
    lists |= {"ssv1": "something-something-v1-train.csv", "kinetics": "train.csv"}
    listing = read_index(folder / lists[name])
    assert pairs(listing) == expected["train"]
    moved = read_index(folder / lists[name], root=folder.parent)
    assert set(moved.records) - set(moved.missing) == set(listing.records) - set(listing.missing)
    with pytest.raises(ValueError, match=r"has \d classes, but num_classes=1: raise"):
        read_index(folder / lists[name], num_classes=1)
    with pytest.raises(ValueError, match=r"holds .*train.*: give one of them"):
        read_index(folder)


def test_the_fingerprint_does_not_depend_on_where_the_videos_lie(sets, tmp_path):
    folder, _ = sets["kinetics"]
    for file in folder.rglob("*.mp4"):
        shutil.copy(file, tmp_path / file.name)
    (tmp_path / "annotations").mkdir()
    for name in ("train", "val"):
        shutil.copy(folder / f"{name}.csv", tmp_path / "annotations" / f"{name}.csv")
    moved = read_dataset(tmp_path)
    for split, listing in read_dataset(folder).items():
        assert fingerprint(moved[split].records) == fingerprint(listing.records)
        assert len(moved[split].missing) == len(listing.missing)


def test_older_names_are_read(tmp_path):
    expected = layouts.ssv2(tmp_path / "ssv2", older_names=True)
    found = read_dataset(tmp_path / "ssv2")
    assert {split: pairs(listing) for split, listing in found.items()} == expected
    expected = layouts.kinetics(tmp_path / "kinetics", validation_name="validate")
    found = read_dataset(tmp_path / "kinetics")
    assert {split: pairs(listing) for split, listing in found.items()} == expected
    assert not found["validation"].missing


def test_a_file_that_replaces_a_broken_one_is_taken(sets, tmp_path):
    folder, expected = sets["kinetics"]
    shutil.copytree(folder, tmp_path / "k400")
    video_id = expected["train"][1][0]
    replacement = tmp_path / "k400" / "replacement" / "replacement_for_corrupted_k400"
    replacement.mkdir(parents=True)
    shutil.copy(folder / "train" / f"{video_id}.mp4", replacement)
    record = read_dataset(tmp_path / "k400")["train"].records[1]
    assert record.path == str(replacement / f"{video_id}.mp4")


def test_folders_of_other_splits_are_not_searched(sets, monkeypatch):
    folder, _ = sets["ssv1"]
    listed = []
    scandir = official.os.scandir
    monkeypatch.setattr(official.os, "scandir", lambda path: listed.append(path) or scandir(path))
    assert len(official.find_videos(str(folder), {"100", "101"})) == 2
    assert [pathlib.Path(path).name for path in listed] == ["ssv1", "20bn-something-something-v1"]


def test_a_list_without_labels_is_refused_alone_and_passed_over_among_others(sets):
    for name, file in (
        ("ssv1", "something-something-v1-test.csv"),
        ("ssv2", "labels/test.json"),
    ):
        with pytest.raises(official.UnlabelledError, match="has no labels, as lists of test sets"):
            read_index(sets[name][0] / file)
        assert sorted(read_dataset(sets[name][0])) == ["train", "validation"]


def test_labels_of_a_test_list_may_come_as_a_file_of_answers(sets, tmp_path):
    shutil.copytree(sets["ssv2"][0], tmp_path / "ssv2")
    answers = f"200;{NAMES['ssv2'][2]}\n201;{NAMES['ssv2'][1]}\n"
    (tmp_path / "ssv2" / "labels" / "test-answers.csv").write_text(answers)
    assert pairs(read_dataset(tmp_path / "ssv2")["test"]) == [("200", 2), ("201", 1)]


def rewrite(path, change):
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content) or content))


def drop(key):
    def change(entries):
        del entries[1][key]

    return change


def put(key, value):
    def change(entries):
        entries[1][key] = value

    return change


@pytest.mark.parametrize(
    ("name", "file", "change", "message"),
    [
        ("ssv2", "labels/train.json", drop("template"), "train.json: entry 1: template is None"),
        ("ssv2", "labels/train.json", drop("id"), "train.json: entry 1: id is None"),
        (
            "ssv2",
            "labels/train.json",
            put("template", "Eating [something]"),
            "'Eating something' is none of the 3 of labels.json",
        ),
        ("ssv2", "labels/labels.json", lambda _: {"a": "1"}, "must number label texts from 0 on"),
        ("ssv2", "labels/labels.json", lambda _: [1], "must number label texts from 0 on"),
        ("ssv2", "labels/labels.json", lambda _: {"a": "x"}, "must number label texts from 0 on"),
        ("diving48", "Diving48_V2_train.json", drop("label"), "entry 1: label is None, must be a"),
        ("diving48", "Diving48_V2_train.json", put("label", 2), "entry 1: label 2 must lie in"),
        ("diving48", "Diving48_V2_train.json", put("label", True), "entry 1: label is True"),
        ("diving48", "Diving48_vocab.json", lambda _: {"a": 1}, "must be a list of lists of words"),
    ],
)
def test_a_json_list_of_another_form_is_refused(name, file, change, message, sets, tmp_path):
    shutil.copytree(sets[name][0], tmp_path / name)
    rewrite(tmp_path / name / file, change)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_dataset(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "file", "old", "new", "message"),
    [
        ("ssv1", "something-something-v1-train.csv", ";Putting", ";Eating", "train.csv:1: label"),
        ("ssv1", "something-something-v1-labels.csv", "Pushing", "Putting", "is none of the"),
        ("kinetics", "train.csv", ",12,22", ",12", "train.csv:2: label, youtube_id"),
        ("kinetics", "train.csv", ",12,22", ",1.5,22", "train.csv:2: label, youtube_id"),
        ("kinetics", "val.csv", "abseiling", "climbing", "'climbing' is none of the 3 of train"),
        ("ssv2", "labels/train.json", "}]", "}", "train.json: is no whole JSON"),
    ],
)
def test_a_damaged_list_is_named(name, file, old, new, message, sets, tmp_path):
    shutil.copytree(sets[name][0], tmp_path / name)
    path = tmp_path / name / file
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=message):
        read_dataset(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "file", "message"),
    [
        ("ssv1", "something-something-v1-labels.csv", "numbered by something-something-v1-labels"),
        ("ssv2", "labels/labels.json", "numbered by labels.csv or labels.json, which does not lie"),
        ("kinetics", "train.csv", "val.csv: its classes are numbered by those of the training set"),
    ],
)
def test_what_numbers_the_classes_must_be_there(name, file, message, sets, tmp_path):
    shutil.copytree(sets[name][0], tmp_path / name)
    (tmp_path / name / file).unlink()
    with pytest.raises(ValueError, match=message):
        read_dataset(tmp_path / name)


def test_a_vocabulary_is_not_needed(sets, tmp_path):
    shutil.copytree(sets["diving48"][0], tmp_path / "dives")
    (tmp_path / "dives" / "Diving48_vocab.json").unlink()
    assert read_dataset(tmp_path / "dives")["train"].class_names is None


def test_a_root_without_any_of_the_videos_is_refused(sets, tmp_path):
    source = sets["ssv2"][0] / "labels" / "train.json"
    with pytest.raises(ValueError, match="lists 9 videos, and none is found.*as the root"):
        read_index(source, root=tmp_path)
    with pytest.raises(ValueError, match="none: cannot be searched for videos"):
        read_index(source, root=tmp_path / "none")
    # A split that was not downloaded is missing, and no reason to refuse the others.
    shutil.copytree(sets["kinetics"][0], tmp_path / "k400")
    shutil.rmtree(tmp_path / "k400" / "val")
    found = read_dataset(tmp_path / "k400")["validation"]
    assert found.missing == found.records


def test_the_alphabet_numbers_kinetics_as_its_label_map_does():
    path = pathlib.Path(__file__).parents[2] / "pst_jax/convert/labels/kinetics400.txt"
    names = path.read_text().splitlines()
    assert len(names) == 400 and names == sorted(names)


def test_a_file_without_its_times_is_no_clip_where_there_are_two_of_it(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "bbb.mp4").write_bytes(b"a video")
    header = "label,youtube_id,time_start,time_end,split\n"
    lines = ["abseiling,bbb,1,11,train\n", "zumba,bbb,50,60,train\n", "zumba,ccc,1,11,train\n"]
    (tmp_path / "train" / "ccc.mp4").write_bytes(b"another")
    (tmp_path / "train.csv").write_text(header + "".join(lines))
    listing = read_index(tmp_path / "train.csv")
    assert [record.video_id[:3] for record in listing.missing] == ["bbb", "bbb"]
    assert listing.present[0].path == str(tmp_path / "train" / "ccc.mp4")


def test_a_video_goes_before_an_empty_folder_of_its_name(sets, tmp_path):
    shutil.copytree(sets["kinetics"][0], tmp_path / "k")
    (video,) = (tmp_path / "k" / "train").rglob("-_yt0000000*.mp4")
    video.with_suffix("").mkdir()
    (record, *_) = read_index(tmp_path / "k" / "train.csv").records
    assert record.path == str(video)


def test_diving48_has_48_classes_where_no_vocabulary_says_so(sets, tmp_path):
    entries = [{"vid_name": "a", "label": 48, "start_frame": 0, "end_frame": 9}]
    (tmp_path / "Diving48_V2_train.json").write_text(json.dumps(entries))
    with pytest.raises(ValueError, match=r"label 48 must lie in \[0, 47\]"):
        read_index(tmp_path / "Diving48_V2_train.json")
