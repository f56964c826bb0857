import csv
import dataclasses
import hashlib
import itertools
import json
import subprocess
import sys

import av
import cv2
import numpy as np
import pytest

from pst_jax.data import motion, motion_scenes

SMALL = motion.MotionSpec(size_px=16, num_frames=5)
HARD = motion.MotionSpec(size_px=28, num_frames=9, difficulty="hard")


def decode(path):
    with av.open(str(path)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])


def frame_hashes(clip):
    return [hashlib.sha1(frame.tobytes()).hexdigest() for frame in clip]


def read_rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def clips_below(root):
    return {str(p.relative_to(root)): decode(p) for p in sorted(root.rglob("*.mp4"))}


def brightness_error(clip, expected):
    """Mean difference of the luma, in levels: files store colour at half the resolution."""
    return np.abs((clip.astype(float) - expected) @ [0.299, 0.587, 0.114]).mean()


def bright(clip):
    """Pixels of the objects in an easy clip: brighter than any background, [T, H, W]."""
    return clip.mean(-1) > 0.48 * 255


def centroids(clip):
    """[T, 2]: x and y of the bright pixels, in pixels."""
    return np.array([np.argwhere(mask)[:, ::-1].mean(0) for mask in bright(clip)])


@pytest.fixture(scope="module")
def hard_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("motion") / "hard"
    motion.generate(root, HARD, num_train=1, num_test=2, seed=3)
    return root


@pytest.mark.parametrize("forward, backward", motion.pairs("hard"))
def test_the_file_of_a_class_is_its_twin_s_reversed_bit_for_bit(hard_root, forward, backward):
    for name in ("train/{}/00000.mp4", "test/{}/00000.mp4", "test/{}/00001.mp4"):
        clip, twin = (decode(hard_root / name.format(n)) for n in (forward, backward))
        assert clip.shape == (9, 28, 28, 3)
        np.testing.assert_array_equal(clip, twin[::-1])
        assert (clip != twin).any()
        assert sorted(frame_hashes(clip)) == sorted(frame_hashes(twin))


def test_files_hold_the_rendered_clip_but_for_the_coarser_colour(hard_root):
    for pair, (forward, _) in enumerate(motion.pairs("hard")):
        clip = motion.render(HARD, pair, 1, split="test", seed=3)
        assert brightness_error(decode(hard_root / "test" / forward / "00001.mp4"), clip) < 3


def test_lists_name_every_file_with_its_label(hard_root):
    names = motion.class_names("hard")
    assert (hard_root / "labels.txt").read_text().split("\n") == [*names, ""]
    for split, count in (("train", 1), ("test", 2)):
        rows = read_rows(hard_root / f"{split}.csv")
        expected = [
            {"path": f"{split}/{name}/{i:05d}.mp4", "label": str(label)}
            for label, name in enumerate(names)
            for i in range(count)
        ]
        assert rows == expected
        assert all((hard_root / row["path"]).is_file() for row in rows)
    assert not list(hard_root.rglob("*.tmp"))
    settings = json.loads((hard_root / "motion.json").read_text())
    assert settings.items() >= {"difficulty": "hard", "num_test": 2, "seed": 3}.items()


def test_frames_do_not_depend_on_the_number_of_workers(tmp_path):
    made = {}
    for workers in (0, 1, 2):
        motion.generate(tmp_path / str(workers), SMALL, 1, 1, seed=1, workers=workers)
        made[workers] = clips_below(tmp_path / str(workers))
    assert len(made[0]) == 32
    for workers in (1, 2):
        assert made[workers].keys() == made[0].keys()
        for name, clip in made[0].items():
            np.testing.assert_array_equal(made[workers][name], clip, err_msg=name)


