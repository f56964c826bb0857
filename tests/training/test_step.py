import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pst_jax
from configs import common
from pst_jax import sharding
from pst_jax.training import optim
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


def initial_params():
    video = jnp.zeros((1, 8, 28, 28, 3))
    return jax.jit(lambda: MODEL.init(jax.random.key(0), video, train=False)["params"])()


def train(num_devices, batches=BATCHES, groups=PST_GROUPS):
    mesh = sharding.make_mesh(num_devices)
    params = initial_params()
    optimizer = optim.adamw(lambda step: 1e-3, params, groups, clip_norm=1.0)
    state = jax.device_put(TrainState.create(params, optimizer), sharding.replicated(mesh))
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


def test_the_step_is_traced_once(monkeypatch):
    params = initial_params()
    chex.clear_trace_counter()
    # A second trace of the model raises.
    counted = chex.assert_max_traces(n=1)(pst_jax.ops.normalise)
    monkeypatch.setattr("pst_jax.training.step.normalise", counted)
    mesh = sharding.make_mesh(1)
    optimizer = optim.adamw(lambda step: 1e-3, params, PST_GROUPS)
    step = make_train_step(MODEL, optimizer, mesh)
    state = jax.device_put(TrainState.create(params, optimizer), sharding.replicated(mesh))
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
    params = initial_params()
    logits = make_predict(MODEL, mesh)(params, BATCHES[0]["video"])
    expected = jax.jit(lambda p, v: MODEL.apply({"params": p}, v, train=False))(
        params, pst_jax.ops.normalise(BATCHES[0]["video"])
    )
    np.testing.assert_allclose(logits, expected, atol=1e-6)
