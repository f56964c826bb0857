import numpy as np
import pytest
import scipy.special
import video_files

from pst_jax import sharding
from pst_jax.data.index import Record
from pst_jax.data.transforms import ClipSpec
from pst_jax.evaluation import views

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


def predict(params, video):
    """Three logits that depend on the pixels, without a network."""
    level = np.asarray(video, np.float32).mean(axis=(1, 2, 3, 4)) / 255
    return np.stack([level, 1 - level, level * 0 + 0.5], axis=1) * params


@pytest.mark.parametrize("num_devices", [1, 8])
def test_each_view_counts_once_and_the_ragged_batch_is_padded(records, num_devices):
    result = views.predict_all(
        predict,
        3.0,
        records,
        CLIP,
        sharding.make_mesh(num_devices),
        batch_size=8,
        num_clips=2,
        num_crops=3,
    )
    np.testing.assert_array_equal(result.is_read, [True, True, False, True, True, True])
    assert result.num_views == 5 * 6
    (problem,) = result.problems
    assert "broken.mp4" in problem
    # All views of a still video are equal, so that their mean is the view.
    level = np.array([20, 60, 0, 100, 140, 180]) / 255
    logits = np.stack([level, 1 - level, np.full(6, 0.5)], axis=1) * 3
    expected = scipy.special.softmax(logits, axis=1) * result.is_read[:, None]
    np.testing.assert_allclose(result.scores, expected, atol=0.02)


def test_averages_by_name(records):
    def run(average):
        mesh = sharding.make_mesh(1)
        options = dict(batch_size=4, num_clips=3, average=average)
        return views.predict_all(predict, 3.0, records[:2], CLIP, mesh, **options).scores

    np.testing.assert_allclose(run("sum"), 3 * run("logit"), rtol=1e-6)
    np.testing.assert_allclose(run("prob").sum(axis=1), 1, rtol=1e-6)
    with pytest.raises(ValueError, match="average='mean'"):
        run("mean")


def predictions(scores, labels, is_read=None):
    return views.Predictions(
        scores=np.array(scores, np.float32),
        labels=np.array(labels),
        is_read=np.ones(len(labels), bool) if is_read is None else np.array(is_read),
        num_views=len(labels),
        problems=(),
        seconds_per_clip=0.0,
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
