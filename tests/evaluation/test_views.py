import dataclasses
import json
import os
import pathlib
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import video_files

from pst_jax import sharding
from pst_jax.data import clips
from pst_jax.data.frames import VideoError
from pst_jax.data.records import Record
from pst_jax.data.transforms import ClipSpec
from pst_jax.evaluation import views

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
CLIP = ClipSpec(num_frames=4, size_px=16, short_side_px=16, crop="none", sampling="dense")


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Five videos of different brightness, and one that is none."""
    root = tmp_path_factory.mktemp("videos")
    made = []
    for i in range(5):
        path = root / f"{i}.mp4"
        video_files.write_video(path, np.full((12, 16, 24, 3), 40 * i + 20, np.uint8))
        made.append(Record(str(path), i % 3, path.name))
    (root / "broken.mp4").write_text("no video")
    return [*made[:2], Record(str(root / "broken.mp4"), 1, "broken.mp4"), *made[2:]]


def make_predict(mesh):
    """Three logits that depend on the pixels, without a network."""

    def predict(variables, video):
        level = video.astype(jnp.float32).mean(axis=(1, 2, 3, 4)) / 255
        return jnp.stack([level, 1 - level, level * 0 + 0.5], axis=1) * variables

    return jax.jit(predict, out_shardings=sharding.over_batch(mesh))


def expected_scores():
    """Of `records`: all views of a still video are equal, so that their mean is the view."""
    level = np.array([20, 60, 0, 100, 140, 180]) / 255
    logits = np.stack([level, 1 - level, np.full(6, 0.5)], axis=1) * 3
    return scipy.special.softmax(logits, axis=1) * IS_READ[:, None]


IS_READ = np.array([True, True, False, True, True, True])


@pytest.mark.parametrize("num_devices", [1, 8])
def test_each_view_counts_once_and_the_ragged_batch_is_padded(records, num_devices):
    mesh = sharding.make_mesh(num_devices)
    options = dict(batch_size=8, num_clips=2, num_crops=3)
    result = views.predict_all(make_predict(mesh), 3.0, records, CLIP, mesh, **options)
    np.testing.assert_array_equal(result.seen, np.broadcast_to(IS_READ[:, None], (6, 6)))
    assert result.num_views == 5 * 6
    (problem,) = result.problems
    assert "broken.mp4" in problem
    np.testing.assert_allclose(result.scores, expected_scores(), atol=0.02)


@pytest.mark.parametrize("host_count", [2, 5, 10])
def test_padded_hosts_add_up_to_one(records, host_count):
    # Views of a video lie on two hosts; the last of ten hosts has padding alone.
    mesh = sharding.make_mesh(4)
    predict = make_predict(mesh)
    options = dict(average="prob", batch_size=4, num_clips=2, num_crops=3)
    hosts = [
        views.sum_views(
            predict, 3.0, records, CLIP, mesh, host_index=host, host_count=host_count, **options
        )
        for host in range(host_count)
    ]
    assert any(((0 < host.seen.sum(axis=1)) & (host.seen.sum(axis=1) < 6)).any() for host in hosts)
    assert (hosts[-1].seen == 0).all() == (host_count == 10)
    result = views.combine(hosts, records, "prob")
    np.testing.assert_array_equal(result.seen, np.broadcast_to(IS_READ[:, None], (6, 6)))
    (problem,) = result.problems
    assert "broken.mp4" in problem
    np.testing.assert_allclose(result.scores, expected_scores(), atol=0.02)


def test_two_processes_evaluate_as_one(records):
    """Real processes over loopback, two devices each; the views of some videos lie on both."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    environment |= {"JAX_PLATFORMS": "cpu", "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
    environment["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"
    paths = json.dumps([(r.path, r.label, r.video_id) for r in records])
    command = [sys.executable, str(HERE / "two_processes.py"), str(port), paths]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    processes = [
        subprocess.Popen([*command, str(index)], env=environment, **pipes) for index in range(2)
    ]
    try:
        outputs = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], outputs
    answers = [out.splitlines()[-1] for out, _ in outputs]
    assert answers[0] == answers[1]
    found = json.loads(answers[0])
    assert found["devices"] == 4
    np.testing.assert_array_equal(found["seen"], np.broadcast_to(IS_READ[:, None], (6, 6)))
    (problem,) = found["problems"]
    assert "broken.mp4" in problem
    mesh = sharding.make_mesh(1)
    options = dict(batch_size=4, num_clips=2, num_crops=3)
    alone = views.predict_all(make_predict(mesh), 3.0, records, CLIP, mesh, **options)
    np.testing.assert_allclose(found["scores"], alone.scores, atol=1e-6)


