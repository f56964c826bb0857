import re

import golden_files
import jax
import numpy as np
import pytest

from pst_jax import convert

GOLDEN = golden_files.load("vit")
RELEASED = golden_files.state_dict(GOLDEN)
MODEL = golden_files.model_of("tokshift", GOLDEN["tokshift/config"])


def test_the_names_of_tokshifts_first_version_are_read():
    given = {}
    for name, value in RELEASED.items():
        name = name.removeprefix("base_model.")
        block = re.match(r"blocks\.(\d+)\.", name)
        if ".attn.qkv." in name:
            for part, third in zip(("query", "key", "value"), np.split(value, 3)):
                leaf = name.rsplit(".", 1)[1]
                given[f"transformer.encoder.layer.{block[1]}.attn.{part}.{leaf}"] = third
            continue
        for ours, first in (
            (r"^pos_embed$", "transformer.embeddings.position_embeddings"),
            (r"^cls_token$", "transformer.embeddings.cls_token"),
            (r"^patch_embed\.proj\.", "transformer.embeddings.patch_embeddings."),
            (r"^norm\.", "transformer.encoder.encoder_norm."),
            (r"\.norm1\.", ".attention_norm."),
            (r"\.norm2\.", ".ffn_norm."),
            (r"\.mlp\.", ".ffn."),
            (r"\.attn\.proj\.", ".attn.out."),
            (r"^blocks\.", "transformer.encoder.layer."),
        ):
            name = re.sub(ours, first, name)
        given[f"module.base_model.{name}"] = value
    assert len(given) == len(RELEASED) + 2 * 2 * 4  # two tensors more, of four blocks, twice
    ours, expected = (convert.from_torch(s, MODEL) for s in (given, RELEASED))
    jax.tree.map(np.testing.assert_array_equal, ours, expected)
    del given["transformer.encoder.layer.2.attn.key.weight"]
    with pytest.raises(ValueError, match=r"missing: base_model.blocks.2.attn.qkv.weight") as error:
        convert.from_torch(given, MODEL)
    assert "unknown: blocks.2.attn.query.weight, (32, 32)" in str(error.value)


def jax_vit():
    """The weights as a file of the JAX ViT has them, with the head and layer of ImageNet-21k."""
    bare = {name.removeprefix("base_model."): value for name, value in RELEASED.items()}
    given = {
        "cls": bare["cls_token"],
        "Transformer/posembed_input/pos_embedding": bare["pos_embed"],
        "embedding/kernel": bare["patch_embed.proj.weight"].transpose(2, 3, 1, 0),
        "embedding/bias": bare["patch_embed.proj.bias"],
        "Transformer/encoder_norm/scale": bare["norm.weight"],
        "Transformer/encoder_norm/bias": bare["norm.bias"],
        "pre_logits/kernel": np.ones((32, 32), np.float32),
        "pre_logits/bias": np.ones(32, np.float32),
        "head/kernel": np.ones((32, 50), np.float32),
        "head/bias": np.ones(50, np.float32),
    }
    for i in range(4):
        ours, theirs = f"blocks.{i}.", f"Transformer/encoderblock_{i}/"
        for norm, name in (("norm1", "LayerNorm_0"), ("norm2", "LayerNorm_2")):
            given[f"{theirs}{name}/scale"] = bare[f"{ours}{norm}.weight"]
            given[f"{theirs}{name}/bias"] = bare[f"{ours}{norm}.bias"]
        for layer, name in (("fc1", "Dense_0"), ("fc2", "Dense_1")):
            given[f"{theirs}MlpBlock_3/{name}/kernel"] = bare[f"{ours}mlp.{layer}.weight"].T
            given[f"{theirs}MlpBlock_3/{name}/bias"] = bare[f"{ours}mlp.{layer}.bias"]
        attention = f"{theirs}MultiHeadDotProductAttention_1/"
        weights = bare[f"{ours}attn.qkv.weight"].reshape(3, 4, 8, 32)  # four heads of eight
        biases = bare[f"{ours}attn.qkv.bias"].reshape(3, 4, 8)
        for name, weight, bias in zip(("query", "key", "value"), weights, biases):
            given[f"{attention}{name}/kernel"] = weight.transpose(2, 0, 1)
            given[f"{attention}{name}/bias"] = bias
        out = bare[f"{ours}attn.proj.weight"].reshape(32, 4, 8)
        given[f"{attention}out/kernel"] = out.transpose(1, 2, 0)
        given[f"{attention}out/bias"] = bare[f"{ours}attn.proj.bias"]
    return given


