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
from pst_jax.data.frames import VideoError
from pst_jax.predict import command, overlay, results, timeline
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
    assert (printed["model"], printed["views"]) == (str(place / "model"), "1x1")
    assert printed["average"] == model_folders.PREPROCESS.average
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
    printed = json.loads(capsys.readouterr().out)
    assert (printed["views"], printed["average"]) == (None, None)
    (video,) = printed["videos"]
    assert [each["start_s"] for each in video["segments"]][:2] == [0, 0.5]
    assert all(len(each["top"]) == 5 for each in video["segments"])
    run(place, place / "videos" / "a.mp4", "--window", "0.5", "--topk", 1)
    assert "times real time" in capsys.readouterr().out


def test_the_windows_before_a_video_breaks_off_are_kept(place, tmp_path, capsys, monkeypatch):
    def breaks_off(path, *args, **options):
        for number, segment in enumerate(timeline.timeline(path, *args, **options)):
            if number == 2:
                raise VideoError(path, "breaks off")
            yield segment

    monkeypatch.setattr(command, "timeline", breaks_off)
    out = tmp_path / "out.mp4"
    code = run(place, place / "videos" / "a.mp4", "--window", "0.3", "--overlay", out, "--json")
    (video,) = json.loads(capsys.readouterr().out)["videos"]
    assert (code, len(video["segments"]), video["problem"]) == (1, 2, "breaks off")
    assert not out.exists()


def test_an_overlay_is_a_video_of_the_same_length(place, tmp_path):
    run(place, place / "videos" / "a.mp4", "--overlay", tmp_path / "out.mp4")
    drawn = video_files.decode_all(tmp_path / "out.mp4")
    assert len(drawn) == len(video_files.decode_all(place / "videos" / "a.mp4"))


def test_an_untrained_head_is_warned_of(place, tmp_path, capsys):
    folder.write(tmp_path / "model", model_folders.make(untrained=("head/kernel",)))
    video = str(place / "videos" / "a.mp4")
    command.run(make_parser().parse_args([video, "--model", str(tmp_path / "model")]))
    assert "head/kernel started anew" in capsys.readouterr().err
    run(place, video)
    assert not capsys.readouterr().err


def test_other_labels_can_be_given(place, tmp_path, capsys):
    (tmp_path / "labels.txt").write_text("\n".join(f"name {n}" for n in range(5)))
    run(place, place / "videos" / "a.mp4", "--labels", tmp_path / "labels.txt")
    assert "name 3" in capsys.readouterr().out


def test_names_stand_for_files_folders_and_globs_each_once(place):
    videos = place / "videos"
    names = [str(videos / "a.mp4"), str(videos), str(videos / "*.mp4"), "none.mp4"]
    found = [path.rpartition("/")[2] for path in command.find_videos(names)]
    assert found == ["a.mp4", "b.mp4", "broken.mp4", "c.avi", "none.mp4"]


