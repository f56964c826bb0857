"""The bare code makes the loader's clips, what is measured adds up, and the command prints it."""

import contextlib
import dataclasses
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from video_files import frames_of_noise, write_video

from pst_jax.data import bare, benchmark, loader
from pst_jax.data.benchmark import SPEC, STAGES
from pst_jax.data.records import Record


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """The three generated data sets, of one short video each."""
    return benchmark.generate(tmp_path_factory.mktemp("sets"), num_videos=2, num_frames=70)


def write_class(folder, suffix, **options):
    (folder / "class").mkdir()
    for seed in range(2):
        frames = frames_of_noise(40, 48, 64, seed)
        write_video(folder / "class" / f"{seed}.{suffix}", frames, **options)
    return str(folder)


def loaded(records, num_batches):
    spec = dataclasses.replace(SPEC, flip="none")
    options = dict(batch_size=3, num_epochs=9, seed=4, num_threads=0)
    with contextlib.closing(loader.train_batches(records, spec, **options)) as batches:
        return [next(batches)["video"] for _ in range(num_batches)]


@pytest.mark.parametrize("name", ["raw mp4", "prepared h264", "prepared jpeg"])
def test_the_bare_code_makes_the_loaders_clips(name, sources):
    records = benchmark.readable(sources[name])
    made = bare.Bare(records, SPEC, seed=4)
    for step, video in enumerate(loaded(records, 3)):
        np.testing.assert_array_equal(made.batch(step, 3), video)


@pytest.mark.parametrize("suffix", ["mp4", "webm"])
def test_the_bare_code_makes_the_loaders_clips_of_small_short_videos(suffix, tmp_path):
    options = dict(codec="libvpx-vp9") if suffix == "webm" else dict(num_b_frames=2)
    records = benchmark.readable(write_class(tmp_path, suffix, **options))
    made = bare.Bare(records, SPEC, seed=4)
    np.testing.assert_array_equal(made.batch(0, 3), loaded(records, 1)[0])


def test_the_pipeline_is_set_against_the_bare_code_and_both_against_themselves(sources):
    records = benchmark.readable(sources["prepared jpeg"])
    figures = benchmark.compare(records, seconds=1)
    assert figures["rounds"] >= 5 and set(figures["noise"]) == {"pipeline", "bare"}
    for ratio in (figures["ratio"], *figures["noise"].values()):
        assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"] < 10
    assert figures["ratio"]["median"] == pytest.approx(
        figures["pipeline"] / figures["bare"], rel=0.3
    )


def test_where_the_bare_code_reads_no_such_videos_there_is_no_ratio(tmp_path):
    for number in range(1, 9):
        cv2.imwrite(str(tmp_path / f"{number:05d}.jpg"), frames_of_noise(1, 48, 64, number)[0])
    figures = benchmark.compare([Record(str(tmp_path), 0, "a")], seconds=0.1)
    assert figures["bare"] is None and figures["ratio"] is None and figures["pipeline"] > 0


def test_the_stages_are_those_of_the_loader_and_their_shares_add_up(sources):
    records = benchmark.readable(sources["prepared h264"])
    found = benchmark.shares(records, num_clips=4)
    assert tuple(found) == STAGES and sum(found.values()) == pytest.approx(1)
    assert min(found.values()) > 0 and found["decode"] > found["read"]
    spent = dict.fromkeys(STAGES, 0.0)
    draws = [np.random.default_rng(1) for _ in range(2)]
    clip = benchmark._timed_clip(records[0], draws[0], spent)
    ((expected, _),) = loader.clips.load_train_clips(records[0], SPEC, [draws[1]])
    np.testing.assert_array_equal(clip, expected)


def test_a_leak_shows_in_the_slope(sources, monkeypatch):
    records = benchmark.readable(sources["prepared jpeg"])
    kept, resident = [], benchmark._resident_kb

    def leak(*_):
        kept.append(np.ones(1_000_000))  # 8 MB at each point
        return resident()

    monkeypatch.setattr(benchmark, "_resident_kb", leak)
    figures = benchmark.memory(records, 50, num_threads=1)
    slope = figures["kb_per_1000_clips"]
    assert len(figures["clips"]) == len(figures["resident_kb"]) == 50
    assert slope["low"] <= slope["slope"] <= slope["high"]
    assert slope["slope"] == pytest.approx(1000 * 1_000_000 * 8 / 1024, rel=0.3)


def run(*arguments):
    return benchmark.main(benchmark.make_parser().parse_args([*map(str, arguments)]))


def test_the_command_prints_tables_and_writes_all_figures(sources, tmp_path):
    json_path, source = tmp_path / "figures.json", sources["prepared jpeg"]
    options = ["--seconds", "1", "--step_ms", "500", "--batch_size", "8", "--json", json_path]
    result = subprocess.run(
        [sys.executable, "-m", "pst_jax.data.benchmark", source, *options],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    figures = json.loads(json_path.read_text())
    found = figures["sets"][source]
    assert figures["model"]["clips_per_s"] == 16 and found["num_videos"] == 2
    assert found["clips_per_s"] > 0 and set(found["shares"]) == set(STAGES)
    assert f"{16 / found['pipeline']:.2f} |" in result.stdout  # the cores that it needs
    assert "500 ms a step of 8 clips" in result.stdout


def test_the_command_prints_the_slope_of_the_memory(sources, tmp_path, capsys):
    run(sources["prepared jpeg"], "--memory", "--clips", 100, "--json", tmp_path / "a")
    slope = json.loads((tmp_path / "a").read_text())["kb_per_1000_clips"]
    said = capsys.readouterr().out
    assert f"{slope['slope']:.1f} [{slope['low']:.1f}, {slope['high']:.1f}] kB" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["/nowhere"], "does not exist"), (["--json", "/nowhere/a.json"], "cannot be written")],
)
def test_a_mistake_is_named_before_anything_is_measured(arguments, message):
    with pytest.raises(ValueError, match=message):
        run(*arguments)


def test_what_cannot_be_read_is_left_out(tmp_path):
    folder = write_class(tmp_path, "mp4")
    (tmp_path / "class" / "2.mp4").write_bytes(b"no video")
    assert len(benchmark.readable(folder)) == 2
    for seed in range(2):
        (tmp_path / "class" / f"{seed}.mp4").write_bytes(b"no video")
    with pytest.raises(ValueError, match="no video can be read"):
        benchmark.readable(folder)
