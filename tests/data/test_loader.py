"""Batches are a function of seed and step alone; every view is evaluated exactly once."""

import dataclasses
import hashlib
import itertools
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from video_files import frames_of_noise, write_video

from pst_jax.data import clips, loader
from pst_jax.data.frames import VideoError, as_it_is
from pst_jax.data.loader import ClipSpec
from pst_jax.data.records import Record
from pst_jax.data.sources import open_record

SPEC = ClipSpec(num_frames=4, size_px=16, short_side_px=20, flip="all")
TEST_SPEC = ClipSpec(num_frames=4, size_px=16, short_side_px=16)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    made = []
    for k in range(10):
        path = write_video(folder / f"{k}.mp4", frames_of_noise(8 + k, 24, 32, seed=k))
        made.append(Record(path, k % 3, f"{k}.mp4"))
    return tuple(made)


@pytest.fixture
def with_broken(records, tmp_path):
    """Videos 2 and 7 cannot be read."""
    (tmp_path / "cut.mp4").write_bytes(Path(records[2].path).read_bytes()[:600])
    broken = list(records)
    broken[2] = Record(str(tmp_path / "cut.mp4"), 2, "cut.mp4")
    broken[7] = Record(str(tmp_path / "gone.mp4"), 1, "gone.mp4")
    return tuple(broken)


def train(records, spec=SPEC, **options):
    options = {"batch_size": 4, "num_epochs": 2, "seed": 5, "num_threads": 0, **options}
    with closing(loader.train_batches(records, spec, **options)) as batches:
        return list(batches)


def evaluate(records, spec=TEST_SPEC, **options):
    options = {"batch_size": 4, "num_threads": 0, **options}
    with closing(loader.eval_batches(records, spec, **options)) as batches:
        return list(batches)


def digest(batches):
    seen = hashlib.sha256()
    for batch in batches:
        for name in sorted(batch):
            value = np.asarray(batch[name])
            seen.update(f"{name} {value.dtype} {value.shape}".encode() + value.tobytes())
    return len(batches), seen.hexdigest()


def column(batches, name):
    return np.concatenate([batch[name] for batch in batches])


def test_a_training_batch_has_the_promised_form(records):
    batches = train(records)
    assert len(batches) == loader.num_train_steps(10, 4, 2) == 5
    for batch in batches:
        assert set(batch) == {"video", "label", "index", "position", "mask", "problem"}
        assert batch["video"].shape == (4, 4, 16, 16, 3) and batch["video"].dtype == np.uint8
        for name, dtype in (("label", np.int32), ("index", np.int32), ("mask", np.bool_)):
            assert batch[name].shape == (4,) and batch[name].dtype == dtype
        assert batch["problem"].shape == (4,) and batch["problem"].dtype.kind == "U"
        assert batch["mask"].all() and not any(batch["problem"])
        assert batch["label"].tolist() == [records[i].label for i in batch["index"]]
    assert column(batches, "video").std() > 10
    assert column(batches, "position").tolist() == list(range(20))


@pytest.mark.parametrize("num_threads", [1, 3])
def test_threads_do_not_change_the_batches(num_threads, with_broken):
    expected = digest(train(with_broken))
    assert digest(train(with_broken, num_threads=num_threads)) == expected
    assert digest(train(with_broken)) == expected
    assert digest(train(with_broken, seed=6)) != expected


@pytest.mark.parametrize("num_workers", [1, 2])
def test_processes_do_not_change_the_batches(num_workers, with_broken):
    options = dict(start_step=1, num_epochs=3)
    expected = train(with_broken, **options)
    assert any(column(expected, "problem"))
    actual = train(with_broken, num_workers=num_workers, num_threads=1, **options)
    assert digest(actual) == digest(expected)


def test_processes_do_not_change_the_evaluation(with_broken):
    actual = evaluate(with_broken, num_workers=2)
    assert digest(actual) == digest(evaluate(with_broken))


