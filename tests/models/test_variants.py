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
    assert PARAMS.get(name) in (None, count)
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
        (("mlp_ratio",), (0, -1, "4", float("nan")), "a number above 0"),
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
