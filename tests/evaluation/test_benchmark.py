import json
import os
import pathlib
import subprocess
import sys
import types

import numpy as np
import pytest
from absl import app
from normed import Normed

from pst_jax.evaluation import benchmark
from pst_jax.evaluation.benchmark import Ratio
from pst_jax.models.schedules import without_shifts
from pst_jax.models.variants import create_model

ROOT = pathlib.Path(__file__).parents[2]
SMALL = "pst_testing:depths=(2,),num_heads=(1,)"


def command(*arguments):
    # Quick to compile, and not started anew for huge pages.
    flags = {"XLA_FLAGS": "--xla_backend_optimization_level=0", "GLIBC_TUNABLES": ""}
    line = [sys.executable, "-m", "pst_jax.evaluation.benchmark", *arguments]
    return subprocess.run(line, cwd=ROOT, env=os.environ | flags, capture_output=True, text=True)


def fixed(name, seconds, **analysis):
    figures = dict.fromkeys(("bytes", "flops", "temp_bytes", "peak_bytes"), 1.0)
    return benchmark.Program(name, lambda: seconds, figures | analysis)


def test_equal_times_have_the_ratio_one():
    seconds = np.random.default_rng(0).uniform(1, 2, 20)
    assert benchmark.paired_ratio(seconds, seconds) == Ratio(1.0, 1.0, 1.0)


def test_doubled_times_have_the_ratio_two_and_an_interval_around_it():
    rng = np.random.default_rng(0)
    drift = np.linspace(1, 5, 200)  # common to a round, and gone from its ratio
    a, b = (drift * rng.lognormal(np.log(times), 0.05, 200) for times in (2.0, 1.0))
    ratio = benchmark.paired_ratio(a, b)
    assert 1.95 < ratio.low < 2.0 < ratio.high < 2.05
    assert ratio.low < ratio.median == np.median(a / b) < ratio.high
    assert ratio == benchmark.paired_ratio(a, b), "the bootstrap is seeded"


def test_a_round_runs_everything_once_in_an_order_of_its_own():
    calls = []
    runs = [lambda i=i: calls.append(i) for i in range(4)]

    def orders(seed):
        calls.clear()
        benchmark.interleave(runs, 8, seed)
        return [tuple(calls[i : i + 4]) for i in range(4, len(calls), 4)]  # after the untimed one

    assert all(sorted(order) == [0, 1, 2, 3] for order in orders(0))
    assert len(orders(0)) == 8 and len(set(orders(0))) > 4
    assert orders(0) == orders(0) != orders(1)


def test_each_run_gets_its_own_seconds():
    now = [0.0]

    def run_for(seconds):
        def run():
            now[0] += seconds

        return run

    runs = [run_for(seconds) for seconds in (1.0, 2.0, 4.0)]
    seconds = benchmark.interleave(runs, 5, clock=lambda: now[0])
    np.testing.assert_array_equal(seconds, [[1.0, 2.0, 4.0]] * 5)


def test_the_untimed_run_does_not_count(monkeypatch):
    durations = iter([100.0, 1.0, 2.0, 9.0])
    now = [0.0]
    monkeypatch.setattr(benchmark.interleave, "__defaults__", (0, lambda: now[0]))

    def run():
        now[0] += next(durations)

    assert benchmark.median_seconds(run, 3) == 2.0


@pytest.mark.parametrize(
    "low,high,words",
    [
        (0.99, 1.01, "lies within"),
        (0.98, 1.02, "lies within"),
        (1.03, 1.1, "lies above"),
        (0.9, 0.97, "lies below"),
        (1.0, 1.1, "overlaps"),
        (0.9, 1.1, "overlaps"),
    ],
)
def test_says_where_the_interval_lies(low, high, words):
    assert benchmark.position(Ratio(1.0, low, high), Ratio(1.0, 0.98, 1.02)) == words


def test_a_comparison_times_both_programs_equally_often_and_takes_each_ratio(monkeypatch):
    def interleave(runs, rounds, seed=0):
        return np.array([[run() * (1 + 0.5 * (i > 1)) for i, run in enumerate(runs)]] * rounds)

    monkeypatch.setattr(benchmark, "interleave", interleave)
    figures = benchmark.compare(fixed("a", 3.0, bytes=6.0), fixed("b", 2.0, temp_bytes=0), 4)
    assert figures["ratio"]["seconds"] == Ratio(1.5, 1.5, 1.5)._asdict()
    for noise in figures["noise"].values():
        assert noise["median"] == pytest.approx(1 / 1.5)
    assert (figures["model"]["seconds"], figures["against"]["seconds"]) == (3.75, 2.5)
    assert figures["ratio"]["bytes"] == 6.0 and figures["ratio"]["temp_bytes"] is None
    assert figures["position"] == "lies above"
    lines = benchmark.as_text(figures).splitlines()
    assert "1.500 [1.500, 1.500]" in lines[2] and lines[5].endswith("| -                    |")
    assert lines[-1] == "The ratio's interval lies above that of a to itself."