def test_a_file_spelled_in_two_ways_is_one_and_keeps_the_first(place, monkeypatch):
    monkeypatch.chdir(place / "videos")
    found = command.find_videos(["./b.mp4", str(place / "videos"), ".", "more/../a.mp4"])
    assert found[:2] == ["./b.mp4", str(place / "videos" / "a.mp4")]
    assert len(found) == 4


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["{}/model"], "holds no video"),
        (["{}/*.mov"], "no file matches"),
        (["{}/videos/a.mp4", "--json", "{}/none/b.json"], "a folder that exists"),
        (["{}/videos/a.mp4", "--csv", "{}/videos/b.mp4/b.csv"], "a folder that exists"),
        (["{}/videos/a.mp4", "--features", "{}/folder.npz"], "a folder that exists"),
        (["{}/videos/a.mp4", "--json", "--csv"], "both"),
        (["{}/videos", "--overlay", "{}/out.mp4"], "one video, and 4"),
        (["{}/videos/a.mp4", "--overlay", "{}/videos/a.mp4"], "a.mp4"),
        (["{}/videos/a.mp4", "--overlay", "{}/out.gif"], "mp4"),
        (["{}/videos/a.mp4", "--overlay", "{}/videos/b.mp4"], "exists: move it away, or name"),
        (["{}/videos/a.mp4", "--overlay", "{}/out.mp4", "--views", "4x3"], "--views"),
        (["{}/videos/a.mp4", "--hop", "1"], "--hop"),
        (["{}/videos/a.mp4", "--labels", "kinetics400"], "400 labels"),
    ],
)
def test_a_mistake_is_told_before_anything_is_computed(place, args, message, monkeypatch):
    (place / "folder.npz").mkdir(exist_ok=True)
    monkeypatch.setattr(command, "_predict", None)
    with pytest.raises(ValueError, match=message):
        run(place, *(arg.format(place) for arg in args))
    assert not (place / "out.mp4").exists()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "required"),
        (["a.mp4", "--views", "4x2"], "'4x2' must be CLIPSxCROPS"),
        (["a.mp4", "--views", "1001x1"], "1 to 1000 clips"),
        (["a.mp4", "--topk", "0"], "'0' must be an integer in [1, 1000000]"),
        (["a.mp4", "--batch_size", "4097"], "[1, 4096]"),
        (["a.mp4", "--batch_size", "9" * 5000], "[1, 4096]"),
        (["a.mp4", "--window", "-1"], "'-1' must be a number of seconds in [0.001, 1000000]"),
        (["a.mp4", "--window", "1", "--hop", "1e-320"], "'1e-320' must be"),
        (["a.mp4", "--window", "nan"], "'nan' must be"),
        (["--json", "a.mp4"], "'a.mp4' must end in .json: put --json last, or write --json=FILE"),
        (["--csv", "a.mp4", "b.mp4"], "put --csv last"),
        (["a.mp4", "--features", "-"], "'-' must end in .npz"),
    ],
)
def test_wrong_flags_are_told_by_the_parser(args, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        make_parser().parse_args(args)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert "error:" in error and message in error


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


@pytest.mark.parametrize("error", [ValueError("no encoder"), OSError(28, "No space left")])
def test_what_was_computed_outlives_an_overlay_that_fails(
    place, tmp_path, capsys, monkeypatch, error
):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(overlay, "overlay", fail)
    flags = ["--overlay", tmp_path / "out.mp4", "--json", tmp_path / "out.json"]
    assert run(place, place / "videos" / "a.mp4", *flags) == 1
    printed = capsys.readouterr().out
    assert "times real time" in printed and "no overlay: " in printed and str(error) in printed
    (video,) = json.loads((tmp_path / "out.json").read_text())["videos"]
    assert len(video["segments"]) == 2 and str(error) in video["problem"]


def test_what_was_computed_outlives_an_overlay_that_is_stopped(
    place, tmp_path, capsys, monkeypatch
):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(overlay, "overlay", stop)
    with pytest.raises(KeyboardInterrupt):
        run(place, place / "videos" / "a.mp4", "--overlay", tmp_path / "out.mp4", "--json")
    (video,) = json.loads(capsys.readouterr().out)["videos"]
    assert video["segments"]


def result(path="a.mp4", **values):
    return results.Result(path, **values)


def test_an_output_that_fails_holds_up_no_other(tmp_path, capsys):
    found = [result(probabilities=np.array([0.2, 0.8], np.float32), features=np.ones((1, 2)))]
    outputs = [str(tmp_path / name) for name in ("none/a.json", "a.csv", "none/a.npz")]
    with pytest.raises(ValueError, match=r"a\.json cannot be written: No such.*; .*a\.npz cannot"):
        results.write(found, ("sit", "run"), 2, {}, *outputs)
    assert "80.0%" in capsys.readouterr().out
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 3


def test_no_name_plays_with_the_terminal(tmp_path, capsys):
    found = [result("\x1b[2J\udcff.mp4", probabilities=np.ones(1, np.float32))]
    for csv_file in (None, "-"):
        results.write(found, ("a\x1b",), 1, {}, csv_file=csv_file)
        printed = capsys.readouterr().out
        assert r"\x1b[2J\udcff.mp4" in printed and r"a\x1b" in printed and "\x1b" not in printed


def test_times_are_rounded_to_milliseconds(capsys):
    segment = timeline.Segment(1 / 3, 59.96, np.ones(1, np.float32))
    found = [result(segments=(segment,), seconds=1.0)]
    results.write(found, ("sit",), 1, {}, json_file="-")
    (video,) = json.loads(capsys.readouterr().out)["videos"]
    assert (video["segments"][0]["start_s"], video["segments"][0]["end_s"]) == (0.333, 59.96)
    results.write(found, ("sit",), 1, {}, csv_file="-")
    assert ",0.333,59.96," in capsys.readouterr().out
    results.write(found, ("sit",), 1, {})
    assert "0:00.3-1:00.0" in capsys.readouterr().out  # no minute has 60 seconds


def test_the_command_runs_as_a_program_and_ends_with_its_code(place, tmp_path):
    program = [sys.executable, "-m", "pst_jax.predict", place / "videos" / "broken.mp4"]
    for model, message in ((place / "model", "cannot be read"), (tmp_path, "no model folder")):
        result = subprocess.run(
            [*program, "--model", model], capture_output=True, text=True, check=False
        )
        assert result.returncode == 1
        assert message in result.stdout + result.stderr
        assert "Traceback" not in result.stderr
