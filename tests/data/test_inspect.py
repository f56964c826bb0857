"""What is wrong with a data set is told, file by file, and what is right is counted."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import layouts
import numpy as np
import pytest
from video_files import frames_of_noise, write_audio, write_video

from pst_jax.data import frames, inspect, survey
from pst_jax.data.encode import writing_mp4
from pst_jax.data.index import read_dataset, read_index
from pst_jax.data.pack import Settings
from pst_jax.data.prepare import prepare
from pst_jax.data.records import Listing, Record, fingerprint

ROOT = pathlib.Path(__file__).parents[2]
TRAIN = (
    "ok.mp4,0\nok.webm,2\ncut.mp4,0\ncut_short.flv,0\nempty.mp4,0\ntext.mp4,2\nsound.mp4,0\n"
    "gone.mp4,2\ncopy.mp4,2\nok.mp4,0\nboth.avi,3\ndamaged.mkv,0\n"
)
UNREADABLE = {
    "cut.mp4": "is cut off",
    "cut_short.flv": "a packet is not whole",
    "empty.mp4": "is empty",
    "text.mp4": "is not a video",
    "sound.mp4": "has no video stream",
    "gone.mp4": "does not exist",
    "damaged.mkv": "damaged",
}


def write(path, seed, **options):
    return write_video(path, frames_of_noise(20 + seed, 48, 64, seed), **options)


def cut(path):
    content = pathlib.Path(path).read_bytes()
    pathlib.Path(path).write_bytes(content[: len(content) // 2])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set with one of each."""
    folder = tmp_path_factory.mktemp("set")
    write(folder / "ok.mp4", 0)
    write(folder / "ok.webm", 1, codec="libvpx-vp9", rate=25)
    cut(write(folder / "cut.mp4", 2))
    cut(write(folder / "cut_short.flv", 3, codec="flv"))
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("no video")
    write_audio(folder / "sound.mp4")
    for copy in ("copy.mp4", "other_name.mp4"):
        shutil.copy(folder / "ok.mp4", folder / copy)
    write(folder / "both.avi", 4, codec="mpeg4")
    write(folder / "extra.mp4", 5)
    content = bytearray(pathlib.Path(write(folder / "damaged.mkv", 6)).read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2000] = bytes(2000)
    (folder / "damaged.mkv").write_bytes(content)
    (folder / "train.csv").write_text(TRAIN)
    (folder / "test.csv").write_text("both.avi,3\nother_name.mp4,0\n")
    return folder


@pytest.fixture(scope="module")
def found(folder):
    return survey.survey(read_dataset(folder), num_workers=2)


def names(problems):
    return [os.path.basename(problem["path"]) for problem in problems]


def test_every_unreadable_file_is_listed_with_its_reason(folder, found):
    assert names(found["unreadable"]) == list(UNREADABLE)
    for problem, reason in zip(found["unreadable"], UNREADABLE.values()):
        assert reason in problem["reason"]
        assert problem["path"] == str(folder / os.path.basename(problem["path"]))
    assert found["splits"]["train"]["unreadable"] == found["unreadable"]
    assert found["splits"]["test"]["unreadable"] == []


def test_a_missing_file_of_an_own_list_is_missing_and_unreadable(folder, found):
    assert found["splits"]["train"]["missing"] == [str(folder / "gone.mp4")]


def test_quickly_looked_at_what_is_damaged_inside_is_passed_over(folder):
    found = survey.survey(read_dataset(folder), num_workers=1, is_quick=True)
    assert names(found["unreadable"]) == [name for name in UNREADABLE if name != "damaged.mkv"]
    assert found["splits"]["train"]["forms"]["matroska h264"] == 1


def test_classes_and_labels_are_counted(found):
    classes = found["splits"]["train"]["classes"]
    assert (classes["labels"], classes["num_classes"], classes["empty"]) == ([0, 3], 4, [1])
    counts = {entry["label"]: entry["num_videos"] for entry in classes["histogram"]}
    assert counts == {0: 7, 2: 4, 3: 1}
    assert found["splits"]["test"]["classes"]["empty"] == [1, 2]


