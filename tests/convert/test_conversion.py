import json
import subprocess
import sys

import golden_files
import jax
import numpy as np
import pytest

import pst_jax
from pst_jax import convert
from pst_jax.convert import conversion, files, folder, preprocess, torch_files, trees
from pst_jax.convert.__main__ import make_parser

GOLDEN = golden_files.load("pst_56")
RELEASED = golden_files.state_dict(GOLDEN)
SIZES = '{"num_frames": 32}'


def run(*args):
    conversion.run(make_parser().parse_args([str(arg) for arg in args]))


@pytest.fixture(scope="module")
def pth(tmp_path_factory):
    """What a training framework saves: released names, in a PyTorch file."""
    path = tmp_path_factory.mktemp("weights") / "k400.pth"
    torch_files.write(path, RELEASED)
    return path


def values_of(path):
    source = files.read(path)
    if source.is_ours:
        return source.arrays
    model = pst_jax.create_model(**source.arguments)
    return trees.flatten(convert.from_torch(source.arrays, model))


def test_all_forms_lead_to_all_others_bit_for_bit(tmp_path, pth):
    expected = trees.flatten(convert.from_torch(RELEASED, golden_files.model()))
    forms = ["folder", "a.orbax", "b.pth", "c.safetensors", "d.npz", "e.pt", "last"]
    (tmp_path / "names.txt").write_text("\n".join(f"name {n}" for n in range(10)))
    said = ["--arch", "pst_tiny", "--labels", tmp_path / "names.txt"]
    said += ["--preprocess", '{"size_px": 56, "short_side_px": 60, "std": [1, 2, 3]}']
    before = pth
    for number, name in enumerate(forms):
        run(before, tmp_path / name, *(() if number else said))
        before = tmp_path / name
        found = values_of(before)
        assert found.keys() == expected.keys()
        for path, value in expected.items():
            np.testing.assert_array_equal(found[path], value, err_msg=f"{name}: {path}")
    first, last = folder.read(tmp_path / "folder"), folder.read(tmp_path / "last")
    assert last.labels[3] == "name 3" and last.preprocess.std == (1, 2, 3)
    assert (first.labels, first.preprocess) == (last.labels, last.preprocess)


def test_the_report_says_what_became_of_every_array(tmp_path, pth, capsys):
    report_file = tmp_path / "report.json"
    run(pth, tmp_path / "model", "--arch", "pst_tiny", "--num_classes", 3, "--json", report_file)
    report = json.loads(report_file.read_text())
    weights = [name for name in RELEASED if "index" not in name]
    assert len(report["renamed"]) == len(weights) - 2  # the head is not taken over
    assert "head/kernel (48, 10)" in report["dropped"]
    assert {"from": "norm.weight", "to": "norm/scale"} in report["renamed"]
    assert sorted(line.split()[0] for line in report["new"]) == ["head/bias", "head/kernel"]
    assert report["model"]["name"] == "pst_tiny" and report["model"]["num_classes"] == 3
    assert report["sha256"] == files.read(pth).sha256
    printed = capsys.readouterr().out
    assert "new: head/kernel (48, 3)" in printed and "wrote:" in printed