def test_a_program_beside_itself_has_the_ratio_one():
    program = fixed("a", 3.0, bytes=6.0)
    program_ratio = benchmark.compare(program, program, 2)["ratio"]
    assert program_ratio["bytes"] == program_ratio["flops"] == 1.0


def test_models_are_named_with_overrides():
    spec = (
        "pst_testing:pattern=A,window=(2,7,7), bias_keys='own',shift_back=false,drop_path_rate=.1"
    )
    model = benchmark.parse_model(spec, 4, "bfloat16")
    assert (model.window, model.bias_keys, model.drop_path_rate) == ((2, 7, 7), "own", 0.1)
    ((_, (mixer,)), _) = model.mixers
    assert len(mixer.pattern) == 2 and not mixer.shift_back
    assert model.num_frames == 4 and model.dtype == "bfloat16"
    assert benchmark.parse_model("pst_testing:dtype=float32", dtype="bfloat16").dtype == "float32"


@pytest.mark.parametrize(
    "spec,message",
    [
        ("pst_testin", "did you mean 'pst_testing'"),
        ("pst_testing:", "NAME:key=value"),
        ("pst_testing:A", "NAME:key=value"),
        ("pst_testing:patern=A", "did you mean 'pattern'"),
        ("pst_testing:num_frames=4", "use --frames"),
        ("pst_testing:depths=3", "depths=3"),
        ("pst_testing:name=3", "NAME:key=value"),
        ("pst_testing:dtype=float33", "float33"),
        ("pst_testing:window=7", "window=7"),
    ],
)
def test_a_name_that_cannot_be_read_is_explained(spec, message):
    with pytest.raises(ValueError, match=message):
        benchmark.parse_model(spec)


def test_the_command_measures_inference_and_training(tmp_path):
    joint = SMALL + ",window=(2,7,7),bias_keys=own"
    figures = {}
    for mode, against in (("forward", ()), ("train", ("--against", joint))):
        path = tmp_path / f"{mode}.json"
        options = ("--size", "32", "--frames", "4", "--batch", "2", "--rounds", "3")
        result = command(SMALL, *against, "--mode", mode, *options, "--json", path)
        assert result.returncode == 0, result.stderr
        assert f"that of {SMALL} to itself." in result.stdout and "device cpu" in result.stdout
        figures[mode] = json.loads(path.read_text())
        settings = [figures[mode][key] for key in ("mode", "batch", "frames", "size", "rounds")]
        assert settings == [mode, 2, 4, 32, 3]
        seconds = figures[mode]["ratio"]["seconds"]
        assert 0 < seconds["low"] <= seconds["median"] <= seconds["high"]
    forward, train = (figures[mode]["model"] for mode in ("forward", "train"))
    assert figures["forward"]["against"]["name"] == "without shifts"
    assert figures["forward"]["ratio"]["flops"] == pytest.approx(1, rel=0.01)
    assert figures["forward"]["ratio"]["bytes"] == pytest.approx(1, rel=0.1)
    assert figures["train"]["against"]["name"] == joint
    assert figures["train"]["ratio"]["flops"] < 0.95
    assert 2.5 < train["flops"] / forward["flops"] < 4
    video_bytes = 2 * 4 * 32 * 32 * 3
    assert forward["peak_bytes"] > forward["temp_bytes"] + video_bytes
    assert train["peak_bytes"] > 2 * forward["peak_bytes"]


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "bar"), [("forward", 1.0), ("train", 1.02)])
def test_shifts_cost_no_bytes(mode, bar):
    model = create_model("pst_tiny")
    still = model.clone(mixers=without_shifts(model.mixers))
    moved, unmoved = (benchmark.MODES[mode]("", m).analysis["bytes"] for m in (model, still))
    # The bar has two digits; forward, the indices of the bias are 6 kB in 6 GB more.
    assert moved / unmoved <= bar + 1e-5


@pytest.mark.parametrize("mode", benchmark.MODES)
def test_a_model_with_batch_norm_runs(mode):
    program = benchmark.MODES[mode]("normed", Normed(), batch=2, size_px=8)
    for _ in range(2):
        program.run()
    assert program.analysis["flops"] > 0


def test_a_mistake_is_one_line():
    result = command("pst_testin")
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert "error: model 'pst_testin' is unknown; did you mean 'pst_testing'?" in result.stderr


def test_a_model_that_moves_nothing_needs_another_to_compare_with():
    options = types.SimpleNamespace(frames=None, dtype="float32", against=None)
    with pytest.raises(ValueError, match="swin2d_tiny has no shifts to switch off: .* --against"):
        benchmark.measure("swin2d_tiny", options)
    with pytest.raises(app.UsageError, match="Name one model"):
        benchmark.main(["benchmark"])
