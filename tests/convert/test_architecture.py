import golden_files
import jax
import numpy as np
import pytest

import pst_jax
from pst_jax import convert
from pst_jax.convert import architecture, trees


def released_of(name, num_classes=400, **overrides):
    """Released arrays of a row, without their memory: only names, shapes and buffers matter."""
    model = pst_jax.create_model(name, num_classes, **overrides)
    leaves = trees.expected(model, 224)
    variables = trees.unflatten(
        {k: np.broadcast_to(np.float32(0), v.shape) for k, v in leaves.items()}
    )
    return convert.to_torch(variables, model)


def image_of(arrays):
    """The same as an image network's file has it: a 2D kernel, bare names, its own head."""
    found = {}
    for name, value in arrays.items():
        name = name.split(".", 1)[1].replace("fc_cls", "head")
        found[name] = value[:, :, 0] if name == "patch_embed.proj.weight" else value
    found["head.weight"] = np.zeros((1000, found["norm.weight"].size), np.float32)
    return found


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("pst_tiny", {}),
        ("pst_base", {"num_classes": 174}),
        ("videoswin_tiny", {}),
        ("videoswin_base_16", {"num_classes": 174}),
        ("swin2d_tiny", {}),
    ],
)
def test_a_released_swin_is_told_by_its_buffers(name, options):
    found = architecture.describe(released_of(name, **options), None, {})
    assert found == {"name": name, "num_classes": 400, **options}


def test_the_paper_s_bias_and_other_patterns_are_told_by_their_buffers():
    with pytest.raises(ValueError, match="--arch"):  # no row has them
        architecture.describe(released_of("pst_tiny", bias_keys="own"), None, {})
    arrays = released_of("pst_tiny_pattern_d")
    assert architecture.describe(arrays, None, {})["name"] == "pst_tiny_pattern_d"


def test_tables_without_buffers_are_ambiguous_and_all_rows_are_listed():
    arrays = {k: v for k, v in released_of("pst_tiny").items() if "index" not in k}
    with pytest.raises(ValueError, match="pst_tiny, .*videoswin_tiny_16") as error:
        architecture.describe(arrays, None, {})
    assert "--arch" in str(error.value)
    assert architecture.describe(arrays, "pst_tiny", {}) == {"name": "pst_tiny", "num_classes": 400}


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("laps", "visformer_2d"),
        ("vit_laps_base", "tokshift_base"),
        ("deit_small", "deit_small_tps"),
    ],
)
def test_networks_that_differ_in_mixing_alone_are_listed(name, listed):
    with pytest.raises(ValueError, match=f"--arch.*{listed}"):
        architecture.describe(released_of(name), None, {})
    assert architecture.describe(released_of(name), name, {})["name"] == name


def test_the_first_version_of_tokshift_is_told_by_its_names():
    arrays = {
        "transformer.embeddings.position_embeddings": np.zeros((1, 197, 768)),
        "transformer.embeddings.patch_embeddings.weight": np.zeros((768, 3, 16, 16)),
        "head.weight": np.zeros((400, 768)),
        **{f"transformer.encoder.layer.{i}.attn.query.weight": np.zeros(1) for i in range(12)},
    }
    found = architecture.describe(arrays, None, {})
    assert found == {"name": "tokshift_base", "num_classes": 400}


def test_an_image_network_wants_to_know_what_it_becomes():
    arrays = image_of(released_of("swin2d_tiny"))
    with pytest.raises(ValueError, match="image network.*--arch.*pst_tiny"):
        architecture.describe(arrays, None, {})
    # Its head classifies images: the row's class count, or the one asked for.
    assert architecture.describe(arrays, "pst_tiny", {}) == {"name": "pst_tiny"}
    found = architecture.describe(arrays, "pst_tiny", {"num_classes": 174})
    assert found == {"name": "pst_tiny", "num_classes": 174}


@pytest.mark.parametrize("kind", golden_files.KINDS)
def test_sizes_that_no_row_has_are_read_off_the_shapes(kind):
    file = next(file for file, (k, _) in golden_files.MODELS.items() if k == kind)
    golden = golden_files.load_model_file(file)
    variant, overrides = golden_files.KINDS[kind]
    arrays = golden_files.state_dict(golden)
    expected = golden_files.model_of(kind, golden["config"])
    if variant.startswith(("visformer", "vit", "tokshift", "laps")):
        with pytest.raises(ValueError, match="num_heads"):
            architecture.describe(arrays, variant, {})
        overrides = overrides | {"num_heads": expected.num_heads, "num_frames": 8}
    arguments = architecture.describe(arrays, variant, dict(overrides))
    made = pst_jax.create_model(**arguments)
    wanted = {path: leaf.shape for path, leaf in trees.expected(expected, 56).items()}
    assert {path: leaf.shape for path, leaf in trees.expected(made, 56).items()} == wanted


def test_weights_of_another_family_and_of_nothing_known_are_refused():
    with pytest.raises(ValueError, match="weights of a Swin, and laps is a Visformer"):
        architecture.describe(released_of("swin2d_tiny"), "laps", {})
    with pytest.raises(ValueError, match="conv1.weight"):
        architecture.describe({"conv1.weight": np.zeros(3)}, None, {})
    with pytest.raises(ValueError, match="did you mean 'pst_tiny'"):
        architecture.describe(released_of("swin2d_tiny"), "pst_tinny", {})


def test_what_is_described_loads_bit_for_bit():
    golden = golden_files.load("pst_56")
    arrays = golden_files.state_dict(golden)
    model = pst_jax.create_model(**architecture.describe(arrays, "pst_tiny", {}))
    again = convert.to_torch(convert.from_torch(arrays, model), model)
    jax.tree.map(np.testing.assert_array_equal, {name: again[name] for name in arrays}, arrays)