def test_a_label_wrong_by_millions_takes_no_memory(tmp_path):
    write(tmp_path / "a.mp4", 0)
    (tmp_path / "list.csv").write_text("a.mp4,999999999\n")
    found = survey.survey({"": read_index(tmp_path / "list.csv")}, num_workers=1)
    classes = found["splits"][""]["classes"]
    assert classes["num_empty"] == 999999999 and len(classes["empty"]) == 1000


def test_frames_sizes_rates_and_codecs_are_counted(found):
    train, test = found["splits"]["train"], found["splits"]["test"]
    assert test["frames"] == {"min": 20, "median": 22, "max": 24}
    assert test["seconds"] == {"min": 20 / 16, "median": 22 / 16, "max": 24 / 16}
    assert train["sizes"] == {"64x48": 5}
    assert train["rates"] == {"16": 4, "25": 1}
    assert train["forms"] == {"mp4 h264": 3, "webm vp9": 1, "avi mpeg4": 1}


def test_a_variable_rate_is_told(tmp_path):
    with writing_mp4(tmp_path / "a.mp4") as write_frame:
        for time_s, frame in zip((0, 0.1, 0.15, 0.4), frames_of_noise(4, 32, 32)):
            write_frame(time_s, frame)
    facts = survey.examine(Record(str(tmp_path / "a.mp4"), 0, "a"))
    assert facts.rate == "variable" and facts.num_frames == 4


def test_a_rotation_in_the_metadata_is_told(tmp_path):
    path = pathlib.Path(write(tmp_path / "a.mp4", 0))
    content = bytearray(path.read_bytes())
    matrix = content.index(b"tkhd") + 44  # ISO 14496-12, 8.3.2, version 0
    turned = [0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000]
    content[matrix : matrix + 36] = np.array(turned, ">i4").tobytes()
    path.write_bytes(content)
    facts = survey.examine(Record(str(path), 0, "a"))
    assert facts.is_rotated and facts.size == "64x48"


def test_repeated_videos_of_a_list_are_told_with_their_labels(found):
    assert found["splits"]["train"]["duplicates"] == [
        {
            "reason": "same content",
            "videos": ["ok.mp4", "copy.mp4", "ok.mp4#2"],
            "labels": [0, 2, 0],
        }
    ]


def test_videos_of_several_splits_are_told_by_name_and_by_content(found):
    assert found["overlap"] == [
        {
            "reason": "same content",
            "videos": {"train": ["ok.mp4", "copy.mp4", "ok.mp4#2"], "test": ["other_name.mp4"]},
        },
        {"reason": "same file", "videos": {"train": ["both.avi"], "test": ["both.avi"]}},
    ]


def test_one_name_in_two_folders_is_told(tmp_path):
    records = [Record(write(tmp_path / f"{k}.mp4", k), 0, "same.mp4") for k in range(2)]
    listings = {name: Listing((record,)) for name, record in zip(("train", "test"), records)}
    found = survey.survey(listings, num_workers=1)
    videos = {"train": ["same.mp4"], "test": ["same.mp4"]}
    assert found["overlap"] == [{"reason": "same name", "videos": videos}]


def test_files_that_no_list_names_are_told(folder, found):
    assert found["extra"] == [str(folder / "extra.mp4")]


def test_the_fingerprints_are_those_of_the_lists(folder, found):
    for name, listing in read_dataset(folder).items():
        assert found["splits"][name]["fingerprint"] == fingerprint(listing.records)


