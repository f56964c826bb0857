"""Operations by hand and as PIL's; one clip, one change; draws by the papers and the release."""

import collections
import math

import numpy as np
import PIL.Image
import PIL.ImageEnhance
import PIL.ImageOps
import pytest
from video_files import frames_of_noise, write_video

from pst_jax.data import clips, policies, transforms
from pst_jax.data.policies import OPERATIONS
from pst_jax.data.records import Record
from pst_jax.data.transforms import ClipSpec


def spec_of(policy, **options):
    return ClipSpec(num_frames=3, size_px=24, policy=policy, **options)


def rng_of(position, seed=0):
    return np.random.default_rng([seed, position])


def noise(num_frames=3, height=24, width=24, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (num_frames, height, width, 3), np.uint8)


def line(*values):
    """A frame of one row of greys."""
    return np.repeat(np.uint8(values)[None, None, :, None], 3, axis=-1)


@pytest.mark.parametrize(
    ("name", "given", "before", "after"),
    [
        ("identity", (), (0, 7, 255), (0, 7, 255)),
        ("posterize", (3,), (0, 31, 32, 255), (0, 0, 32, 224)),
        ("posterize", (8,), (0, 31, 255), (0, 31, 255)),
        ("solarize", (230.4,), (0, 230, 231, 255), (0, 230, 24, 0)),
        ("invert", (), (0, 1, 255), (255, 254, 0)),
        ("brightness", (1.72,), (0, 100, 200), (0, 172, 255)),
        ("contrast", (0.5,), (0, 100, 200), (50, 100, 150)),
        ("contrast", (2.0,), (0, 100, 200), (0, 100, 255)),
        ("autocontrast", (), (50, 100, 150), (0, 128, 255)),
        ("autocontrast", (), (9, 9, 9), (9, 9, 9)),
        ("equalize", (), (9, 9, 9), (9, 9, 9)),
        ("colour", (1.72,), (0, 100, 255), (0, 100, 255)),  # greys have none
        ("translate_x", (0.25, 128), (10, 20, 30, 40), (128, 10, 20, 30)),
        ("translate_x", (-0.5, 0), (10, 20, 30, 40), (30, 40, 0, 0)),
        ("rotate", (180, 0), (10, 20, 30, 40), (40, 30, 20, 10)),
        ("cutout", (2.0, 0.5, 0.5), (1, 2, 3, 4), (1, 128, 128, 4)),
    ],
)
def test_an_operation_by_hand(name, given, before, after):
    found = OPERATIONS[name](line(*before), *given)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, line(*after))


def test_geometry_moves_the_right_way_about_the_middle():
    frame = np.zeros((1, 5, 5, 3), np.uint8)
    frame[0, 0, 2] = 200  # above the middle
    at = lambda name, *given: np.argwhere(OPERATIONS[name](frame, *given)[0, ..., 0] > 100).tolist()  # noqa: E731
    assert at("rotate", 90, 0) == [[2, 0]]  # counter-clockwise
    assert at("shear_x", 0.5, 0) == [[0, 1]]
    assert at("shear_y", 0.5, 0) == [[0, 2]]
    assert at("translate_y", 0.4, 0) == [[2, 2]]
    np.testing.assert_array_equal(OPERATIONS["translate_x"](frame, 1.0, 77), 77)
    sheared = OPERATIONS["shear_y"](frame.swapaxes(1, 2).copy(), 0.5, 0)
    assert np.argwhere(sheared[0, ..., 0] > 100).tolist() == [[1, 0]]
    half = OPERATIONS["shear_x"](frame, 0.25, 0)[0, 0, 1:3, 0]
    np.testing.assert_array_equal(half, [100, 100])  # bilinear


PIL_OPERATIONS = {
    "posterize": (lambda image: PIL.ImageOps.posterize(image, 3), (3,)),
    "solarize": (lambda image: PIL.ImageOps.solarize(image, 131), (131,)),
    "invert": (PIL.ImageOps.invert, ()),
    "autocontrast": (PIL.ImageOps.autocontrast, ()),
    "equalize": (PIL.ImageOps.equalize, ()),
    **{
        name: (
            lambda image, kind=kind: getattr(PIL.ImageEnhance, kind)(image).enhance(1.72),
            (1.72,),
        )
        for name, kind in [
            ("colour", "Color"),
            ("contrast", "Contrast"),
            ("brightness", "Brightness"),
            ("sharpness", "Sharpness"),
        ]
    },
}


