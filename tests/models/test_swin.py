import functools
import math

import chex
import jax
import jax.numpy as jnp
import jitted
import numpy as np
import pytest

import pst_jax
from pst_jax.models.video import mean_over_frames


@pytest.mark.parametrize(
    ("frames", "height", "width", "overrides"),
    [
        (1, 32, 32, {"num_frames": 1, "patch_size": (1, 4, 4)}),
        (7, 20, 20, {"num_frames": 7}),
        (15, 12, 57, {"num_frames": 16}),
        (4, 33, 33, {"num_frames": 4, "window": (2, 4, 4), "bias_keys": "own"}),
        (6, 64, 40, {"num_frames": 6, "pos_embed": "space_time", "patch_size": (1, 8, 8)}),
    ],
)
def test_any_number_of_frames_and_any_resolution_run(frames, height, width, overrides):
    model = pst_jax.create_model("pst_testing", 5, **overrides)
    video = jax.random.normal(jax.random.key(0), (2, frames, height, width, 3))
    variables = jitted.init(model, video, 1)

    @jax.jit
    def run(variables):
        features = model.apply(variables, video, train=False, method=model.features)
        loss = lambda v: model.apply(v, video, train=False).sum()  # noqa: E731
        return features, *jax.value_and_grad(loss)(variables)

    features, *rest = run(variables)
    chex.assert_tree_all_finite((features, rest))
    p, q, r = model.patch_size
    grid = (math.ceil(math.ceil(height / q) / 2), math.ceil(math.ceil(width / r) / 2))
    chex.assert_shape(features, (2, math.ceil(frames / p), *grid, 32))


def test_a_position_embedding_is_resized_to_another_grid():
    model = pst_jax.create_model("pst_testing", 5, pos_embed="space_time")
    video = jnp.zeros((1, 8, 32, 32, 3))
    variables = jitted.init(model, video, 0)
    chex.assert_shape(variables["params"]["pos_embed"]["embedding"], (4, 8, 8, 16))
    chex.assert_shape(jitted.apply(model, variables, jnp.zeros((1, 6, 48, 40, 3))), (1, 5))


def test_a_single_frame_is_the_2d_network():
    options = dict(
        num_frames=1, patch_size=(1, 4, 4), embed_dim=16, depths=(2, 2), num_heads=(1, 2)
    )
    pst = pst_jax.create_model("pst_tiny", 5, **options)
    swin = pst_jax.create_model("swin2d_tiny", 5, **options)
    video = jax.random.normal(jax.random.key(0), (1, 1, 56, 56, 3))
    variables = jitted.init(swin, video, 1)
    np.testing.assert_array_equal(
        jitted.apply(pst, variables, video), jitted.apply(swin, variables, video)
    )


def test_the_2d_network_gives_reversed_clips_the_same_bits_and_pst_does_not():
    shape = dict(num_frames=8, patch_size=(1, 4, 4), embed_dim=32, depths=(2,), num_heads=(1,))
    video = jax.random.normal(jax.random.key(0), (16, 8, 28, 28, 3))
    for options, is_blind in (({"shift_stages": ()}, True), ({}, False)):
        model = pst_jax.create_model("pst_tiny", 16, bias_keys="own", **shape, **options)
        variables = jitted.init(model, video, 1)
        apply = jax.jit(functools.partial(model.apply, train=False))
        is_same = (apply(variables, video) == apply(variables, video[:, ::-1])).all()
        assert is_same == is_blind


def test_the_mean_over_frames_does_not_know_their_order_of_reversal():
    x = jax.random.normal(jax.random.key(0), (3, 7, 5)) * 1e3
    np.testing.assert_array_equal(mean_over_frames(x), mean_over_frames(x[:, ::-1]))
    np.testing.assert_allclose(mean_over_frames(x), x.mean(1), rtol=1e-4, atol=1e-3)


