import golden_files
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pst_jax
from pst_jax import convert

GOLDEN = golden_files.load("pst_56")
RELEASED = golden_files.state_dict(GOLDEN)


@pytest.mark.parametrize(
    "name", ["pst_56", "swin2d_56", "videoswin_56", "videoswin_w277", "laps", "vit_laps"]
)
def test_round_trip_is_bit_exact(name):
    golden = golden_files.load_model_file(name)
    released = golden_files.state_dict(golden)
    model = golden_files.model_of(golden_files.MODELS[name][0], golden["config"])
    variables = convert.from_torch(released, model)
    back = convert.to_torch(variables, model)
    for key, value in released.items():
        assert back[key].dtype == value.dtype and back[key].shape == value.shape
        np.testing.assert_array_equal(back.pop(key), value)
    assert all(".relative_position_index" in key for key in back)
    again = convert.from_torch(convert.to_torch(variables, model), model)
    jax.tree.map(np.testing.assert_array_equal, again, variables)


def test_the_index_buffers_of_pst_are_the_released_ones():
    model = golden_files.model()
    back = convert.to_torch(convert.from_torch(RELEASED, model), model)
    buffers = {name: value for name, value in back.items() if name not in RELEASED}
    assert len(buffers) == 2 * 4  # two for each of four blocks
    for name, value in buffers.items():
        kind = "unshifted" if name.endswith("_old") else "shifted"
        assert value.dtype == np.int64
        np.testing.assert_array_equal(value, GOLDEN[f"idx/{kind}"])


@pytest.mark.parametrize("depth", [2, 8])
def test_the_index_buffer_of_video_swin_covers_its_window(depth):
    shape = dict(embed_dim=24, depths=(2,), num_heads=(3,), window=(depth, 7, 7))
    model = pst_jax.create_model("videoswin_tiny", 5, **shape)
    released = convert.to_torch(abstract(model, 32), model)
    difference = np.arange(depth)[:, None] - np.arange(depth) + depth - 1
    side = np.arange(7)[:, None] - np.arange(7) + 6
    expected = (
        169 * difference[:, None, None, :, None, None]
        + 13 * side[None, :, None, None, :, None]
        + side[None, None, :, None, None, :]
    ).reshape(depth * 49, depth * 49)
    for block in (0, 1):
        index = released[f"backbone.layers.0.blocks.{block}.attn.relative_position_index"]
        assert index.dtype == np.int64
        np.testing.assert_array_equal(index, expected)


def abstract(model, size_px):
    """Zeros in the shapes of a model's variables."""
    video = jnp.zeros((1, model.num_frames, size_px, size_px, 3))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), video, train=False))
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), variables)


