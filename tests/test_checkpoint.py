import os
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import common
from pst_jax import checkpoint, sharding
from pst_jax.training import optim
from pst_jax.training.state import TrainState

PST_GROUPS = tuple(optim.Group(*group) for group in common.optim().groups)


def make_state(width=3, value=1.0, batch_stats=None):
    params = {"head": {"kernel": jnp.full((2, width), value), "bias": jnp.zeros(width)}}
    optimizer = optim.adamw(lambda step: 1e-3, params, PST_GROUPS)
    variables = {"params": params} | ({"batch_stats": batch_stats} if batch_stats else {})
    state = TrainState.create(variables, optimizer)
    return state.replace(step=jnp.int32(7))


def statistics(width=3, value=1.0):
    return {"bn": {"mean": jnp.full(width, value), "var": jnp.ones(width)}}


@pytest.mark.parametrize("value", [None, 1 / 7])
def test_a_state_comes_back_bit_for_bit_on_any_number_of_devices(tmp_path, value):
    state = make_state(value=1 / 3, batch_stats=value and statistics(value=value))
    fresh = make_state(batch_stats=value and statistics())
    with checkpoint.open_manager(tmp_path) as manager:
        checkpoint.save(manager, state, {"seed": 0})
        checkpoint.save(manager, state, {"seed": 0})  # the same step again: nothing to do
        for devices in (1, 8):
            everywhere = sharding.replicated(sharding.make_mesh(devices))
            restored = checkpoint.restore(manager, fresh, everywhere)
            jax.tree.map(np.testing.assert_array_equal, restored, state)
            assert restored.params["head"]["bias"].sharding == everywhere
        items = {"params", "optimizer", "config"} | ({"batch_stats"} if value else set())
        assert set(manager.item_metadata(7).keys()) == items
    for expected in (None, fresh.variables):
        variables, step = checkpoint.restore_variables(tmp_path, expected)
        jax.tree.map(np.testing.assert_array_equal, variables, state.variables)
        assert step == 7


def test_only_the_newest_are_kept(tmp_path):
    with checkpoint.open_manager(tmp_path, keep=2) as manager:
        for step in (1, 2, 3):
            checkpoint.save(manager, make_state().replace(step=jnp.int32(step)), {})
        assert manager.all_steps() == [2, 3]


def test_another_models_checkpoint_is_refused_by_name(tmp_path):
    with checkpoint.open_manager(tmp_path) as manager:
        checkpoint.save(manager, make_state(width=3), {})
        with pytest.raises(ValueError, match=r"head/bias is \(3,\), the model has \(4,\)"):
            checkpoint.restore(
                manager, make_state(width=4), sharding.replicated(sharding.make_mesh(1))
            )
    with pytest.raises(ValueError, match="missing: tail"):
        params = {**make_state().params, "tail": jnp.zeros(1)}
        checkpoint.restore_variables(tmp_path, {"params": params})


def test_another_models_statistics_are_refused_by_name(tmp_path):
    everywhere = sharding.replicated(sharding.make_mesh(1))
    cases = (
        (None, statistics(), r"missing: batch_stats/bn/mean \(3,\)"),
        (statistics(), None, r"unknown: batch_stats/bn/mean \(3,\)"),
        (statistics(), statistics(4), r"batch_stats/bn/var is \(3,\), the model has \(4,\)"),
    )
    for number, (saved, wanted, message) in enumerate(cases):
        with checkpoint.open_manager(tmp_path / str(number)) as manager:
            checkpoint.save(manager, make_state(batch_stats=saved), {})
            with pytest.raises(ValueError, match=message):
                checkpoint.restore(manager, make_state(batch_stats=wanted), everywhere)
        with pytest.raises(ValueError, match=message):
            expected = make_state(batch_stats=wanted).variables
            checkpoint.restore_variables(tmp_path / str(number), expected)


@pytest.mark.parametrize(
    "what",
    ["params", "params/_METADATA", "batch_stats/_METADATA", "optimizer/_METADATA"],
)
def test_a_damaged_checkpoint_is_named_with_the_remedy(tmp_path, what):
    state = make_state(batch_stats=statistics())
    with checkpoint.open_manager(tmp_path) as manager:
        checkpoint.save(manager, state.replace(step=jnp.int32(6)), {})
        checkpoint.save(manager, state, {})
    assert checkpoint.is_saved(tmp_path)
    path = tmp_path / checkpoint.DIRECTORY / "7" / what
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    everywhere = sharding.replicated(sharding.make_mesh(1))
    message = "checkpoints/7 cannot be restored .*: it is damaged, .*; move it away to go on"
    with checkpoint.open_manager(tmp_path) as manager:
        with pytest.raises(ValueError, match=message):
            checkpoint.restore(manager, state, everywhere)
    if not what.startswith("optimizer"):
        with pytest.raises(ValueError, match=message):
            checkpoint.restore_variables(tmp_path)
    shutil.rmtree(tmp_path / checkpoint.DIRECTORY / "7")
    assert checkpoint.restore_variables(tmp_path)[1] == 6


def test_reading_leaves_a_save_in_progress_alone(tmp_path):
    with checkpoint.open_manager(tmp_path) as manager:
        checkpoint.save(manager, make_state(), {})
        unfinished = tmp_path / checkpoint.DIRECTORY / "8.orbax-checkpoint-tmp"
        unfinished.mkdir()
        assert checkpoint.restore_variables(tmp_path)[1] == 7
        assert unfinished.exists()


def test_a_folder_without_checkpoints_says_so(tmp_path):
    assert not checkpoint.is_saved(tmp_path)
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "none", tmp_path / "file"):
        with pytest.raises(ValueError, match=f"{path} holds no checkpoints: name the workdir"):
            checkpoint.restore_variables(path)
    (tmp_path / checkpoint.DIRECTORY).mkdir()
    with pytest.raises(ValueError, match="checkpoints is empty: train there first"):
        checkpoint.restore_variables(tmp_path)
    assert not checkpoint.is_saved(tmp_path)


def test_a_model_saved_on_eight_devices_is_restored_on_one(tmp_path):
    over_batch = sharding.over_batch(sharding.make_mesh())
    kernel = jax.device_put(np.arange(64, dtype=np.float32).reshape(8, 8), over_batch)
    assert len(kernel.sharding.device_set) == 8
    checkpoint.save_model(tmp_path / "a", {"params": {"kernel": kernel}}, {"name": "x"})
    program = (
        "import jax, pathlib, sys; from pst_jax import checkpoint; "
        "variables, config = checkpoint.restore_model(pathlib.Path(sys.argv[1])); "
        "print(jax.device_count(), variables['params']['kernel'].sum(), config['name'])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "a"],
        env={**os.environ, "XLA_FLAGS": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == ["1", "2016.0", "x"]