def test_a_video_counts_as_read_only_where_all_its_views_are(records, monkeypatch):
    load_view = clips.load_view

    def load(record, spec, view, *sizes):
        if record.path.endswith("3.mp4") and view == 1:
            raise VideoError(record.path, "is damaged in the middle")
        return load_view(record, spec, view, *sizes)

    monkeypatch.setattr(clips, "load_view", load)
    mesh = sharding.make_mesh(1)
    options = dict(batch_size=4, num_clips=2)
    result = views.predict_all(make_predict(mesh), 3.0, records, CLIP, mesh, **options)
    np.testing.assert_array_equal(result.is_read, [True, True, False, True, False, True])
    assert result.num_views == 9 and len(result.problems) == 2


def test_averages_by_name(records):
    def run(average):
        mesh = sharding.make_mesh(1)
        options = dict(batch_size=4, num_clips=3, average=average)
        return views.predict_all(make_predict(mesh), 3.0, records[:2], CLIP, mesh, **options).scores

    np.testing.assert_allclose(run("sum"), 3 * run("logit"), rtol=1e-6)
    np.testing.assert_allclose(run("prob").sum(axis=1), 1, rtol=1e-6)
    with pytest.raises(ValueError, match="average='mean'"):
        run("mean")


def predictions(scores, labels, is_read=None):
    return views.Predictions(
        scores=np.array(scores, np.float32),
        labels=np.array(labels),
        seen=np.ones((len(labels), 1), int) if is_read is None else np.array(is_read)[:, None],
        problems=(),
    )


def test_accuracies_by_hand():
    scores = [[3, 2, 1, 0], [3, 2, 1, 0], [0, 0, 2, 1], [0, 0, 1, 2], [9, 9, 9, 9]]
    found = views.accuracy(
        predictions(scores, [0, 1, 2, 2, 0], [True, True, True, True, False]), True
    )
    assert found["top1"] == 0.5 and found["top5"] == 1.0
    assert found["per_class"] == [1.0, 0.0, 0.5, None]
    assert found["mean_class"] == 0.5
    assert found["within_pair"] == 0.5


def test_a_model_blind_to_order_is_at_half_within_pairs_even_where_scores_tie():
    scores = [[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 5, 4], [0, 0, 5, 4]]
    assert views.accuracy(predictions(scores, [0, 1, 2, 3]), True)["within_pair"] == 0.5


def test_no_video_at_all_is_zero_and_no_crash():
    found = views.accuracy(predictions([[1, 2]], [0], [False]))
    assert found["top1"] == 0.0 and found["per_class"] == [None, None]


def test_confusion_counts_what_could_be_read_by_label_and_prediction():
    scores = [[3, 2, 1], [0, 2, 1], [0, 0, 2], [9, 0, 0]]
    found = views.confusion(predictions(scores, [0, 0, 2, 1], [True, True, True, False]))
    np.testing.assert_array_equal(found, [[1, 1, 0], [0, 0, 0], [0, 0, 1]])


def test_probabilities_are_the_scores_or_their_softmax():
    logits = predictions([[1, 2, 4]], [0])
    np.testing.assert_array_equal(logits.probabilities, logits.scores)
    summed = dataclasses.replace(logits, average="sum")
    np.testing.assert_allclose(summed.probabilities, scipy.special.softmax([[1, 2, 4]], axis=1))
