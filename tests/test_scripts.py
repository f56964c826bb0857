"""train.py and eval.py as a person runs them: real processes on real video files."""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from pst_jax import checkpoint
from pst_jax.training.writer import read_metrics

ROOT = pathlib.Path(__file__).parents[1]
SMALL = [
    "--config.model.embed_dim=16",
    "--config.model.depths=(2,)",
    "--config.model.num_heads=(1,)",
    # Everything that draws is on.
    "--config.model.drop_path_rate=0.2",
    "--config.model.head_dropout=0.2",
    "--config.data.motion.train_per_class=4",
    "--config.data.motion.test_per_class=1",
    "--config.train.num_epochs=40.0",
    "--config.train.checkpoint_every_steps=5",
    "--config.train.eval_every_epochs=20",
    "--config.train.log_every_steps=2",
]
NUM_STEPS = 160


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A data set and a compilation cache that the runs share."""
    return tmp_path_factory.mktemp("shared")


def command(script, shared, workdir, *flags, config="configs/motion.py"):
    data = f"--config.data.root={shared / 'motion'}"
    return [
        *(sys.executable, script, "--config", config, "--workdir", str(workdir)),
        *(data, *SMALL, *flags),
    ]


def environment(shared):
    # Plain: one device, default precision, as a user has it.
    kept = {k: v for k, v in os.environ.items() if k not in ("XLA_FLAGS", "GLIBC_TUNABLES")}
    return kept | {
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(shared / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
    }


def run(script, shared, workdir, *flags, **options):
    return subprocess.run(
        command(script, shared, workdir, *flags, **options),
        cwd=ROOT,
        env=environment(shared),
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def unbroken(shared):
    """A run from the first step to the last."""
    workdir = shared / "unbroken"
    result = run("train.py", shared, workdir)
    assert result.returncode == 0, result.stderr
    return workdir, result


def whole_state(workdir):
    """Everything that the last checkpoint holds."""
    with checkpoint.open_manager(workdir) as manager:
        step = manager.latest_step()
        metadata = manager.item_metadata(step)
        params = checkpoint.restore_variables(workdir)[0]["params"]
        optimizer = manager.restore(step)["optimizer"]
        assert set(metadata.keys()) == {"params", "optimizer", "config"}
    return step, params, optimizer


def test_trains_evaluates_and_leaves_everything_behind(shared, unbroken):
    workdir, result = unbroken
    config = json.loads((workdir / "config.json").read_text())
    assert config["model"]["embed_dim"] == 16 and config["fingerprints"]["train"].startswith("64:")
    rows = read_metrics(workdir / "metrics.jsonl")
    last = [row for row in rows if row["split"] == "train"][-1]
    assert last["step"] == NUM_STEPS
    assert {"loss", "top1", "clips_per_s", "data_wait_share", "learning_rate"} <= last.keys()
    assert list((workdir / "tensorboard").iterdir())
    assert f"step {NUM_STEPS} of {NUM_STEPS}: loss" in result.stderr + result.stdout

    result = run("eval.py", shared, workdir, "--views", "1x1")
    assert result.returncode == 0, result.stderr
    report = json.loads((workdir / "report.json").read_text())
    assert report["num_videos"] == 16 and report["num_views"] == 16
    assert report["num_unreadable"] == 0 and report["step"] == NUM_STEPS
    assert 0 <= report["top1"] <= report["top5"] <= 1 and len(report["per_class"]) == 16
    assert {"within_pair", "top1_shuffled", "params", "gflops", "versions"} <= report.keys()
    assert report["ms_per_clip"] > 0 and "within pairs" in result.stdout


def test_reports_one_and_many_views_and_another_run_side_by_side(shared, unbroken):
    workdir, twin = unbroken[0], shared / "twin"
    config = dict(config="configs/motion.py:twin")
    missing = run("eval.py", shared, workdir, "--against", str(twin))
    assert missing.returncode == 1 and "has no report.json" in missing.stderr
    short = "--config.train.num_epochs=0.5"
    assert run("train.py", shared, twin, short, **config).returncode == 0
    assert run("eval.py", shared, twin, short, **config).returncode == 0
    unlike = run("eval.py", shared, workdir, "--views=2x3", f"--against={twin}")
    assert (
        unlike.returncode == 1 and "evaluated with views '1x1', here it is '2x3'" in unlike.stderr
    )
    assert run("eval.py", shared, twin, short, "--views=2x3", **config).returncode == 0
    result = run("eval.py", shared, workdir, "--views=2x3", f"--against={twin}")
    assert result.returncode == 0, result.stderr

    report = json.loads((workdir / "report.json").read_text())
    one, many = report["evaluations"]
    assert (one["views"], one["num_views"]) == ("1x1", 16)
    assert (many["views"], many["num_views"], many["average"]) == ("2x3", 16 * 6, "prob")
    assert report["top1"] == many["top1"] and report["against"] == "twin"
    assert np.array(report["confusion"]).sum(axis=1).tolist() == [1] * 16
    assert np.trace(report["confusion"]) / 16 == report["top1"] == report["top1_unreadable_wrong"]
    config = json.loads((workdir / "config.json").read_text())
    assert report["fingerprint_train"] == config["fingerprints"]["train"]
    assert report["class_names"] == config["class_names"] and len(report["config_hash"]) == 12

    saved = np.load(workdir / "predictions.npz")
    labels, scores = saved["label"], saved["scores"]
    assert scores.shape == (16, 16) and len(set(saved["video_id"].tolist())) == 16
    assert (scores.argmax(axis=1) == labels).mean() == report["top1"]
    page = (workdir / "report.html").read_text()
    for text in ("1 clip × 1 crop", "2 clips × 3 crops", report["config_hash"], "twin"):
        assert text in page

    others = run("eval.py", shared, workdir, f"--against={shared / 'others'}")
    assert others.returncode == 1 and "has no report.json" in others.stderr
    (twin / "config.json").write_text("{")
    damaged = run("eval.py", shared, workdir, "--views=2x3", f"--against={twin}")
    assert damaged.returncode == 1 and "config.json cannot be read" in damaged.stderr
    moved = dict(report, fingerprint="3:00")
    (twin / "report.json").write_text(json.dumps(moved))
    other_videos = run("eval.py", shared, workdir, "--views=2x3", f"--against={twin}")
    assert other_videos.returncode == 1 and "with fingerprint '3:00'" in other_videos.stderr
    elsewhere = run("eval.py", shared, "/proc/none", f"--checkpoint={workdir}")
    assert elsewhere.returncode == 1 and "'/proc/none' cannot be written" in elsewhere.stderr


def test_killed_at_any_time_it_ends_with_the_same_bits(shared, unbroken):
    # The same command twice gives the same bits.
    assert run("train.py", shared, shared / "again").returncode == 0
    expected = whole_state(unbroken[0])
    jax.tree.map(np.testing.assert_array_equal, whole_state(shared / "again"), expected)

    workdir = shared / "killed"
    draw = random.Random(0)
    num_killed = 0
    for attempt in range(5):
        process = subprocess.Popen(
            command("train.py", shared, workdir),
            cwd=ROOT,
            env=environment(shared),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        if attempt == 0:  # while it starts
            time.sleep(draw.uniform(0.5, 3))
        else:  # some time after the first step: in a step, a save or an evaluation
            next((line for line in process.stdout if line.startswith("step ")), None)
            time.sleep(draw.uniform(0, 1.2))
        process.send_signal(signal.SIGKILL)
        num_killed += process.wait() == -signal.SIGKILL
        process.stdout.close()
    assert num_killed >= 3
    result = run("train.py", shared, workdir)
    assert result.returncode == 0, result.stderr
    jax.tree.map(np.testing.assert_array_equal, whole_state(workdir), expected)
    tests = [
        [row for row in read_metrics(w / "metrics.jsonl") if row["split"] == "test"]
        for w in (workdir, unbroken[0])
    ]
    assert tests[0] == tests[1] and len(tests[0]) == 2


def test_ctrl_c_saves_and_the_same_command_goes_on(shared, unbroken):
    workdir = shared / "stopped"
    process = subprocess.Popen(
        command("train.py", shared, workdir, "--config.train.checkpoint_every_steps=1000"),
        cwd=ROOT,
        env=environment(shared),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("step 2 of"):
            process.send_signal(signal.SIGINT)
            break
    rest = process.stdout.read()
    assert process.wait() == 75, rest
    assert "saved; rerun to go on" in rest
    result = run("train.py", shared, workdir)
    assert result.returncode == 0
    assert "continuing after step" in result.stdout + result.stderr
    jax.tree.map(np.testing.assert_array_equal, whole_state(workdir), whole_state(unbroken[0]))


def test_a_finished_run_says_that_nothing_is_left(shared, unbroken):
    result = run("train.py", shared, unbroken[0])
    assert result.returncode == 0
    assert "nothing is left to do" in result.stdout + result.stderr


def test_fine_tunes_from_another_run(shared, unbroken):
    flags = [
        f"--config.init_from={unbroken[0]}",
        "--config.model.num_classes=20",
        "--config.train.num_epochs=0.5",
    ]
    result = run("train.py", shared, shared / "tuned", *flags)
    assert result.returncode == 0, result.stderr
    assert "init_from: new: head/kernel (16, 20)" in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        ("train.py", ["--config.model.embed_dimm=3"], "did you mean 'embed_dim'?"),
        (
            "train.py",
            ["--config.datta.root=x"],
            "--config.datta.root: there is no key 'datta'; did",
        ),
        (
            "train.py",
            ["--config.model.window=(1,2,2)"],
            "no key 'window'; those that can be set are",
        ),
        ("train.py", ["--config.model.embed_dim=many"], "embed_dim"),
        ("train.py", ["--config.model.embed_dim=17"], "holds a run of another config"),
        ("train.py", ["--config.model.bias_keys=last"], "must be one of"),
        ("train.py", ["--config.data.train=nowhere.csv"], "nowhere.csv"),
        ("train.py", ["--config=configs/motionn.py"], "No such file"),
        ("train.py", ["--config=configs/motion.py:twins"], "use 'pst' or 'twin'"),
        ("train.py", ["--workdir="], "--workdir"),
        ("eval.py", ["--views", "4x2"], "views='4x2'"),
        ("eval.py", ["--workdir="], "--workdir is empty"),
        ("eval.py", ["--workdir=/nowhere"], "/nowhere holds no checkpoints"),
        (
            "eval.py",
            ["--views=1x3", "--config.eval.short_side_px=32"],
            "must be config.clip.size_p",
        ),
        ("eval.py", ["--checkpoint", "/nowhere"], "holds no checkpoints"),
        ("eval.py", ["--config.model.embed_dim=32"], "made by another model"),
        ("eval.py", ["--config.model.num_classes=20"], "head/bias is (16,), the model has (20,)"),
        ("train.py", ["--config.model.num_classes=20"], "model.num_classes: 16 there, 20 here"),
        (
            "train.py",
            ["--config.train.batch_size=0"],
            "config.train.batch_size=0 must be an integer",
        ),
        ("eval.py", ["--config.data.test=nowhere.csv"], "nowhere.csv"),
        ("train.py", ["--config.train.batch_size=10000"], "do not fill"),
        ("train.py", ["--config.optim.warmup_epochs=50.0"], "warm-up shorter"),
        ("train.py", ["--config.eval.average=mean"], "config.eval.average='mean'"),
    ],
)
def test_a_mistake_is_one_clear_error(shared, unbroken, script, flags, message):
    result = run(script, shared, unbroken[0], *flags)
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_evaluation_reports_a_broken_video_and_counts_the_others(shared, unbroken, tmp_path):
    shutil.copytree(shared / "motion", tmp_path / "motion")
    broken = min((tmp_path / "motion" / "test").rglob("*.mp4"))
    broken.write_bytes(broken.read_bytes()[:700])
    flags = ("--checkpoint", str(unbroken[0]), f"--config.data.root={tmp_path / 'motion'}")
    result = run("eval.py", shared, tmp_path / "report", *flags)
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert (report["num_videos"], report["num_unreadable"], report["num_views"]) == (16, 1, 15)
    (problem,) = report["unreadable"]
    assert problem.startswith(f"{broken}: is cut off")


def test_weights_of_one_config_are_not_evaluated_as_anothers(shared, unbroken):
    # The twin has parameters of the same shapes.
    result = run("eval.py", shared, unbroken[0], config="configs/motion.py:twin")
    assert result.returncode == 1
    assert "model.shift_stages: [1] there, [] here" in result.stderr


@pytest.mark.parametrize("kind", ["", pytest.param(":twin", marks=pytest.mark.slow)])
def test_the_hard_config_runs_with_smaller_sizes(tmp_path, shared, kind):
    flags = [
        *("--config.data.motion.size_px=56", "--config.clip.size_px=56"),
        *("--config.clip.short_side_px=56", "--config.data.motion.train_per_class=1"),
        *("--config.data.motion.test_per_class=1", "--config.train.batch_size=10"),
        *("--config.train.num_epochs=1.0", "--config.model.embed_dim=16"),
        "--config.optim.warmup_epochs=0.5",
        f"--config.data.root={shared / 'hard'}",
    ]
    command = [sys.executable, "train.py", "--config", f"configs/motion_hard.py{kind}"]
    result = subprocess.run(
        [*command, "--workdir", str(tmp_path), *flags],
        cwd=ROOT,
        env=environment(shared),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    (last,) = (row for row in read_metrics(tmp_path / "metrics.jsonl") if row["split"] == "test")
    assert last["step"] == 2 and (last["within_pair"] == 0.5 or not kind)


@pytest.mark.parametrize("script", ["train.py", "eval.py"])
def test_help_is_for_newcomers(script):
    result = subprocess.run(
        [sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert "configs/motion.py" in result.stdout and "--workdir" in result.stdout