def test_each_epoch_sees_each_video_once_in_an_order_of_its_own(records):
    orders = []
    for seed in (0, 1):
        order = column(train(records, num_epochs=4, seed=seed), "index")
        orders += [tuple(epoch) for epoch in order.reshape(4, 10).tolist()]
    assert all(sorted(order) == list(range(10)) for order in orders)
    assert len(set(orders)) == 8  # no epoch of one seed repeats one of the next


def test_an_epoch_draws_new_clips(records):
    batches = train(records[:1], batch_size=1, num_epochs=4)
    assert len({batch["video"].tobytes() for batch in batches}) > 1


def test_only_the_last_incomplete_batch_is_left_out(records):
    batches = train(records, batch_size=3, num_epochs=2)
    assert len(batches) == loader.num_train_steps(10, 3, 2) == 6
    counts = np.bincount(column(batches, "index"), minlength=10)
    assert counts.sum() == 18 and counts.max() == 2


def test_resuming_continues_with_the_same_batches(records):
    whole = train(records, num_epochs=3)
    assert len(whole) == 7
    for step in (0, 1, 4, 6):
        assert digest(train(records, num_epochs=3, start_step=step)) == digest(whole[step:])
    assert train(records, num_epochs=3, start_step=7) == []
    assert train(records, num_epochs=3, start_step=99) == []


