"""Data sets as published go through inspect, prepare, two training steps and eval, as they are."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from layouts import class_folders, csv_list, diving48, kinetics, ssv1, ssv2

from configs import videos
from pst_jax import sharding
from pst_jax.data import index
from pst_jax.data import inspect as inspect_command
from pst_jax.data import prepare as prepare_command
from pst_jax.data.clips import load_view
from pst_jax.data.records import fingerprint
from pst_jax.data.transforms import ClipSpec
from pst_jax.evaluation import report
from pst_jax.training import loop

# What lays it out, its lists for training and test, its split of the test.
DATA_SETS = {
    "ssv1": (ssv1, "something-something-v1-train.csv", "something-something-v1-validation.csv"),
    "ssv2": (ssv2, "labels/train.json", "labels/validation.json"),
    "kinetics": (kinetics, "train.csv", "val.csv"),
    "diving48": (diving48, "Diving48_V2_train.json", "Diving48_V2_test.json"),
    "class_folders": (class_folders, "train", "test"),
    "csv_list": (csv_list, "train.csv", "test.csv"),
}


def make_config(root, train, test):
    config = videos.get_config()
    config.data.update(root=str(root), train=train, test=test, num_threads=0)
    config.model.update(num_classes=3, embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1))
    config.model.num_frames = config.clip.num_frames = 4
    config.clip.update(size_px=32, short_side_px=32, sampling="uniform")
    config.train.update(batch_size=2, log_every_steps=1, eval_every_epochs=0, num_epochs=0.5)
    config.eval.update(batch_size=2, views="1x1")
    return config


def train_and_evaluate(workdir, *data):
    """The report of two steps, and the fingerprints that its checkpoint carries."""
    config = make_config(*data)
    num_videos = len(index.read_index(pathlib.Path(data[0], data[1]), data[0]).records)
    config.train.num_epochs = 2 / (num_videos // 2)
    assert loop.train(config, workdir) == loop.DONE
    (saved,) = (workdir / "checkpoints").glob("2/config")
    (file,) = (path for path in saved.iterdir() if path.name == "metadata")
    return report.evaluate(config, workdir), json.loads(file.read_text())["fingerprints"]


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    mesh = sharding.make_mesh(1)
    monkeypatch.setattr(sharding, "make_mesh", lambda: mesh)


def command(module, *arguments):
    """Runs a command's main; returns its exit code."""
    return module.main(module.make_parser().parse_args([str(a) for a in arguments])) or 0


@pytest.mark.parametrize("name", DATA_SETS)
def test_a_data_set_goes_all_the_way_raw_and_prepared(name, tmp_path):
    write, train, test = DATA_SETS[name]
    expected, raw = write(tmp_path / "raw"), tmp_path / "raw"

    has_missing = name == "kinetics"
    code = command(inspect_command, raw, "--json", tmp_path / "inspect.json")
    seen = json.loads((tmp_path / "inspect.json").read_text())
    assert code == 0 and not seen["unreadable"]
    splits = index.read_dataset(raw)
    for split, listing in splits.items():
        assert [(r.video_id, r.label) for r in listing.records] == expected[split]
        assert seen["splits"][split]["fingerprint"] == fingerprint(listing.records)
        assert len(seen["splits"][split]["missing"]) == (has_missing and split == "train")

    assert command(prepare_command, raw, tmp_path / "small", "--num_workers", 1) == 0
    names = list(splits)
    for split in names:  # a clip of what was prepared is that of the raw video, up to the codec
        listing = index.read_index(tmp_path / "small" / split)
        assert len(listing.missing) == len(splits[split].missing)
        prepared = listing.records
        for before, after in zip(splits[split].records, prepared, strict=True):
            assert (before.video_id, before.label) == (after.video_id, after.label)
        spec = ClipSpec(8, 32, 32)
        pair = [load_view(records[0], spec) for records in (splits[split].records, prepared)]
        difference = np.abs(np.subtract(*pair, dtype=np.float32)).mean()
        assert difference < 25, f"{difference} of 255"  # other frames of noise: about 85

    found = {}
    for kind, data in {"raw": (raw, train, test), "small": (tmp_path / "small", *names)}.items():
        found[kind], saved = train_and_evaluate(tmp_path / kind / "run", *data)
        num_test = len(expected[names[1]])
        assert (found[kind]["num_videos"], found[kind]["num_unreadable"]) == (num_test, 0)
        assert saved["test"] == found[kind]["fingerprint"] == fingerprint(splits[names[1]].records)
    assert found["raw"]["fingerprint"] == found["small"]["fingerprint"]


def test_what_a_published_list_lacks_is_left_out_of_training_and_said(tmp_path, caplog):
    kinetics(tmp_path)
    caplog.set_level("WARNING")
    report_, fingerprints = train_and_evaluate(tmp_path / "run", tmp_path, "train.csv", "val.csv")
    assert fingerprints["train"].startswith("8:") and report_["fingerprint_train"].startswith("8:")
    assert "1 of the 9 videos that it lists are missing" in caplog.text
    config = make_config(tmp_path, "train.csv", "val.csv")
    for path in sorted((tmp_path / "train").rglob("*.mp4"))[1:]:
        path.unlink()
    with pytest.raises(ValueError, match="8 of the 9 .* config.data.root=.* must be the folder"):
        loop.train(config, tmp_path / "other")


def test_the_commands_say_what_they_do():
    for module in ("inspect", "prepare", "benchmark"):
        done = subprocess.run(
            [sys.executable, "-m", f"pst_jax.data.{module}", "--help"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 and f"python -m pst_jax.data.{module}" in done.stdout
        done = subprocess.run(
            [sys.executable, "-m", f"pst_jax.data.{module}", "/nowhere/at/all", "/tmp/x"][
                : 4 if module != "prepare" else 5
            ],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1 and "/nowhere/at/all" in done.stderr, done.stderr
