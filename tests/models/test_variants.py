import itertools

import jax
import jax.numpy as jnp
import pytest

import pst_jax
from pst_jax.evaluation import cost

PARAMS = {
    "pst_tiny": 28_531_222,
    "pst_base": 89_065_688,
    "swin2d_tiny": 27_831_562,
    "swin2d_base": 87_159_368,
    "pst_testing": None,
}


def test_the_table_is_the_one_promised():
    assert pst_jax.list_models() == sorted(PARAMS)


@pytest.mark.parametrize("name", PARAMS)
def test_shapes_and_exact_parameters(name):
    model = pst_jax.create_model(name, num_classes=400)
    variables = cost.abstract_variables(model, 224)
    video = jax.ShapeDtypeStruct((2, model.num_frames, 224, 224, 3), jnp.float32)
    logits = jax.eval_shape(lambda v, x: model.apply(v, x, train=False), variables, video)
    assert (logits.shape, logits.dtype) == ((2, 400), jnp.float32)
    assert (model.num_classes, model.num_frames) == (400, 8 if name == "pst_testing" else 32)
    count = sum(leaf.size for leaf in jax.tree.leaves(variables))
    assert PARAMS[name] in (None, count)


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
        ("swin2d_tiny", {"pattern": "C"}, "no override 'pattern'"),
        ("pst_tiny", {"pattern": "Z"}, "unknown"),
        ("pst_tiny", {"pattern": ((1,) * 8,)}, "larger window"),
        ("pst_tiny", {"shift_stages": (5,)}, "stages are 1 to 4"),
        ("pst_tiny", {"num_heads": (5, 6, 12, 24)}, "does not divide"),
        ("pst_tiny", {"depths": (2, 2)}, "one entry per stage"),
        ("pst_tiny", {"window": (1, 7)}, "three positive integers"),
        ("pst_tiny", {"bias_keys": "last"}, "must be one of"),
        ("swin2d_tiny", {"bias_keys": "first_frame"}, "use 'own'"),
        ("pst_testing", {"shift_stages": (1, 3)}, "its stages are 1 to 2"),
        (None, {}, "Known: pst_base"),
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
        (("shift_stages",), (1, "12", (0,)), "a tuple of stages, which are 1 to 4"),
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
