import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from normed import Normed, variables_of

import pst_jax
from configs import common
from pst_jax import sharding
from pst_jax.ops import pixels
from pst_jax.ops.augment import Augmentation, augment
from pst_jax.training import optim, precise_bn
from pst_jax.training.state import TrainState
from pst_jax.training.step import make_predict, make_train_step

PST_GROUPS = tuple(optim.Group(*group) for group in common.optim().groups)

MODEL = pst_jax.create_model(
    "pst_testing", 5, depths=(2,), num_heads=(1,), drop_path_rate=0.2, head_dropout=0.3
)
RNG = np.random.default_rng(0)


def batch(size=8):
    return {
        "video": RNG.integers(0, 256, (size, 8, 28, 28, 3), np.uint8),
        "label": RNG.integers(0, 5, size).astype(np.int32),
        "mask": np.ones(size, bool),
    }


BATCHES = [batch() for _ in range(3)]


def initial_variables(model=MODEL):
    video = jnp.zeros((1, 8, 28, 28, 3))
    return jax.jit(lambda: model.init(jax.random.key(0), video, train=False))()


def start(variables, optimizer, mesh):
    copied = jax.tree.map(jnp.copy, variables)  # a step may take their memory
    return jax.device_put(TrainState.create(copied, optimizer), sharding.replicated(mesh))


def train(num_devices, batches=BATCHES, groups=PST_GROUPS):
    mesh = sharding.make_mesh(num_devices)
    variables = initial_variables()
    optimizer = optim.adamw(lambda step: 1e-3, variables["params"], groups, clip_norm=1.0)
    state = start(variables, optimizer, mesh)
    step = make_train_step(MODEL, optimizer, mesh, label_smoothing=0.1, seed=7)
    losses = []
    for data in batches:
        state, sums = step(state, sharding.shard_batch(data, mesh))
        losses.append(float(sums["loss"] / sums["count"]))
    return state, losses


def test_eight_devices_train_as_one_with_dropout_on():
    (one, losses_one), (eight, losses_eight) = train(1), train(8)
    np.testing.assert_allclose(losses_eight, losses_one, rtol=1e-5)
    chex.assert_trees_all_close(one.params, eight.params, atol=2e-5)
    assert int(eight.step) == 3


def test_each_device_holds_its_part_of_the_batch_and_all_parameters():
    mesh = sharding.make_mesh()
    data = sharding.shard_batch(BATCHES[0], mesh)
    assert {s.data.shape for s in data["video"].addressable_shards} == {(1, 8, 28, 28, 3)}
    assert len({s.device for s in data["video"].addressable_shards}) == 8
    state, _ = train(8, BATCHES[:1])
    for leaf in jax.tree.leaves(state.params):
        assert {s.data.shape for s in leaf.addressable_shards} == {leaf.shape}


def test_a_batch_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="multiple of 8"):
        sharding.shard_batch(batch(6), sharding.make_mesh())


def test_the_step_is_traced_once():
    variables = initial_variables()
    chex.clear_trace_counter()
    # A second trace of the model raises.
    counted = chex.assert_max_traces(n=1)(pst_jax.ops.normalise)
    mesh = sharding.make_mesh(1)
    optimizer = optim.adamw(lambda step: 1e-3, variables["params"], PST_GROUPS)
    step = make_train_step(MODEL, optimizer, mesh, normalise=counted)
    state = start(variables, optimizer, mesh)
    for data in BATCHES:
        state, _ = step(state, sharding.shard_batch(data, mesh))
    with pytest.raises(AssertionError, match="traced"):
        step(state, sharding.shard_batch(batch(4), mesh))


def test_the_loss_falls_where_there_is_something_to_learn():
    # The class is the brightness.
    data = batch()
    data["video"] = np.broadcast_to(
        (data["label"] * 60).astype(np.uint8)[:, None, None, None, None], data["video"].shape
    )
    _, losses = train(1, [data] * 40, (optim.Group("", 5.0, 0.0),))
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])


def test_prediction_is_the_model_on_normalised_pixels():
    mesh = sharding.make_mesh()
    variables = initial_variables()
    logits = make_predict(MODEL, mesh)(variables, BATCHES[0]["video"])
    expected = jax.jit(lambda p, v: MODEL.apply(p, v, train=False))(
        variables, pst_jax.ops.normalise(BATCHES[0]["video"])
    )
    np.testing.assert_allclose(logits, expected, atol=1e-6)


