"""Reads and writes PyTorch checkpoint files without PyTorch, and without running what they hold."""

import dataclasses
import io
import math
import mmap
import os
import pathlib
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pst_jax import files
from pst_jax.convert import torch_names, torch_pickle
from pst_jax.convert.torch_pickle import Foreign, Loaded, Refused, View

# What a legacy file starts with, as pickled; what precedes it depends on the pickle's protocol.
_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY = b"\x8a\x0a" + _MAGIC.to_bytes(10, "little") + b"."
_ZIP = b"PK\x03\x04"
_PROTOCOL = 1001
# Of a zip's local header: its length, and where in it the lengths of name and extra field stand.
_HEADER, _HEADER_LENGTHS = 30, 26
_ALIGNMENT = 64
_MOST_PICKLE = 256 * 2**20
# All tensors together, in sizes of the file: those that share a storage are read each by itself.
_MOST_BYTES = 16
_RESAVE = (
    "If you trust whoever made it (this runs what it holds), save its tensors alone where PyTorch "
    "is installed: python -c \"import torch; m = torch.load('in.pth', map_location='cpu', "
    "weights_only=False); torch.save(m.state_dict() if hasattr(m, 'state_dict') else "
    "m['state_dict'], 'out.pth')\""
)


@dataclasses.dataclass(frozen=True)
class _Span:
    """Bytes of a file, and their checksum where it has one."""

    start: int
    size: int
    crc: int | None = None


class _Data:
    """The bytes of a file, mapped: what isn't asked for isn't read."""

    def __init__(self, path: pathlib.Path):
        self.path = path
        with open(path, "rb") as file:
            self.mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._checked: set[_Span] = set()

    def read(self, span: _Span, what: str) -> memoryview:
        """Returns some of the bytes; their checksum is compared once."""
        data = memoryview(self.mapped)[span.start : span.start + span.size]
        if span.crc is not None and span not in self._checked:
            if zlib.crc32(data) != span.crc:
                raise ValueError(
                    f"the checksum of {what} is wrong; a file written with checksums switched "
                    "off, by torch.serialization.set_crc32_options(False), must be saved with them"
                )
            self._checked.add(span)
        return data


