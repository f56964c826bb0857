import json

import golden_files
import jax
import numpy as np
import pytest

import pst_jax
from pst_jax import convert
from pst_jax.convert import parity, trees

RECORDED = ["vit", "visformer", "pst"]


@pytest.fixture(autouse=True)
def compile_quickly():
    """Every program here runs once."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def recorded(kind, **changes):
    """A recording of PyTorch, and our model with its weights."""
    path = golden_files.FOLDER / f"torch/{kind}_recorded.npz"
    arrays = golden_files.load(f"torch/{kind}_recorded")
    config = json.loads(str(arrays["config"]))
    overrides = config["overrides"] | changes
    model = pst_jax.create_model(config["variant"], config["num_classes"], **overrides)
    return path, model, convert.from_torch(golden_files.state_dict(arrays), model)


def names_of(lines):
    return [line.layer for line in lines]


# The others' outputs are compared by tests/models/test_goldens.py too.
QUICK = ("pst_56", "laps", "tokshift")


@pytest.mark.parametrize(
    "name",
    [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in golden_files.MODELS],
)
def test_every_golden_is_met_to_rounding(name, tmp_path):
    golden = golden_files.load_model_file(name)
    features = "features" if "features" in golden else "frame_feats"
    kept = {key: golden[key] for key in ("x", "logits", features, "config")}
    np.savez(tmp_path / "golden.npz", **kept)
    model = golden_files.model_of(golden_files.MODELS[name][0], golden["config"])
    variables = convert.from_torch(golden_files.state_dict(golden), model)
    lines = parity.compare(model, variables, parity.read_reference(tmp_path / "golden.npz"))
    assert names_of(lines) == [features, "logits"]
    assert lines[0].relative < 1e-5
    assert lines[1].max_abs < 1e-4 and len(lines[1].by_class) == 10


@pytest.mark.parametrize("kind", RECORDED)
def test_every_layer_of_a_recording_of_pytorch_is_met_to_rounding(kind):
    path, model, variables = recorded(kind)
    reference = parity.read_reference(path)
    lines = parity.compare(model, variables, reference)
    print(f"\n{kind}\n{parity.table(lines)}")
    assert len(lines) == len(reference) - 1
    assert max(line.relative for line in lines) < 5e-6
    for line in lines:
        key = line.layer if line.layer in reference else f"layer/{line.layer}"
        assert line.shape == reference[key].shape
        # What is all zero would agree with too much.
        assert reference[key].std() > 0.1


@pytest.mark.parametrize(
    ("kind", "leaf", "first"),
    [
        ("vit", "blocks_1/mlp/fc1/bias", "blocks.1.mlp"),
        ("pst", "layers_0_blocks_1/attn/proj/bias", "backbone.layers.0.blocks.1.norm2"),
        ("visformer", "stage2_blocks_0/norm1/mean", "stage2.0.norm1"),
    ],
)
def test_a_wrong_weight_shows_in_the_layers_behind_it_alone(kind, leaf, first):
    path, model, variables = recorded(kind)
    flat = trees.flatten(variables)
    flat[leaf] = flat[leaf] + np.linspace(-0.5, 0.5, flat[leaf].size, dtype=np.float32)
    lines = parity.compare(model, trees.unflatten(flat), parity.read_reference(path))
    behind = names_of(lines).index(first)
    assert 0 < behind < len(lines) - 1
    assert max(line.relative for line in lines[:behind]) < 5e-6
    assert min(line.relative for line in lines[behind:]) > 1e-4


def test_lines_are_in_the_order_of_the_network_whatever_the_model_s_dtype():
    path, model, variables = recorded("vit", dtype="bfloat16", remat=True)
    with jax.default_matmul_precision("bfloat16"):
        lines = parity.compare(model, variables, parity.read_reference(path))
    parts = ["norm1", "attn", "norm2", "mlp"]
    blocks = [f"blocks.{i}{part}" for i in (0, 1) for part in (*(f".{p}" for p in parts), "")]
    assert names_of(lines) == ["patch_embed", *blocks, "norm", "frame_logits", "logits"]
    assert max(line.relative for line in lines) < 5e-6


def test_prefixes_and_the_wraps_of_norms_do_not_matter():
    path, model, variables = recorded("visformer")
    reference = parity.read_reference(path)
    given = {
        "x": reference["x"],
        "layer/module.base_model.stage2.0.norm1.bn": reference["layer/stage2.0.norm1"],
    }
    (line,) = parity.compare(model, variables, given)
    assert line.layer == "module.base_model.stage2.0.norm1.bn" and line.relative < 5e-6


def test_the_table_shows_the_classes_that_differ_most():
    few = parity.Line("logits", (1, 3), 2e-6, 1e-6, (1e-6, 2e-6, 0.0))
    assert parity.table([parity.Line("norm", (2, 4), 1.2e-5, 1e-6), few]) == (
        "| layer   |   shape |   largest difference |   relative |\n"
        "|---------|---------|----------------------|------------|\n"
        "| norm    |  (2, 4) |              1.2e-05 |    1.0e-06 |\n"
        "| logits  |  (1, 3) |              2.0e-06 |    1.0e-06 |\n\n"
        "| class   |   largest difference |\n"
        "|---------|----------------------|\n"
        "| 0       |              1.0e-06 |\n"
        "| 1       |              2.0e-06 |\n"
        "| 2       |              0.0e+00 |"
    )
    many = parity.Line("logits", (1, 400), 4e-4, 1e-6, tuple(k * 1e-6 for k in range(400)))
    rows = parity.table([many]).split("\n\n")[1].splitlines()[2:]
    assert [int(row.split("|")[1]) for row in rows] == [*range(399, 379, -1)]


X = np.zeros((2, 3, 8, 8, 3), np.float32)
LOGITS = np.ones((2, 5), np.float32)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"logits": LOGITS}, "no x"),
        ({"x": X, "logit": LOGITS}, "nothing to compare: record one of features, "),
        ({"x": X[0], "logits": LOGITS}, r"x is \(3, 8, 8, 3\), not \[B, F, H, W, 3\]"),
        ({"x": X, "logits": LOGITS[:1]}, r"logits is \(1, 5\), not \[B, K\]"),
        ({"x": X, "features": LOGITS}, r"features is \(2, 5\), not \[B, C, T, H, W\]"),
        ({"x": X, "layer/norm": LOGITS.astype(int)}, "layer/norm is int64"),
        ({"x": X, "layer/norm": LOGITS * np.nan}, "layer/norm holds NaN"),
        ({"x": X, "logits": np.array([None])}, "no .npz of arrays"),
    ],
)
def test_a_file_that_is_no_reference_is_refused(arrays, said, tmp_path):
    path = tmp_path / "reference.npz"
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=said):
        parity.read_reference(path)


def test_missing_and_damaged_files_are_refused(tmp_path):
    path = tmp_path / "reference.npz"
    for missing in (path, tmp_path, None):
        with pytest.raises(ValueError, match="no such file"):
            parity.read_reference(missing)
    np.savez_compressed(path, x=np.random.default_rng(0).normal(size=X.shape), logits=LOGITS)
    whole = path.read_bytes()
    for damaged in (b"", whole[:500], whole[:300] + b"damage" + whole[306:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="no .npz of arrays"):
            parity.read_reference(path)


def test_layers_that_cannot_be_compared_are_listed_with_the_nearest():
    path, model, variables = recorded("pst")
    x = parity.read_reference(path)["x"]
    given = {
        "x": x,
        "layer/backbone.layers.0.blocks.0.attn": np.zeros((6, 16, 8), np.float32),
        "layer/backbone.layers.0.block.1": np.zeros((1, 3, 9, 7, 8), np.float32),
        "layer/backbone.norm": np.zeros((1, 16, 3, 5, 4), np.float32),
        "layer/something": LOGITS,
    }
    with pytest.raises(ValueError) as error:
        parity.compare(model, variables, given)
    text = str(error.value)
    assert "unknown: layers.0.block.1; the nearest known is layers.0.blocks.1" in text
    assert "unknown: layers.0.blocks.0.attn; the nearest" in text
    assert text.count("unknown: something\n") == 1
    assert "misshapen: norm is (1, 16, 3, 5, 4) as [b t h w c], ours (1, 3, 5, 4, 16)" in text


def test_arrays_by_hand_are_checked_too():
    _, model, variables = recorded("vit")
    with pytest.raises(ValueError, match="it has no x"):
        parity.compare(model, variables, {"logits": LOGITS})


def test_outputs_that_a_family_has_not_are_misshapen():
    path, model, variables = recorded("vit")
    x = parity.read_reference(path)["x"]
    features = np.zeros((2, 16, 3, 3, 3), np.float32)
    with pytest.raises(ValueError, match="misshapen: features"):
        parity.compare(model, variables, {"x": x, "features": features})
    logits = np.zeros((2, 6), np.float32)
    with pytest.raises(ValueError, match=r"misshapen: logits is \(2, 6\)"):
        parity.compare(model, variables, {"x": x, "logits": logits})
    with pytest.raises(ValueError, match="frames of 16 x 16, the model was built for"):
        parity.compare(model, variables, {"x": x[:, :, :16, :16], "logits": logits})