def descend(model, variables, data, num_devices, **options):
    """One step down the gradient itself."""
    mesh = sharding.make_mesh(num_devices)
    groups = (optim.Group("", 1.0, 0.0),)
    optimizer = optim.sgd(lambda step: 1.0, variables["params"], groups, momentum=0.0)
    step = make_train_step(model, optimizer, mesh, **options)
    return step(start(variables, optimizer, mesh), sharding.shard_batch(data, mesh))


class Plain(nn.Module):
    """A network without BatchNorm that is quick to compile."""

    dropout: float = 0.0
    num_classes: int = 5

    @nn.compact
    def __call__(self, video, train):
        x = nn.tanh(nn.Dense(6)(video.mean(axis=(2, 3)).reshape(len(video), -1)))
        return nn.Dense(self.num_classes)(nn.Dropout(self.dropout, deterministic=not train)(x))


@pytest.mark.parametrize("num_devices", [1, 8])
def test_four_microbatches_train_as_one_batch(num_devices):
    data, variables = batch(32), initial_variables(Plain())
    data["mask"][[1, 2, 5, 9, 13]] = False  # other shares of each microbatch
    whole, sums_whole = descend(Plain(), variables, data, 1)
    state, sums = descend(Plain(), variables, data, num_devices, accumulate=4)
    chex.assert_trees_all_close(state.params, whole.params, atol=1e-6)
    chex.assert_trees_all_close(sums, sums_whole, rtol=1e-5)
    assert sums["count"] == 27


def test_a_microbatch_of_padding_alone_counts_nothing():
    data, variables = batch(8), initial_variables(Plain())
    data["mask"][1::2] = False
    half = {name: value[::2] for name, value in data.items()}
    state, _ = descend(Plain(), variables, data, 1, accumulate=2)
    chex.assert_trees_all_close(state.params, descend(Plain(), variables, half, 1)[0].params)


def test_microbatches_draw_dropout_of_their_own():
    # Two microbatches of the same clips: with the same draws they would be one.
    model, half = Plain(dropout=0.5), batch(8)
    data = {name: np.repeat(value, 2, axis=0) for name, value in half.items()}
    variables = initial_variables(model)
    twice, _ = descend(model, variables, data, 1, accumulate=2)
    once, _ = descend(model, variables, half, 1)
    assert (twice.params["Dense_1"]["kernel"] != once.params["Dense_1"]["kernel"]).any()


def test_a_batch_that_does_not_divide_into_microbatches_is_refused():
    with pytest.raises(ValueError, match="8 clips .* accumulate=2 .* 8 devices.* multiple of 16"):
        descend(Plain(), initial_variables(Plain()), batch(8), 8, accumulate=2)


AUGMENTED = Augmentation(colour_jitter=0.5, erase=0.5, mixup=0.8, cutmix=1.0)


