import io
import re
import zipfile

import jax.numpy as jnp
import numpy as np
import pytest
from convert import make_torch_files as made
from convert.torch_by_hand import AGAIN, RESAVE, legacy, load_all, read, refuse, tensor, zipped

from pst_jax.convert import torch_files, torch_pickle

LAYOUTS = made.LAYOUTS


def fixture(name, layout):
    return made.FOLDER / f"{name}_{layout}.pth"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tensors_of_all_kinds_are_read(layout):
    file = torch_files.read(fixture("plain", layout))
    assert torch_files.is_torch(fixture("plain", layout))
    assert file.layout == layout and file.stubbed == ()
    tensors, expected = file.content["state_dict"], made.arrays()
    expected["bfloat16"] = expected["bfloat16"].astype(jnp.bfloat16)
    expected |= made.views(expected["base"])
    expected["expanded"] = np.broadcast_to(expected["float32"][:1], (3, 4))
    expected["parameter"], expected["tagged"] = expected["float32"], expected["float64"]
    expected["buffer"] = expected["int16"]
    assert list(tensors) == list(expected)
    for name, value in expected.items():
        array = tensors[name].load()
        assert tensors[name].shape == array.shape == value.shape, name
        assert tensors[name].dtype == array.dtype == value.dtype, name
        assert array.flags.c_contiguous and array.flags.owndata and array.flags.writeable, name
        np.testing.assert_array_equal(array, value)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_stands_beside_tensors_is_plain(layout):
    assert torch_files.read(fixture("plain", layout)).content["rest"] == {
        "none": None,
        "list": [1, 2.5, True],
        "set": [3],
        "size": (2, 3),
        "complex": 1 + 2j,
        "tuple": (1, ("a",)),
    }


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["mmcv", "mmengine"])
def test_a_frameworks_checkpoint_is_read(name, layout):
    file = torch_files.read(fixture(name, layout))
    for key, value in made.weights().items():
        np.testing.assert_array_equal(file.content["state_dict"][key], value)
    buffers = file.content["optimizer"]["state"]
    assert [buffers[i]["momentum_buffer"].shape for i in range(4)] == [(2, 3), (2,), (2,), (2,)]
    if name == "mmcv":
        assert file.content["meta"]["CLASSES"] == ("a", "b") and file.stubbed == ()
        return
    foreign = [name for name in file.stubbed if not name.startswith("numpy.")]
    assert foreign == [
        "collections.Counter",
        "mmengine.config.config.ConfigDict",
        "mmengine.logging.history_buffer.HistoryBuffer",
        "pathlib.PurePosixPath",
    ]
    config = file.content["meta"]["cfg"]
    assert config == torch_pickle.Foreign("mmengine.config.config.ConfigDict")


def test_a_tensor_is_an_array_when_asked(tmp_path):
    torch_files.write(tmp_path / "a.pth", {"a": np.arange(6.0).reshape(2, 3)})
    tensor = torch_files.read(tmp_path / "a.pth").content["state_dict"]["a"]
    assert repr(tensor) == "Tensor(shape=(2, 3), dtype=float64)"
    assert np.asarray(tensor, np.float32).dtype == np.float32
    np.testing.assert_array_equal(jnp.asarray(np.asarray(tensor)), np.arange(6).reshape(2, 3))
    with pytest.raises(ValueError, match="by being copied"):
        np.array(tensor, copy=False)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("module_zip.pth", r"it names 'somebody.models.Network'"),
        ("module_legacy.pth", r"it names 'somebody.models.Network'"),
        ("script.pt", r"a TorchScript archive: .* torch.jit.load"),
    ],
)
def test_modules_and_scripts_are_refused_with_the_remedy(name, message):
    assert torch_files.is_torch(made.FOLDER / name)
    with pytest.raises(ValueError, match=message) as error:
        torch_files.read(made.FOLDER / name)
    assert name in str(error.value) and RESAVE in str(error.value)