@pytest.mark.parametrize("host_count", [2, 4, 8])
def test_hosts_share_the_global_batch(records, host_count):
    whole = train(records, batch_size=8, num_epochs=4)
    options = dict(batch_size=8 // host_count, num_epochs=4, host_count=host_count)
    hosts = [train(records, host_index=host, **options) for host in range(host_count)]
    num_steps = loader.num_train_steps(10, 8 // host_count, 4, host_count)
    assert {len(batches) for batches in hosts} == {num_steps} == {len(whole)}
    for step, batch in enumerate(whole):
        for name in batch:
            together = np.concatenate([host[step][name] for host in hosts])
            np.testing.assert_array_equal(together, batch[name])
    resumed = train(records, host_index=1, start_step=3, **options)
    assert digest(resumed) == digest(hosts[1][3:])


def test_hosts_make_the_same_number_of_steps(records):
    for batch_size, host_count in ((4, 2), (3, 3), (5, 4), (1, 7)):
        lengths = {
            len(train(records, batch_size=batch_size, host_index=host, host_count=host_count))
            for host in range(host_count)
        }
        assert lengths == {loader.num_train_steps(10, batch_size, 2, host_count)}


def test_a_broken_video_is_replaced_and_reported(with_broken):
    batches = train(with_broken, batch_size=5, num_epochs=4)
    problems = column(batches, "problem")
    reported = problems[problems != ""]
    assert len(reported) == 8  # two videos, four epochs
    for k in (2, 7):
        assert sum(problem.startswith(with_broken[k].path) for problem in reported) == 4
        assert k not in column(batches, "index")
    assert {problem.split(": ")[1].split()[0] for problem in reported} == {"is", "does"}
    # Rows tell the label of what is seen, not of what was replaced.
    for label, index in zip(column(batches, "label"), column(batches, "index")):
        assert label == with_broken[index].label
    assert column(batches, "mask").all()
    assert column(batches, "video").max(axis=(1, 2, 3, 4)).min() > 0


def test_a_replacement_that_is_broken_is_replaced_too(records, tmp_path):
    gone = [Record(str(tmp_path / f"{k}.mp4"), 0, f"gone{k}") for k in range(10)]
    batches = train((*records, *gone), batch_size=5, num_epochs=1)
    assert column(batches, "index").max() < 10 and any(column(batches, "problem"))


def test_training_stops_where_no_replacement_can_be_read(tmp_path):
    gone = tuple(Record(str(tmp_path / f"{k}.mp4"), 0, str(k)) for k in range(6))
    for num_workers in (0, 1):
        with pytest.raises(VideoError, match=r"does not exist.*; nor can 5 others.*") as caught:
            train(gone, batch_size=2, num_workers=num_workers)
        assert caught.value.path.startswith(str(tmp_path)) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("num_clips", "num_crops"), [(1, 1), (1, 3), (2, 3)])
@pytest.mark.parametrize("host_count", [1, 2, 4, 8])
def test_every_view_is_evaluated_exactly_once(records, num_clips, num_crops, host_count):
    num_views = num_clips * num_crops
    hosts = [
        evaluate(
            records[:7],
            num_clips=num_clips,
            num_crops=num_crops,
            host_index=host,
            host_count=host_count,
        )
        for host in range(host_count)
    ]
    num_steps = -(-7 * num_views // (4 * host_count))
    assert {len(batches) for batches in hosts} == {num_steps}
    ordered = [host[step] for step in range(num_steps) for host in hosts]
    mask = column(ordered, "mask")
    seen = list(zip(column(ordered, "index")[mask], column(ordered, "view")[mask]))
    assert seen == list(itertools.product(range(7), range(num_views)))
    assert (column(ordered, "index")[~mask] == -1).all()
    assert not column(ordered, "video")[~mask].any()
    assert column(ordered, "label")[mask].tolist() == [records[i].label for i, _ in seen]


def test_a_view_is_crop_times_clips_plus_clip(records):
    batches = evaluate(records[:2], num_clips=2, num_crops=3, batch_size=6)
    for index, batch in enumerate(batches):
        assert batch["view"].dtype == np.int32 and batch["view"].tolist() == list(range(6))
        for view in range(6):
            expected = clips.load_view(records[index].path, TEST_SPEC, view, 2, 3)
            np.testing.assert_array_equal(batch["video"][view], expected)
    videos = batches[0]["video"]
    assert (videos[0] != videos[1]).any()  # another clip, the same crop
    # 16 x 21 px: left and right are 4 px apart, the middle lies between.
    np.testing.assert_array_equal(videos[0][:, :, 4:], videos[2][:, :, :-4])
    np.testing.assert_array_equal(videos[0][:, :, 2:], videos[4][:, :, :-2])


def test_a_broken_video_is_not_replaced_in_evaluation(with_broken):
    batches = evaluate(with_broken, num_clips=2)
    mask, index = column(batches, "mask"), column(batches, "index")
    assert len(mask) == 20 and index[~mask].tolist() == [2, 2, 7, 7]
    problems = column(batches, "problem")
    assert [bool(problem) for problem in problems] == (~mask).tolist()
    assert problems[4].startswith(with_broken[2].path) and "is cut off" in problems[4]
    assert not column(batches, "video")[~mask].any()


def test_frames_are_shuffled_by_seed_and_video(records):
    plain = column(evaluate(records[:8]), "video")
    shuffled = column(evaluate(records[:8], shuffle_frames=True, seed=1), "video")
    orders = []
    for clip, other in zip(plain, shuffled):
        frames = [frame.tobytes() for frame in clip]
        orders.append(tuple(frames.index(frame.tobytes()) for frame in other))
        assert sorted(orders[-1]) == [0, 1, 2, 3]
    assert len(set(orders)) > 2
    again = column(evaluate(records[:8], shuffle_frames=True, seed=1, batch_size=8), "video")
    np.testing.assert_array_equal(again, shuffled)
    other_seed = column(evaluate(records[:8], shuffle_frames=True, seed=2), "video")
    assert (other_seed != shuffled).any()


def make_spec(**changes):
    base = dict(num_frames=4, size_px=16, short_side_px=16, crop="none")
    return ClipSpec(**{**base, **changes})


def mirrored_share(records, spec):
    """How often a clip is the mirror image, and the labels then and otherwise."""
    load = lambda record, spec, draws: clips.load_train_clips(record, spec, [draws])[0]  # noqa: E731
    plain = {record.path: load(record, make_spec(), Draws())[0] for record in records}
    outcomes = set()
    for record in records:
        for seed in range(8):
            clip, label = load(record, spec, Draws(seed))
            is_mirrored = not np.array_equal(clip, plain[record.path])
            if is_mirrored:
                np.testing.assert_array_equal(clip[:, :, ::-1], plain[record.path])
            outcomes.add((record.label, is_mirrored, label))
    return outcomes


class Draws:
    """A generator that always takes the middle frames, and mirrors by `seed`."""

    def __init__(self, seed=0):
        self.random = np.random.default_rng(seed).random

    def integers(self, low, high):
        return (np.asarray(low) + np.asarray(high) - 1) // 2


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (dict(flip="none"), {(0, False, 0), (1, False, 1), (2, False, 2)}),
        (
            dict(flip="all"),
            {(k, is_mirrored, k) for k in range(3) for is_mirrored in (False, True)},
        ),
        (
            dict(flip="skip", flip_labels=(0, 1)),
            {(0, False, 0), (1, False, 1), (2, False, 2), (2, True, 2)},
        ),
        (
            dict(flip="swap", flip_labels=(1, 0, 2)),
            {(0, False, 0), (0, True, 1), (1, False, 1), (1, True, 0), (2, False, 2), (2, True, 2)},
        ),
    ],
)
def test_labels_follow_the_mirror(options, expected, records):
    assert mirrored_share(records[:3], make_spec(**options)) == expected