def test_drop_path_and_dropout_draw_only_in_training():
    model = pst_jax.create_model("pst_testing", 5, drop_path_rate=0.9, head_dropout=0.5)
    video = jax.random.normal(jax.random.key(0), (2, 8, 32, 32, 3))
    variables = jitted.init(model, video, 1)

    @jax.jit
    def draw(seed):
        return model.apply(variables, video, train=True, rngs={"dropout": jax.random.key(seed)})

    assert (draw(0) == draw(0)).all() and (draw(0) != draw(1)).any()
    still = jitted.apply(model, variables, video)
    assert (still == jitted.apply(model, variables, video)).all()


def test_remat_and_bfloat16_stay_close():
    video = jax.random.normal(jax.random.key(0), (1, 8, 32, 32, 3))
    model = pst_jax.create_model("pst_testing", 5)
    variables = jitted.init(model, video, 1)
    loss = lambda m: lambda v: (m.apply(v, video, train=False) ** 2).sum()  # noqa: E731
    remat = pst_jax.create_model("pst_testing", 5, remat=True)
    chex.assert_trees_all_close(
        jax.jit(jax.grad(loss(model)))(variables),
        jax.jit(jax.grad(loss(remat)))(variables),
        rtol=1e-5,
        atol=1e-7,
    )
    half = pst_jax.create_model("pst_testing", 5, dtype="bfloat16")
    logits = jitted.apply(half, variables, video)
    assert logits.dtype == jnp.float32
    chex.assert_type(jitted.apply(half, variables, video, method=half.features), jnp.bfloat16)
    np.testing.assert_allclose(logits, jitted.apply(model, variables, video), atol=2e-3)
    chex.assert_tree_all_finite(jax.jit(jax.grad(loss(half)))(variables))


@pytest.mark.parametrize(
    ("video", "message"),
    [
        (jnp.zeros((1, 8, 32, 32)), r"\[B, F, H, W, 3\]"),
        (jnp.zeros((8, 32, 32, 3)), r"\[B, F, H, W, 3\], for a single clip video\[None\]"),
        (jnp.zeros((1, 1, 8, 32, 32, 3)), r"\[B, F, H, W, 3\]"),
        (jnp.zeros((1, 8, 32, 32, 1)), r"\[B, F, H, W, 3\]"),
        (jnp.zeros((1, 8, 32, 32, 4)), r"\[B, F, H, W, 3\]"),
        (jnp.zeros((1, 3, 8, 32, 32)), r"from channels first by video.transpose\(0, 2, 3, 4, 1\)"),
        (jnp.zeros((1, 0, 32, 32, 3)), "none of them 0"),
        (jnp.zeros((1, 8, 0, 32, 3)), "none of them 0"),
        (jnp.zeros((0, 8, 32, 32, 3)), "none of them 0"),
        (jnp.zeros((1, 8, 32, 32, 3), jnp.uint8), "dtype uint8.*normalise"),
        (jnp.zeros((1, 8, 32, 32, 3), jnp.int32), "dtype int32.*normalise"),
        (jnp.zeros((1, 8, 32, 32, 3), bool), "dtype bool.*normalise"),
        (jnp.zeros((1, 9, 32, 32, 3)), "num_frames=9"),
    ],
)
def test_refuses_what_is_no_batch_of_clips(video, message):
    model = pst_jax.create_model("pst_testing", 5)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), video)


@pytest.mark.parametrize("value", [255.0, -21.0, np.nan, np.inf])
@pytest.mark.parametrize("make", [np.float32, np.float64, jnp.bfloat16])
def test_refuses_values_that_no_normalised_pixel_has_where_it_sees_them(value, make):
    model = pst_jax.create_model("pst_testing", 5)
    video = np.zeros((1, 8, 32, 32, 3), make)
    video[0, 3, 4, 5, 1] = value
    with pytest.raises(ValueError, match="beyond .*pst_jax.ops.normalise"):
        jax.eval_shape(lambda: model.init(jax.random.key(0), video, train=False))
    # Traced, it has no values: the compiled program neither checks nor waits.
    jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), video)
