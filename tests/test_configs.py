"""Every config file: what it says of itself, the model it names, and two steps of training."""

import functools
import importlib.util
import json
import math
import pathlib
import re
import runpy
import sys

import grain  # noqa: F401, whose flags, as those of app, have to be there before a script's
import jax
import numpy as np
import pytest
from absl import app  # noqa: F401
from absl.testing import flagsaver
from ml_collections import ConfigDict
from video_files import frames_of_noise, write_video

from pst_jax import checkpoint, convert, experiment, ops, sharding
from pst_jax import load as load_model
from pst_jax.convert import __main__ as convert_command
from pst_jax.convert import conversion, preprocess, torch_files, trees
from pst_jax.data import label_maps
from pst_jax.data.clips import load_view
from pst_jax.models.swin import Swin
from pst_jax.models.variants import VARIANTS, create_model
from pst_jax.models.visformer import Visformer
from pst_jax.models.vit import ViT
from pst_jax.training.writer import read_metrics

ROOT = pathlib.Path(__file__).parents[1]
FILES = sorted((ROOT / "configs").rglob("*.py"))
FILES = {str(path.relative_to(ROOT)): path for path in FILES if path.name != "common.py"}


@functools.cache
def load(file):
    spec = importlib.util.spec_from_file_location(pathlib.Path(file).stem, FILES[file])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def config_of(name):
    file, _, row = name.partition(":")
    return load(file).get_config(*[row] if row else [])


# As --config takes them, one for each row of the files that have an argument.
NAMES = [
    file + (f":{row}" if row else "")
    for file in FILES
    if "motion" not in file
    for row in getattr(load(file), "ROWS", [""])
]


@pytest.mark.parametrize("file", FILES)
def test_a_file_is_short_and_says_how_it_is_run(file):
    text = load(file).__doc__
    assert len(FILES[file].read_text().splitlines()) <= 60
    command = re.search(rf"\n    python train.py --config {re.escape(file)}(?::(\w+))? ", text)
    assert command[1] in getattr(load(file), "ROWS", (None, "twin"))
    if file.count("/") > 1:
        assert "8 GPUs" in text
        assert ("Expected: top-1 " in text) != ("Accuracy: the paper's was not at hand" in text)


@pytest.mark.parametrize("name", NAMES)
def test_a_config_lacks_nothing_but_videos(name, tmp_path):
    config = config_of(name)
    assert config.model.name in VARIANTS
    config.data.root = str(tmp_path)
    with pytest.raises(ValueError, match=rf"{re.escape(config.data.train)}.* does not exist"):
        experiment.build(config)


# By the beginning of a file's name: lists of training and test, classes never mirrored, policy,
# probabilities of erasing and of each change of colour.
RELEASED = {
    "pst/k400": ("train.csv", "val.csv", None, "none", 0.0, 0.0),
    "pst/ssv2": (
        *("labels/train.json", "labels/validation.json"),
        *((86, 87, 93, 94, 166, 167), "rand_released", 0.25, 0.0),
    ),
    "pst/ssv1": (
        *("something-something-v1-train.csv", "something-something-v1-validation.csv"),
        *((2, 4, 30, 41, 52, 66), "rand_released", 0.25, 0.0),
    ),
    "pst/diving48": (
        *("Diving48_V2_train.json", "Diving48_V2_test.json", None, "rand_released", 0.25, 0.0),
    ),
    "laps/k400": ("train.csv", "val.csv", None, "none", 0.0, 0.1),
}


@pytest.mark.parametrize("name", [name for name in NAMES if name.count("/") > 1])
def test_a_published_row_has_the_lists_and_augmentation_of_its_release(name):
    config = config_of(name)
    lists, clip, augment = config.data, config.clip, config.augment
    labels = label_maps.resolve(clip.flip_labels, clip.flip, label_maps.MIRRORED)
    found = (lists.train, lists.test, labels, clip.policy, augment.erase, augment.colour_jitter)
    data_set = name.removeprefix("configs/").split("_")[0].removesuffix(".py")
    assert found == RELEASED[data_set]
    assert (augment.mixup, augment.cutmix, clip.policy_ops, clip.policy_magnitude) == (0, 0, 2, 9)
    assert clip.frame_offset == 0


