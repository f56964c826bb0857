"""What a config may say, and how a mistake in one is told: before anything is computed."""

import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import common, motion, motion_hard, videos
from pst_jax import config_keys, experiment


def build(changes, config=None):
    """Builds the experiment of a config with some keys set, whatever their type."""
    config = (config or videos.get_config()).unlock()
    with config.ignore_type():
        for key, value in changes.items():
            *path, last = key.split(".")
            section = config
            for name in path:
                section[name] = section.get(name, ConfigDict())
                section = section[name]
            section[last] = value
    return experiment.build(config)


def test_the_configs_here_have_no_mistake_but_that_the_videos_are_missing(tmp_path):
    with pytest.raises(ValueError, match=r"train\.csv.* does not exist"):
        build({"data.root": str(tmp_path)})
    for kind in ("pst", "twin"):
        for module in (motion, motion_hard):
            built = build(
                {"data.root": str(tmp_path / module.__name__), **FEW}, module.get_config(kind)
            )
            assert built.train_records and built.test_records


def test_recipes_lack_nothing_but_model_and_videos(tmp_path):
    recipes = {
        common.pst_k400: "train.csv",
        common.pst_something: "labels/train.json",
        common.pst_something_v1: "something-something-v1-train.csv",
        common.pst_diving48: "Diving48_V2_train.json",
        common.laps: "train.csv",
    }
    for recipe, file in recipes.items():
        config = recipe(learning_rate=0.5, batch_size=80, size_px=112, num_frames=4)
        found = (config.optim.learning_rate, config.train.batch_size, config.clip.size_px)
        assert found == (0.5, 80, 112) and config.model.num_frames == config.clip.num_frames == 4
        name = "laps" if recipe is common.laps else "pst_tiny"
        with pytest.raises(ValueError, match=rf"{file}.* does not exist"):
            build({"model.name": name, "data.root": str(tmp_path)}, config)


# Of every released recipe what is not the same in all: classes, frames, flips, policy, erasing,
# colour, smoothing, views.
RELEASED = {
    "pst_k400": (400, "dense", "all", None, "none", 0.0, 0.0, 0.0, "4x3"),
    "pst_something": (174, "uniform", "skip", "ssv2", "rand_released", 0.25, 0.0, 0.1, "1x3"),
    "pst_something_v1": (174, "uniform", "skip", "ssv1", "rand_released", 0.25, 0.0, 0.1, "1x3"),
    "pst_diving48": (48, "uniform", "all", None, "rand_released", 0.25, 0.0, 0.02, "1x3"),
    "laps": (400, "linspace", "all", None, "none", 0.0, 0.1, 0.1, "10x3"),
    "vit": (400, "linspace", "all", None, "none", 0.0, 0.1, 0.1, "10x3"),
}


@pytest.mark.parametrize("name", RELEASED)
def test_the_recipes_are_as_released(name):
    recipe = getattr(common, name)
    config = recipe(clips_per_gpu=1) if name == "vit" else recipe()
    clip, augment = config.clip, config.augment
    assert (augment.mixup, augment.cutmix, clip.reverse, clip.num_repeats) == (0, 0, "none", 1)
    assert (clip.policy_ops, clip.policy_magnitude, clip.frame_offset) == (2, 9, 0)
    assert (clip.area_range, clip.aspect_range) == ((0.08, 1.0), (3 / 4, 4 / 3))
    found = (config.model.num_classes, clip.sampling, clip.flip, clip.flip_labels, clip.policy)
    found += (augment.erase, augment.colour_jitter, config.optim.label_smoothing)
    assert (*found, config.eval.views) == RELEASED[name]
    if name.startswith("pst"):
        assert (config.train.num_epochs, config.train.batch_size) == (30, 64)
        assert (clip.short_side_px, config.eval.average) == (256, "prob")


def test_something_v1_is_put_right_unless_the_paper_bug_is_asked_for():
    right, released = (common.pst_something_v1(recipe) for recipe in ("", "paper_bug"))
    differing = {k: (v, released.clip[k]) for k, v in right.clip.items() if v != released.clip[k]}
    assert differing == {"flip_labels": ("ssv1", "ssv2"), "frame_offset": (0, -1)}
    right.clip = released.clip
    assert right == released
    with pytest.raises(ValueError, match="argument 'bug' is unknown: use paper_bug"):
        common.pst_something_v1("bug")


def test_labels_may_be_named_by_their_data_set(tmp_path):
    root = {"data.root": str(tmp_path), **FEW}
    named = {"clip.flip": "swap", "clip.flip_labels": "motion", "clip.reverse": "swap"}
    built = build(root | named | {"clip.reverse_labels": "motion"}, motion.get_config())
    assert built.clip.flip_labels[:8] == (1, 0, 2, 3, 6, 7, 4, 5)
    assert built.clip.reverse_labels == tuple(k ^ 1 for k in range(16))
    off = {"clip.flip": "none", "clip.flip_labels": "motion"}
    assert build(root | off, motion.get_config()).clip.flip_labels is None
    own = {"clip.flip": "skip", "clip.flip_labels": (3,)}
    assert build(root | own, motion.get_config()).clip.flip_labels == (3,)


