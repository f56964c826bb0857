import json

import model_folders
import optax
import pytest

from pst_jax import checkpoint
from pst_jax.convert import conversion, files, folder
from pst_jax.convert.__main__ import make_parser
from pst_jax.training.state import TrainState

CONFIG = {
    "seed": 3,
    "init_from": "",
    "model": {**model_folders.ARGUMENTS, "mixers": None},
    "clip": dict(num_frames=8, size_px=32, short_side_px=36, sampling="uniform", stride_frames=2),
    "eval": {"short_side_px": 0, "average": "logit"},
    "pixels": {"mean": [1.0, 2.0, 3.0], "std": [4.0, 5.0, 6.0]},
    "fingerprints": {"train": "8:abc", "test": "2:def"},
    "class_names": list("abcde"),
}
REPORT = {
    "step": 7,
    "fingerprint": "2:def",
    "device": "1 x cpu",
    "evaluations": [
        {"views": "1x1", "average": "logit", "top1": 0.5, "top5": 1.0, "num_read": 2},
        {"views": "4x3", "average": "logit", "top1": 0.755, "top5": 1.0, "num_read": 2},
    ],
}


@pytest.fixture
def run_dir(tmp_path):
    """What train.py and eval.py leave of a run."""
    path = tmp_path / "run"
    path.mkdir()
    variables = model_folders.variables()
    state = TrainState.create(variables, optax.sgd(0.1, momentum=0.9)).replace(step=7)
    with checkpoint.open_manager(path) as manager:
        checkpoint.save(manager, state, CONFIG)
    (path / "config.json").write_text(json.dumps(CONFIG))
    (path / "report.json").write_text(json.dumps(REPORT))
    return path


def card_of(run_dir, *flags):
    out = run_dir.parent / "model"
    conversion.run(make_parser().parse_args([str(run_dir), str(out), *flags]))
    return (out / folder.CARD).read_text()


def test_the_card_of_a_run_names_data_views_averaging_and_accuracy(run_dir):
    card = card_of(run_dir)
    for line in ("8:abc", "seed 3", "run, step 7", "| 4x3     | logit     | 75.50     |", "2:def"):
        assert line in card
    found = folder.read(run_dir.parent / "model")
    assert found.labels == tuple("abcde")
    assert found.preprocess.mean == (1.0, 2.0, 3.0) and found.preprocess.average == "logit"


@pytest.mark.parametrize(
    "flags",
    [
        ["--num_classes", "6"],
        ["--preprocess", '{"stride_frames": 4}'],
        ["--overrides", '{"bias_keys": "own"}'],
    ],
)
def test_what_was_measured_of_another_network_or_clip_is_not_claimed(run_dir, flags):
    assert "75.50" not in card_of(run_dir, *flags)


def test_other_mixers_drop_the_options_of_the_run_s_own(run_dir):
    config = CONFIG | {"model": CONFIG["model"] | {"pattern": "D", "fold_div": 4}}
    (run_dir / "config.json").write_text(json.dumps(config))
    card_of(run_dir, "--overrides", '{"mixers": "tsm", "fold_div": 8}')
    found = folder.read(run_dir.parent / "model").arguments
    assert found == model_folders.ARGUMENTS | {"mixers": "tsm", "fold_div": 8}


def test_an_accuracy_of_another_step_is_not_claimed(run_dir):
    (run_dir / "report.json").write_text(json.dumps(REPORT | {"step": 6}))
    card = card_of(run_dir)
    assert "75.50" not in card and "Not measured after step 7" in card


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"step": 7}'])
def test_a_damaged_report_is_no_accuracy(run_dir, content):
    (run_dir / "report.json").write_text(content)
    assert "Not measured" in card_of(run_dir)


def test_a_card_goes_from_folder_to_folder(run_dir):
    first = card_of(run_dir)
    again = run_dir.parent / "again"
    conversion.run(make_parser().parse_args([str(run_dir.parent / "model"), str(again)]))
    card = (again / folder.CARD).read_text()
    assert "75.50" in card and "8:abc" in card and "model folder" in card
    assert first.count("75.50") == card.count("75.50") == 1
    assert files.read(again).context["card"] == card
