"""Runs with bad data, where no work is lost; and runs of a model with BatchNorm."""

import shutil

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache
from normed import Normed
from video_files import frames_of_noise, write_video

from configs import videos
from pst_jax import checkpoint, experiment, sharding
from pst_jax.training import loop, precise_bn
from pst_jax.training.writer import read_metrics

NUM_STEPS = 6  # two epochs of 24 videos


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """24 videos in two classes, two of them broken, and lists of tests with and without one."""
    root = tmp_path_factory.mktemp("videos")
    lines = []
    for k in range(24):
        write_video(root / f"{k}.mp4", frames_of_noise(6, 28, 28, seed=k))
        lines.append(f"{k}.mp4,{k % 2}\n")
    (root / "5.mp4").unlink()
    (root / "11.mp4").write_bytes((root / "11.mp4").read_bytes()[:900])
    (root / "train.csv").write_text("".join(lines))
    (root / "test.csv").write_text("".join(lines[:8]))
    (root / "gone.csv").write_text("5.mp4,1\n11.mp4,1\n")
    return root


@pytest.fixture(scope="module", autouse=True)
def compiled_once(tmp_path_factory):
    """The runs share what they compile; later tests do not."""

    def use(folder, seconds):
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)
        compilation_cache.reset_cache()

    before = (
        jax.config.jax_compilation_cache_dir,
        jax.config.jax_persistent_cache_min_compile_time_secs,
    )
    use(str(tmp_path_factory.mktemp("cache")), 0)
    yield
    use(*before)


def train(root, workdir, **changes):
    config = videos.get_config()
    config.model.update(name="pst_testing", num_classes=2, num_frames=4)
    config.model.update(embed_dim=8, depths=(1,), num_heads=(1,))
    config.clip.update(num_frames=4, size_px=28, short_side_px=28, sampling="uniform")
    config.train.update(batch_size=8, num_epochs=2.0, log_every_steps=1, eval_every_epochs=0)
    config.train.checkpoint_every_steps = 2
    config.optim.warmup_epochs = 0.0
    config.data.update(root=str(root), max_unreadable_share=0.1)
    config.eval.update(batch_size=8, views="1x1")
    config.update_from_flattened_dict(changes)
    return loop.train(config, workdir)


def saved(workdir):
    variables, step = checkpoint.restore_variables(workdir)
    return step, jax.tree.map(np.asarray, variables)