@pytest.mark.parametrize("crop", ["random_resized", "random", "none"])
@pytest.mark.parametrize("sampling", ["dense", "uniform", "linspace"])
def test_every_way_to_take_a_clip_gives_its_size(crop, sampling, records):
    spec = make_spec(crop=crop, sampling=sampling, short_side_px=18, short_side_max_px=24)
    ((clip, _),) = clips.load_train_clips(records[0], spec, [np.random.default_rng(0)])
    assert clip.shape == (4, 16, 16, 3) and clip.dtype == np.uint8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(num_frames=0), "num_frames=0"),
        (dict(sampling="random"), "sampling='random'.*uniform"),
        (dict(crop="centre"), "crop='centre'.*random_resized"),
        (dict(flip=True), "flip=True"),
        (dict(short_side_px=12), "short_side_px=12 must be at least size_px=16"),
        (dict(short_side_max_px=12), "short_side_max_px=12"),
        (dict(area_range=(0.5, 1.2)), "area_range"),
        (dict(aspect_range=(2, 1)), "aspect_range"),
        (dict(aspect_range=0.5), "aspect_range=0.5 must have 0 < low"),
        (dict(area_range=("a", "b")), "area_range"),
        (dict(num_frames="4"), "num_frames='4' must be an integer"),
        (dict(size_px=15.5), "size_px=15.5 must be an integer"),
        (dict(flip="skip", flip_labels=("a",)), "flip_labels=.* must be a tuple of integers"),
        (dict(flip="skip", flip_labels=3), "flip_labels=3 must be a tuple of integers"),
        (dict(flip="swap"), "flip_labels=None"),
        (dict(flip="all", flip_labels=(1, 0)), "flip_labels"),
        (dict(flip="swap", flip_labels=(1, 1)), "permutation"),
    ],
)
def test_a_spec_that_does_not_fit_together_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        make_spec(**changes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r: train(()), "records is empty"),
        (lambda r: train(r, batch_size=0), "batch_size=0"),
        (lambda r: train(r, num_epochs=0), "num_epochs=0"),
        (lambda r: train(r, start_step=-1), "start_step=-1"),
        (lambda r: train(r, seed=-1), "seed=-1"),
        (lambda r: train(r, host_index=1), r"host_index=1.*\[0, 0\]"),
        (lambda r: train(r, make_spec(flip="swap", flip_labels=(1, 0))), "none for label 2"),
        (lambda r: evaluate(r, num_crops=2), "num_crops=2"),
        (lambda r: evaluate(r, SPEC, num_crops=3), "short_side_px=20.*num_crops=3"),
    ],
)
def test_an_impossible_request_is_named_before_anything_is_read(call, message, records):
    with pytest.raises(ValueError, match=message):
        call(records)