def test_no_more_than_a_frame_is_held(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", frames_of_noise(60, 64, 64))
    monkeypatch.setattr(frames, "MAX_CLIP_BYTES", 64 * 64 * 3)  # of what is kept of all frames
    assert survey.examine(Record(path, 0, "a")).num_frames == 60


@pytest.mark.parametrize("write_layout", layouts.ALL, ids=lambda write: write.__name__)
def test_official_layouts_are_inspected(write_layout, tmp_path):
    expected = write_layout(tmp_path)
    found = survey.survey(read_dataset(tmp_path), num_workers=2)
    assert found["unreadable"] == []
    is_kinetics = write_layout is layouts.kinetics
    for name, videos in expected.items():
        split = found["splits"][name]
        assert split["num_videos"] == len(videos)
        assert len(split["missing"]) == (is_kinetics and name == "train")
        assert ("fingerprint_without_missing" in split) == bool(split["missing"])
        assert split["frames"]["max"] <= 24 and "40x32" in split["sizes"]
    assert len(found["extra"]) == is_kinetics


def test_of_prepared_videos_those_that_could_not_be_are_told_one_by_one(folder, found, tmp_path):
    prepare(str(folder), tmp_path, Settings(), num_workers=2)
    prepared = survey.survey(read_dataset(tmp_path), num_workers=2)
    told = [problem["path"].rpartition(":")[2] for problem in prepared["unreadable"]]
    assert told == list(UNREADABLE)
    for problem, reason in zip(prepared["unreadable"], UNREADABLE.values()):
        assert reason in problem["reason"] and "prepared" in problem["reason"]
    for name, split in prepared["splits"].items():
        assert split["fingerprint"] == found["splits"][name]["fingerprint"]
        assert split["frames"] == found["splits"][name]["frames"]
        assert split["duplicates"] == [] and prepared["extra"] == []


def run(*arguments, **environment):
    command = [sys.executable, "-m", "pst_jax.data.inspect", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | environment
    )


def test_the_command_reports_and_fails_where_something_cannot_be_read(folder, tmp_path):
    result = run(folder, "--json", tmp_path / "found.json")
    assert result.returncode == 1 and not result.stderr
    written = json.loads((tmp_path / "found.json").read_text())
    assert names(written["unreadable"]) == list(UNREADABLE)
    for problem in written["unreadable"]:
        assert f"{problem['path']}: {problem['reason']}" in result.stdout
    assert written["splits"]["train"]["fingerprint"] in result.stdout
    assert "ok.mp4 = copy.mp4 = ok.mp4#2 (same content, but labels 0, 2)" in result.stdout


def test_the_command_succeeds_where_all_can_be_read_and_gives_json_alone(folder):
    result = run(folder / "test.csv", "--json", "-", "--num_workers", 1)
    assert result.returncode == 0
    assert json.loads(result.stdout)["splits"][""]["num_videos"] == 2


def test_a_decoder_that_takes_its_process_down_is_a_line_of_the_list(folder, tmp_path):
    # In every process, as a site has it: PyAV dies on files of one name.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, av\n"
        "av_open = av.open\n"
        "def fatal_open(file, *args, **options):\n"
        "    if str(file).endswith('other_name.mp4'):\n"
        "        os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    return av_open(file, *args, **options)\n"
        "av.open = fatal_open\n"
    )
    result = run(folder / "test.csv", "--json", "-", PYTHONPATH=str(tmp_path))
    assert result.returncode == 1, result.stderr
    (problem,) = json.loads(result.stdout)["unreadable"]
    assert problem["path"] == str(folder / "other_name.mp4") and "SIGSEGV" in problem["reason"]
    assert json.loads(result.stdout)["splits"][""]["frames"]["max"] == 24  # the other was read


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ok.mp4"], "is a video: give the folder of a data set"),
        (["no_such_folder"], "does not exist"),
        (["test.csv", "--seed", "1"], "--seed is for --sheet OUT"),
        (["test.csv", "--json", "no_such_folder/a.json"], "cannot be written"),
        (["test.csv", "--sheet", "a.png", "--config", "none.py"], "does not exist"),
    ],
)
def test_a_mistake_is_one_line(folder, arguments, message, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    with pytest.raises(ValueError, match=message) as error:
        inspect.main(inspect.make_parser().parse_args(arguments))
    assert "\n" not in str(error.value)