def test_resume_keeps_finished_files_and_makes_the_missing_ones(tmp_path):
    assert motion.generate(tmp_path, SMALL, 2, 1)[:2] == (48, 0)
    before = clips_below(tmp_path)
    lost = tmp_path / "train" / "left" / "00001.mp4"
    half = lost.rename(lost.with_name(".00001.mp4.1.0.tmp"))  # as a killed run leaves it
    half.write_bytes(b"half a file")
    empty = tmp_path / "test" / "leave" / "00000.mp4"
    empty.write_bytes(b"")
    times = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.mp4") if p != empty}
    assert motion.generate(tmp_path, SMALL, 2, 1)[:2] == (2, 46)
    assert times == {p: p.stat().st_mtime_ns for p in times}
    after = clips_below(tmp_path)
    assert after.keys() == before.keys()
    assert all((after[name] == before[name]).all() for name in before)
    assert list(tmp_path.rglob("*.tmp")) == [half]
    motion.generate(tmp_path, SMALL, 2, 1, overwrite=True)
    assert not half.exists()


def test_an_interrupted_run_leaves_no_list_and_only_whole_files(tmp_path, monkeypatch):
    encode, calls = motion._encode, itertools.count()

    def failing(path, frames, fps):
        if next(calls) == 5:
            path.write_bytes(b"half a file")
            raise KeyboardInterrupt
        encode(path, frames, fps)

    monkeypatch.setattr(motion, "_encode", failing)
    with pytest.raises(KeyboardInterrupt):
        motion.generate(tmp_path, SMALL, 1, 1)
    assert not list(tmp_path.glob("*.csv"))
    assert [len(clip) for clip in clips_below(tmp_path).values()] == [5] * 5
    monkeypatch.undo()
    assert motion.generate(tmp_path, SMALL, 1, 1)[:2] == (27, 5)
    assert len(read_rows(tmp_path / "train.csv")) == 16


def test_other_settings_are_refused_and_overwrite_replaces(tmp_path):
    motion.generate(tmp_path, SMALL, 1, 1)
    before = clips_below(tmp_path)
    other = dataclasses.replace(SMALL, num_frames=6, noise=0.1)
    with pytest.raises(ValueError) as error:
        motion.generate(tmp_path, other, 1, 1, seed=7)
    for part in ("num_frames 5, not 6", "noise", "seed 0, not 7", "another folder", "--overwrite"):
        assert part in str(error.value)
    assert "num_train" not in str(error.value)
    assert all((before[name] == clip).all() for name, clip in clips_below(tmp_path).items())
    (tmp_path / "notes.txt").write_text("mine")
    assert motion.generate(tmp_path, other, 1, 1, seed=7, overwrite=True)[:2] == (32, 0)
    assert {len(clip) for clip in clips_below(tmp_path).values()} == {6}
    assert (tmp_path / "notes.txt").exists()


def test_training_and_test_scenes_differ_under_every_seed():
    clips = {
        (split, seed, index): motion.render(SMALL, 0, index, split=split, seed=seed)
        for split, seed, index in itertools.product(("train", "test"), (0, 1, 2), (0, 1, 2))
    }
    seen = [h for clip in clips.values() for h in frame_hashes(clip)]
    assert len(set(seen)) == len(seen) == 18 * 5
    again = motion.render(SMALL, 0, 2, split="test", seed=1)
    np.testing.assert_array_equal(again, clips["test", 1, 2])


def test_unpaired_training_clips_share_no_frame_but_test_twins_do(tmp_path):
    motion.generate(tmp_path, SMALL, 2, 1, paired_train=False)
    clips = clips_below(tmp_path)
    train = [h for name, c in clips.items() if name.startswith("train") for h in frame_hashes(c)]
    assert len(train) == len(set(train)) == 2 * 16 * 5
    expected = motion.render(SMALL, 0, 3)[::-1]
    assert brightness_error(clips["train/right/00003.mp4"], expected) < 3
    assert brightness_error(clips["train/right/00001.mp4"], expected) > 20
    np.testing.assert_array_equal(clips["test/up/00000.mp4"], clips["test/down/00000.mp4"][::-1])


