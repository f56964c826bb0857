import itertools

import jax
import jax.numpy as jnp
import pytest

import pst_jax
from pst_jax.evaluation import cost
from pst_jax.models import variants

# Exact parameters at 400 classes, counted on the released systems.
PARAMS = {
    "pst_tiny": 28_531_222,
    "pst_base": 89_065_688,
    "pst_tiny_dagger": 28_531_222,
    "pst_base_dagger": 89_065_688,
    "swin2d_tiny": 27_831_562,
    "swin2d_base": 87_159_368,
    "videoswin_tiny": 28_158_070,
    "videoswin_base": 88_048_984,
    "videoswin_tiny_16": 28_531_222,
    "videoswin_base_16": 89_065_688,
    "visformer_2d": 39_758_192,
    "visformer_3d": 39_758_192,
    "visformer_plain_shift": 39_758_192,
    "visformer_periodic_shift": 39_758_192,
    "visformer_leap": 39_758_192,
    "laps": 39_758_192,
}
# In millions, likewise.
MILLIONS = {
    **dict.fromkeys(("vit_base", "tokshift_base", "tokshift_base_16", "vit_laps_base"), 86.106),
    **dict.fromkeys(("tokshift_base_384", "vit_laps_base_384"), 86.398),
    **dict.fromkeys(("vit_large", "tokshift_large", "tokshift_large_12"), 304.101),
    **{"vit_laps_large": 304.101, "laps_l": 40.032, "laps_h": 40.032, "laps_e": 40.162},
}
# Named by the papers; others may be added to the table, not taken away.
NAMES = """
pst_tiny pst_base pst_tiny_dagger pst_base_dagger swin2d_tiny swin2d_base videoswin_tiny
videoswin_base pst_tiny_none pst_tiny_center_one pst_tiny_uneven pst_tiny_even2 pst_tiny_even3
pst_tiny_pattern_a pst_tiny_pattern_b pst_tiny_pattern_c pst_tiny_pattern_d pst_tiny_stages_1
pst_tiny_stages_12 pst_tiny_stages_123 pst_tiny_stages_1234 pst_tiny_no_shift_back
pst_tiny_no_alternate pst_tiny_no_shift_bias swin_tiny_joint swin_tiny_local swin_tiny_sparse
swin_tiny_channel swin_tiny_patch swin_tiny_divided swin_tiny_lg swin_tiny_axial visformer_2d
visformer_3d visformer_plain_shift visformer_periodic_shift visformer_leap laps laps_l laps_h laps_e
vit_base vit_large tokshift_base tokshift_large vit_laps_base vit_laps_large deit_small
deit_small_tsm deit_small_tps
""".split()


def test_the_table_has_the_names_promised():
    assert not set(NAMES) - set(pst_jax.list_models())
    assert pst_jax.list_models() == sorted(variants.VARIANTS)


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_shapes_and_exact_parameters(name):
    model = pst_jax.create_model(name, num_classes=400)
    size = getattr(model, "image_size", 224)
    video = jax.ShapeDtypeStruct((2, model.num_frames, size, size, 3), jnp.float32)

    def run(video):
        return model.init_with_output(jax.random.key(0), video, train=False)

    logits, shapes = jax.eval_shape(run, video)
    assert (logits.shape, logits.dtype) == ((2, 400), jnp.float32)
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    assert PARAMS.get(name, count) == count
    assert MILLIONS.get(name, round(count / 1e6, 3)) == round(count / 1e6, 3)
    hash(model)  # a static argument of compiled programs


def test_shift_operators_add_no_parameters():
    shapes = [
        jax.tree.map(jnp.shape, cost.abstract_variables(pst_jax.create_model(name, **options), 56))
        for name, options in (("pst_testing", {}), ("pst_testing", {"shift_stages": ()}))
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("pst_tinny", {}, "did you mean 'pst_tiny'"),
        ("pst_tiny", {"patern": "C"}, "did you mean 'pattern'"),
        ("swin2d_tiny", {"pattern": "C"}, "no override 'pattern' .with mixers='none'"),
        ("pst_tiny", {"pattern": "Z"}, "unknown"),
        ("pst_tiny", {"pattern": ((1,) * 8,)}, "larger window"),
        ("pst_tiny", {"shift_stages": (5,)}, "stages with attention are 1 to 4"),
        (["pst_tiny"], {}, "is unknown; did you mean"),
        ("pst_tiny", {"mlp_ratio": 1e-4}, "an MLP without width"),
        ("pst_tiny_dagger", {"num_frames": 14}, "7 frames .* do not form windows of 2 frames"),
        ("videoswin_tiny", {"mixers": "patch", "num_frames": 20}, "10 .* windows of 8 frames"),
        ("pst_tiny", {"pattern": ((float("inf"),),)}, "not a rectangle"),
        ("pst_tiny", {"pattern": ((10**30, 0),)}, "not a rectangle"),
        ("pst_tiny", {"num_heads": (5, 6, 12, 24)}, "does not divide"),
        ("pst_tiny", {"depths": (2, 2)}, "one entry per stage"),
        ("pst_tiny", {"window": (1, 7)}, "three positive integers"),
        ("pst_tiny", {"bias_keys": "last"}, "must be one of"),
        ("swin2d_tiny", {"bias_keys": "first_frame"}, "use 'own'"),
        ("pst_tiny", {"bias_keys": "cut"}, "use 'own'"),
        ("pst_tiny", {"bias_keys": "first_frame", "mixers": "pst+leap"}, "use 'own'"),
        ("pst_tiny_dagger", {"bias_keys": "first_frame"}, "use 'own'"),
        ("pst_testing", {"shift_stages": (1, 3)}, "stages with attention are 1 to 2"),
        (None, {}, "Known: deit_small"),
    ],
)
def test_refuses_what_it_does_not_know(name, overrides, message):
    with pytest.raises(ValueError, match=message):
        pst_jax.create_model(name, **overrides)