def test_augmentation_and_the_seed_of_the_policy_are_the_configs(tmp_path):
    changes = {"data.root": str(tmp_path), **FEW, "seed": 7, "augment.mixup": 0.8}
    built = build(changes | {"clip.policy": "rand_released"}, motion.get_config())
    assert (built.augmentation.mixup, built.augmentation.is_on) == (0.8, True)
    assert (built.clip.policy, built.clip.policy_seed) == ("rand_released", 7)
    assert not build({"data.root": str(tmp_path), **FEW}, motion.get_config()).augmentation.is_on


def test_the_laps_recipe_is_sgd_in_steps_of_epochs_without_decay():
    config = common.laps()
    schedule = experiment.build_schedule(config, num_steps=54, steps_per_epoch=3)
    np.testing.assert_allclose(
        [schedule(step) for step in (0, 29, 30, 45, 53)], [0.2, 0.2, 0.02, 0.002, 0.002], rtol=1e-6
    )
    params = {"head": np.float32([0.3, -0.4])}
    optimizer = experiment.build_optimizer(config, schedule, params)
    state, seen = optimizer.init(params), []
    for _ in range(2):  # the gradient's norm is 5, and clipped to 1
        updates, state = optimizer.update({"head": np.float32([3.0, 4.0])}, state, params)
        seen.append(updates["head"])
    np.testing.assert_allclose(seen, np.outer([-0.2, -0.38], [0.6, 0.8]), rtol=1e-5)
    spans = [common.laps(size_px=size).clip.short_side_max_px for size in (224, 320, 360, 384)]
    assert spans == [360, 480, 540, 512]


def test_the_recipe_of_vits_is_that_of_laps_but_for_rate_pixels_and_batch_norm():
    config, laps = common.vit(clips_per_gpu=5, size_px=384, num_frames=12), common.laps()
    assert (config.optim.learning_rate, config.train.batch_size) == (0.05, 5 * 10 * 8)
    assert (config.model.image_size, config.model.num_frames) == (384, 12)
    assert (config.clip.stride_frames, config.train.precise_bn_batches) == (32, 0)
    assert {*config.pixels.mean, *config.pixels.std} == {127.5}
    config.optim.learning_rate, config.train.batch_size = 0.2, 3200
    config.train.precise_bn_batches = 200
    assert (config.optim, config.train, config.eval) == (laps.optim, laps.train, laps.eval)


def test_every_family_has_the_pixels_it_was_released_with():
    pixels = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3) * 20
    released = {
        common.pst_something: ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        common.laps: ((0.486, 0.457, 0.407), (0.229, 0.224, 0.225)),
        common.vit: ((0.5,) * 3, (0.5,) * 3),
    }
    for recipe, (mean, std) in released.items():
        config = recipe(clips_per_gpu=1) if recipe is common.vit else recipe()
        expected = (pixels / 255 - mean) / std
        found = experiment.build_normalise(config)(pixels)
        np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=recipe.__name__)
        text = experiment.build_normalise(ConfigDict(json.loads(config.to_json())))(pixels)
        np.testing.assert_array_equal(text, found)


def test_pixels_are_part_of_what_a_run_is():
    old, new = common.base().to_dict(), common.base().to_dict()
    new["pixels"] = {"mean": (127.5,) * 3, "std": (127.5,) * 3}
    assert config_keys.hash_of(old) != config_keys.hash_of(new)
    is_checked = lambda key: not key.startswith(config_keys.FREE)  # noqa: E731
    with pytest.raises(ValueError, match=r"pixels.mean: \(123.675, .* there, \(127.5, .* here"):
        config_keys.check_same(old, new, "runs/x", is_checked)


def test_steps_of_epochs_have_no_warm_up():
    config = common.laps()
    config.optim.warmup_epochs = 2.5
    with pytest.raises(ValueError, match="warmup_epochs=2.5 must be 0 .*'epoch_steps'"):
        experiment.build_schedule(config, num_steps=54, steps_per_epoch=3)
    config.optim.schedule = "steps"
    with pytest.raises(ValueError, match="schedule='steps' must be .*'epoch_steps'"):
        experiment.build_schedule(config, num_steps=54, steps_per_epoch=3)


