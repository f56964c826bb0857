import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import video_files

import pst_jax
from pst_jax.data.clips import load_view
from pst_jax.data.records import Record
from pst_jax.data.transforms import ClipSpec
from pst_jax.evaluation import clips, views

CLIP = ClipSpec(num_frames=8, size_px=16, short_side_px=16, crop="none")


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    paths = [root / f"{i}.mp4" for i in range(4)]
    for i, path in enumerate(paths):
        video_files.write_video(path, video_files.frames_of_noise(12, 16, 24, seed=i))
    return [Record(str(path), 0, path.name) for path in paths]


def predictions(scores, is_read=None):
    scores = np.array(scores, np.float32)
    is_read = np.ones(len(scores), int) if is_read is None else np.array(is_read, int)
    return views.Predictions(scores, np.zeros(len(scores), np.int32), is_read[:, None], ())


def test_the_worst_are_wrong_and_have_least_on_their_label(records):
    found = clips.worst(
        records,
        predictions([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.0, 0.0]], [1, 1, 1, 0]),
        CLIP,
    )
    assert [clip.video_id for clip in found] == ["1.mp4", "2.mp4"]
    assert [clip.predicted for clip in found] == [1, 1]
    assert found[0].label_probability == pytest.approx(0.2)
    assert found[0].predicted_probability == pytest.approx(0.8)
    np.testing.assert_array_equal(found[0].frames, load_view(records[1].path, CLIP))
    assert len(clips.worst(records, predictions([[0, 1]] * 4), CLIP, count=3)) == 3
    assert clips.worst(records, predictions([[1, 0]] * 4), CLIP) == []


def test_the_most_different_are_two_leads_and_where_it_trails():
    mine = predictions([[0.5, 0.5], [0.9, 0.1], [0.8, 0.2], [0.1, 0.9], [1.0, 0.0]])
    other = predictions([[0.5, 0.5], [0.1, 0.9], [0.1, 0.9], [0.9, 0.1], [0.0, 1.0]])
    assert clips.most_different(mine, other) == [4, 1, 3]
    unread = predictions(other.scores, [1, 1, 1, 1, 0])
    assert clips.most_different(mine, unread) == [1, 2, 3]
    assert clips.most_different(predictions([[1, 0]]), predictions([[0, 1]])) == [0]


def test_curves_are_the_labels_probability_by_frame_of_the_same_clip(records):
    model = pst_jax.create_model("pst_testing", 2, depths=(2,), num_heads=(1,))
    video = jnp.zeros((1, 8, 16, 16, 3))
    variables = jax.jit(lambda: model.init(jax.random.key(0), video, train=False))()
    (curve,) = clips.frame_curves(
        {"a": clips.frame_predict(model, variables)}, records, rows=[2], clip=CLIP
    )
    frames = load_view(records[2].path, CLIP)
    np.testing.assert_array_equal(curve.frames, frames)
    assert (curve.video_id, curve.label) == ("2.mp4", 0)
    by_frame = model.apply(
        variables,
        pst_jax.ops.normalise(jnp.asarray(frames[None])),
        train=False,
        method=model.frame_logits,
    )
    expected = scipy.special.softmax(np.asarray(by_frame)[0], axis=-1)[:, 0]
    assert expected.shape == (4,)  # patches of two frames
    np.testing.assert_allclose(curve.curves["a"], expected, atol=1e-6)