@pytest.fixture
def quick_to_compile():
    """The draws take XLA seconds to optimise, and a moment to run."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def augmented_batch(size=16):
    return batch(size) | {"position": np.arange(size, dtype=np.int32) + 1000}


def test_eight_devices_augment_as_one_under_accumulation(quick_to_compile):
    data, variables = augmented_batch(), initial_variables(Plain())
    data["mask"][[1, 2, 13]] = False
    options = dict(accumulate=2, augmentation=AUGMENTED, seed=5, label_smoothing=0.1)
    one, sums_one = descend(Plain(), variables, data, 1, **options)
    eight, sums_eight = descend(Plain(), variables, data, 8, **options)
    chex.assert_trees_all_close(eight.params, one.params, atol=1e-6)
    chex.assert_trees_all_close(sums_eight, sums_one, rtol=1e-5)
    assert sums_one["count"] == 13 and jnp.isfinite(sums_one["grad_norm"])


def test_the_loss_is_of_mixed_targets_and_hits_are_by_own_labels(quick_to_compile):
    data, variables = augmented_batch(8), initial_variables(Plain())
    _, sums = descend(Plain(), variables, data, 1, augmentation=AUGMENTED, seed=5)
    own = jax.nn.one_hot(data["label"], 5)
    video, targets = jax.jit(
        lambda *given: augment(*given, jax.random.key(5), AUGMENTED, pixels.normalise)
    )(data["video"], own, data["position"])
    assert (targets != own).any()
    logits = Plain().apply(variables, video, train=True)
    expected = optax.softmax_cross_entropy(logits, targets).sum()
    np.testing.assert_allclose(sums["loss"], expected, rtol=1e-5)
    assert sums["top1"] == (logits.argmax(axis=1) == data["label"]).sum()


def test_augmentation_is_drawn_by_seed_and_position(quick_to_compile):
    data, variables = augmented_batch(8), initial_variables(Plain())
    loss = lambda data, seed: float(  # noqa: E731
        descend(Plain(), variables, data, 1, augmentation=AUGMENTED, seed=seed)[1]["loss"]
    )
    later = data | {"position": data["position"] + 8}
    assert len({loss(data, 5), loss(data, 5), loss(data, 6), loss(later, 5)}) == 3


def test_without_augmentation_a_position_changes_nothing_and_may_lack():
    data, variables = augmented_batch(8), initial_variables(Plain())
    lacking = {name: value for name, value in data.items() if name != "position"}
    states = [descend(Plain(), variables, d, 1, label_smoothing=0.1) for d in (data, lacking)]
    chex.assert_trees_all_equal(*states)


NORMED = Normed(num_classes=5)


def normed_batch(size=16):
    data = batch(size)
    return data | {"video": np.ascontiguousarray(data["video"][:, :2, :8, :8])}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_batch_norm_sees_the_clips_of_all_devices(accumulate):
    variables, data = variables_of(NORMED), normed_batch()
    one, sums_one = descend(NORMED, variables, data, 1, accumulate=accumulate)
    eight, sums_eight = descend(NORMED, variables, data, 8, accumulate=accumulate)
    np.testing.assert_allclose(sums_eight["loss"], sums_one["loss"], rtol=1e-5)
    chex.assert_trees_all_close(eight.batch_stats, one.batch_stats, atol=1e-5)
    chex.assert_trees_all_close(eight.params, one.params, atol=1e-5)


def test_batch_norm_sees_microbatches_in_order():
    variables, data = variables_of(NORMED), normed_batch()
    state, _ = descend(NORMED, variables, data, 1, accumulate=2)
    expected = variables
    for number in range(2):
        video = pst_jax.ops.normalise(data["video"][number::2])
        _, moved = NORMED.apply(expected, video, train=True, mutable=["batch_stats"])
        expected = expected | moved
    chex.assert_trees_all_close(state.batch_stats, expected["batch_stats"], atol=1e-6)
    before = variables["batch_stats"]["first"]["mean"]
    assert (state.batch_stats["first"]["mean"] != before).all()


def test_prediction_uses_the_running_statistics():
    variables, video = variables_of(NORMED), normed_batch(8)["video"]
    moved = jax.tree.map(lambda leaf: leaf + 0.5, variables["batch_stats"])
    predict = make_predict(NORMED, sharding.make_mesh())
    each = [predict(variables | {"batch_stats": stats}, video) for stats in (moved, moved)]
    np.testing.assert_array_equal(*each)
    assert (each[0] != predict(variables, video)).any()


def test_training_prediction_and_statistics_take_pixels_as_told():
    # Half the pixels, by half the statistics, are the same input.
    halved = functools.partial(
        pixels.normalise,
        mean=tuple(value / 2 for value in pixels.IMAGENET_MEAN),
        std=tuple(value / 2 for value in pixels.IMAGENET_STD),
    )
    data, variables, mesh = normed_batch(8), variables_of(NORMED), sharding.make_mesh(1)
    data["video"] -= data["video"] % 2
    half = data | {"video": data["video"] // 2}

    def all_of(data, **options):
        state, _ = descend(NORMED, variables, data, 1, **options)
        logits = make_predict(NORMED, mesh, **options)(variables, data["video"])
        measure = precise_bn.make_measure(NORMED, mesh, **options)
        return state.params, logits, measure(variables, data, jax.random.key(0))

    told, expected, untold = all_of(half, normalise=halved), all_of(data), all_of(half)
    chex.assert_trees_all_close(told, expected, atol=1e-5)
    for wrong, right in zip(untold, expected):
        with pytest.raises(AssertionError):
            chex.assert_trees_all_close(wrong, right, atol=1e-2)