# Of the released modules: names in all, elements that are trained, and some shapes.
PUBLISHED = {
    "laps": (
        205,
        39_758_192,
        {
            "base_model.stem.0.weight": (32, 3, 7, 7),
            "base_model.pos_embed1": (1, 192, 28, 28),
            "base_model.patch_embed2.proj.weight": (384, 192, 2, 2),
            "base_model.patch_embed2.norm.bn.running_var": (384,),
            "base_model.patch_embed2.norm.bn.num_batches_tracked": (),
            "base_model.stage1.6.mlp.conv2.weight": (384, 48, 3, 3),
            "base_model.stage2.3.attn.qkv.weight": (1152, 384, 1, 1),
            "base_model.stage3.0.mlp.conv3.weight": (768, 3072, 1, 1),
            "base_model.norm.bn.bias": (768,),
            "base_model.head.weight": (400, 768),
        },
    ),
    "tokshift_base": (
        152,
        86_106_256,
        {
            "base_model.cls_token": (1, 1, 768),
            "base_model.pos_embed": (1, 197, 768),
            "base_model.patch_embed.proj.weight": (768, 3, 16, 16),
            "base_model.blocks.11.attn.qkv.weight": (2304, 768),
            "base_model.blocks.0.mlp.fc1.weight": (3072, 768),
            "base_model.norm.weight": (768,),
            "base_model.head.bias": (400,),
        },
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_of_one_image_size_have_the_released_tensors(name):
    count, trained, shapes = PUBLISHED[name]
    model = pst_jax.create_model(name, 400)
    variables = abstract(model, 224)
    released = convert.to_torch(variables, model)
    assert len(released) == count
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == trained
    for key, shape in shapes.items():
        assert released[key].shape == shape, key
    convert.from_torch(released, model)


def test_published_model_has_the_released_tensors():
    model = pst_jax.create_model("pst_tiny", 400)
    released = convert.to_torch(abstract(model, 32), model)
    assert len(released) == 197
    buffers = [value for value in released.values() if value.dtype == np.int64]
    assert len(buffers) == 24 and sum(value.size for value in buffers) == 921_984
    assert released["backbone.patch_embed.proj.weight"].shape == (96, 3, 2, 4, 4)
    assert released["cls_head.fc_cls.weight"].shape == (400, 768)


def test_plain_2d_model_has_one_buffer_per_block():
    model = pst_jax.create_model("swin2d_tiny", 5, embed_dim=24, depths=(1,), num_heads=(3,))
    released = convert.to_torch(abstract(model, 32), model)
    index = released["backbone.layers.0.blocks.0.attn.relative_position_index"]
    assert index.shape == (49, 49) and index[0, 0] == 84 and index[0, 48] == 0


@pytest.mark.parametrize("prefix", ["strip", "module.", ""])
def test_prefixes_and_buffers_do_not_matter(prefix):
    given = {
        (
            name.replace("backbone.", "").replace("cls_head.", "")
            if prefix == "strip"
            else prefix + name
        ): v
        for name, v in RELEASED.items()
    }
    given["layers.0.blocks.0.attn.relative_position_index"] = np.zeros((16, 49, 49), np.int64)
    model = golden_files.model()
    ours, expected = (convert.from_torch(s, model) for s in (given, RELEASED))
    jax.tree.map(np.testing.assert_array_equal, ours, expected)


def test_one_error_lists_everything_that_does_not_fit():
    given = dict(RELEASED)
    given["backbone.extra.weight"] = np.zeros(3)
    given["backbone.norm.weight"] = np.zeros(7)
    given["backbone.patch_embed.proj.weight"] = np.zeros(3)
    del given["cls_head.fc_cls.bias"]
    with pytest.raises(ValueError) as error:
        convert.from_torch(given, golden_files.model())
    text = str(error.value)
    assert "unknown: extra.weight, (3,)" in text
    assert "misshapen: backbone.norm.weight is (7,), where the model has (48,)" in text
    assert "missing: cls_head.fc_cls.bias" in text
    assert "misshapen: backbone.patch_embed.proj.weight is (3,)" in text
    assert text.count("\n") == 4


def test_another_class_count_is_an_error_and_not_a_new_head():
    with pytest.raises(ValueError, match="fc_cls"):
        convert.from_torch(
            RELEASED,
            pst_jax.create_model("pst_tiny", 11, embed_dim=24, depths=(2, 2), num_heads=(3, 6)),
        )


VISFORMER = golden_files.load("visformer")
VIT = golden_files.load("vit")


def small(kind):
    """A model of LAPS' kinds and the state dict that fits it."""
    golden = VIT if kind in golden_files.FAMILIES["vit"] else VISFORMER
    model = golden_files.model_of(kind, golden[f"{kind}/config"])
    return model, golden_files.state_dict(golden)


@pytest.mark.parametrize("prefix", ["", "module.base_model."])
@pytest.mark.parametrize("kind", ["laps", "tokshift"])
def test_prefixes_and_counts_of_batches_do_not_matter(kind, prefix):
    model, released = small(kind)
    given = {
        prefix + name.removeprefix("base_model."): value
        for name, value in released.items()
        if not name.endswith("num_batches_tracked")
    }
    ours, expected = (convert.from_torch(s, model) for s in (given, released))
    jax.tree.map(np.testing.assert_array_equal, ours, expected)


def test_weights_of_another_family_are_told_by_name():
    states = {"Swin": RELEASED, "ViT": small("vit2d")[1], "Visformer": small("laps")[1]}
    models = {"Swin": golden_files.model(), "ViT": small("vit2d")[0], "Visformer": small("laps")[0]}
    for given, state in states.items():
        for wanted, model in models.items():
            if given != wanted:
                message = f"weights of a {given}, and the model is a {wanted}"
                with pytest.raises(ValueError, match=message):
                    convert.from_torch(state, model)
                with pytest.raises(ValueError, match=message):
                    convert.init_from_2d(state, model)


@pytest.mark.parametrize(
    ("kind", "change", "messages"),
    [
        (
            "laps",
            {"image_size": 96},
            [
                "pos_embed1 is (1, 16, 8, 8), where the model has (1, 16, 12, 12)",
                "pos_embed3 is (1, 64, 2, 2), where the model has (1, 64, 3, 3)",
            ],
        ),
        (
            "vit2d",
            {"image_size": 48},
            ["pos_embed is (1, 17, 32), where the model has (1, 37, 32)"],
        ),
        (
            "vit2d",
            {"depth": 5},
            ["missing: base_model.blocks.4.attn.qkv.weight, (96, 32)"],
        ),
        (
            "laps",
            {"embed_dim": 64},
            [
                "patch_embed2.norm.bn.bias is (32,), where the model has (64,)",
                "misshapen: 116 more",
            ],
        ),
    ],
)
def test_weights_of_another_size_are_refused(kind, change, messages):
    golden = VIT if kind == "vit2d" else VISFORMER
    _, released = small(kind)
    model = golden_files.model_of(kind, golden[f"{kind}/config"], **change)
    with pytest.raises(ValueError, match="does not fit the model") as error:
        convert.from_torch(released, model)
    for message in messages:
        assert message in str(error.value)


def test_statistics_are_as_strict_as_parameters():
    model, released = small("laps")
    name = "base_model.stage3.1.norm2.bn.running_var"
    with pytest.raises(ValueError, match=f"misshapen: {name} is"):
        convert.from_torch(released | {name: np.zeros(3)}, model)
    del released[name]
    with pytest.raises(ValueError, match=f"missing: {name}"):
        convert.from_torch(released, model)


NORM = "backbone.norm.weight"
HOSTILE = {
    "a list": ([1], "the state dict is a list: give a mapping of names to arrays"),
    "nothing": (None, "the state dict is a NoneType"),
    "a checkpoint": (
        {"meta": {"epoch": 3}, "state_dict": RELEASED, "optimizer": {"state": {}}},
        r"mappings, \['meta', 'state_dict', 'optimizer'\]: give the inner one, \['state_dict'\]",
    ),
    "an image checkpoint": ({"model": RELEASED}, r"give the inner one, \['model'\]"),
    "variables": ({"params": {"norm": {"scale": np.ones(3)}}}, "give a flat one, name -> array"),
    "a number as key": (RELEASED | {3: np.zeros(2)}, "has the key 3: keys must be names"),
    "text": (RELEASED | {NORM: "x"}, f"no float array: {NORM} is str, dtype <U1"),
    "objects": (RELEASED | {NORM: np.array([{}] * 48)}, f"{NORM} is ndarray, dtype object"),
    "integers": (RELEASED | {NORM: np.ones(48, np.int32)}, f"{NORM} is ndarray, dtype int32"),
    "a ragged list": (RELEASED | {NORM: [[1.0], []]}, f"no float array: {NORM} is list"),
    "a weight twice": (
        RELEASED | {f"module.{NORM}": np.zeros(48)},
        f"twice: '{NORM}' and 'module.{NORM}' are both norm.weight",
    ),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_no_state_dict_is_refused_in_a_few_words(case):
    given, message = HOSTILE[case]
    for read in (convert.from_torch, convert.init_from_2d):
        with pytest.raises(ValueError, match=message) as error:
            read(given, golden_files.model())
        assert len(str(error.value)) < 300


def test_integers_that_no_weight_is_are_dropped():
    model, released = small("laps")
    given = released | {"norm.bn.num_batches_tracked": np.array(3)}
    given |= {"module.norm.bn.num_batches_tracked": np.array(4)}
    jax.tree.map(
        np.testing.assert_array_equal,
        convert.from_torch(given, model),
        convert.from_torch(released, model),
    )


def test_of_many_keys_that_do_not_fit_twenty_are_shown_and_the_rest_counted():
    model, released = small("vit2d")
    for read in (convert.from_torch, convert.init_from_2d):
        with pytest.raises(ValueError) as error:
            read({f"odd.{i}": np.zeros(2) for i in range(23)}, model)
        lines = str(error.value).split("\n  ")[1:]
        for kind, rest in (("missing", len(released) - 20), ("unknown", 3)):
            of_kind = [line for line in lines if line.startswith(kind)]
            assert len(of_kind) == 21
            if read is convert.from_torch or kind == "unknown":
                assert of_kind[-1] == f"{kind}: {rest} more"


def test_variables_that_are_not_the_models_give_no_state_dict():
    model, released = small("laps")
    variables = convert.from_torch(released, model)
    statistics = variables.pop("batch_stats")
    with pytest.raises(ValueError, match=r"missing: norm/mean, \(64,\)") as error:
        convert.to_torch(variables, model)
    assert 'of a Visformer, "batch_stats"' in str(error.value)
    scale = variables["params"]["norm"].pop("scale")
    variables["params"]["norm"] |= {"scales": scale, "bias": np.zeros(3)}
    with pytest.raises(ValueError) as error:
        convert.to_torch(variables | {"batch_stats": statistics}, model)
    assert str(error.value).split("\n  ")[1:] == [
        "misshapen: norm/bias is (3,), where the model has (64,)",
        "missing: norm/scale, (64,)",
        "unknown: norm/scales, (64,)",
    ]
    with pytest.raises(ValueError, match=r"missing: \d+ more"):
        convert.to_torch({"params": {}}, model)


def test_variables_of_another_family_or_depth_give_no_state_dict():
    model, released = small("vit2d")
    variables = convert.from_torch(released, model)
    with pytest.raises(ValueError, match="weights of a ViT, and the model is a Visformer"):
        convert.to_torch(variables, small("laps")[0])
    shallow, deep = (
        golden_files.model_of("vit2d", VIT["vit2d/config"], depth=depth) for depth in (3, 5)
    )
    with pytest.raises(ValueError, match=r"unknown: blocks_3/attn/qkv/kernel, \(32, 96\)"):
        convert.to_torch(variables, shallow)
    with pytest.raises(ValueError, match=r"missing: blocks_4/attn/qkv/kernel, \(32, 96\)"):
        convert.to_torch(variables, deep)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("swin_tiny_divided", "2 attentions in a block have no released layout"),
        ("swin_tiny_joint", "no released layout"),
        ("pst_tiny_dagger", "no released layout"),
    ],
)
def test_what_was_never_released_has_no_released_layout(name, message):
    shape = dict(embed_dim=24, depths=(1,), num_heads=(3,), num_frames=8)
    model = pst_jax.create_model(name, 5, **shape)
    variables = abstract(model, 56)
    with pytest.raises(ValueError, match=message):
        convert.to_torch(variables, model)