def overlapping():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02N.")
        archive.writestr("archive/data/0", bytes(16))
        archive.writestr("archive/data/1", bytes(16))
        archive.filelist[2].header_offset = archive.filelist[1].header_offset
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_that_torch_does_not_write_are_refused(tmp_path):
    zeros = (("data/0", bytes(2**20)),)
    for data, message in (
        (zipped(b"N", zeros, zipfile.ZIP_DEFLATED), "is compressed, which PyTorch's never are"),
        (zipped(b"N", [("data/0", b"a"), ("data/0", b"b")]), "several entries of one name"),
        (zipped(b"N", [("code/x.py", b"")]), "a TorchScript archive"),
        (zipped(b"N", [("byteorder", b"big")]), "big-endian"),
        (legacy(b"N", little_endian=False), "big-endian"),
    ):
        refuse(tmp_path, data, message)
    refuse(tmp_path, overlapping(), "overlaps another one", AGAIN)
    refuse(tmp_path, zipped(tensor(), ()), "storage '0' is missing", AGAIN)


def test_a_wrong_checksum_is_found_when_the_tensor_is_read(tmp_path):
    data = zipped(tensor(), [("data/0", b"0123456789abcdef")])
    path = tmp_path / "weights.pth"
    path.write_bytes(data.replace(b"789", b"7x9"))
    found = torch_files.read(path).content
    with pytest.raises(ValueError, match=r"storage '0' is wrong; .*set_crc32_options") as error:
        found.load()
    assert "weights.pth" in str(error.value) and AGAIN in str(error.value)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_that_is_cut_off_is_told(tmp_path, layout):
    data = fixture("plain", layout).read_bytes()
    for length in [*range(60, 400, 11), *range(400, len(data), 97), len(data) - 1]:
        path = tmp_path / "weights.pth"
        path.write_bytes(data[:length])
        assert torch_files.is_torch(path)
        refuse(tmp_path, data[:length], "is damaged or cut off", AGAIN)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["plain", "mmengine"])
def test_a_flipped_byte_reads_or_is_an_error_of_value(tmp_path, name, layout):
    data = fixture(name, layout).read_bytes()
    rng = np.random.default_rng(5)
    read_whole = 0
    for place in rng.choice(len(data), 200, replace=False):
        changed = bytearray(data)
        changed[place] ^= int(rng.integers(1, 256))
        try:
            read(tmp_path, bytes(changed))
            read_whole += 1
        except ValueError as error:
            assert "weights.pth" in str(error)  # noqa: PT017
    assert read_whole < 200


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04",
        b"<html>",
        b"\x80\x02N.",
        zipped(b"N").replace(b"data.pkl", b"data.npy"),
        b"./\0" + bytes(97) + b"0000644" + bytes(405),  # a tar file, as of PyTorch before 0.1.10
    ],
)
def test_other_files_are_told(tmp_path, data):
    path = tmp_path / "weights.pth"
    path.write_bytes(data)
    assert not torch_files.is_torch(path)
    with pytest.raises(ValueError, match=re.escape(f"{path} is no PyTorch file")):
        torch_files.read(path)


def test_a_missing_file_and_a_directory_are_told(tmp_path):
    for path in (tmp_path, tmp_path / "no.pth"):
        with pytest.raises(ValueError, match="cannot be read"):
            torch_files.read(path)


def test_tensors_that_share_a_storage_cannot_fill_the_memory(tmp_path):
    pickled = b"](" + tensor(0, (2**14,), (1,), 2**14) + b"q\x01%se"
    storage = [("data/0", bytes(2**16))]
    read(tmp_path, zipped(pickled % (b"h\x01" * 15), storage))
    refuse(tmp_path, zipped(pickled % (b"h\x01" * 16), storage), "more than 16 times as large")


