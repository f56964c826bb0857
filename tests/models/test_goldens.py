"""Every golden model file: the released systems' outputs on their own weights.

`pytest -s` prints the largest differences.
"""

import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from pst_jax import convert

# Output of ours -> key of a golden file.
OUTPUTS = {
    "features": "features",
    "frame_features": "frame_feats",
    "frame_logits": "frame_logits",
}


def converted(name):
    golden = golden_files.load_model_file(name)
    model = golden_files.model_of(golden_files.MODELS[name][0], golden["config"])
    return golden, model, convert.from_torch(golden_files.state_dict(golden), model)


def relative_error(ours, expected):
    return np.abs(ours - expected).max() / np.abs(expected).max()


def run(model, variables, video, outputs):
    """Several outputs of one network, by one program."""

    @jax.jit
    def apply(variables, video):
        return [model.apply(variables, video, train=False, output=output) for output in outputs]

    return dict(zip(outputs, apply(variables, video)))


@pytest.mark.parametrize("name", golden_files.MODELS)
def test_equals_the_released_system_and_no_other(name):
    golden, model, variables = converted(name)
    expected = {
        output: golden[key].transpose(0, 2, 3, 4, 1) if key == "features" else golden[key]
        for output, key in OUTPUTS.items()
        if key in golden
    }
    found = run(model, variables, golden["x"], ("logits", *expected))
    difference = np.abs(found["logits"] - golden["logits"]).max()
    errors = {output: relative_error(found[output], value) for output, value in expected.items()}
    told = [f"{output} {error:.1e} of the largest" for output, error in errors.items()]
    print(f"\n{name}: logits {difference:.1e};", ", ".join(told))
    assert found["logits"].dtype == jnp.float32
    assert difference < 1e-4
    assert max(errors.values()) < 1e-5
    # Kinds of the same weights and input, none of which may pass for this one.
    kind, source = golden_files.MODELS[name]
    for other, (other_kind, other_source) in golden_files.MODELS.items():
        if other_source == source and other_kind != kind:
            logits = golden_files.load_model_file(other)["logits"]
            assert np.abs(found["logits"] - logits).max() > 0.01, other


def test_gradients_equal_the_released_systems():
    golden, model, variables = converted("pst_56")
    released = golden_files.load("pst_56_grad")

    def loss_of(params):
        logits = model.apply({"params": params}, golden["x"], train=False)
        targets = optax.smooth_labels(jax.nn.one_hot(jnp.array([3]), 10), 0.1)
        return optax.softmax_cross_entropy(logits, targets).mean()

    loss, gradients = jax.jit(jax.value_and_grad(loss_of))(variables["params"])
    np.testing.assert_allclose(loss, released["loss"], rtol=1e-5)
    ours = convert.to_torch({"params": gradients}, model)
    expected = golden_files.state_dict(released, "grad/")
    largest = max(np.abs(gradient).max() for gradient in expected.values())
    assert len(expected) == len(jax.tree.leaves(gradients))
    for name, gradient in expected.items():
        np.testing.assert_allclose(ours[name], gradient, atol=1e-5 * largest, rtol=0, err_msg=name)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("pst_56", {"shift_back": False}),
        ("pst_56", {"shift_bias": False}),
        ("pst_56", {"alternate": False}),
        ("pst_56", {"shift_stages": (1,)}),
        ("pst_56", {"pattern": "B"}),
        ("pst_56", {"bias_keys": "own"}),
        ("videoswin_w277", {"temporal_shift": False}),
        ("videoswin_w277", {"spatial_shift": False}),
        ("laps", {"fold_div": 0}),
        ("laps", {"fold_div": 8}),
        ("laps", {"levels": (3, 2, 1)}),
        ("vit_laps", {"levels": (2, 1, 3, 1)}),
        ("tokshift", {"fold_div": 8}),
    ],
)
def test_every_part_matters(name, change):
    golden, _, variables = converted(name)
    other = golden_files.model_of(golden_files.MODELS[name][0], golden["config"], **change)
    logits = run(other, variables, golden["x"], ("logits",))["logits"]
    assert np.abs(logits - golden["logits"]).max() > 0.01