@pytest.mark.parametrize("file", ["configs/pst/ssv1_tiny.py", "configs/pst/ssv1_base.py"])
def test_the_bugs_of_the_release_are_an_argument(file):
    clip = config_of(f"{file}:paper_bug").clip
    assert (clip.flip, clip.flip_labels, clip.frame_offset) == ("skip", "ssv2", -1)
    with pytest.raises(ValueError, match="argument 'bug' is unknown: use paper_bug"):
        config_of(f"{file}:bug")


@pytest.mark.parametrize("name", NAMES)
def test_a_converted_checkpoint_takes_clips_as_the_config_of_its_row(name):
    config = json.loads(config_of(name).to_json())
    model = experiment.build_model(config_of(name))
    recipe = preprocess.released(config["model"]["name"], model)
    assert recipe == preprocess.of_run(config)


@pytest.mark.parametrize("file", [file for file in FILES if hasattr(load(file), "ROWS")])
@pytest.mark.parametrize("row", ["", "nothing"])
def test_an_unknown_row_is_one_error_with_the_known_ones(file, row):
    known = ", ".join(load(file).ROWS)
    with pytest.raises(ValueError, match=f"argument '{row}' is unknown: use {known}"):
        load(file).get_config(row)


def test_every_published_row_has_a_config_and_table_1_one_file():
    trained = {config_of(name).model.name for name in NAMES}
    sources = {name: variant.source or "" for name, variant in VARIANTS.items()}
    rows = {name for name, source in sources.items() if re.match("PST|LAPS|TokShift", source)}
    assert rows <= trained
    table = {name for name, source in sources.items() if source.startswith("PST Table 1 ")}
    assert set(load("configs/pst/ssv1_ablations.py").ROWS.values()) == table


def test_a_model_of_fixed_size_is_built_for_the_clips_size():
    for name in NAMES:
        config = config_of(name)
        is_fixed = VARIANTS[config.model.name].family is not Swin
        assert config.model.get("image_size") == (config.clip.size_px if is_fixed else None)
        assert config.model.num_frames == config.clip.num_frames


WIDTHS = {
    Swin: {"embed_dim": 8, "depths": "(2,1,1,1)", "num_heads": "(1,1,1,1)"},
    Visformer: {"init_channels": 4, "embed_dim": 16, "depths": "(1,2,1)", "num_heads": 2},
    # A grid for a 3 x 3 pattern.
    ViT: {"embed_dim": 16, "depth": 4, "num_heads": 2, "patch_size": 8},
}
SIZES = {
    **{"data.train": "train.csv", "data.test": "test.csv"},
    **{"model.num_frames": 8, "model.image_size": 32, "clip.num_frames": 8, "clip.size_px": 32},
    **{"clip.short_side_px": 32, "clip.short_side_max_px": 40},
    **{"train.batch_size": 4, "train.accumulate": 2, "train.num_epochs": 1.0},
    **{"train.precise_bn_batches": 2, "eval.batch_size": 2, "eval.views": "1x1"},
}
# One of each family and recipe.
QUICK = {
    f"configs/{name}"
    for name in (
        # PST's: see the whole recipe.
        *("pst/ssv2_deit_small.py:tps", "laps/k400_laps.py", "laps/k400_vit_laps.py:base"),
    )
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Eight videos to train on, two of them to test on."""
    root = tmp_path_factory.mktemp("videos")
    lines = [f"{k}.mp4,{k % 2}\n" for k in range(8)]
    for k in range(8):
        write_video(root / f"{k}.mp4", frames_of_noise(12, 40, 48, seed=k))
    (root / "train.csv").write_text("".join(lines))
    (root / "test.csv").write_text("".join(lines[:2]))
    return root


@pytest.fixture
def quick_to_compile():
    """Two steps are over long before XLA's optimizations are."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)


def flags_of(config, root):
    """Flags for the sizes that the config has, and that its recipe makes use of."""
    flat = {
        f"{s}.{key}": value
        for s in ("data", "model", "clip", "train", "eval")
        for key, value in config[s].items()
    }
    widths = WIDTHS[VARIANTS[config.model.name].family]
    sizes = SIZES | {f"model.{key}": value for key, value in widths.items()}
    keys = [key for key in sizes if key in flat]
    if config.clip.short_side_max_px is None:
        keys.remove("clip.short_side_max_px")
    for key, unused in (("train.accumulate", 1), ("train.precise_bn_batches", 0)):
        if flat[key] == unused:
            keys.remove(key)
    return [f"--config.data.root={root}", *(f"--config.{key}={sizes[key]}" for key in keys)]


@pytest.fixture
def run_train(monkeypatch, capsys, quick_to_compile):
    """Runs train.py in this process with flags; returns what it printed."""
    # As on a user's machine, and one device compiles sooner than eight.
    monkeypatch.setattr(sharding, "make_mesh", functools.partial(sharding.make_mesh, 1))
    monkeypatch.setenv("GLIBC_TUNABLES", "")  # or the process would begin anew
    monkeypatch.chdir(ROOT)

    def run(*flags):
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, flags)])
        with flagsaver.flagsaver(), pytest.raises(SystemExit) as ended:
            runpy.run_path("train.py", run_name="__main__")
        printed = capsys.readouterr()
        assert not ended.value.code, printed
        return printed.out + printed.err

    return run


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NAMES]
)
def test_train_py_takes_two_steps(name, root, tmp_path, monkeypatch, run_train):
    config, seen = config_of(name), []

    def normalise(video, mean, std):
        seen.append((mean, std))
        return ops.normalise(video, mean, std)

    monkeypatch.setattr(experiment, "normalise", normalise)
    run_train("--config", name, "--workdir", tmp_path, *flags_of(config, root))
    train, test = read_metrics(tmp_path / "metrics.jsonl")
    assert (train["step"], test["step"], test["num_unreadable"]) == (2, 2, 0)
    assert math.isfinite(train["loss"])
    # Training, prediction and the statistics of BatchNorm: each is traced once.
    expected = config.pixels.mean, config.pixels.std
    assert seen == [expected] * (3 if config.train.precise_bn_batches else 2)