# File as it was released -> golden, how it names the tensors, the entry that holds them, its row.
LAYOUTS = {
    "TPS": ("pst_56", "{}", "state_dict", "pst_tiny"),
    "TPS in parallel": ("pst_56", "module.{}", "state_dict", "pst_tiny"),
    "Video-Swin": ("videoswin_56", "{}", "state_dict", "videoswin_tiny"),
    "LAPS": ("laps", "module.{}", "state_dict", "laps"),
    "TokShift": ("tokshift", "module.{}", "state_dict", "tokshift_base"),
    "ViT": ("vit2d", "{}", "model", "vit_base"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_released_layout_is_read_to_the_bit(tmp_path, layout):
    kind, name, key, row = LAYOUTS[layout]
    golden = golden_files.load_model_file(kind)
    model = golden_files.model_of(golden_files.MODELS[kind][0], golden["config"])
    given = golden_files.state_dict(golden)
    if layout == "ViT":  # an image network's names are bare
        given = {name.removeprefix("base_model."): value for name, value in given.items()}
    arrays = {name.format(key): value for key, value in given.items()}
    torch_files.write(tmp_path / "weights.pth", arrays, {"epoch": 30}, key)
    flags = ["--arch", row]
    if row in ("laps", "tokshift_base", "vit_base"):  # what no shape tells
        unseen = {"num_heads": model.num_heads, "num_frames": model.num_frames}
        flags += ["--overrides", json.dumps(unseen)]
    run(tmp_path / "weights.pth", tmp_path / "model", *flags)
    found = folder.read(tmp_path / "model")
    expected = trees.flatten(convert.from_torch(golden_files.state_dict(golden), model))
    assert found.arguments["num_classes"] == model.num_classes
    for path, value in trees.flatten(found.variables).items():
        np.testing.assert_array_equal(value, expected[path])


def image_file(path):
    """An ImageNet Swin as its release saves it: under "model", a 2D kernel, a head of 1000."""
    model = golden_files.model(window=(1, 7, 7), mixers="none")
    shapes = {name: leaf.shape for name, leaf in trees.expected(model, 56).items()}
    rng = np.random.default_rng(0)
    flat = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    arrays = convert.to_torch(trees.unflatten(flat), model)
    image = {}
    for name, value in arrays.items():
        name = name.split(".", 1)[1].replace("fc_cls", "head")
        if name.endswith("relative_position_bias_table"):
            value = value[:169]
        image[name] = value.sum(axis=2) if name == "patch_embed.proj.weight" else value
    image["head.weight"] = rng.normal(size=(1000, 48)).astype(np.float32)
    image["head.bias"] = np.zeros(1000, np.float32)
    np.savez(path, **image)
    return path


def test_an_image_network_is_inflated_and_its_head_starts_anew(tmp_path):
    source, report_file = image_file(tmp_path / "swin.npz"), tmp_path / "report.json"
    with pytest.raises(ValueError, match="image network.*--arch"):
        run(source, tmp_path / "model")
    run(source, tmp_path / "model", "--arch", "pst_tiny", "--json", report_file)
    report = json.loads(report_file.read_text())
    assert {line.split()[0] for line in report["new"]} == {"head/kernel", "head/bias"}
    assert any(line.startswith("patch_embed/proj/kernel") for line in report["inflated"])
    assert sum("bias_table" in line for line in report["inflated"]) == 4
    assert report["model"]["num_classes"] == 400
    assert "new: head/kernel" in (tmp_path / "model" / folder.CARD).read_text()


def test_parity_with_the_released_network_is_printed_per_layer_and_logit(tmp_path, pth, capsys):
    reference = tmp_path / "reference.npz"
    np.savez(reference, **{key: GOLDEN[key] for key in ("x", "logits", "features")})
    report_file = tmp_path / "report.json"
    run(
        *(pth, tmp_path / "model", "--arch", "pst_tiny"),
        *("--parity", reference, "--json", report_file),
    )
    lines = {line["layer"]: line for line in json.loads(report_file.read_text())["parity"]}
    assert lines["logits"]["max_abs"] < 1e-5
    assert len(lines) >= 2
    assert "logits" in capsys.readouterr().out


def test_another_network_than_the_reference_s_is_told(tmp_path, pth):
    reference = tmp_path / "reference.npz"
    np.savez(reference, x=GOLDEN["x"], logits=GOLDEN["logits"])
    options = ("--overrides", '{"shift_stages": []}', "--parity", reference)
    with pytest.raises(ValueError, match="more than 0.0001"):
        run(pth, tmp_path / "model", "--arch", "pst_tiny", *options)
    assert not (tmp_path / "model").exists()


def test_what_is_assumed_or_untrained_is_said(tmp_path, pth, capsys):
    run(pth, tmp_path / "model", "--arch", "pst_tiny", "--num_classes", 174)
    printed = capsys.readouterr().out
    assert "clips: 32 frames (uniform) of 224 px, by the recipe of pst_tiny" in printed
    assert "untrained: " in printed and "labels: numbers alone" in printed
    assert set(folder.read(tmp_path / "model").untrained) == {"head/kernel", "head/bias"}
    run(tmp_path / "model", tmp_path / "again.pth")
    run(tmp_path / "again.pth", tmp_path / "again")
    assert set(folder.read(tmp_path / "again").untrained) == {"head/kernel", "head/bias"}
    assert "recipe" not in capsys.readouterr().out


def test_labels_and_clips_can_be_said(tmp_path, pth):
    (tmp_path / "names.txt").write_text("\n".join(f"name {n}" for n in range(10)))
    run(
        *(pth, tmp_path / "model", "--arch", "pst_tiny", "--labels", tmp_path / "names.txt"),
        *("--preprocess", '{"sampling": "uniform", "size_px": 56, "short_side_px": 64}'),
    )
    found = folder.read(tmp_path / "model")
    assert found.labels[9] == "name 9"
    assert (found.preprocess.sampling, found.preprocess.size_px) == ("uniform", 56)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--arch", "laps"], "weights of a Swin, and laps is a Visformer"),
        (["--arch", "pst_tiny", "--overrides", "{"], "--overrides='{'"),
        (["--arch", "pst_tiny", "--overrides", "[]"], "is a list"),
        (["--arch", "pst_tiny", "--overrides", '{"colour": 1}'], "no override 'colour'"),
        (["--arch", "pst_tiny", "--preprocess", '{"crops": 3}'], "no field 'crops'"),
        (["--arch", "pst_tiny", "--labels", "kinetics400"], "400 labels for num_classes=10"),
        (["--arch", "pst_tiny", "--json", "none/x.json"], "can be "),
        (["--arch", "pst_tiny", "--json", "weights.pth"], "ends in .json"),
        (["--arch", "pst_tiny", "--preprocess", '{"num_frames": 64}'], "takes 64 frames"),
        (["--arch", "pst_tiny", "--parity", "none.npz"], "none.npz"),
        (["--arch", "pst_tiny", "--key", "ema"], "no entry 'ema'"),
        ([], "no published row: .*--arch"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path, pth, options, message):
    with pytest.raises(ValueError, match=message):
        run(pth, tmp_path / "model", *options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("dest", "flags", "message"),
    [
        ("model.onnx", [], ".onnx is not written; use .pth"),
        ("model.npz", ["--weights", "safetensors"], "--weights=safetensors is for model folders"),
        ("", [], "destination is empty"),
    ],
)
def test_a_destination_that_is_not_written_is_told_at_once(tmp_path, pth, dest, flags, message):
    dest = tmp_path / dest if dest else ""
    with pytest.raises(ValueError, match=message):
        run(pth, dest, "--arch", "pst_tiny", *flags)


def test_the_folders_above_a_model_are_made(tmp_path, pth):
    run(pth, tmp_path / "models" / "new" / "pst-v1.5", "--arch", "pst_tiny")
    assert folder.read(tmp_path / "models" / "new" / "pst-v1.5").arguments["name"] == "pst_tiny"


def test_the_command_ends_with_one_line_and_code_1(tmp_path):
    (tmp_path / "page.pth").write_text("<html>")
    result = subprocess.run(
        [sys.executable, "-m", "pst_jax.convert", tmp_path / "page.pth", tmp_path / "model"],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert "web page" in line and str(tmp_path / "page.pth") in line


def test_a_network_without_released_layout_goes_into_folders_alone(tmp_path):
    model = golden_files.model(mixers="divided")
    flat = trees.expected(model, 56)
    variables = trees.unflatten({k: np.zeros(v.shape, np.float32) for k, v in flat.items()})
    arguments = dict(name="pst_tiny", num_classes=10, embed_dim=24, depths=[2, 2], num_heads=[3, 6])
    contents = folder.ModelFolder(
        arguments | {"mixers": "divided"},
        variables,
        preprocess.Preprocess(32, 2, "dense", 56, 64),
        tuple(map(str, range(10))),
        "# Card\n",
    )
    folder.write(tmp_path / "model", contents)
    run(tmp_path / "model", tmp_path / "again")
    jax.tree.map(
        np.testing.assert_array_equal, folder.read(tmp_path / "again").variables, variables
    )
    with pytest.raises(ValueError, match="no released layout; .*orbax can hold any|no released"):
        run(tmp_path / "model", tmp_path / "a.pth")