@pytest.mark.parametrize("name", PIL_OPERATIONS)
def test_pixels_become_what_pil_makes_of_them(name):
    function, given = PIL_OPERATIONS[name]
    # Dim and blocky: with room to stretch, and without a difference between close neighbours.
    frame = (frames_of_noise(1, 64, 64)[0] // 2 + 40).astype(np.uint8)
    expected = np.asarray(function(PIL.Image.fromarray(frame)))
    found = OPERATIONS[name](frame[None], *given)[0]
    assert (found != frame).mean() > 0.1
    assert np.abs(found.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("name", OPERATIONS)
def test_all_frames_of_a_clip_change_alike(name):
    rng = rng_of(0)
    given = {"cutout": (0.3, 0.4, 0.6)}.get(name)
    if given is None:
        given = policies.step(name, 0.9, policies.PAPER, policies._sign(rng), 128)[1]
    clip, before = noise(), noise()
    found = OPERATIONS[name](clip, *given)
    np.testing.assert_array_equal(clip, before)  # which is not written to
    if name not in ("contrast", "autocontrast", "equalize"):
        each = np.concatenate([OPERATIONS[name](frame[None], *given) for frame in clip])
        np.testing.assert_array_equal(found, each)
    still = OPERATIONS[name](np.repeat(clip[:1], 3, axis=0), *given)
    np.testing.assert_array_equal(still, still[:1].repeat(3, axis=0))


def test_a_histogram_is_that_of_the_clip_but_in_the_release_of_each_frame(monkeypatch):
    clip = np.concatenate([line(50, 60), line(100, 150)])
    steps = [("autocontrast", ())]
    monkeypatch.setattr(policies, "draw", lambda spec, rng: steps)
    together = policies.apply(clip, spec_of("rand"), rng_of(0))[:, 0, :, 0]
    np.testing.assert_array_equal(together, [[0, 26], [128, 255]])
    each = policies.apply(clip, spec_of("rand_released"), rng_of(0))[:, 0, :, 0]
    np.testing.assert_array_equal(each, [[0, 255], [0, 255]])


@pytest.mark.parametrize("policy", ["rand", "rand_released", "auto"])
def test_the_same_position_gives_the_same_clip_and_another_another(policy):
    clip, spec = noise(), spec_of(policy)
    found = [policies.apply(clip, spec, rng_of(position)) for position in range(12)]
    np.testing.assert_array_equal(found[3], policies.apply(clip, spec, rng_of(3)))
    assert len({video.tobytes() for video in found}) > 6
    assert {(video.shape, video.dtype) for video in found} == {(clip.shape, clip.dtype)}
    # A view of a larger array, such as a crop, is taken as its copy.
    wide = noise(width=40)
    view = wide[::-1, :, 5:29]
    for position in range(12):
        a, b = (policies.apply(x, spec, rng_of(position)) for x in (view, view.copy()))
        np.testing.assert_array_equal(a, b)


def test_no_policy_draws_nothing_and_copies_nothing():
    rng, clip = rng_of(0), noise()
    assert policies.apply(clip, spec_of("none"), rng) is clip
    assert rng.random() == rng_of(0).random()


def is_binomial(count, num_draws, probability):
    deviation = math.sqrt(num_draws * probability * (1 - probability))
    return abs(count - num_draws * probability) <= 4.5 * deviation


def test_rand_augment_draws_of_fourteen_with_replacement_and_signs():
    steps = [policies.draw(spec_of("rand"), rng_of(k)) for k in range(6000)]
    names = collections.Counter(name for both in steps for name, _ in both)
    assert set(names) == set(OPERATIONS) - {"invert", "cutout"} and len(names) == 14
    assert all(is_binomial(count, 12000, 1 / 14) for count in names.values())
    assert is_binomial(sum(a[0] == b[0] for a, b in steps), 6000, 1 / 14)
    levels = collections.Counter(
        given for both in steps for name, given in both if name == "rotate"
    )
    assert set(levels) == {(27.0, 128), (-27.0, 128)}
    assert is_binomial(levels[27.0, 128], names["rotate"], 0.5)
    found = {name: abs(given[0]) for both in steps for name, given in both if given}
    expected = {"shear_x": 0.27, "shear_y": 0.27, "rotate": 27, "posterize": 4, "solarize": 25.6}
    expected |= dict.fromkeys(("translate_x", "translate_y"), 0.9 * 150 / 331)
    expected |= dict.fromkeys(("colour", "contrast", "brightness", "sharpness"), 1.72)
    assert found == pytest.approx(expected)


def test_number_and_strength_of_operations_are_the_specifications():
    steps = policies.draw(spec_of("rand", policy_ops=200, policy_magnitude=5), rng_of(0))
    assert len(steps) == 200
    assert {given for name, given in steps if name == "colour"} == {(1.0,)}
    assert {abs(given[0]) for name, given in steps if name == "rotate"} == {15}


def test_the_release_draws_two_distinct_ones_in_order_with_the_signs_of_the_run():
    spec = spec_of("rand_released")
    steps = [policies.draw(spec, rng_of(k)) for k in range(6000)]
    order = list(policies.RAND_RELEASED)
    assert len(order) == transforms.NUM_RELEASED_OPS
    assert all(order.index(a[0]) < order.index(b[0]) for a, b in steps)
    names = collections.Counter(name for both in steps for name, _ in both)
    assert all(is_binomial(names[name], 6000, 2 / 15) for name in order)

    given = collections.defaultdict(set)
    for both in steps:
        for name, values in both:
            given[name].add(values)
    slope = math.tan(math.radians(15.471))
    expected = {"shear_x": slope, "shear_y": slope, "translate_x": 0.18, "translate_y": 0.18}
    expected |= {"rotate": 27, "posterize": 3, "solarize": 230.4, "cutout": 0.18}
    expected |= dict.fromkeys(("colour", "contrast", "brightness", "sharpness"), 1.72)
    for name, level in expected.items():
        found = np.abs([values[0] for values in given[name]])
        np.testing.assert_allclose(found, level, rtol=1e-6, err_msg=name)
    geometric = order[:5]
    # Drawn once: one sign for all clips, on black.
    assert all(len(given[name]) == 1 and min(given[name])[1] == 0 for name in geometric)
    assert len(given["cutout"]) > 500  # its place is of the clip

    def signs(seed):
        spec = spec_of("rand_released", policy_ops=15, policy_seed=seed)
        return tuple(
            math.copysign(1, values[0]) for _, values in policies.draw(spec, rng_of(0))[:5]
        )

    every = [signs(seed) for seed in range(400)]
    assert len(set(every)) == 32
    assert all(is_binomial(sum(s[k] > 0 for s in every), 400, 0.5) for k in range(5))


def test_auto_augment_takes_a_pair_of_its_table_each_operation_with_its_probability():
    assert len(policies.AUTO) == 25
    assert {name for pair in policies.AUTO for name, _, _ in pair} <= set(OPERATIONS)
    found = collections.Counter(
        tuple(policies.draw(spec_of("auto"), rng_of(k))) for k in range(20000)
    )
    # The pair (posterize 0.4, 8), (rotate 0.6, 9): bits 8 - 4 * 8 / 9, 30 degrees.
    both = sum(found[("posterize", (4,)), ("rotate", (sign * 30.0, 128))] for sign in (1, -1))
    assert is_binomial(both, 20000, 0.4 * 0.6 / 25)
    # colour 0.4, 0 with rotate 0.8, 8: the weakest colour is nearly grey.
    turned = 30 * (8 / 9)
    grey = sum(found[("rotate", (s * turned, 128)), ("colour", (0.1,))] for s in (1, -1))
    assert is_binomial(grey, 20000, 0.8 * 0.4 / 25)
    # Nothing at all: the two complements, over all pairs.
    nothing = np.mean([(1 - a[1]) * (1 - b[1]) for a, b in policies.AUTO])
    assert is_binomial(found[()], 20000, nothing)


@pytest.mark.parametrize("policy", ["rand", "rand_released", "auto"])
def test_a_training_clip_gets_its_policy_after_crop_and_flip(policy, tmp_path):
    path = write_video(tmp_path / "a.mp4", frames_of_noise(6, 40, 48))
    record, plain = Record(path, 0, "a"), spec_of("none", flip="all", short_side_px=32)
    spec = spec_of(policy, flip="all", short_side_px=32)
    num_changed = 0
    for position in range(6):
        rng = rng_of(position)
        [(clip, _)] = clips.load_train_clips(record, plain, [rng])
        [(found, _)] = clips.load_train_clips(record, spec, [rng_of(position)])
        np.testing.assert_array_equal(found, policies.apply(clip, spec, rng))
        num_changed += (found != clip).any()
    assert num_changed >= 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "random"}, "policy='random' is unknown: allowed are none, rand, rand_released"),
        ({"policy": "rand", "policy_ops": 0}, "policy_ops=0 must be an integer of at least 1"),
        ({"policy": "rand_released", "policy_ops": 16}, "policy_ops=16 must be at most 15"),
        ({"policy": "rand", "policy_magnitude": 11}, r"policy_magnitude=11 .* in \[0, 10\]"),
        ({"policy": "rand", "policy_magnitude": "9"}, "policy_magnitude='9'"),
        ({"policy": "rand", "policy_seed": -1}, "policy_seed=-1"),
    ],
)
def test_a_policy_that_cannot_be_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        spec_of(**options)
