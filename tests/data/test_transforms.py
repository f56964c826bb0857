"""Boxes equal the released ones; one box for all frames; nothing copied without need."""

import gzip
import json
import random
from pathlib import Path

import cv2
import numpy as np
import pytest

from pst_jax.data import transforms
from pst_jax.data.transforms import Box

GOLDEN = json.loads(
    gzip.decompress(
        (Path(__file__).parent.parent / "golden" / "sampling_more.json.gz").read_bytes()
    )
)


def make_clip(num_frames=3, height=20, width=30, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)


def test_random_resized_boxes_match_all_released_cases():
    assert len(GOLDEN["rrc"]) == 28
    for case in GOLDEN["rrc"]:
        draw = random.Random(case["seed"]).randint
        box = transforms.random_resized_crop_box(
            case["h"],
            case["w"],
            np.random.RandomState(case["seed"]).uniform,
            lambda low, high, draw=draw: draw(low, high - 1),
        )
        corners = [box.left, box.top, box.left + box.width, box.top + box.height]
        assert corners == case["bbox_xyxy"], case


def test_three_crops_match_all_released_cases():
    assert len(GOLDEN["three_crop"]) == 7
    for case in GOLDEN["three_crop"]:
        boxes = transforms.three_crop_boxes(case["h"], case["w"], case["crop"])
        assert [[box.left, box.top] for box in boxes] == case["top_left_xy"], case


def test_centre_crops_match_all_released_cases():
    assert len(GOLDEN["center_crop"]) == 7
    for case in GOLDEN["center_crop"]:
        box = transforms.centre_crop_box(case["h"], case["w"], 224)
        assert [box.left, box.top] == case["top_left_xy"], case


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (28, 28), (50, 500), (256, 340)])
def test_random_boxes_lie_in_the_frame(size):
    rng = np.random.default_rng(0)
    clip = make_clip(1, *size)
    for _ in range(50):
        box = transforms.random_resized_crop_box(*size, rng.uniform, rng.integers)
        assert transforms.crop(clip, box).size > 0
        side = rng.integers(1, min(size) + 1)
        box = transforms.random_crop_box(*size, side, rng.integers)
        assert transforms.crop(clip, box).shape == (1, side, side, 3)


def test_random_crops_reach_all_corners():
    rng = np.random.default_rng(0)
    boxes = {transforms.random_crop_box(10, 12, 9, rng.integers)[:2] for _ in range(200)}
    assert boxes == {(left, top) for left in range(4) for top in range(2)}


@pytest.mark.parametrize(
    ("size", "short", "expected"),
    [((256, 340), 224, (224, 298)), ((340, 256), 224, (298, 224)), ((100, 176), 256, (256, 451))],
)
def test_the_short_side_gets_its_size_and_the_aspect_is_kept(size, short, expected):
    assert transforms.resize_short_side(make_clip(2, *size), short).shape == (2, *expected, 3)


def test_resizing_is_bilinear_of_opencv_frame_by_frame():
    clip = make_clip(3, 40, 50)
    resized = transforms.resize(clip, 17, 23)
    for frame, small in zip(clip, resized):
        np.testing.assert_array_equal(small, cv2.resize(frame, (23, 17)))
    # No antialiasing: halving by bilinear looks at 2 x 2 pixels only.
    clip = np.zeros((1, 8, 8, 3), np.uint8)
    clip[0, 0] = 255
    assert transforms.resize(clip, 2, 2).max() == 0


def test_a_cropped_view_is_resized_as_its_copy():
    clip = make_clip(2, 40, 50)
    view = transforms.crop(clip, Box(5, 7, 30, 20))
    np.testing.assert_array_equal(
        transforms.resize(view, 11, 13), transforms.resize(view.copy(), 11, 13)
    )


@pytest.mark.parametrize(("height", "width"), [(20, 30), (7, 7), (16, 33), (1, 2)])
def test_a_clip_may_be_mirrored_and_reversed_where_it_lies(height, width):
    clip = np.random.default_rng(0).integers(0, 256, (5, height, width, 3), dtype=np.uint8)
    for change, expected in (
        (transforms.flip_horizontally, clip[:, :, ::-1].copy()),
        (transforms.play_backwards, clip[::-1].copy()),
    ):
        np.testing.assert_array_equal(change(clip), expected)
        own = clip.copy()
        assert change(own, out=own) is own
        np.testing.assert_array_equal(own, expected)


def test_nothing_is_copied_where_nothing_changes():
    clip = make_clip(2, 20, 30)
    assert transforms.resize(clip, 20, 30) is clip
    assert transforms.resize_short_side(clip, 20) is clip
    assert np.shares_memory(transforms.crop(clip, Box(1, 2, 3, 4)), clip)


def test_a_crop_cuts_columns_and_rows_of_all_frames():
    clip = make_clip()
    cut = transforms.crop(clip, Box(left=4, top=2, width=5, height=3))
    np.testing.assert_array_equal(cut, clip[:, 2:5, 4:9])


def test_flipping_mirrors_left_and_right_only():
    clip = make_clip()
    flipped = transforms.flip_horizontally(clip)
    np.testing.assert_array_equal(flipped[:, :, 0], clip[:, :, -1])
    np.testing.assert_array_equal(transforms.flip_horizontally(flipped), clip)


def test_the_label_in_the_mirror_follows_the_mode():
    assert transforms.changed_label(3, "none") is None
    assert transforms.changed_label(3, "all") == 3
    assert transforms.changed_label(86, "skip", (86, 87)) is None
    assert transforms.changed_label(3, "skip", (86, 87)) == 3
    assert transforms.changed_label(0, "swap", (1, 0, 2)) == 1
    assert transforms.changed_label(2, "swap", (1, 0, 2)) == 2
    with pytest.raises(ValueError, match="none for label 3"):
        transforms.changed_label(3, "swap", (1, 0, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: transforms.resize(make_clip()[0], 4, 4), r"uint8 \[20, 30, 3\]"),
        (lambda: transforms.resize(make_clip().astype(float), 4, 4), "float64"),
        (lambda: transforms.flip_horizontally(make_clip()[None]), r"uint8 \[1, 3, 20, 30, 3\]"),
        (
            lambda: transforms.crop(make_clip()[..., :1], Box(0, 0, 1, 1)),
            "one clip of pixels in 0..2",
        ),
        (lambda: transforms.resize_short_side(make_clip()[:, :0], 4), r"uint8 \[3, 0, 30, 3\]"),
        (lambda: transforms.resize_short_side(make_clip()[:0], 4), r"uint8 \[0, 20, 30, 3\]"),
        (lambda: transforms.resize(make_clip(), 0, 4), "height=0"),
        (lambda: transforms.resize(make_clip(), 4, 4.5), "width=4.5 must be an integer"),
        (lambda: transforms.crop(make_clip(), Box(26, 0, 5, 5)), "20 x 30"),
        (lambda: transforms.crop(make_clip(), Box(-1, 0, 5, 5)), "20 x 30"),
        (lambda: transforms.centre_crop_box(20, 30, 21), "size_px=21"),
        (lambda: transforms.three_crop_boxes(20, 30, 19), "size_px=19.*resize the short side"),
    ],
)
def test_an_impossible_request_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