def write_image_network(path):
    """An ImageNet Swin as PyTorch saves it: a 2D kernel, bare names, a head of 1000 classes."""
    sizes = {"embed_dim": 8, "depths": (2, 1, 1, 1), "num_heads": (1, 1, 1, 1)}
    model = create_model("swin2d_tiny", 1000, **sizes)
    rng = np.random.default_rng(0)
    leaves = trees.expected(model, 32).items()
    flat = {name: rng.normal(0, 0.1, leaf.shape).astype(np.float32) for name, leaf in leaves}
    image = {}
    for name, value in convert.to_torch(trees.unflatten(flat), model).items():
        name = name.removeprefix("backbone.").replace("cls_head.fc_cls", "head")
        image[name] = value.sum(axis=2) if name == "patch_embed.proj.weight" else value
    torch_files.write(path, image)


def test_the_whole_recipe_goes_by_flags_from_imagenet_to_a_prediction(
    root, tmp_path, run_train, capsys
):
    """ImageNet .pth -> Kinetics-400 -> Something-Something -> a model folder -> a prediction."""
    write_image_network(tmp_path / "swin.pth")
    starts = {"k400_tiny": tmp_path / "swin.pth", "ssv2_tiny": tmp_path / "k400_tiny"}
    for name, start in starts.items():
        file = f"configs/pst/{name}.py"
        flags = flags_of(config_of(file), root)
        printed = run_train(
            *("--config", file, "--workdir", tmp_path / name),
            *(f"--config.init_from={start}", *flags),
        )
        classes = config_of(file).model.num_classes
        assert f"init_from: new: head/kernel (64, {classes})" in printed
        assert ("init_from: inflated: patch_embed" in printed) == (name == "k400_tiny")
        assert len(read_metrics(tmp_path / name / "metrics.jsonl")) == 2

    command = convert_command.make_parser()
    arguments = [str(tmp_path / "ssv2_tiny"), str(tmp_path / "model"), "--weights", "safetensors"]
    conversion.run(command.parse_args(arguments))
    assert "174 classes" in capsys.readouterr().out
    found = load_model(tmp_path / "model")(root / "3.mp4")
    assert found.probabilities.shape == (174,)
    # As the run would have predicted it: its variables, its clips.
    built = experiment.build_model(config_of_run(tmp_path / "ssv2_tiny"))
    variables, _ = checkpoint.restore_variables(tmp_path / "ssv2_tiny")
    spec = load_model(tmp_path / "model").clip_spec()
    assert (spec.sampling, spec.size_px, spec.short_side_px) == ("uniform", 32, 32)
    video = ops.normalise(load_view(str(root / "3.mp4"), spec)[None])
    logits = jax.jit(lambda v, x: built.apply(v, x, train=False))(variables, video)
    expected = jax.nn.softmax(logits)[0]
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)


def config_of_run(workdir):
    return ConfigDict(json.loads((workdir / "config.json").read_text()))