def test_an_image_file_of_the_jax_vit_starts_a_model():
    started = convert.init_from_2d(jax_vit(), MODEL)["params"]
    expected = convert.from_torch(RELEASED, MODEL)["params"]
    assert started["head"]["kernel"].shape == (32, 10)
    del started["head"], expected["head"]
    jax.tree.map(np.testing.assert_array_equal, started, expected)


def test_a_file_of_the_jax_vit_with_odd_entries_lists_them():
    given = jax_vit()
    given["Transformer/encoderblock_1/LayerNorm_9/scale"] = np.zeros(3)
    name = "Transformer/encoderblock_0/MultiHeadDotProductAttention_1/key/kernel"
    given[name] = np.zeros((32, 32))  # without an axis of heads
    with pytest.raises(ValueError) as error:
        convert.init_from_2d(given, MODEL)
    for line in (
        "unknown: Transformer/encoderblock_1/LayerNorm_9/scale (3,)",
        f"unknown: {name} (32, 32)",
        "missing: blocks_0/attn/qkv/kernel (32, 96)",
    ):
        assert line in str(error.value)


def test_a_weight_under_two_kinds_of_names_is_refused():
    given = jax_vit()
    for name, message in (
        ("cls_token", "'cls' and 'cls_token' are both cls_token"),
        ("blocks.0.attn.qkv.weight", "unknown: blocks.0.attn.query.weight"),
    ):
        with pytest.raises(ValueError, match=message):
            convert.init_from_2d(given | {name: RELEASED[f"base_model.{name}"]}, MODEL)


def test_object_arrays_are_refused_for_their_dtype():
    given = {name: value.astype(object) for name, value in RELEASED.items()}
    with pytest.raises(ValueError, match="no float array: .* dtype object") as error:
        convert.init_from_2d(given, MODEL)
    assert "not (32, 96)" not in str(error.value)


def test_a_file_of_the_jax_vit_is_known_for_what_it_is():
    with pytest.raises(ValueError, match="weights of a ViT, and the model is a Swin"):
        convert.init_from_2d(jax_vit(), golden_files.model())


def listed(name):
    """A name of a Video-Swin as torchvision has it: stages and downsampling in one list."""
    name = re.sub(r"^layers\.(\d+)\.downsample", lambda m: f"features.{2 * int(m[1]) + 1}", name)
    name = re.sub(r"^layers\.(\d+)\.blocks", lambda m: f"features.{2 * int(m[1])}", name)
    return name.replace("mlp.fc1", "mlp.0").replace("mlp.fc2", "mlp.3")


def behind(name):
    """A name of a Swin as timm has it: downsampling belongs to the stage behind."""
    name = re.sub(r"^layers\.(\d+)\.down", lambda m: f"layers.{int(m[1]) + 1}.down", name)
    return re.sub(r"^head\.", "head.fc.", name)


def unwrapped(name):
    return name.replace(".bn.", ".")


@pytest.mark.parametrize(
    ("file", "rename"),
    [("videoswin_56", listed), ("pst_56", behind), ("laps", unwrapped)],
)
def test_the_names_of_torchvision_and_timm_are_read(tmp_path, file, rename):
    golden = golden_files.load_model_file(file)
    released = golden_files.state_dict(golden)
    bare = {re.sub(r"^(backbone|base_model)\.", "", name): v for name, v in released.items()}
    bare = {name.replace("cls_head.fc_cls.", "head."): value for name, value in bare.items()}
    given = {rename(name): value for name, value in bare.items()}
    assert len(given.keys() - bare.keys()) > 4
    model = golden_files.model_of(golden_files.MODELS[file][0], golden["config"])
    np.savez(tmp_path / "given.npz", **given)
    ours, changes = convert.init_from_file(str(tmp_path / "given.npz"), model)
    assert changes == []
    expected = convert.from_torch(released, model)
    jax.tree.map(np.testing.assert_array_equal, ours, expected)
