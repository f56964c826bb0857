"""Any mixer on any backbone: no name is an alias, and one frame is the 2D network."""

import re

import jax
import numpy as np
import pytest
from flax import traverse_util

import pst_jax
from pst_jax.models.schedules import METHODS

SWIN = dict(embed_dim=16, depths=(2,), num_heads=(2,), patch_size=(1, 4, 4))
VISFORMER = dict(
    image_size=64, init_channels=8, embed_dim=16, depths=(1, 2, 1), num_heads=2, mlp_ratio=2.0
)
VIT = dict(embed_dim=16, depth=2, num_heads=2, image_size=32, patch_size=8)
# A 2D network of each backbone (PST's, whose bias table spans the clip), and the input's size.
BACKBONES = {
    "swin": ("pst_testing", SWIN, 28),
    "visformer": ("visformer_2d", VISFORMER, 64),
    "vit": ("vit_base", VIT, 32),
}
# On one backbone, for the compiler's time.
JOINED = ["pst+leap", "patch+laps", "divided+tsm", "axial+patch", "sparse+plain"]
# What a single frame does to a method.
AT_ONE_FRAME = {
    "equal": ["tsm", "patch", "pst", "joint", "local", "sparse"],
    "loses channels": ["periodic", "plain", "tokshift"],
}


def make(backbone, mixers, num_frames=4, **overrides):
    name, shape, _ = BACKBONES[backbone]
    return pst_jax.create_model(
        name, 5, mixers=mixers, num_frames=num_frames, **(shape | overrides)
    )


def video_of(backbone, num_frames=4):
    size = BACKBONES[backbone][2]
    return jax.random.normal(jax.random.key(0), (1, num_frames, size, size, 3))


def weights(model, video):
    """The same array for the same path, large enough that attention is far from uniform.

    What further attentions have is what the block's own has.
    """
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), video, train=False))
    flat = {}
    for path, leaf in traverse_util.flatten_dict(shapes, sep="/").items():
        known = re.sub(r"/(attn|norm1)_\d/", r"/\1/", path)
        values = np.random.default_rng(sum(known.encode())).normal(0, 0.5, leaf.shape)
        is_scale = known.endswith(("scale", "var"))
        flat[path] = (np.abs(values) + 0.5 if is_scale else values).astype(np.float32)
    return traverse_util.unflatten_dict(flat, sep="/")


def run(model, video, with_gradients=True):
    """Features of frames, float32 [T, C], and the gradients of a loss on them.

    Without the compiler's optimisations, which here are most of the time: what is tested is which
    tokens meet, and the arithmetic by the goldens.
    """
    variables = weights(model, video)

    def features(params):
        return model.apply(
            variables | {"params": params}, video, train=False, output="frame_features"
        )

    function = features
    if with_gradients:
        function = lambda p: jax.value_and_grad(lambda p: _loss_of(features(p)), has_aux=True)(p)  # noqa: E731
    program = jax.jit(function).lower(variables["params"])
    out = program.compile(compiler_options={"xla_backend_optimization_level": 0})(
        variables["params"]
    )
    return (np.asarray(out[0][1][0]), out[1]) if with_gradients else np.asarray(out[0])


def _loss_of(features):
    return (features**2).mean(), features