FEW = {
    "data.motion.train_per_class": 1,
    "data.motion.test_per_class": 1,
    "data.motion.size_px": 28,
    "clip.size_px": 28,
    "clip.short_side_px": 28,
}


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("trainn", "config has no key 'trainn'; did you mean 'train'"),
        ("datta.root", "config has no key 'datta'; did you mean 'data'"),
        ("train.batchsize", "config.train has no key 'batchsize'; did you mean 'batch_size'"),
        (
            "clip.strideframes",
            "config.clip has no key 'strideframes'; did you mean 'stride_frames'",
        ),
        ("model.embed_dimm", "no override 'embed_dimm'.*; did you mean 'embed_dim'"),
        ("data.motion.sizepx", "config.data.motion has no key 'sizepx'; did you mean 'size_px'"),
        ("optim.zzz", "config.optim has no key 'zzz'.* Known: beta2, clip_norm"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(key, message):
    with pytest.raises(ValueError, match=message):
        build({key: 1})


def test_a_missing_key_is_named():
    config = videos.get_config()
    del config.optim.beta2, config.eval
    with pytest.raises(ValueError, match=r"lacks eval.average.*optim.beta2: make it from configs"):
        build({}, config)


@pytest.mark.parametrize(
    ("keys", "values", "what"),
    [
        (
            ("train.batch_size", "train.log_every_steps", "train.checkpoint_every_steps")
            + ("eval.batch_size", "clip.num_frames", "clip.size_px", "train.accumulate"),
            (0, -1, 2.0, "8", None, True),
            "an integer of at least 1",
        ),
        (
            ("seed", "data.num_threads", "data.num_workers", "train.eval_every_epochs"),
            (-1, 0.5, "1", 2**32),
            "an integer of at least 0",
        ),
        (
            ("eval.short_side_px", "train.precise_bn_batches"),
            (-1,),
            "an integer of at least 0",
        ),
        (
            ("train.num_epochs", "optim.learning_rate", "optim.clip_norm", "optim.decay_factor"),
            (0.0, -1.0, float("nan"), float("inf"), "1"),
            "a number above 0",
        ),
        (
            ("optim.beta2", "optim.momentum", "optim.label_smoothing"),
            (-0.1, 1.0, "0"),
            r"a number in \[0, 1\)",
        ),
        (("optim.optimizer",), ("adam", "", None), "'adamw' or 'sgd'"),
        (
            ("pixels.mean",),
            (127.5, (0.5, 0.5), (0, 0, 256), (0, 0, -1), (0, 0, "1"), (0, 0, float("nan")), None),
            r"three numbers in \[0, 255\], of red, green and blue",
        ),
        (("pixels.std",), (127.5, (0.5, 0.5), (1, 1, 0)), r"three numbers in \(0, 255\], of red"),
        (("optim.milestones",), (10, (10, 10), (15, 10), (0,), ("10",)), "a tuple of ascending"),
        (
            ("optim.warmup_epochs", "augment.mixup", "augment.cutmix"),
            (-1.0, float("nan"), "1"),
            "a number of at least 0",
        ),
        (
            ("data.max_unreadable_share", "augment.erase", "augment.colour_jitter"),
            (-0.1, 1.1, None),
            r"a share in \[0, 1\]",
        ),
        (("eval.has_reversed_pairs", "eval.shuffle_frames"), (1, "no"), "True or False"),
        (("data.root", "init_from", "eval.views"), (3, None), "a text"),
        (
            ("optim.groups",),
            (3, (("", 1.0),), (("(", 1.0, 0.0),), (("", "1", 0.0),), (("", -1.0, 0.0),)),
            "triples",
        ),
    ],
)
def test_a_value_of_the_wrong_type_or_range_is_named(keys, values, what):
    for key in keys:
        for value in values:
            with pytest.raises(ValueError, match=f"config.{key}=.* must be {what}"):
                build({key: value})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip.num_frames": 8}, "config.model.num_frames=32 and config.clip.num_frames=8"),
        (
            {"clip.stride_frames": 0},
            "config.clip: stride_frames=0 must be an integer of at least 1",
        ),
        ({"clip.crop": "centre"}, "config.clip: crop='centre'"),
        ({"clip.flip_labels": (0,)}, "config.clip: flip='all' with flip_labels="),
        ({"clip.flip": "swap", "clip.flip_labels": (1, 0)}, "flip_labels has 2 classes, .*=400"),
        ({"clip.flip": "skip", "clip.flip_labels": (3, 400)}, r"names \[400\]: .* in \[0, 399\]"),
        ({"clip.reverse": "swap", "clip.reverse_labels": (1, 0)}, "reverse_labels has 2 classes"),
        ({"clip.flip": "skip", "clip.flip_labels": "ssv3"}, "config.clip: the labels 'ssv3'"),
        ({"clip.policy": "randaugment"}, "config.clip: policy='randaugment' is unknown"),
        ({"eval.views": "4x2"}, "views='4x2'"),
        ({"eval.average": "mean"}, "config.eval.average='mean'"),
        ({"eval.short_side_px": 300}, "config.eval.short_side_px=300 .* for three crops"),
        ({"eval.has_reversed_pairs": True, "model.num_classes": 3}, "num_classes=3 is odd"),
        ({"model.num_classes": 0}, "num_classes=0 must be an integer"),
        ({"model.dtype": "float99"}, "dtype='float99'"),
    ],
)
def test_values_that_do_not_fit_are_named_before_data_are_read(changes, message):
    with pytest.raises(ValueError, match=message):
        build(changes)