@pytest.fixture(scope="module")
def run(root, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    assert train(root, workdir) == loop.DONE
    return workdir


def test_broken_videos_are_listed_with_step_and_reason_and_counted(root, run):
    lines = (run / "unreadable.txt").read_text().splitlines()
    for name, reason in (("5.mp4", "does not exist"), ("11.mp4", "is cut off")):
        mine = [line.split(": ", 1) for line in lines if f"{root / name}: {reason}" in line]
        steps = [int(step.removeprefix("step ")) for step, _ in mine]
        assert len(steps) == 2 and 1 <= steps[0] <= 3 < steps[1] <= 6  # once in each epoch
    assert len(lines) == 4
    counts = [row["num_replaced"] for row in read_metrics(run / "metrics.jsonl") if "loss" in row]
    assert counts == [
        sum(int(line.split(":")[0].removeprefix("step ")) <= step for line in lines)
        for step in range(1, NUM_STEPS + 1)
    ]


def test_replacing_is_deterministic_and_resuming_lists_nothing_twice(root, run, tmp_path, capsys):
    shutil.copytree(run, tmp_path / "resumed")
    for step in (4, 6):
        shutil.rmtree(tmp_path / "resumed" / checkpoint.DIRECTORY / str(step), ignore_errors=True)
    with (tmp_path / "resumed" / "unreadable.txt").open("a") as file:
        file.write("step 7")  # cut short by a kill
    shutil.copytree(run, tmp_path / "second")
    shutil.rmtree(tmp_path / "second" / checkpoint.DIRECTORY)
    for workdir in (tmp_path / "resumed", tmp_path / "second"):
        assert train(root, workdir) == loop.DONE
        jax.tree.map(np.testing.assert_array_equal, saved(workdir), saved(run))
        text = (workdir / "unreadable.txt").read_text()
        assert text == (run / "unreadable.txt").read_text()
        shown = capsys.readouterr().out
        assert f"4 clips replaced, see {workdir / 'unreadable.txt'}" in shown
        assert f"1 of 8 test videos could not be read; the first: {root / '5.mp4'}: does" in shown


def test_too_many_stop_the_run_after_saving_and_it_goes_on_once_allowed(root, run, tmp_path):
    lines = (run / "unreadable.txt").read_text().splitlines()
    stops_at = int(lines[2].split(":")[0].removeprefix("step "))
    message = rf"of {stops_at * 8} clips could not be read.*max_unreadable_share=0.05: mend .*again"
    few = {"data.max_unreadable_share": 0.05, "train.checkpoint_every_steps": 100}  # 2.4 of 48
    for _ in range(2):  # again, where nothing was mended
        with pytest.raises(ValueError, match=message):
            train(root, tmp_path, **few)
        assert saved(tmp_path)[0] == stops_at - 1
    assert train(root, tmp_path) == loop.DONE
    jax.tree.map(np.testing.assert_array_equal, saved(tmp_path), saved(run))


def test_the_first_stops_the_run_where_none_is_allowed(root, tmp_path):
    with pytest.raises(ValueError, match=r"(1|2) of \d+ clips .*max_unreadable_share=0.0"):
        train(root, tmp_path, **{"data.max_unreadable_share": 0.0})


def test_evaluation_reports_what_it_cannot_read_and_never_replaces_it(run):
    (row,) = (row for row in read_metrics(run / "metrics.jsonl") if row["split"] == "test")
    assert row["num_unreadable"] == 1
    assert row["top1"] * 7 == pytest.approx(round(row["top1"] * 7))  # of the seven others


def test_no_step_is_lost_where_no_test_video_can_be_read(root, tmp_path):
    with pytest.raises(ValueError, match="none of 2 videos could be read.*does not exist"):
        train(root, tmp_path, **{"data.test": "gone.csv"})
    assert saved(tmp_path)[0] == NUM_STEPS


def test_a_run_that_could_not_start_does_not_claim_its_folder(root, run, tmp_path):
    (tmp_path / "weights.npz").write_text("none")
    with pytest.raises(ValueError, match="weights.npz': .*no file of weights"):
        train(root, tmp_path, init_from=str(tmp_path / "weights.npz"))
    assert train(root, tmp_path, init_from=str(run)) == loop.DONE
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config.json is damaged.*another --workdir"):
        train(root, tmp_path, init_from=str(run))


PRECISE = {
    "model.num_frames": 4,
    "train.batch_size": 16,
    "train.accumulate": 2,
    "train.num_epochs": 3.0,  # of one step each
    "train.precise_bn_batches": 2,
}


@pytest.fixture
def normed(monkeypatch):
    model = Normed(num_frames=4, num_classes=2)
    monkeypatch.setattr(experiment, "build_model", lambda config: model)
    return model


def test_precise_statistics_are_saved_and_the_same_after_resuming(root, tmp_path, normed):
    assert train(root, tmp_path / "whole", **PRECISE) == loop.DONE
    shutil.copytree(tmp_path / "whole", tmp_path / "resumed")
    shutil.rmtree(tmp_path / "resumed" / checkpoint.DIRECTORY / "3")
    assert saved(tmp_path / "resumed")[0] == 2
    assert train(root, tmp_path / "resumed", **PRECISE) == loop.DONE
    jax.tree.map(
        np.testing.assert_array_equal, saved(tmp_path / "resumed"), saved(tmp_path / "whole")
    )
    # They are those of the final parameters, over microbatches of the stream of that step.
    config = videos.get_config()
    config.model.update(num_classes=2)
    config.clip.update(num_frames=4, size_px=28, short_side_px=28, sampling="uniform")
    config.model.num_frames, config.data.root = 4, str(root)
    built, (step, variables) = experiment.build(config), saved(tmp_path / "whole")
    batches = precise_bn.stream(
        built.train_records, built.clip, batch_size=8, num_batches=2, seed=config.seed, step=step
    )
    mesh = sharding.make_mesh()
    measure = precise_bn.make_measure(normed, mesh)
    expected = precise_bn.measure_all(measure, variables, batches, mesh, jax.random.key(0))
    jax.tree.map(np.testing.assert_allclose, variables["batch_stats"], expected)


def test_precise_statistics_of_a_model_without_any_are_refused(root, tmp_path):
    message = "config.train.precise_bn_batches=2: pst_testing has no BatchNorm .* set it to 0"
    with pytest.raises(ValueError, match=message):
        train(root, tmp_path, **{"train.precise_bn_batches": 2})
    assert not (tmp_path / "config.json").exists()


def test_microbatches_must_divide_over_the_devices(root, tmp_path):
    with pytest.raises(ValueError, match="batch_size=8 .*accumulate=2 times the 8 devices, 16"):
        train(root, tmp_path, **{"train.accumulate": 2})
