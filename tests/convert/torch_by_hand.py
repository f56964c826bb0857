"""PyTorch files made of opcodes, and how they are read or refused."""

import io
import pickle
import struct
import zipfile

import pytest

from pst_jax.convert import torch_files

RESAVE = "weights_only=False); torch.save"
AGAIN = "Copy or download it again"


def load_all(content):
    """Reads all tensors of a file's content."""
    if isinstance(content, torch_files.Tensor):
        value = content.load()
        assert value.shape == content.shape and value.dtype == content.dtype
    elif isinstance(content, dict | list | tuple):
        for item in content.values() if isinstance(content, dict) else content:
            load_all(item)


def ops(value):
    """The opcodes of a plain value."""
    return pickle.dumps(value, protocol=2)[2:-1]


def tensor(offset=0, shape=(4,), strides=(1,), count=4, kind=b"ctorch\nFloatStorage\n"):
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n((" + ops("storage") + kind + ops("0") + ops("cpu")
        + ops(count) + b"tQ" + ops(offset) + ops(shape) + ops(strides)
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )  # fmt: skip


def zipped(pickled, entries=(("data/0", bytes(16)),), compression=zipfile.ZIP_STORED):
    """An archive with a pickle, whose ends are added, and a storage of four numbers."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + pickled + b".")
        for name, data in entries:
            archive.writestr(f"archive/{name}", data)
    return buffer.getvalue()


def legacy(pickled, little_endian=True):
    """A file of the old layout; with a storage of four numbers if the pickle has one."""
    system = {"protocol_version": 1001, "little_endian": little_endian, "type_sizes": {}}
    head = [pickle.dumps(x, protocol=2) for x in (0x1950A86A20F9469CFC6C, 1001, system)]
    keys, data = (["0"], struct.pack("<q", 4) + bytes(16)) if b"Storage" in pickled else ([], b"")
    return b"".join(head) + b"\x80\x02" + pickled + b"." + pickle.dumps(keys, protocol=2) + data


def read(tmp_path, data):
    path = tmp_path / "weights.pth"
    path.write_bytes(data)
    file = torch_files.read(path)
    load_all(file.content)
    return file.content


def refuse(tmp_path, data, message, remedy=RESAVE):
    with pytest.raises(ValueError, match=message) as error:
        read(tmp_path, data)
    assert "weights.pth" in str(error.value) and remedy in str(error.value)
