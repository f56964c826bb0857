import jax
import numpy as np
import pytest
import video_files
from normed import Normed, variables_of

from pst_jax import sharding
from pst_jax.data.records import Record
from pst_jax.data.transforms import ClipSpec
from pst_jax.ops import normalise
from pst_jax.ops.augment import Augmentation, augment
from pst_jax.training import precise_bn

MODEL = Normed()


def batch(seed):
    rng = np.random.default_rng(seed)
    # Batches unlike each other, so that the variance among their means counts.
    video = rng.integers(0, 60 + 60 * seed, (8, 2, 8, 8, 3)).astype(np.uint8)
    return {"video": video, "label": np.zeros(8, np.int32), "mask": np.ones(8, bool)}


def given(variables, data):
    """What each BatchNorm is given in training, as rows of channels, in double precision."""
    seen = MODEL.apply(
        variables, normalise(data["video"]), train=True, mutable=["batch_stats", "seen"]
    )[1]["seen"]
    inputs = {name: seen[f"{name}_input"][0] for name in ("first", "second")}
    return {k: np.asarray(v, np.float64).reshape(-1, v.shape[-1]) for k, v in inputs.items()}


@pytest.mark.parametrize("num_devices", [1, 8])
def test_statistics_are_those_of_all_the_batches_put_together(num_devices):
    mesh, variables = sharding.make_mesh(num_devices), variables_of(MODEL)
    batches = [batch(seed) for seed in range(3)]
    found = precise_bn.measure_all(
        precise_bn.make_measure(MODEL, mesh), variables, batches, mesh, jax.random.key(0)
    )
    assert jax.tree.structure(found) == jax.tree.structure(variables["batch_stats"])
    each = [given(variables, data) for data in batches]
    for name in ("first", "second"):
        rows = np.concatenate([inputs[name] for inputs in each])
        np.testing.assert_allclose(found[name]["mean"], rows.mean(axis=0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found[name]["var"], rows.var(axis=0), rtol=1e-5)


def test_statistics_are_those_of_the_augmented_clips():
    spec = Augmentation(colour_jitter=0.5, erase=0.5, mixup=1.0)
    mesh, variables, key = sharding.make_mesh(1), variables_of(MODEL), jax.random.key(0)
    data = batch(2) | {"position": np.arange(8, dtype=np.int32)}
    found = precise_bn.make_measure(MODEL, mesh, augmentation=spec)(variables, data, key)
    targets = jax.nn.one_hot(data["label"], 3)
    video, _ = jax.jit(lambda v, p: augment(v, targets, p, key, spec, normalise))(
        data["video"], data["position"]
    )
    seen = MODEL.apply(variables, video, train=True, mutable=["batch_stats", "seen"])[1]["seen"]
    rows = np.asarray(seen["first_input"][0]).reshape(-1, 4)
    np.testing.assert_allclose(found["first"]["mean"], rows.mean(axis=0), rtol=1e-4, atol=1e-5)
    plain = given(variables, data)["first"]
    assert np.abs(plain.mean(axis=0) - rows.mean(axis=0)).max() > 1e-3


def test_neither_running_statistics_nor_momentum_matter():
    mesh, variables = sharding.make_mesh(1), variables_of(MODEL)
    measure = precise_bn.make_measure(MODEL, mesh)
    moved = jax.tree.map(lambda leaf: leaf * 7 + 3, variables["batch_stats"])
    key = jax.random.key(0)
    jax.tree.map(
        np.testing.assert_array_equal,
        measure(variables, batch(0), key),
        measure(variables | {"batch_stats": moved}, batch(0), key),
    )


def test_a_mean_far_from_zero_does_not_drown_the_variance():
    of_batch = lambda mean: {"bn": {"mean": np.float32([mean]), "var": np.float32([1e-3])}}  # noqa: E731
    found = precise_bn.average([of_batch(1000.0), of_batch(1000.0)])
    np.testing.assert_allclose(found["bn"]["var"], [1e-3], rtol=1e-5)
    np.testing.assert_allclose(found["bn"]["mean"], [1000.0])


def test_the_stream_is_a_function_of_seed_and_step_alone(tmp_path):
    records = []
    for k in range(6):
        path = tmp_path / f"{k}.mp4"
        video_files.write_video(path, video_files.frames_of_noise(6, 16, 16, seed=k))
        records.append(Record(str(path), 0, path.name))
    spec = ClipSpec(num_frames=2, size_px=8, short_side_px=16, crop="random")

    def videos(num_batches=4, seed=0, step=10):
        found = list(
            precise_bn.stream(
                records, spec, batch_size=4, num_batches=num_batches, seed=seed, step=step
            )
        )
        positions = np.concatenate([data["position"] for data in found])
        np.testing.assert_array_equal(positions, np.arange(4 * num_batches))
        return np.stack([data["video"] for data in found])

    first = videos()
    assert first.shape == (4, 4, 2, 8, 8, 3)  # more than an epoch
    np.testing.assert_array_equal(videos(), first)
    np.testing.assert_array_equal(videos(num_batches=2), first[:2])
    assert (videos(step=11) != first).any() and (videos(seed=1) != first).any()
