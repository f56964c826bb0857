import dataclasses

import model_folders
import numpy as np
import pytest
import video_files

import pst_jax
from pst_jax import sharding
from pst_jax.data.frames import VideoError
from pst_jax.data.records import Record
from pst_jax.evaluation import views
from pst_jax.predict.predictor import Predictor
from pst_jax.training.step import make_predict


def make_contents(**changes):
    preprocess = dataclasses.replace(model_folders.PREPROCESS, **changes)
    return model_folders.make(preprocess=preprocess)


@pytest.fixture(scope="module")
def contents():
    return make_contents()


@pytest.fixture(scope="module")
def model(contents):
    return Predictor(contents)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    directory = tmp_path_factory.mktemp("videos")
    return [
        video_files.write_video(
            directory / f"{seed}.mp4", video_files.frames_of_noise(30 + seed, 40, 56, seed)
        )
        for seed in range(3)
    ]


@pytest.mark.parametrize("average", ["prob", "logit", "sum"])
@pytest.mark.parametrize("view", [(1, 1), (2, 3)])
def test_a_prediction_is_what_evaluation_says_of_the_same_views(contents, videos, average, view):
    model = Predictor(make_contents(average=average), batch_size=2)
    found = model(videos, num_clips=view[0], num_crops=view[1])
    mesh = sharding.make_mesh(1)
    expected = views.predict_all(
        make_predict(model.model, mesh),
        contents.variables,
        [Record(path, 0, path) for path in videos],
        model.clip_spec(view[1]),
        mesh,
        batch_size=2,
        num_clips=view[0],
        num_crops=view[1],
        average=average,
    )
    probabilities = np.stack([each.probabilities for each in found])
    np.testing.assert_allclose(probabilities, expected.probabilities, atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


def test_a_file_its_frames_and_a_batch_of_them_give_the_same(model, videos):
    frames = video_files.decode_all(videos[0])
    by_path, by_frames = model(videos[0]), model(frames)
    np.testing.assert_array_equal(by_path.probabilities, by_frames.probabilities)
    both = model(np.stack([frames, frames[::-1]]))
    np.testing.assert_array_equal(both[0].probabilities, by_path.probabilities)
    assert (both[1].probabilities != by_path.probabilities).any()
    mixed = model([videos[0], frames[::-1]])
    np.testing.assert_array_equal(mixed[1].probabilities, both[1].probabilities)


def test_the_likeliest_labels_come_first(model, videos):
    found = model(videos[1])
    top = found.top(3)
    assert [label for label, _ in top] == [
        model_folders.LABELS[n] for n in np.argsort(-found.probabilities)[:3]
    ]
    assert [p for _, p in top] == sorted((p for _, p in top), reverse=True)
    assert len(found.top(99)) == 5


def test_the_views_of_the_folder_hold_where_no_others_are_asked_for(videos):
    model = Predictor(make_contents(num_clips=2, num_crops=3))
    usual, single = model(videos[0]), model(videos[0], num_clips=1, num_crops=1)
    asked = model(videos[0], num_clips=2, num_crops=3)
    np.testing.assert_array_equal(usual.probabilities, asked.probabilities)
    assert (usual.probabilities != single.probabilities).any()


@pytest.mark.parametrize("batch_size", [2, 4, 7])
def test_the_batch_size_changes_nothing(contents, model, videos, batch_size):
    one = model(videos[0], num_clips=2, num_crops=3)
    many = Predictor(contents, batch_size)(videos[0], num_clips=2, num_crops=3)
    np.testing.assert_allclose(many.probabilities, one.probabilities, atol=1e-6)


@pytest.mark.parametrize(
    ("num_clips", "num_crops", "sizes"), [(1, 1, [1]), (1, 3, [3]), (3, 3, [4, 4, 4])]
)
def test_a_batch_is_no_larger_than_the_views(contents, videos, num_clips, num_crops, sizes):
    model, found = Predictor(contents, batch_size=4), []
    run = model._run
    model._run = lambda variables, batch, outputs: (
        found.append(len(batch)) or run(variables, batch, outputs)
    )
    model(videos[0], num_clips=num_clips, num_crops=num_crops)
    assert found == sizes


@pytest.mark.parametrize(
    ("views", "message"),
    [
        (dict(num_clips=0), r"num_clips=0 must be an integer in \[1, 1000\]"),
        (dict(num_clips=1001), "num_clips=1001"),
        (dict(num_clips=2.0), "num_clips=2.0"),
        (dict(num_crops=0), r"num_crops=0 must be 1 \(the middle\) or 3"),
        (dict(num_crops=2), "num_crops=2"),
        (dict(num_crops=3.0), "num_crops=3.0"),
    ],
)
def test_numbers_of_views_that_are_none_are_told(model, views, message):
    with pytest.raises(ValueError, match=message):
        model("none.mp4", **views)


def test_a_batch_size_that_is_none_is_told(contents):
    with pytest.raises(ValueError, match="batch_size=0 must be an integer of at least 1"):
        Predictor(contents, batch_size=0)


def test_a_model_says_what_it_is(model):
    assert repr(model) == "Predictor(pst_testing, 5 classes, 8 frames of 32 px)"


def test_features_are_what_the_classifier_sees_of_each_view(model, videos):
    found = model(videos[0], num_clips=2, num_crops=3, with_features=True)
    assert found.features.shape == (6, 32) and found.features.dtype == np.float32
    head = model.contents.variables["params"]["head"]
    logits = found.features @ head["kernel"] + head["bias"]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.probabilities, probabilities.mean(axis=0), atol=1e-5)
    assert model(videos[0]).features is None


def test_features_and_logits_cost_one_pass(model):
    video = np.zeros((1, 8, 32, 32, 3), np.uint8)
    flops = [
        model._run.lower(model._variables, video, outputs).compile().cost_analysis()["flops"]
        for outputs in (("logits",), ("logits", "frame_features"))
    ]
    assert flops[1] < 1.01 * flops[0]


def test_a_saved_model_predicts_the_same_bits(tmp_path, model, videos):
    model.save(tmp_path / "model")
    again = pst_jax.load(tmp_path / "model")
    np.testing.assert_array_equal(again(videos[2]).probabilities, model(videos[2]).probabilities)
    assert again.contents.labels == model_folders.LABELS


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (np.zeros((8, 32, 32, 3), np.float32), "float32"),
        (np.zeros((32, 32, 3), np.uint8), r"\[32, 32, 3\]"),
        (np.zeros((8, 3, 32, 32), np.uint8), r"\[8, 3, 32, 32\]"),
        (np.zeros((0, 32, 32, 3), np.uint8), "at least one frame"),
        (None, "object"),
    ],
)
def test_what_is_no_video_is_told(model, video, message):
    with pytest.raises(ValueError, match=message):
        model(video)


def test_a_file_that_cannot_be_read_is_told(tmp_path, model):
    (tmp_path / "broken.mp4").write_bytes(b"nothing")
    with pytest.raises(VideoError, match="broken.mp4"):
        model(tmp_path / "broken.mp4")


def test_a_short_and_small_video_is_predicted(model):
    assert model(np.zeros((1, 9, 300, 3), np.uint8)).probabilities.shape == (5,)
