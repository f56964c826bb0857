import io
import json
import zipfile

import golden_files
import jax
import numpy as np
import pytest
import safetensors.numpy
from convert.torch_by_hand import ops, tensor, zipped

from pst_jax import checkpoint, convert
from pst_jax.convert import files, folder, torch_files, trees
from pst_jax.convert.preprocess import Preprocess


@pytest.fixture(scope="module")
def released():
    return golden_files.state_dict(golden_files.load("pst_56"))


def equal(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(np.asarray(found[name]), value)


def write_torch(path, released):
    torch_files.write(path, released, {"epoch": 3})


def write_safetensors(path, released):
    safetensors.numpy.save_file(released, path)


def write_npz(path, released):
    with path.open("wb") as file:
        np.savez_compressed(file, **released)


@pytest.mark.parametrize(
    ("write", "kind"),
    [
        (write_torch, "PyTorch (zip)"),
        (write_safetensors, "safetensors"),
        (write_npz, "npz"),
    ],
)
def test_a_file_is_told_by_its_content_and_not_by_its_name(tmp_path, released, write, kind):
    path = tmp_path / "weights.bin"
    write(path, released)
    found = files.read(path)
    assert (found.kind, found.is_ours, found.arguments) == (kind, False, None)
    equal(found.arrays, released)
    assert len(found.sha256) == 64


def test_what_lies_beside_the_weights_is_named(tmp_path, released):
    write_torch(tmp_path / "a.pth", released)
    assert files.read(tmp_path / "a.pth").remarks == ("left out: epoch",)


def test_a_number_beside_the_weights_does_not_hide_them(tmp_path):
    weights = b"}(" + ops("norm.weight") + tensor() + b"u"
    content = b"}(" + ops("best") + tensor() + ops("state_dict") + weights
    content += ops("ema") + weights + b"u"
    (tmp_path / "a.pth").write_bytes(zipped(content))
    found = files.read(tmp_path / "a.pth")
    assert list(found.arrays) == ["norm.weight"]
    assert found.remarks == ("left out: best", "left out: ema (weights too: --key ema)")


def test_a_key_is_for_pytorch_files_alone(tmp_path, released):
    write_npz(tmp_path / "a.npz", released)
    with pytest.raises(ValueError, match="--key='ema' is for PyTorch files"):
        files.read(tmp_path / "a.npz", "ema")


def test_a_dtype_that_numpy_lacks_is_told(tmp_path):
    header = b'{"w":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}'
    (tmp_path / "a").write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
    with pytest.raises(ValueError, match="dtype"):
        files.read(tmp_path / "a")


def test_an_entry_can_be_chosen_by_its_key(tmp_path, released):
    write_torch(tmp_path / "a.pth", released)
    equal(files.read(tmp_path / "a.pth", "state_dict").arrays, released)
    with pytest.raises(ValueError, match="no entry 'ema'.*has: 'state_dict'"):
        files.read(tmp_path / "a.pth", "ema")


@pytest.mark.parametrize("kind", ["folder", "folder as orbax", "orbax", "bare orbax"])
def test_directories_of_ours_are_read_back(tmp_path, released, kind):
    model = golden_files.model()
    variables = convert.from_torch(released, model)
    arguments = dict(name="pst_tiny", num_classes=10, embed_dim=24, depths=[2, 2], num_heads=[3, 6])
    path = tmp_path / "model"
    if kind == "orbax":
        checkpoint.save_model(path, variables, {"model": arguments | {"dtype": None}})
    elif kind == "bare orbax":
        import orbax.checkpoint as ocp

        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save(path, variables)
    else:
        labels = tuple(f"class {number}" for number in range(10))
        contents = folder.ModelFolder(
            arguments, variables, Preprocess(32, 2, "dense", 56, 64), labels, "# Card\n"
        )
        folder.write(path, contents, "orbax" if "orbax" in kind else "safetensors")
    found = files.read(path)
    assert found.is_ours and found.sha256 is None
    equal(found.arrays, trees.flatten(variables))
    if kind == "bare orbax":
        assert found.arguments is None
    else:
        assert {**found.arguments, "depths": [2, 2], "num_heads": [3, 6]} == arguments


# What people download or copy in place of weights, and a word of what they are told.
NOT_WEIGHTS = {
    "an empty file": (b"", "empty"),
    "a page": (b"\n<!DOCTYPE html><html>404</html>", "web page"),
    "a page without doctype": (b"<HTML><body>", "web page"),
    "a server's error": (b'<?xml version="1.0"?><Error>', "error message of a server"),
    "a git-lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
    "a gzip": (b"\x1f\x8b\x08\x00", "gunzip"),
    "a text": (b"hello, world", "no file of weights"),
    "a video": (b"\x00\x00\x00\x20ftypisom", "no file of weights"),
    "zip of other": (None, "no .npz of arrays"),
    "half a safetensors": (None, "cannot be read"),
    "half an npz": (None, "cut off or damaged"),
}


@pytest.mark.parametrize("what", NOT_WEIGHTS)
def test_what_is_no_weights_is_told_with_the_remedy(tmp_path, released, what):
    content, message = NOT_WEIGHTS[what]
    path = tmp_path / "weights.pth"
    if what == "zip of other":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.txt", "hello")
    elif what == "half a safetensors":
        write_safetensors(path, released)
        path.write_bytes(path.read_bytes()[:5000])
    elif what == "half an npz":
        write_npz(path, released)
        path.write_bytes(path.read_bytes()[:5000])
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        files.read(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_missing_file_and_a_folder_of_something_else_are_told(tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        files.read(tmp_path / "none.pth")
    with pytest.raises(ValueError, match="no model folder, no orbax checkpoint and no working"):
        files.read(tmp_path)


def test_a_zip_bomb_in_an_npz_is_not_unpacked(tmp_path):
    with (tmp_path / "bomb.npz").open("wb") as file:
        np.savez_compressed(file, weight=np.zeros(2**22, np.float32))
    with pytest.raises(ValueError, match="would unpack to"):
        files.read(tmp_path / "bomb.npz")


def test_an_npz_of_objects_is_not_unpickled(tmp_path):
    with (tmp_path / "objects.npz").open("wb") as file:
        np.savez(file, weight=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="no .npz of arrays"):
        files.read(tmp_path / "objects.npz")


def test_an_npz_whose_header_claims_too_much_is_refused(tmp_path):
    header = io.BytesIO()
    claim = {"descr": "<f4", "fortran_order": False, "shape": (2**40,)}
    np.lib.format.write_array_header_1_0(header, claim)
    with zipfile.ZipFile(tmp_path / "claim.npz", "w") as archive:
        archive.writestr("weight.npy", header.getvalue())
    with pytest.raises(ValueError, match="claim.npz"):
        files.read(tmp_path / "claim.npz")


def test_damage_anywhere_is_one_line(tmp_path, released):
    few = {name: value for name, value in list(released.items())[:6]}
    for write in (write_safetensors, write_npz):
        path = tmp_path / write.__name__
        write(path, few)
        whole = path.read_bytes()
        rng = np.random.default_rng(0)
        for at in rng.integers(0, len(whole), 60):
            flipped = bytes([whole[at] ^ (1 << rng.integers(8))])
            path.write_bytes(whole[:at] + flipped + whole[at + 1 :])
            try:
                files.read(path)
            except ValueError as error:
                assert str(path) in str(error)


def test_an_entry_of_ours_that_is_damaged_is_told(tmp_path, released):
    safetensors.numpy.save_file(released, tmp_path / "a", metadata={files.DESCRIPTION: "{"})
    with pytest.raises(ValueError, match="no JSON"):
        files.read(tmp_path / "a")
    safetensors.numpy.save_file(
        released, tmp_path / "a", metadata={files.DESCRIPTION: json.dumps(3)}
    )
    assert files.read(tmp_path / "a").arguments is None


def test_bfloat16_is_read(tmp_path):
    values = {"weight": np.asarray(jax.numpy.arange(4, dtype="bfloat16"))}
    write_safetensors(tmp_path / "a", values)
    equal(files.read(tmp_path / "a").arrays, values)