@pytest.mark.parametrize(
    ("keys", "values", "what"),
    [
        (("num_classes", "num_frames", "embed_dim"), (0, "8", 8.0, None, True), "an integer of"),
        (("depths", "num_heads"), (2, "22", (0, 2), (2.0, 2), (-1, 2)), "integers of at least 1"),
        (("patch_size", "window"), (7, (1, 7), (1, 0, 7), (1, 7.5, 7), "777"), "three positive"),
        (("drop_path_rate", "head_dropout"), (-0.1, 1.0, "x"), r"a rate in \[0, 1\)"),
        (("mlp_ratio",), (0, -1, "4", float("nan"), True), "a number above 0"),
        (("qkv_bias", "remat", "shift_back", "alternate"), ("no", 1, None), "True or False"),
        (("shift_stages",), (1, "12", (0,)), "a tuple of stages, counted from 1"),
        (("dtype",), ("float99", "int32", "float64", 3), "'float32', 'bfloat16' or 'float16'"),
    ],
)
def test_a_value_of_the_wrong_type_or_range_is_named(keys, values, what):
    for key, value in itertools.product(keys, values):
        with pytest.raises(ValueError, match=f"pst_testing: {key}=.* must be {what}"):
            pst_jax.create_model("pst_testing", **{key: value})


def test_lists_from_json_are_as_good_as_tuples():
    model = pst_jax.create_model("pst_testing", pattern=[[0, 1], [1, 0]], depths=[1, 1])
    assert (
        model.mixers
        == pst_jax.create_model("pst_testing", pattern=((0, 1), (1, 0)), depths=(1, 1)).mixers
    )
    hash(model)


def test_a_bias_that_was_not_released_for_the_mixers_gives_way_to_the_own_keys():
    assert pst_jax.create_model("pst_tiny").bias_keys == "first_frame"
    assert pst_jax.create_model("pst_tiny", mixers="pst+leap").bias_keys == "own"
    assert pst_jax.create_model("pst_tiny", window=(2, 7, 7)).bias_keys == "own"
    assert pst_jax.create_model("videoswin_tiny").bias_keys == "cut"
    assert pst_jax.create_model("videoswin_tiny", mixers="patch").bias_keys == "own"


def test_a_table_of_one_frame_grows_where_frames_meet():
    assert pst_jax.create_model("swin2d_tiny").bias_window == (1, 7, 7)
    assert pst_jax.create_model("swin2d_tiny", mixers="tsm").bias_window == (1, 7, 7)
    assert pst_jax.create_model("swin2d_tiny", mixers="leap").bias_window == (16, 7, 7)


def test_options_of_a_row_are_for_its_own_methods():
    shape = dict(num_frames=8, depth=2)
    assert pst_jax.create_model("vit_laps_base", depth=2).depth == 2  # its four levels are not ours
    by_name = pst_jax.create_model("deit_small_tps", mixers="patch", **shape).mixers
    assert by_name != pst_jax.create_model("deit_small_tsm", mixers="patch", **shape).mixers
    other = pst_jax.create_model("pst_tiny_stages_1", mixers="leap+patch")
    assert other.mixers == pst_jax.create_model("pst_tiny", mixers="leap+patch").mixers


def test_rows_of_table_1_differ_in_their_mixers_alone():
    rows = [name for name, v in variants.VARIANTS.items() if "Table 1 (" in (v.source or "")]
    own = {"swin_tiny_avgpool", "swin_tiny_joint", "swin_tiny_local", "swin_tiny_sparse"}
    blank = {pst_jax.create_model(name).clone(mixers=()) for name in rows if name not in own}
    assert len(blank) == 1
