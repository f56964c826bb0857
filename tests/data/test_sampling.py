"""The samplers, held to every case drawn with the released classes."""

import gzip
import json
import random
from pathlib import Path

import numpy as np
import pytest

from pst_jax.data import sampling

GOLDEN = Path(__file__).parent.parent / "golden"


def load_golden(name):
    return json.loads(gzip.decompress((GOLDEN / name).read_bytes()))


def numpy_draws(seed):
    return np.random.RandomState(seed).randint


def python_draws(seed):
    """The released uniform sampler draws one by one with Python's inclusive randint."""
    draw = random.Random(seed).randint
    return lambda lows, highs: [draw(int(a), int(b) - 1) for a, b in zip(lows, highs)]


def uniform_draws(case):
    return (numpy_draws if case["cls"] == "UniformSample" else python_draws)(case["seed"])


def replay(case, convention="released"):
    """Our frames for a case of the golden file."""
    kind, n, args = case["cls"], case["num_frames"], case["args"]
    is_test = args["test_mode"]
    length, clips = args["clip_len"], args["num_clips"]
    if kind == "DenseSampleFrames":
        frames = sampling.segment_window(n, clips, None if is_test else numpy_draws(case["seed"]))
    elif kind == "UniformSample" or args.get("frame_uniform"):
        if is_test:
            return sampling.uniform_test(n, length, clips, convention=convention)
        return sampling.uniform_train(n, length, uniform_draws(case))
    elif is_test:
        frames = sampling.dense_test(
            n,
            length,
            args["frame_interval"],
            clips,
            convention=convention,
            out_of_bound=args.get("out_of_bound_opt", "loop"),
            use_twice_sample=args.get("twice_sample", False),
        )
    else:
        draws = numpy_draws(case["seed"])
        frames = sampling.dense_train(n, length, args["frame_interval"], draws, clips)
    # Numbering files from 1 belongs to the reader; the uniform sampler released never adds it.
    return frames + case.get("start_index", 0)


def assert_all_equal(cases, convention="released"):
    wrong = [
        case for case in cases if replay(case, convention).ravel().tolist() != case["frame_inds"]
    ]
    assert not wrong, f"{len(wrong)} of {len(cases)}, first: {wrong[0]}"


MODES = {
    "dense_train": lambda n, seed: sampling.dense_train(n, 32, 2, numpy_draws(seed)),
    "dense_val1": lambda n, _: sampling.dense_test(n, 32, 2, 1),
    "dense_test4": lambda n, _: sampling.dense_test(n, 32, 2, 4),
    "uniform_train": lambda n, seed: sampling.uniform_train(n, 32, python_draws(seed)),
    "uniform_test": lambda n, _: sampling.uniform_test(n, 32),
}


def test_the_modes_of_the_paper_match_all_released_cases():
    cases = load_golden("sampling.json.gz")
    assert len(cases) == 105
    for case in cases:
        ours = MODES[case["mode"]](case["n"], case["seed"])
        assert ours.ravel().tolist() == case["inds"], case


def test_the_released_classes_match_with_all_their_arguments():
    cases = load_golden("sampling_more.json.gz")["cases"]
    assert len(cases) == 1334
    assert_all_equal(cases)


def test_the_newer_convention_matches_mmaction2_1x():
    cases = load_golden("sampling_more.json.gz")["mmaction2_1x_cases"]
    assert len(cases) == 312
    assert_all_equal(cases, "mmaction2_1x")


def test_the_two_conventions_differ():
    released = sampling.dense_test(300, 32, 2, 4)[:, 0].tolist()
    newer = sampling.dense_test(300, 32, 2, 4, convention="mmaction2_1x")[:, 0].tolist()
    assert released == [29, 88, 148, 207]
    assert newer == [0, 79, 158, 237]


def test_linspace_spans_the_window_with_both_ends():
    frames = sampling.linspace_window(300, 8, 8, 0)
    assert frames.tolist() == [0, 9, 18, 27, 36, 45, 54, 63]
    assert sampling.linspace_window(300, 8, 8, 236.7).tolist()[-1] == 299
    # 16 frames of stride 4 lie 4.2 apart: whole multiples must not fall below themselves.
    frames = sampling.linspace_window(300, 16, 4, 100)
    assert frames[[0, 5, 10, 15]].tolist() == [100, 121, 142, 163]
    assert frames.dtype == np.int64


def test_linspace_starts_over_behind_the_end():
    assert sampling.linspace_window(40, 8, 8, 0).tolist() == [0, 9, 18, 27, 36, 5, 14, 23]


def test_linspace_views_start_at_equal_parts_of_the_room():
    starts = [
        int(sampling.clip_indices("linspace", 164, 8, 8, view=view, num_views=5)[0])
        for view in range(5)
    ]
    assert starts == [0, 20, 40, 60, 80]  # room 100: the last part of the video is not seen


@pytest.mark.parametrize("name", sampling.SAMPLINGS)
@pytest.mark.parametrize("num_frames", [1, 2, 7, 31, 64, 65, 300])
def test_a_clip_lies_in_the_video_and_has_its_length(name, num_frames):
    rng = np.random.default_rng(0)
    clips = [sampling.clip_indices(name, num_frames, 8, 8, rng=rng) for _ in range(20)]
    clips += [
        sampling.clip_indices(name, num_frames, 8, 8, view=view, num_views=4) for view in range(4)
    ]
    for clip in clips:
        assert clip.shape == (8,) and clip.dtype == np.int64
        assert clip.min() >= 0 and clip.max() < num_frames


@pytest.mark.parametrize("name", sampling.SAMPLINGS)
def test_training_clips_follow_the_generator(name):
    def draw(seed):
        rng = np.random.default_rng(seed)
        return [sampling.clip_indices(name, 300, 8, 4, rng=rng).tolist() for _ in range(5)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_one_uniform_view_is_the_released_middle():
    ours = sampling.clip_indices("uniform", 300, 32, 2)
    assert ours[:4].tolist() == [4, 14, 23, 32] and ours[-1] == 294


def test_uniform_training_reaches_both_ends_of_every_segment():
    rng = np.random.default_rng(0)
    drawn = np.stack([sampling.uniform_train(33, 4, rng.integers) for _ in range(500)])
    assert drawn.min(axis=0).tolist() == [0, 8, 16, 24]
    assert drawn.max(axis=0).tolist() == [8, 16, 24, 32]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sampling.clip_indices("random", 9, 4, 1), "sampling='random'.*dense, uniform"),
        (lambda: sampling.clip_indices("dense", 0, 4, 1), "num_frames=0"),
        (lambda: sampling.clip_indices("dense", 9, 4, 1, view=2, num_views=2), r"view=2.*\[0, 1\]"),
        (lambda: sampling.uniform_test(9, 0), "clip_len=0"),
        (lambda: sampling.dense_test(9, 4, 0), "stride_frames=0"),
        (lambda: sampling.dense_test(9, 4, 1, convention="2x"), "convention='2x'"),
        (lambda: sampling.dense_test(9, 4, 1, out_of_bound="stop"), "out_of_bound='stop'"),
        (lambda: sampling.linspace_window(9, 4, 1, -1), "start=-1"),
        (lambda: sampling.segment_window(9, 65), "num_segments=65.*window=64"),
    ],
)
def test_an_impossible_request_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
