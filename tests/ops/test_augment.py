"""Draws by probability, boxes and shares by their pixels; the same on one device and on eight."""

import colorsys
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pst_jax import sharding
from pst_jax.ops import augment as module
from pst_jax.ops import normalise
from pst_jax.ops.augment import Augmentation, augment

KEY = jax.random.key(3)
ALL = Augmentation(colour_jitter=0.5, erase=0.5, mixup=0.8, cutmix=1.0)


def batch(size=8, num_frames=2, height=16, width=12, seed=0):
    rng = np.random.default_rng(seed)
    video = rng.integers(0, 256, (size, num_frames, height, width, 3), np.uint8)
    targets = np.eye(5, dtype=np.float32)[rng.integers(0, 5, size)]
    return video, targets, np.arange(100, 100 + size, dtype=np.int32)


@pytest.fixture(autouse=True, scope="module")
def quick_to_compile():
    """The draws take XLA seconds to optimise, and a moment to run."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


@functools.partial(jax.jit, static_argnames="spec")
def run(video, targets, position, spec, key=KEY):
    return augment(video, targets, position, key, spec, normalise)


def keys_of(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def is_binomial(count, num_draws, probability):
    deviation = math.sqrt(num_draws * probability * (1 - probability))
    return abs(count - num_draws * probability) <= 4.5 * deviation


def test_nothing_asked_for_is_normalisation():
    video, targets, position = batch()
    found = run(video, targets, position, Augmentation())
    np.testing.assert_array_equal(found[0], jax.jit(normalise)(video))
    np.testing.assert_array_equal(found[1], targets)
    assert not Augmentation().is_on
    assert all(Augmentation(**{name: 0.1}).is_on for name in ("colour_jitter", "erase", "cutmix"))


def test_all_frames_of_a_clip_change_alike():
    video, targets, position = batch()
    still = video[:, :1].repeat(3, axis=1)
    found, _ = run(still, targets, position, ALL)
    assert found.dtype == jnp.float32 and found.shape == still.shape
    np.testing.assert_array_equal(found, found[:, :1].repeat(3, axis=1))


def test_a_clip_is_changed_by_seed_and_position_wherever_it_is_in_whatever_batch():
    video, targets, position = batch()
    spec = Augmentation(colour_jitter=0.5, erase=0.5)
    whole, _ = run(video, targets, position, spec)
    order = np.array([5, 0, 3, 7, 1, 2, 6, 4])
    moved, _ = run(video[order], targets[order], position[order], spec)
    np.testing.assert_array_equal(moved, np.asarray(whole)[order])
    part, _ = run(video[3:5], targets[3:5], position[3:5], spec)
    np.testing.assert_array_equal(part, np.asarray(whole)[3:5])
    for at, key in ((position + 1, KEY), (position, jax.random.key(4))):
        assert (run(video, targets, at, spec, key)[0] != whole).any()


def test_eight_devices_make_what_one_makes():
    arrays = dict(zip(("video", "targets", "position"), batch(16)))
    found = {}
    for count in (1, 8):
        mesh = sharding.make_mesh(count)
        over = sharding.over_batch(mesh)
        make = jax.jit(
            lambda b: augment(b["video"], b["targets"], b["position"], KEY, ALL, normalise),
            in_shardings=over,
            out_shardings=over,
        )
        found[count] = make(sharding.shard_batch(arrays, mesh))
    assert len(found[8][0].sharding.device_set) == 8
    for one, eight in zip(found[1], found[8]):
        np.testing.assert_allclose(eight, one, atol=1e-6)


def test_colours_by_hand():
    pixels = jnp.array([[0.5, 0.25, 0.1], [0.9, 0.9, 0.9]])
    np.testing.assert_allclose(
        module._brighten(pixels, 1.5), [[0.75, 0.375, 0.15], [1, 1, 1]], rtol=1e-6
    )
    grey = 0.299 * 0.5 + 0.587 * 0.25 + 0.114 * 0.1
    expected = np.clip(grey + 2 * (np.array(pixels[0]) - grey), 0, 1)
    np.testing.assert_allclose(module._saturate(pixels, 2.0)[0], expected, rtol=1e-5)
    np.testing.assert_allclose(module._saturate(pixels, 3.0)[1], [0.9] * 3, rtol=1e-5)


@pytest.mark.parametrize("turns", [-0.5, -0.2, 0.0, 0.13, 0.5])
def test_hue_turns_as_in_the_standard_library(turns):
    pixels = np.random.default_rng(0).integers(0, 256, (200, 3)) / 255
    pixels[:6] = [[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0.2]]
    expected = []
    for pixel in pixels:
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
        expected.append(colorsys.hsv_to_rgb((hue + turns) % 1, saturation, value))
    found = module._turn_hue(jnp.array(pixels, jnp.float32), jnp.full((1, 1), turns))
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_jitter_leaves_what_is_not_drawn_to_the_bit():
    video = np.tile(np.arange(256, dtype=np.uint8)[:, None], 3)[None, None, None]
    video = np.concatenate([video, video[..., ::-1, :]]).repeat(200, axis=0)
    found = np.asarray(jax.jit(module.colour_jitter)(video, keys_of(400), 0.1))
    assert found.dtype == np.uint8
    is_same = (found == video).all(axis=(1, 2, 3, 4))
    # Greys show neither saturation nor hue: two of four changes.
    assert is_binomial(is_same.sum(), 400, 0.9**2)
    assert (np.asarray(module.colour_jitter(video[:9], keys_of(9), 0.0)) == video[:9]).all()


def test_each_of_the_four_changes_has_its_probability_and_range():
    grey = np.full((4000, 1, 1, 1, 3), 64, np.uint8)
    found = np.asarray(jax.jit(module.colour_jitter)(grey, keys_of(4000), 0.1))[:, 0, 0, 0, 0]
    # Brightness from half to double; gamma alone stays within (64 / 255) ** (1.2, 0.8).
    is_bright = (found < 48) | (found > 85)
    shares = [(48 - 32) / 1.5 / 64, (128 - 85) / 1.5 / 64]
    assert is_binomial(is_bright.sum(), 4000, 0.1 * sum(shares))
    assert 23 <= found.min() and found.max() <= 147
    colour = np.tile(np.uint8([120, 90, 60]), (4000, 1, 1, 1, 1))
    found = np.asarray(jax.jit(module.colour_jitter)(colour, keys_of(4000), 0.1))[:, 0, 0, 0]
    is_turned = found.argmax(axis=1) != 0  # red leads within a sixth of a turn, less its own hue
    hue = colorsys.rgb_to_hsv(120, 90, 60)[0]
    assert is_binomial(is_turned.sum(), 4000, 0.1 * 2 / 3)
    assert hue < 1 / 6
    chroma = np.ptp(found.astype(int), axis=1) / found.max(axis=1)
    assert chroma.max() > 0.75 and chroma.min() < 0.4  # saturation to both sides


def erased(size, height, width, probability=1.0):
    video = jnp.ones((size, 1, height, width, 1))
    found = jax.jit(module.erase)(video, keys_of(size), probability)
    return np.asarray(found == 0)[:, 0, :, :, 0]


def test_a_box_is_erased_with_its_probability_area_and_aspect():
    assert is_binomial(erased(4000, 16, 16, 0.25).any(axis=(1, 2)).sum(), 4000, 0.25)
    is_gone = erased(1500, 64, 48)
    rows, columns = is_gone.any(axis=2).sum(axis=1), is_gone.any(axis=1).sum(axis=1)
    assert (rows > 0).all()  # of ten tries one fits
    np.testing.assert_array_equal(is_gone.sum(axis=(1, 2)), rows * columns)  # a full box
    area, aspect = rows * columns / (64 * 48), rows / columns
    assert 0.015 < area.min() and area.max() < 0.35
    assert 0.25 < aspect.min() and aspect.max() < 4
    # Uniform, but that the large and the narrow fit less often.
    assert is_binomial((area < (0.02 + 1 / 3) / 2).sum(), 1500, 0.5 + 0.03)
    # Wherever it fits: it reaches every side of the frame.
    rim = np.stack(
        [
            is_gone[:, 0].any(1),
            is_gone[:, -1].any(1),
            is_gone[..., 0].any(1),
            is_gone[..., -1].any(1),
        ]
    )
    assert (rim.mean(axis=1) > 0.005).all() and is_gone[:, 32, 24].mean() > 0.15


def test_a_box_that_never_fits_is_not_drawn():
    assert not erased(50, 1, 400).any()


def shares_of(targets):
    """Own share of clips whose targets are all distinct."""
    return np.diag(np.asarray(targets))


def mixed(size, mixup, cutmix, height=16, width=12):
    """Clips of constants 0, 1, 2 .. with targets of their own; returns pixels and own shares."""
    video = jnp.arange(size, dtype=jnp.float32)[:, None, None, None, None]
    video = jnp.broadcast_to(video, (size, 2, height, width, 1))
    mix = jax.jit(module.mix, static_argnums=(3, 4))
    video, targets = mix(video, jnp.eye(size), keys_of(size), mixup, cutmix)
    np.testing.assert_allclose(targets.sum(axis=1), 1, rtol=1e-6)
    own = shares_of(targets)
    np.testing.assert_allclose(targets, np.diag(own) + np.diag(1 - own)[:, ::-1], atol=1e-6)
    np.testing.assert_array_equal(video[:, 0], video[:, 1])
    return np.asarray(video)[:, 0, :, :, 0], own


def test_mixup_blends_with_the_mirrored_clip_by_beta():
    video, own = mixed(512, 0.8, 0.0)
    number = np.arange(512)
    expected = own * number + (1 - own) * number[::-1]
    np.testing.assert_allclose(
        video, np.broadcast_to(expected[:, None, None], video.shape), atol=1e-3
    )
    # Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1)).
    assert abs(own.mean() - 0.5) < 4 * math.sqrt(1 / 4 / 2.6 / 512)
    assert abs(own.var() - 1 / 4 / 2.6) < 0.015


def test_cutmix_shows_a_box_of_the_mirrored_clip_and_counts_its_area():
    video, own = mixed(512, 0.0, 1.0)
    is_other = video != np.arange(512)[:, None, None]
    np.testing.assert_allclose(1 - own, is_other.mean(axis=(1, 2)), atol=1e-6)
    np.testing.assert_array_equal(
        video[is_other], (511 - np.arange(512)[:, None, None] + 0 * video)[is_other]
    )
    rows, columns = is_other.any(axis=2).sum(axis=1), is_other.any(axis=1).sum(axis=1)
    np.testing.assert_array_equal(is_other.sum(axis=(1, 2)), rows * columns)
    assert (own == 1).any() or own.max() > 0.99
    # By Beta(1, 1), the uniform law, on lambda: half the side is sqrt(1 - lambda) / 2; a quarter of
    # the boxes span less than half of each side.
    assert 0.55 < own.mean() < 0.75


def test_of_mixup_and_cutmix_each_clip_gets_one():
    video, own = mixed(2000, 0.8, 1.0)
    flat = video.reshape(2000, -1)
    number = np.arange(2000)[:, None]
    is_pure = np.isclose(flat, number) | np.isclose(flat, number[::-1])
    # A blend with a share next to 0 or 1 would look pure; of Beta(0.8, 0.8) few have one.
    assert abs(is_pure.all(axis=1).mean() - 0.5) < 0.06


def test_mixed_clips_have_finite_gradients():
    video, targets, position = batch()

    def loss(weight):
        mixed_video, mixed_targets = augment(video, targets, position, KEY, ALL, normalise)
        logits = mixed_video.mean(axis=(1, 2, 3)) @ weight
        return -(mixed_targets * jax.nn.log_softmax(logits)).sum()

    gradient = jax.jit(jax.grad(loss))(jnp.ones((3, 5)))
    assert jnp.isfinite(gradient).all() and (gradient != 0).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colour_jitter": 1.5}, r"colour_jitter=1.5 must be a number in \[0, 1\]"),
        ({"erase": -0.1}, r"erase=-0.1 must be a number in \[0, 1\]"),
        ({"mixup": -1.0}, "mixup=-1.0 must be a number at least 0"),
        ({"cutmix": float("inf")}, "cutmix=inf must be a number at least 0"),
        ({"mixup": float("nan")}, "mixup=nan"),
    ],
)
def test_what_cannot_be_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**options)