def test_label_maps_are_the_ones_written_by_hand():
    flips = [1, 0, 2, 3, 6, 7, 4, 5, *range(8, 16)]
    np.testing.assert_array_equal(motion.flip_labels(), flips)
    np.testing.assert_array_equal(motion.flip_labels("hard"), [*flips, 17, 16, 19, 18])
    for difficulty in ("easy", "hard"):
        names, reverse = motion.class_names(difficulty), motion.reverse_labels(difficulty)
        flip = motion.flip_labels(difficulty)
        assert [(names[i], names[reverse[i]]) for i in range(0, len(names), 2)] == list(
            motion.pairs(difficulty)
        )
        np.testing.assert_array_equal(flip[flip], np.arange(len(names)))
        np.testing.assert_array_equal(flip[reverse], reverse[flip])


DIRECTIONS = {
    "left": (-1, 0),
    "right": (1, 0),
    "up": (0, -1),
    "down": (0, 1),
    "up_left": (-1, -1),
    "down_right": (1, 1),
    "up_right": (1, -1),
    "down_left": (-1, 1),
}


@pytest.mark.parametrize("label, name", list(enumerate(DIRECTIONS)))
def test_objects_move_where_the_class_says_and_a_flip_moves_them_as_the_map_says(label, name):
    flipped_name = motion.class_names()[motion.flip_labels()[label]]
    for index in range(5):
        clip = motion.render(motion.MotionSpec(), label // 2, index)[:: -1 if label % 2 else 1]
        for seen, expected in ((clip, name), (clip[:, :, ::-1], flipped_name)):
            moved = centroids(seen)[-1] - centroids(seen)[0]
            np.testing.assert_array_equal(
                np.round(moved / np.abs(moved).max()), DIRECTIONS[expected]
            )


def test_the_other_classes_do_what_their_names_say():
    names = [forward for forward, _ in motion.pairs("hard")]

    def clip(name, index):
        return motion.render(motion.MotionSpec(noise=0.0), names.index(name), index)

    for index in range(5):
        area = bright(clip("approach", index)).sum((1, 2))
        assert area[-1] > 3 * area[0]
        entering = bright(clip("enter", index)).sum((1, 2))
        assert entering[0] == 0 and entering[-1] > 30
        hidden = (clip("cover", index).mean(-1) > 0.76 * 255).sum((1, 2))
        assert hidden[0] > 5 and hidden[-1] == 0
        spread = [np.argwhere(mask).std(0).sum() for mask in bright(clip("together", index))]
        assert spread[-1] < 0.7 * spread[0]


def test_cw_turns_clockwise_on_the_screen():
    phase = np.linspace(0, 1, 17)
    for index in range(5):
        rng = np.random.default_rng(index)
        x, y = motion_scenes.SCENES["orbit_cw"](rng, phase, 1.0)[0].centre.T
        x, y = x - (x.max() + x.min()) / 2, y - (y.max() + y.min()) / 2
        assert (x[:-1] * y[1:] - x[1:] * y[:-1] > 0).all()  # y points down: positive is clockwise
    # A quarter turn of an object, shape and texture, is the picture turned clockwise.
    quarter = motion_scenes.Actor(np.zeros((2, 2)), 0.6, np.array([0, np.pi / 2]))
    axis, canvas = (np.arange(40) - 19.5) / 20, np.zeros((2, 40, 40, 3), np.float32)
    rng = np.random.default_rng(0)
    motion_scenes._draw(canvas, rng, quarter, (0.5, 1.0), axis, np.zeros(2))
    np.testing.assert_allclose(canvas[1], np.rot90(canvas[0], -1), atol=1e-3)
    assert np.abs(canvas[1] - np.rot90(canvas[0])).mean() > 0.01


def test_camera_and_speed_are_as_likely_backwards():
    time, look = np.linspace(-0.5, 0.5, 9), motion_scenes.LOOKS["hard"]
    rng = np.random.default_rng(0)
    cameras = np.array([motion_scenes._camera(rng, look, time) for _ in range(2000)])
    speeds = np.array([motion_scenes._speed(rng, time) for _ in range(2000)])
    assert (np.diff(speeds) > 0).all()
    np.testing.assert_allclose(speeds[:, [0, -1]], [[0, 1]] * 2000, atol=1e-12)
    for forward, backward in ((cameras, cameras[:, ::-1]), (speeds, 1 - speeds[:, ::-1])):
        for power in (1, 2, 3):
            error = np.std(forward**power, axis=0) / np.sqrt(len(forward)) + 1e-12
            assert (np.abs((forward**power - backward**power).mean(0)) < 6 * error).all()


def test_a_larger_clip_shows_the_same_scene():
    spec = motion.MotionSpec(noise=0.0)
    for pair in range(8):
        small = motion.render(spec, pair, 4).astype(float)
        large = motion.render(dataclasses.replace(spec, size_px=56), pair, 4).astype(float)
        shrunk = large.reshape(17, 28, 2, 28, 2, 3).mean((2, 4))
        assert np.corrcoef(small.ravel(), shrunk.ravel())[0, 1] > 0.97


@pytest.mark.parametrize(
    "make, parts",
    [
        (lambda: motion.MotionSpec(size_px=27), ("size_px=27", "even")),
        (lambda: motion.MotionSpec(num_frames=1), ("num_frames=1", "at least 2")),
        (lambda: motion.MotionSpec(difficulty="odd"), ("difficulty='odd'", "easy, hard")),
        (lambda: motion.MotionSpec(noise=-1.0), ("noise=-1.0", "0.5")),
        (lambda: motion.MotionSpec(fps=0), ("fps=0", "at least 1")),
        (lambda: motion.class_names("odd"), ("difficulty='odd'", "easy, hard")),
        (lambda: motion.render(SMALL, 8, 0), ("pair=8", "0 to 7")),
        (lambda: motion.render(SMALL, 0, 0, split="val"), ("split='val'", "train or test")),
        (lambda: motion.generate("/x", SMALL, 0, 1), ("num_train=0", "at least 1")),
        (lambda: motion.generate("/x", SMALL, 1, 0), ("num_test=0", "at least 1")),
        (lambda: motion.generate("/x", SMALL, 1, 1, seed=-1), ("seed=-1", "at least 0")),
        (lambda: motion.generate("/x", SMALL, 1, 1, workers=-1), ("workers=-1", "at least 0")),
        (lambda: motion.generate(__file__, SMALL, 1, 1), (__file__, "can be written")),
    ],
)
def test_a_bad_argument_is_named_with_what_is_allowed(make, parts):
    with pytest.raises(ValueError) as error:
        make()
    for part in parts:
        assert part in str(error.value)


def run_cli(*arguments):
    command = [sys.executable, "-m", "pst_jax.data.motion", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_command_line_writes_a_data_set_and_its_contact_sheet(tmp_path):
    root, sheet = tmp_path / "data", tmp_path / "sheet.png"
    small = ("--size", 16, "--frames", 5, "--train", 1, "--test", 1, "--workers", 0)
    done = run_cli(root, *small, "--contact_sheet", sheet)
    assert done.returncode == 0, done.stderr
    for part in ("16 classes", "wrote 32, kept 0", str(root / "train.csv"), str(sheet)):
        assert part in done.stdout
    picture = cv2.imread(str(sheet))
    assert picture.shape[0] == 16 * 116 and picture.std() > 20
    bad = run_cli(root, *small, "--seed", 5)
    assert bad.returncode != 0 and "seed 0, not 5" in bad.stderr and "Traceback" not in bad.stderr


@pytest.mark.parametrize("name", ["train.csv", "labels.txt", "train", "test"])
def test_a_folder_with_a_users_own_lists_is_left_alone(tmp_path, name):
    if "." in name:
        (tmp_path / name).write_text("mine.mp4,0\n")
    else:
        (tmp_path / name).mkdir()
    for overwrite in (False, True):
        with pytest.raises(ValueError, match=f"holds {name} of something else"):
            motion.generate(tmp_path, motion.MotionSpec(), 1, 1, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == [name]
