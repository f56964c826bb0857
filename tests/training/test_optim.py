import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

import pst_jax
from configs import common
from pst_jax.evaluation import cost
from pst_jax.training import optim

PST_GROUPS = tuple(optim.Group(*group) for group in common.optim().groups)


def test_groups_hold_the_released_counts():
    # PST-T with 174 classes: tables, head, everything else of the backbone.
    model = pst_jax.create_model("pst_tiny", 174)
    params = cost.abstract_variables(model, 32)["params"]
    labels = traverse_util.flatten_dict(optim.group_labels(params, PST_GROUPS), sep="/")
    sizes = {path: leaf.size for path, leaf in traverse_util.flatten_dict(params, sep="/").items()}
    counts = [sum(sizes[p] for p, label in labels.items() if label == i) for i in range(3)]
    assert counts == [722_982, 133_806, 27_500_640]


def test_a_parameter_without_a_group_is_named():
    with pytest.raises(ValueError, match="head/bias"):
        optim.group_labels({"head": {"bias": 0}, "x": 0}, (optim.Group("x", 1.0, 0.0),))


@pytest.mark.parametrize("steps_per_epoch", [4, 5])
def test_the_released_schedule_step_by_step(steps_per_epoch):
    # The rule as released, replayed: warm-up sets the rate while t < W; regular(e) at each epoch's
    # start and at t == W; otherwise the rate is left alone.
    base, epochs, warmup = 1e-3, 30, 2.5 * steps_per_epoch
    schedule = jax.jit(optim.epoch_cosine(base, epochs, steps_per_epoch))
    rate = None
    for t in range(6 * steps_per_epoch):
        regular = base * 0.5 * (1 + np.cos(np.pi * (t // steps_per_epoch) / epochs))
        if t < warmup:
            rate = regular * (1 - (1 - t / warmup) * 0.9)
        elif t == warmup or t % steps_per_epoch == 0:
            rate = regular
        np.testing.assert_allclose(schedule(t), rate, rtol=1e-5, err_msg=f"step {t}")
    last = schedule(30 * steps_per_epoch - 1) / base
    np.testing.assert_allclose(last, 0.00274, atol=1e-5)


def test_step_cosine_warms_up_and_ends_at_zero():
    schedule = optim.step_cosine(2.0, num_steps=100, warmup_steps=10)
    values = [float(schedule(t)) for t in (0, 5, 10, 55, 100)]
    np.testing.assert_allclose(values, [0, 1, 2, 1, 0], atol=1e-6)


def test_adamw_steps_equal_the_textbook_per_group():
    params = {"head": {"kernel": jnp.array([1.0, -2.0])}, "body": jnp.array([0.5])}
    groups = (optim.Group("^head/", 1.0, 0.1), optim.Group("", 0.1, 0.0))
    optimizer = optim.adamw(lambda step: 0.01, params, groups)
    state = optimizer.init(params)
    moments = {"head": [0, 0], "body": [0, 0]}
    ours = params
    expected = {"head": np.array([1.0, -2.0]), "body": np.array([0.5])}
    for step in range(1, 4):
        gradient = {"head": np.array([0.3, 0.1]) * step, "body": np.array([-0.2])}
        tree = {"head": {"kernel": jnp.asarray(gradient["head"])}, "body": gradient["body"]}
        updates, state = optimizer.update(jax.tree.map(jnp.asarray, tree), state, ours)
        ours = jax.tree.map(jnp.add, ours, updates)
        for name, (rate, decay) in {"head": (0.01, 0.1), "body": (0.001, 0.0)}.items():
            m, v = moments[name]
            m, v = 0.9 * m + 0.1 * gradient[name], 0.999 * v + 0.001 * gradient[name] ** 2
            moments[name] = [m, v]
            adam = m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
            expected[name] = expected[name] - rate * (adam + decay * expected[name])
    np.testing.assert_allclose(ours["head"]["kernel"], expected["head"], rtol=1e-5)
    np.testing.assert_allclose(ours["body"], expected["body"], rtol=1e-5)


def test_clipping_scales_the_whole_gradient():
    # Adam is blind to scale: seen in its first moment.
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    optimizer = optim.adamw(lambda s: 1.0, params, (optim.Group("", 1.0, 0.0),), clip_norm=1.0)
    _, state = optimizer.update(
        {"a": jnp.array([3.0]), "b": jnp.array([4.0])}, optimizer.init(params), params
    )
    moments = sorted(
        float(leaf[0]) for leaf in jax.tree.leaves(state) if getattr(leaf, "shape", ()) == (1,)
    )
    np.testing.assert_allclose(moments[-2:], [0.06, 0.08], rtol=1e-5)


def test_sgd_steps_equal_the_textbook_per_group():
    # PyTorch's: decay joins the gradient, then momentum; the rate is applied last.
    params = {"head": {"kernel": jnp.array([1.0, -2.0])}, "body": jnp.array([0.5])}
    groups = (optim.Group("^head/", 1.0, 0.1), optim.Group("", 0.1, 0.0))
    rates = (0.2, 0.2, 0.02, 0.02)
    optimizer = optim.sgd(lambda step: jnp.array(rates)[step], params, groups, momentum=0.9)
    state, ours = optimizer.init(params), params
    expected = {"head": np.array([1.0, -2.0]), "body": np.array([0.5])}
    buffers = {"head": 0, "body": 0}
    for step, rate in enumerate(rates):
        gradient = {"head": np.array([0.3, 0.1]) * step, "body": np.array([-0.2])}
        tree = {"head": {"kernel": gradient["head"]}, "body": gradient["body"]}
        updates, state = optimizer.update(jax.tree.map(jnp.asarray, tree), state, ours)
        ours = jax.tree.map(jnp.add, ours, updates)
        for name, (scale, decay) in {"head": (1.0, 0.1), "body": (0.1, 0.0)}.items():
            buffers[name] = 0.9 * buffers[name] + gradient[name] + decay * expected[name]
            expected[name] = expected[name] - rate * scale * buffers[name]
    np.testing.assert_allclose(ours["head"]["kernel"], expected["head"], rtol=1e-5)
    np.testing.assert_allclose(ours["body"], expected["body"], rtol=1e-5)


def test_sgd_clips_the_whole_gradient():
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    optimizer = optim.sgd(lambda s: 1.0, params, (optim.Group("", 1.0, 0.0),), clip_norm=1.0)
    gradient = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    np.testing.assert_allclose([updates["a"][0], updates["b"][0]], [-0.6, -0.8], rtol=1e-6)


def test_epoch_steps_fall_with_the_first_step_after_a_milestone():
    schedule = jax.jit(optim.epoch_steps(0.2, (10, 15), 0.1, steps_per_epoch=7))
    values = [float(schedule(step)) for step in (0, 69, 70, 104, 105, 125)]
    np.testing.assert_allclose(values, [0.2, 0.2, 0.02, 0.02, 0.002, 0.002], rtol=1e-6)
    np.testing.assert_allclose(optim.epoch_steps(0.2, (), 0.1, 7)(1000), 0.2, rtol=1e-6)
