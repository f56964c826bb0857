import chex
import jax
import jax.numpy as jnp
import jitted
import numpy as np
import pytest

import pst_jax

VIT = dict(embed_dim=16, depth=2, num_heads=2, image_size=16, patch_size=8, num_frames=4)
VISFORMER = dict(
    image_size=32, init_channels=8, embed_dim=16, depths=(1, 1, 1), num_heads=2, num_frames=4
)


def video_of(model, batch=2, frames=None):
    shape = (batch, frames or model.num_frames, model.image_size, model.image_size, 3)
    return jax.random.normal(jax.random.key(0), shape)


def test_every_output_of_a_vit():
    model = pst_jax.create_model("tokshift_base", 5, **VIT)
    video = video_of(model)
    variables = jitted.init(model, video)

    @jax.jit
    def every(variables):
        kinds = ("logits", "frame_logits", "frame_features", "features")
        return [model.apply(variables, video, train=False, output=kind) for kind in kinds]

    logits, frame_logits, frame_features, features = every(variables)
    chex.assert_shape(features, (2, 4, 5, 16))
    np.testing.assert_array_equal(frame_features, features[:, :, 0])
    np.testing.assert_allclose(logits, frame_logits.mean(1), atol=1e-6)
    chex.assert_shape(logits, (2, 5))


def test_an_unknown_output_and_what_is_no_array_are_named():
    model = pst_jax.create_model("vit_base", 5, **VIT)
    init = lambda x, **options: model.init(jax.random.key(0), x, train=False, **options)  # noqa: E731
    with pytest.raises(ValueError, match="output='feature' must be one of logits, frame_logits"):
        jax.eval_shape(lambda x: init(x, output="feature"), video_of(model))
    with pytest.raises(ValueError, match="video is a list: it must be an array"):
        init([[0.0]])


def test_fewer_frames_run_and_other_sizes_are_refused():
    model = pst_jax.create_model("vit_base", 5, **VIT)
    variables = jitted.init(model, video_of(model))
    chex.assert_shape(jitted.apply(model, variables, video_of(model, frames=3)), (2, 5))
    for name, shape in (("vit_base", VIT), ("visformer_2d", VISFORMER)):
        model = pst_jax.create_model(name, 5, **shape)
        with pytest.raises(ValueError, match=f"image_size={model.image_size}"):
            jax.eval_shape(
                lambda x, m=model: m.init(jax.random.key(0), x, train=False),
                jnp.zeros((1, 4, 48, 48, 3)),
            )


def test_positions_of_space_and_time_tell_frames_apart():
    for pos_embed, slices in (("space", 1), ("space_time", 4)):
        model = pst_jax.create_model("vit_base", 5, **VIT, pos_embed=pos_embed)
        still = jnp.broadcast_to(video_of(model)[:, :1], video_of(model).shape)
        variables = jitted.init(model, still)
        assert variables["params"]["pos_embed"].shape == (slices, 5, 16)
        frames = jitted.apply(model, variables, still, output="frame_features")
        assert bool((frames[:, 0] == frames[:, 1]).all()) == (slices == 1)


def test_batch_norm_keeps_running_statistics_of_nine_parts_old_and_one_new():
    model = pst_jax.create_model("laps", 5, **VISFORMER)
    video = video_of(model)
    variables = jitted.init(model, video)

    @jax.jit
    def train(variables):
        return model.apply(variables, video, train=True, mutable=["batch_stats"])

    logits, updates = train(variables)
    chex.assert_tree_all_finite(logits)
    chex.assert_trees_all_equal_shapes(updates["batch_stats"], variables["batch_stats"])
    kernel = variables["params"]["stem_conv"]["kernel"]
    stem = jax.lax.conv_general_dilated(
        video.reshape(-1, 32, 32, 3),
        kernel,
        (2, 2),
        [(3, 3), (3, 3)],
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    expected = 0.1 * stem.mean(axis=(0, 1, 2))
    found = updates["batch_stats"]["stem_norm"]
    np.testing.assert_allclose(found["mean"], expected, atol=1e-6)
    np.testing.assert_allclose(found["var"], 0.9 + 0.1 * stem.var(axis=(0, 1, 2)), rtol=1e-5)


def test_remat_and_bfloat16_of_a_visformer_stay_close():
    video = video_of(pst_jax.create_model("laps", 5, **VISFORMER))
    outputs = []
    for options in ({}, {"remat": True}, {"dtype": "bfloat16"}):
        model = pst_jax.create_model("laps", 5, **VISFORMER, **options)
        variables = jitted.init(model, video)
        outputs.append(jitted.apply(model, variables, video))
        assert outputs[-1].dtype == jnp.float32
    np.testing.assert_allclose(outputs[1], outputs[0], atol=1e-6)
    np.testing.assert_allclose(outputs[2], outputs[0], atol=3e-2)


def test_an_uneven_image_leaves_out_what_fills_no_patch():
    # As LAPS (E): 360 / 2 / 4 = 45, and 22, and 11.
    model = pst_jax.create_model("laps_e", num_frames=2)
    video = jax.ShapeDtypeStruct((1, 2, 360, 360, 3), jnp.float32)
    shapes = jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), video)
    sides = [shapes["params"][f"pos_embed{i}"].shape[1] for i in (1, 2, 3)]
    assert sides == [45, 22, 11]


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("vit_base", {"patch_size": 15}, "no multiple of patch_size=15"),
        ("vit_base", {"num_heads": 5}, "does not divide embed_dim=768"),
        ("vit_base", {"num_heads": (3, 3)}, "an integer of at least 1"),
        ("vit_base", {"patch_size": (1, 16, 16)}, "an integer of at least 1"),
        ("vit_base", {"pos_embed": "none"}, "must be one of 'space', 'space_time'"),
        ("vit_base", {"depths": (2,)}, "no override 'depths'"),
        ("laps", {"depths": (7, 4)}, "three entries"),
        ("laps", {"embed_dim": 100}, "embed_dim=100 must be a multiple of 8 and of num_heads=6"),
        ("laps", {"levels": (True, True)}, "a tuple of levels"),
        ("laps", {"image_size": 16}, "at least 32"),
        ("laps", {"num_frames": 7}, "num_frames=7 .* no leap pairs"),
    ],
)
def test_refuses_what_does_not_fit(name, overrides, message):
    with pytest.raises(ValueError, match=f"{name}: .*{message}"):
        pst_jax.create_model(name, **overrides)