def written():
    arrays = {name: np.asarray(value) for name, value in made.arrays().items()}
    arrays["bfloat16"] = arrays["bfloat16"].astype(jnp.bfloat16)
    return arrays | {"transposed": arrays["base"].T}


EXTRA = {"title": "ä model", "epoch": 3, "top1": 0.5, "large": 2**70, "ema": True}


def test_what_is_written_is_read(tmp_path):
    torch_files.write(tmp_path / "a.pth", written(), EXTRA)
    content = torch_files.read(tmp_path / "a.pth").content
    tensors = content.pop("state_dict")
    assert content == EXTRA and list(tensors) == list(written())
    for name, value in written().items():
        assert tensors[name].dtype == value.dtype
        np.testing.assert_array_equal(tensors[name], value, strict=True)
    torch_files.write(tmp_path / "b.pth", written(), EXTRA)
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()


@pytest.mark.parametrize(
    ("arrays", "extra", "message"),
    [
        ({"a": np.zeros(2, np.uint16)}, {}, "a is of dtype uint16: convert it to one of float64"),
        ({"a": np.array(["x"])}, {}, "a is of dtype <U1"),
        ({1: np.zeros(2)}, {}, "cannot hold 1 here: give one of str"),
        ({}, {"x": None}, "cannot hold None here: give one of str, int, float, bool"),
        ({}, {"x": np.float64(1)}, "cannot hold np.float64"),
        ({}, {"state_dict": 1}, "extra has 'state_dict'.*rename it"),
    ],
)
def test_what_cannot_be_written_leaves_the_file(tmp_path, arrays, extra, message):
    path = tmp_path / "a.pth"
    path.write_bytes(b"before")
    with pytest.raises(ValueError, match=message):
        torch_files.write(path, arrays, extra)
    assert path.read_bytes() == b"before" and [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("mapped", [False, True])
def test_torch_reads_what_is_written(tmp_path, mapped):
    torch = pytest.importorskip("torch")
    torch_files.write(tmp_path / "a.pth", written(), EXTRA)
    content = torch.load(tmp_path / "a.pth", weights_only=True, mmap=mapped)
    tensors = content.pop("state_dict")
    assert content == EXTRA and list(tensors) == list(written())
    for name, value in written().items():
        assert str(tensors[name].dtype) == f"torch.{value.dtype}"
        assert tensors[name].data_ptr() % 64 == 0 or not mapped
        back = tensors[name].float().numpy() if name == "bfloat16" else tensors[name].numpy()
        np.testing.assert_array_equal(back, value.astype(back.dtype), strict=True)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_torch_writes_by_any_protocol_is_read(tmp_path, layout, protocol):
    torch = pytest.importorskip("torch")
    path = tmp_path / "a.pth"
    is_zip = layout == "zip"
    with made.classes() as foreign:
        content = made.plain(torch) | {"more": made.mmengine(torch, foreign)}
        if is_zip:
            content["uint16"] = torch.arange(3).to(torch.uint16)
        torch.save(content, path, _use_new_zipfile_serialization=is_zip, pickle_protocol=protocol)
    file = torch_files.read(path)
    assert file.layout == layout
    for name, value in made.tensors(torch).items():
        if name != "bfloat16":
            found = file.content["state_dict"][name]
            np.testing.assert_array_equal(found, value.detach().numpy(), strict=True)
    if is_zip:
        np.testing.assert_array_equal(file.content["uint16"], np.arange(3, dtype=np.uint16))
    load_all(file.content)


def test_views_that_are_not_computed_are_refused(tmp_path):
    torch = pytest.importorskip("torch")
    for value, message in (
        (torch.ones(2, dtype=torch.complex64).conj(), "conjugate"),
        (torch.eye(2).to_sparse(), "_rebuild_sparse_tensor"),
    ):
        torch.save({"a": value}, tmp_path / "a.pth")
        with pytest.raises(ValueError, match=message):
            torch_files.read(tmp_path / "a.pth")
