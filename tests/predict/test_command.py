import csv
import io
import json
import subprocess
import sys

import model_folders
import numpy as np
import pytest
import video_files

import pst_jax
from pst_jax.convert import folder
from pst_jax.predict import command
from pst_jax.predict.__main__ import make_parser


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A model folder, and a folder of videos one of which is broken."""
    path = tmp_path_factory.mktemp("predict")
    folder.write(path / "model", model_folders.make())
    (path / "videos" / "more").mkdir(parents=True)
    for seed, name in enumerate(("b.mp4", "a.mp4", "more/c.avi")):
        codec = "mpeg4" if name.endswith("avi") else "libx264"
        frames = video_files.frames_of_noise(20 + seed, 40, 56, seed)
        video_files.write_video(path / "videos" / name, frames, codec=codec)
    (path / "videos" / "broken.mp4").write_bytes(b"nothing")
    (path / "videos" / "notes.txt").write_text("no video")
    return path


def run(place, *args):
    names = [str(arg) for arg in args]
    return command.run(make_parser().parse_args([*names, "--model", str(place / "model")]))


def test_a_table_names_the_likeliest_labels_and_what_cannot_be_read(place, capsys):
    code = run(place, place / "videos", "--topk", 2)
    lines = capsys.readouterr().out.splitlines()
    assert code == 1  # of the broken one; the others are predicted all the same
    shown = [line for line in lines if "%" in line]
    assert len(shown) == 6
    expected = pst_jax.load(place / "model")(place / "videos" / "a.mp4").top(1)
    ((label, probability),) = expected
    first = next(line for line in lines if "a.mp4" in line)
    assert label in first and f"{probability:.1%}" in first
    assert [line for line in lines if "cannot be read" in line and "broken.mp4" in line]


def test_json_is_for_programs(place, capsys, tmp_path):
    run(place, place / "videos", "--json")
    printed = json.loads(capsys.readouterr().out)
    run(place, place / "videos", "--json", tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == printed
    videos = {video["path"].rpartition("/")[2]: video for video in printed["videos"]}
    assert list(videos) == ["a.mp4", "b.mp4", "broken.mp4", "c.avi"]
    assert "not a video" in videos["broken.mp4"]["problem"] and "top" not in videos["broken.mp4"]
    top = videos["c.avi"]["top"]
    assert [each["label"] for each in top] == [model_folders.LABELS[each["class"]] for each in top]
    assert sum(each["probability"] for each in top) == pytest.approx(1, abs=1e-4)


def test_csv_has_a_row_per_video_and_rank(place, capsys):
    assert run(place, place / "videos" / "a.mp4", "--csv", "--views", "2x3") is None
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["rank"] for row in rows] == list("12345")
    expected = pst_jax.load(place / "model")(
        place / "videos" / "a.mp4", num_clips=2, num_crops=3
    ).top(5)
    assert [row["label"] for row in rows] == [label for label, _ in expected]
    assert float(rows[0]["probability"]) == pytest.approx(expected[0][1], abs=1e-6)


def test_features_of_every_view_are_written(place, tmp_path):
    out = tmp_path / "features.npz"
    run(place, place / "videos", "--features", out, "--views", "2x1")
    with np.load(out) as found:
        assert found["features"].shape == (3, 2, 32)
        assert [path.rpartition("/")[2] for path in found["path"]] == ["a.mp4", "b.mp4", "c.avi"]


def test_a_window_gives_labels_over_time(place, capsys):
    run(place, place / "videos" / "a.mp4", "--window", "0.5", "--json")
    (video,) = json.loads(capsys.readouterr().out)["videos"]
    assert [round(each["start_s"], 2) for each in video["segments"]][:2] == [0, 0.5]
    assert all(len(each["top"]) == 5 for each in video["segments"])
    run(place, place / "videos" / "a.mp4", "--window", "0.5", "--topk", 1)
    assert "times real time" in capsys.readouterr().out


def test_an_overlay_is_a_video_of_the_same_length(place, tmp_path):
    run(place, place / "videos" / "a.mp4", "--overlay", tmp_path / "out.mp4")
    drawn = video_files.decode_all(tmp_path / "out.mp4")
    assert len(drawn) == len(video_files.decode_all(place / "videos" / "a.mp4"))


def test_other_labels_can_be_given(place, tmp_path, capsys):
    (tmp_path / "labels.txt").write_text("\n".join(f"name {n}" for n in range(5)))
    run(place, place / "videos" / "a.mp4", "--labels", tmp_path / "labels.txt")
    assert "name 3" in capsys.readouterr().out


def test_names_stand_for_files_folders_and_globs_each_once(place):
    videos = place / "videos"
    names = [str(videos / "a.mp4"), str(videos), str(videos / "*.mp4"), "none.mp4"]
    found = [path.rpartition("/")[2] for path in command.find_videos(names)]
    assert found == ["a.mp4", "b.mp4", "broken.mp4", "c.avi", "none.mp4"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["{}/model"], "holds no video"),
        (["{}/*.mov"], "no file matches"),
        (["{}/videos/a.mp4", "--json", "{}/videos/b.mp4"], "ends in .json"),
        (["{}/videos/a.mp4", "--json", "{}/none/b.json"], "no such folder"),
        (["{}/videos/a.mp4", "--json", "--csv"], "both"),
        (["{}/videos", "--overlay", "{}/out.mp4"], "one video, and 4"),
        (["{}/videos/a.mp4", "--overlay", "{}/videos/a.mp4"], "a.mp4"),
        (["{}/videos/a.mp4", "--overlay", "{}/out.gif"], "mp4"),
        (["{}/videos/a.mp4", "--overlay", "{}/out.mp4", "--views", "4x3"], "--views"),
        (["{}/videos/a.mp4", "--hop", "1"], "--hop"),
        (["{}/videos/a.mp4", "--labels", "kinetics400"], "400 labels"),
    ],
)
def test_a_mistake_is_told_before_anything_is_computed(place, args, message, monkeypatch):
    monkeypatch.setattr(command, "_predict", None)
    with pytest.raises(ValueError, match=message):
        run(place, *(arg.format(place) for arg in args))
    assert not (place / "out.mp4").exists()


@pytest.mark.parametrize("args", [["--views", "4x2"], ["--topk", "0"], ["--window", "-1"], []])
def test_wrong_flags_are_told_by_the_parser(args, capsys):
    with pytest.raises(SystemExit) as stopped:
        make_parser().parse_args(["a.mp4", *args] if args else [])
    assert stopped.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_without_a_model_the_remedy_is_told(place, monkeypatch):
    monkeypatch.delenv(command.MODEL_VARIABLE, raising=False)
    with pytest.raises(ValueError, match="pst_jax.convert"):
        command.run(make_parser().parse_args([str(place / "videos" / "a.mp4")]))
    monkeypatch.setenv(command.MODEL_VARIABLE, str(place / "model"))
    assert command.run(make_parser().parse_args([str(place / "videos" / "a.mp4")])) is None


def test_what_was_predicted_before_an_error_is_written(place, capsys, monkeypatch):
    predict = command._predict

    def fail_at_b(model, path, *rest):
        if path.endswith("b.mp4"):
            raise KeyboardInterrupt
        return predict(model, path, *rest)

    monkeypatch.setattr(command, "_predict", fail_at_b)
    with pytest.raises(KeyboardInterrupt):
        run(place, place / "videos", "--json")
    (video,) = json.loads(capsys.readouterr().out)["videos"]
    assert video["path"].endswith("a.mp4")


def test_the_command_runs_as_a_program_and_ends_with_its_code(place, tmp_path):
    program = [sys.executable, "-m", "pst_jax.predict", place / "videos" / "broken.mp4"]
    for model, message in ((place / "model", "cannot be read"), (tmp_path, "no model folder")):
        result = subprocess.run(
            [*program, "--model", model], capture_output=True, text=True, check=False
        )
        assert result.returncode == 1
        assert message in result.stdout + result.stderr
        assert "Traceback" not in result.stderr