SCRIPT = """
import sys
from contextlib import closing
from pst_jax.data import loader
from pst_jax.data.records import Record

if __name__ == "__main__":
    record = Record(sys.argv[1], 0, "a")
    spec = loader.ClipSpec(num_frames=4, size_px=16, short_side_px=16)
    options = dict(batch_size=2, num_epochs=50, seed=0, num_threads=2)
    with closing(loader.train_batches([record], spec, num_workers=1, **options)) as batches:
        next(batches)
    kept = [loader.train_batches([record], spec, num_workers=k, **options) for k in (0, 1)]
    for batches in kept:
        next(batches)
    for _ in loader.eval_batches([record] * 9, spec, batch_size=2):
        break
    print("done")
"""


def test_leaving_early_prints_nothing(records, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    root = Path(loader.__file__).parents[2]
    result = subprocess.run(
        [sys.executable, tmp_path / "script.py", records[0].path],
        env={"PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (result.returncode, result.stdout.strip(), result.stderr) == (0, "done", "")


def test_a_video_that_is_opened_once_gives_several_clips(records, monkeypatch):
    opened, open_record = [], clips.open_record
    monkeypatch.setattr(
        clips, "open_record", lambda record, *a: opened.append(record) or open_record(record, *a)
    )
    spec = dataclasses.replace(SPEC, num_repeats=2)
    batches = train(records, spec, num_epochs=1)
    assert len(opened) == len(records) == 10
    assert len(batches) == loader.num_train_steps(20, 4, 1) == 5
    pairs = column(batches, "index").reshape(10, 2)
    assert (pairs[:, 0] == pairs[:, 1]).all() and sorted(pairs[:, 0]) == list(range(10))
    first, second = np.moveaxis(column(batches, "video").reshape(10, 2, 4, 16, 16, 3), 1, 0)
    assert all((a != b).any() for a, b in zip(first, second))  # each draws its own
    # A clip is the one that its place alone would give.
    position = int(column(batches, "position")[7])
    rng = np.random.default_rng([5, 0, position])
    record = records[int(column(batches, "index")[7])]
    ((alone, _),) = clips.load_train_clips(record, SPEC, [rng])
    np.testing.assert_array_equal(column(batches, "video")[7], alone)
    with pytest.raises(ValueError, match="batch_size=3 must be a multiple of num_repeats=2"):
        train(records, spec, batch_size=3)


def test_clips_played_backwards_get_the_label_of_what_is_seen(records):
    spec = make_spec(reverse="swap", reverse_labels=(1, 0, 2))
    (forwards,) = clips.load_train_clips(records[0], make_spec(), [Draws()])
    outcomes = set()
    for seed in range(8):
        ((clip, label),) = clips.load_train_clips(records[0], spec, [Draws(seed)])
        is_reversed = not np.array_equal(clip, forwards[0])
        np.testing.assert_array_equal(clip, forwards[0][:: -1 if is_reversed else 1])
        outcomes.add((is_reversed, label))
    assert outcomes == {(False, 0), (True, 1)}


def test_the_frame_offset_of_a_released_recipe_is_within_the_video(records):
    plain = make_spec(num_frames=8, sampling="dense", stride_frames=1)  # all eight
    shifted = dataclasses.replace(plain, frame_offset=-1)
    expected, seen = (clips.load_view(records[0], spec) for spec in (plain, shifted))
    np.testing.assert_array_equal(seen[1:], expected[:-1])
    np.testing.assert_array_equal(seen[0], expected[0])


def test_a_part_of_a_video_is_a_video_of_its_own(records):
    # 16 frames a second: frames 4 to 7 of the 17 of the last record.
    part = dataclasses.replace(records[-1], start_s=0.25, end_s=0.5)
    spec = make_spec(sampling="uniform")
    with open_record(records[-1]) as whole, open_record(part) as opened:
        assert opened.num_frames == 4
        expected = whole.read([4, 5, 6, 7], as_it_is)
        np.testing.assert_array_equal(opened.read(range(4), as_it_is), expected)
        np.testing.assert_allclose(opened.times_s, np.arange(4) / 16)
    assert clips.load_view(part, spec).shape == (4, 16, 16, 3)
    late = dataclasses.replace(part, start_s=9.0, end_s=None)
    with pytest.raises(VideoError, match=r"no frame from 9.0 s to its end: its last is at 1.000 s"):
        clips.load_view(late, spec)