class Tensor:
    """An array in a file, read when it is asked for.

    Attributes:
        shape: of the array.
        dtype: numpy's, with bfloat16.
    """

    def __init__(self, view: View, data: _Data, span: _Span):
        self.shape, self.dtype = view.shape, view.dtype
        self._view, self._data, self._span = view, data, span

    def __repr__(self) -> str:
        return f"Tensor(shape={self.shape}, dtype={self.dtype})"

    def load(self) -> np.ndarray:
        """Reads the array: contiguous, and nobody else's.

        Raises:
            ValueError: if its bytes were damaged.
        """
        view = self._view
        try:
            raw = self._data.read(self._span, f"storage {view.storage.key!r:.99}")
        except ValueError as error:
            raise ValueError(_damaged(self._data.path, error)) from None
        if not math.prod(view.shape):
            return np.empty(view.shape, view.dtype)
        flat = np.frombuffer(raw, view.dtype, len(raw) // view.dtype.itemsize)[view.offset :]
        # The stride of an axis of one element may be any.
        strides = [
            stride * view.dtype.itemsize if size > 1 else 0
            for size, stride in zip(view.shape, view.strides)
        ]
        return np.array(np.lib.stride_tricks.as_strided(flat, view.shape, strides), order="C")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("a tensor in a file becomes an array by being copied")
        return np.asarray(self.load(), dtype)


@dataclasses.dataclass(frozen=True)
class TorchFile:
    """What a PyTorch file holds.

    Attributes:
        content: what was saved, of dict, list, tuple, str, bytes, numbers and None, with `Tensor`
            leaves; sets are lists, parameters are tensors, an OrderedDict is a dict. No container
            holds itself. An object of a foreign class is a `Foreign` with its name.
        layout: "zip" or "legacy" (before PyTorch 1.6).
        stubbed: names of the foreign classes, such as those of a training framework, sorted.
    """

    content: Any
    layout: str
    stubbed: tuple[str, ...]


def is_torch(path: str | os.PathLike) -> bool:
    """Whether a file's first bytes, or the names in a zip, are of a PyTorch file.

    Raises:
        OSError: if there is no such file.
    """
    with open(path, "rb") as file:
        head = file.read(512)
    if not head.startswith(_ZIP):
        return head.startswith(b"\x80") and _LEGACY in head[:32]
    # The first name: a file that is cut off has lost the list of the others.
    if len(head) >= _HEADER:
        (length,) = struct.unpack_from("<H", head, _HEADER_LENGTHS)
        if head[_HEADER : _HEADER + length].endswith(b"/data.pkl"):
            return True
    try:
        return any(_is_pickle(info.filename) for info in _entries(_Data(pathlib.Path(path))))
    except ValueError:
        return False


def read(path: str | os.PathLike) -> TorchFile:
    """Reads a file that `torch.save` wrote; of its tensors, all but the numbers.

    Nothing that the file names is imported or called. Classes that training frameworks leave
    beside weights are skipped and named; all others are refused, as is what no file of weights
    needs: see `torch_pickle`.

    Args:
        path: of the file, in the zip format or that of PyTorch before 1.6.

    Raises:
        ValueError: for a file of another kind, one that is damaged, cut off, compressed or
            big-endian, one that names unknown classes or functions, a whole module, TorchScript.
    """
    path = pathlib.Path(path)
    try:
        if not is_torch(path):
            raise ValueError(f"{path} is no PyTorch file")
        data = _Data(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    layout = "zip" if data.mapped[:4] == _ZIP else "legacy"
    try:
        loaded, spans = {"zip": _read_zip, "legacy": _read_legacy}[layout](data)
        content = torch_pickle.expand(loaded.content, _leaf(data, spans))
        if isinstance(content, Foreign):
            raise Refused(f"it is one object of the class {content.name!r}, not weights by name")
    except Refused as error:
        raise ValueError(f"{path} is not read: {error}. {_RESAVE}") from None
    except ValueError as error:
        raise ValueError(_damaged(path, error)) from None
    return TorchFile(content, layout, tuple(sorted(loaded.stubbed)))


def _damaged(path: pathlib.Path, error: ValueError) -> str:
    return f"{path} is damaged or cut off: {error}. Copy or download it again"


def _leaf(data: _Data, spans: Mapping[str, _Span]) -> Callable[[View], Tensor]:
    """Returns what makes tensors of views, as long as they aren't out of proportion to the file."""
    left = _MOST_BYTES * len(data.mapped)

    def tensor(view: View) -> Tensor:
        nonlocal left
        storage = view.storage
        span = spans.get(storage.key)
        if span is None or span.size != storage.count * storage.dtype.itemsize:
            raise ValueError(f"storage {storage.key!r:.99} is missing or of another length")
        left -= math.prod(view.shape) * view.dtype.itemsize
        if left < 0:
            raise Refused(f"its tensors are more than {_MOST_BYTES} times as large as the file")
        return Tensor(view, data, span)

    return tensor


def _read_legacy(data: _Data) -> tuple[Loaded, dict[str, _Span]]:
    """Reads five pickles: magic number, protocol, system, content, keys; then the storages."""
    file = data.mapped
    magic, protocol, system = (torch_pickle.load(file).content for _ in range(3))
    if magic != _MAGIC or protocol != _PROTOCOL or not isinstance(system, dict):
        raise ValueError("its first bytes are no header")
    if system.get("little_endian") is not True:
        raise Refused("it is big-endian")
    loaded, keys = torch_pickle.load(file), torch_pickle.load(file).content
    spans, end = {}, file.tell()
    for key in keys if isinstance(keys, list) else [keys]:
        storage = loaded.storages.get(key) if isinstance(key, str) else None
        if storage is None or end + 8 > len(file):
            raise ValueError("the list of storages is wrong, or ends early")
        (count,) = struct.unpack_from("<q", file, end)
        spans[key] = _Span(end + 8, storage.count * storage.dtype.itemsize)
        end += 8 + spans[key].size
        if count != storage.count or end > len(file):
            raise ValueError(f"storage {key!r:.99} is of another length, or ends early")
    return loaded, spans


def _read_zip(data: _Data) -> tuple[Loaded, dict[str, _Span]]:
    """Reads an archive: a pickle, and beside it an entry for each storage."""
    entries = _entries(data)
    names = [info.filename for info in entries]
    pickles = [name for name in names if _is_pickle(name)]
    if len(pickles) != 1 or len(set(names)) != len(names):
        raise Refused("it has several entries of one name, or several pickles")
    folder = pickles[0].removesuffix("data.pkl")
    if any(name == f"{folder}constants.pkl" or name.startswith(f"{folder}code/") for name in names):
        raise Refused(
            "it is a TorchScript archive: below, load it by m = torch.jit.load('in.pth', "
            "map_location='cpu')"
        )
    spans = _spans(entries, data)
    order = spans.get(f"{folder}byteorder")
    if order is not None and bytes(data.read(order, "its byte order")) != b"little":
        raise Refused("it is big-endian")
    if spans[pickles[0]].size > _MOST_PICKLE:
        raise Refused(f"its pickle is larger than {_MOST_PICKLE >> 20} MiB")
    loaded = torch_pickle.load(io.BytesIO(data.read(spans[pickles[0]], "its pickle")))
    storages = {key: spans.get(f"{folder}data/{key}") for key in loaded.storages}
    return loaded, {key: span for key, span in storages.items() if span is not None}


def _is_pickle(name: str) -> bool:
    return name.endswith("/data.pkl") and name.count("/") == 1


def _entries(data: _Data) -> list[zipfile.ZipInfo]:
    """Lists a zip file.

    Raises:
        ValueError: if the list is damaged or lacking.
    """
    try:
        with zipfile.ZipFile(data.mapped) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, OSError, NotImplementedError, struct.error, IndexError) as error:
        raise ValueError(f"its list of entries cannot be read ({error})") from None


def _spans(entries: list[zipfile.ZipInfo], data: _Data) -> dict[str, _Span]:
    """Finds where entries lie; they must be as they are, one behind another.

    So nothing becomes more than the file is large.
    """
    spans, end = {}, 0
    for info in sorted(entries, key=lambda info: info.header_offset):
        name, start = info.filename, info.header_offset
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            raise Refused(f"its entry {name!r:.99} is compressed, which PyTorch's never are")
        if info.file_size != info.compress_size or not end <= start <= len(data.mapped) - _HEADER:
            raise ValueError(f"its entry {name!r:.99} overlaps another one, or lies outside")
        lengths = struct.unpack_from("<HH", data.mapped, start + _HEADER_LENGTHS)
        if data.mapped[start : start + 4] != _ZIP:
            raise ValueError(f"its entry {name!r:.99} has no header")
        span = _Span(start + _HEADER + sum(lengths), info.file_size, info.CRC)
        spans[name], end = span, span.start + span.size
        if end > len(data.mapped):
            raise ValueError(f"its entry {name!r:.99} lies outside")
    return spans


def write(
    path: str | os.PathLike,
    arrays: Mapping[str, np.ndarray],
    extra: Mapping[str, str | int | float] = {},
    key: str = "state_dict",
) -> None:
    """Writes arrays as `torch.load(path, weights_only=True)` reads them; whole or not at all.

    The same arrays make the same bytes.

    Args:
        path: of the file, in the zip format of PyTorch 1.6 and newer.
        arrays: name -> array.
        extra: what stands beside them: name -> text or number.
        key: of the entry that the arrays become.

    Raises:
        ValueError: for what has no place in such a file.
    """
    path = pathlib.Path(path)
    named = {name: np.asarray(value) for name, value in arrays.items()}
    pickled = _pickled(named, extra, key)
    with files.replacing(path) as temporary, open(temporary, "wb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            _add(archive, file.tell(), "data.pkl", pickled)
            _add(archive, file.tell(), "byteorder", b"little")
            for i, value in enumerate(named.values()):
                _add(archive, file.tell(), f"data/{i}", value.tobytes())
            _add(archive, file.tell(), "version", b"3\n")


def _add(archive: zipfile.ZipFile, position: int, name: str, data: bytes) -> None:
    """Adds an entry whose bytes, like PyTorch's, start at a multiple of 64, to be mapped."""
    info = zipfile.ZipInfo(f"archive/{name}")
    padding = -(position + _HEADER + len(info.filename) + 4) % _ALIGNMENT
    info.extra = struct.pack("<2sH", b"FB", padding) + bytes(padding)
    archive.writestr(info, data)


def _pickled(
    arrays: Mapping[str, np.ndarray], extra: Mapping[str, str | int | float], key: str
) -> bytes:
    """Returns the pickle of `write`'s content, by protocol 2."""
    items = []
    for i, (name, value) in enumerate(arrays.items()):
        items.append(_atom(name, (str,)) + _pickled_tensor(name, str(i), value))
    content = [_atom(key, (str,)) + b"}(" + b"".join(items) + b"u"]
    for name, value in extra.items():
        if name == key:
            raise ValueError(f"extra has {key!r}, which the arrays become: rename it")
        content.append(_atom(name, (str,)) + _atom(value))
    return b"\x80\x02}(" + b"".join(content) + b"u."


def _atom(value: Any, types: tuple[type, ...] = (str, int, float, bool)) -> bytes:
    """Returns the opcodes of one plain value, without those of a whole pickle's ends."""
    if type(value) not in types:
        allowed = ", ".join(kind.__name__ for kind in types)
        raise ValueError(f"a file of weights cannot hold {value!r:.99} here: give one of {allowed}")
    return pickle.dumps(value, protocol=2)[2:-1]


def _pickled_tensor(name: str, key: str, array: np.ndarray) -> bytes:
    """Returns the opcodes of a contiguous tensor and its storage."""
    storages = {dtype: storage for dtype, storage in torch_names.DTYPES.values() if storage}
    if array.dtype not in storages:
        allowed = ", ".join(map(str, storages))
        raise ValueError(f"{name} is of dtype {array.dtype}: convert it to one of {allowed}")
    strides = [math.prod(array.shape[axis + 1 :]) for axis in range(array.ndim)]
    integers = lambda numbers: b"(" + b"".join(map(_atom, numbers)) + b"t"  # noqa: E731
    storage = _atom("storage") + f"ctorch\n{storages[array.dtype]}\n".encode() + _atom(key)
    return b"".join(
        (
            b"ctorch._utils\n_rebuild_tensor_v2\n(",
            b"(" + storage + _atom("cpu") + _atom(array.size) + b"tQ",
            _atom(0) + integers(array.shape) + integers(strides),
            b"\x89ccollections\nOrderedDict\n)R",  # needs no gradient, and has no hooks
            b"tR",
        )
    )