@pytest.mark.parametrize("backbone", BACKBONES)
def test_no_two_mixers_compute_the_same_and_gradients_are_finite(backbone):
    video = video_of(backbone)
    outputs = {}
    for mixers in [*METHODS, *(JOINED if backbone == "swin" else ())]:
        outputs[mixers], gradients = run(make(backbone, mixers), video)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients)), mixers
        used = traverse_util.flatten_dict(gradients, sep="/")
        unused = [path for path, gradient in used.items() if not np.any(gradient)]
        assert all(path.startswith("head/") for path in unused), (mixers, unused)
    scale = np.abs(outputs["none"]).max()
    for i, first in enumerate(outputs):
        for second in list(outputs)[:i]:
            difference = np.abs(outputs[first] - outputs[second]).max() / scale
            assert difference > 1e-3, (first, second, difference)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_single_frame_is_the_2d_network_unless_channels_are_lost(backbone):
    video = video_of(backbone, 1)
    outputs = {
        mixers: run(make(backbone, mixers, 1), video, with_gradients=False)
        for mixers in ["none", *AT_ONE_FRAME["equal"], *AT_ONE_FRAME["loses channels"]]
    }
    for mixers in AT_ONE_FRAME["equal"]:
        np.testing.assert_allclose(
            outputs[mixers], outputs["none"], rtol=1e-5, atol=1e-5, err_msg=mixers
        )
    for mixers in AT_ONE_FRAME["loses channels"]:
        assert np.abs(outputs[mixers] - outputs["none"]).max() > 1e-3, mixers


def test_mixers_in_deep_windows_that_roll_in_time_differ_too():
    video = jax.random.normal(jax.random.key(0), (1, 8, 28, 28, 3))
    shape = dict(SWIN, window=(4, 7, 7), num_frames=8, temporal_shift=True)
    outputs = {
        mixers: run(pst_jax.create_model("pst_testing", 5, mixers=mixers, **shape), video, False)
        for mixers in ("none", "tsm", "patch", "pst", "periodic")
    }
    for i, first in enumerate(outputs):
        for second in list(outputs)[:i]:
            assert np.abs(outputs[first] - outputs[second]).max() > 1e-3, (first, second)


@pytest.mark.parametrize("mixers", ["leap", "laps", "pst+leap"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_single_frame_cannot_leap(backbone, mixers):
    with pytest.raises(ValueError, match="num_frames=1 .* no leap pairs"):
        make(backbone, mixers, 1)


def test_a_clip_shorter_than_the_model_was_built_for_refuses_what_it_cannot_pair():
    model = make("vit", "leap", 8, levels=(3,))
    with pytest.raises(ValueError, match="num_frames=4 .* level 3"):
        jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), video_of("vit"))


@pytest.mark.parametrize(
    ("mixers", "overrides", "message"),
    [
        ("lap", {}, "'lap' is unknown; known, and joined by .: none, tsm, patch"),
        ("pst,leap", {}, "unknown"),
        ("", {}, "unknown"),
        ("leap+joint", {}, "two of them set 'partition'"),
        ("divided+leap", {}, "two of them set 'partition'"),
        ("divided+axial", {}, "several attentions"),
        ("periodic+plain", {}, "two of them set 'after'"),
        ("leap", {"levels": (4,)}, r"num_frames=8 .* level 4: .*; levels of 8 .* \[1, 2, 3"),
        ("leap", {"levels": (0,)}, "level 0"),
        ("leap", {"levels": (2.0,)}, "a tuple of levels"),
        ("leap", {"levels": (1,) * 4}, "more than the 3 blocks"),
        ("leap", {"num_frames": 10, "levels": (2,)}, r"num_frames=10 .*; levels .* \[1, 3\]"),
        ("patch", {"levels": (1,)}, "no override 'levels' .with mixers='patch'"),
        ("patch", {"pattern": ((1, 2), (3,))}, "not a rectangle"),
        ("patch", {"pattern": ((1,) * 5,)}, "more than the window"),
        ("patch", {"shift_blocks": "even"}, "'every', 'odd'"),
        ("periodic", {"fold_div": 1}, "fold_div=1 must be 0"),
        ("patch", {"shift_stages": (3,)}, "stages with attention are 1 to 2"),
        (7, {}, "mixers=7 must be a text"),
    ],
)
def test_refuses_what_cannot_be(mixers, overrides, message):
    with pytest.raises(ValueError, match=f"visformer_2d: .*{message}"):
        make("visformer", mixers, **({"num_frames": 8} | overrides))
