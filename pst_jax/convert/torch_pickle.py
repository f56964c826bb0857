"""Reads the pickles of PyTorch files as data: nothing that they name is imported or called.

Python's unpickler imports what a pickle names and calls it: a file of weights can run any program.
Here every opcode is interpreted by the code below, to which a class is a name and no more. What it
makes are lists, tuples, dicts, numbers, strings, `View`s of stored numbers, and `Foreign` names.
"""

import dataclasses
import math
import pickletools
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from pst_jax.convert import torch_names

# Opcodes in a pickle, some 40 a tensor; and values in what it makes.
_MOST_STEPS = 2_000_000
_MOST_VALUES = 1_000_000
_DEEPEST = 100
_MOST_AXES = 32
_MOST_ARGS = 16
_LONGEST_NAME = 200
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT"),
    *("BINUNICODE", "BINUNICODE8", "SHORT_BINUNICODE", "UNICODE"),
    *("BINSTRING", "SHORT_BINSTRING", "STRING"),
    *("BINBYTES", "BINBYTES8", "SHORT_BINBYTES", "BYTEARRAY8"),
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


class Refused(ValueError):
    """A file is whole, and holds what is not read; the text says what."""


@dataclasses.dataclass(frozen=True)
class Foreign:
    """The name of a class, or an object of that class, of which no more is read."""

    name: str


@dataclasses.dataclass(frozen=True)
class Storage:
    """Numbers that tensors lie in: their key in the file, dtype (bytes: uint8) and how many."""

    key: str
    dtype: np.dtype
    count: int


@dataclasses.dataclass(frozen=True)
class View:
    """A tensor: elements of a storage. Offset and strides are in elements of its own dtype."""

    storage: Storage
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Loaded:
    """What a pickle holds.

    Attributes:
        content: the object; containers may be shared, and may hold themselves: see `expand`.
        storages: key -> storage, of all that are named.
        stubbed: names of the foreign classes beside weights.
    """

    content: Any
    storages: dict[str, Storage]
    stubbed: set[str]


def load(file: BinaryIO) -> Loaded:
    """Reads one pickle.

    Args:
        file: bytes in memory or mapped, so that lengths beyond the end cost nothing; stays behind
            the pickle's last byte.

    Raises:
        Refused: naming what no file of weights needs.
        ValueError: for what is no pickle.
    """
    machine = _Machine()
    try:
        for steps, (opcode, arg, _) in enumerate(pickletools.genops(file)):
            if steps == _MOST_STEPS:
                raise Refused(f"its pickle has more than {_MOST_STEPS:,} steps")
            machine.step(opcode.name, arg)
        return Loaded(machine.stack.pop(), machine.storages, machine.stubbed)
    except (IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"its pickle makes no sense ({error!r})") from None


def expand(value: Any, leaf: Callable[[View], Any]) -> Any:
    """Copies containers wherever they stand, so that none is shared or holds itself.

    Args:
        value: the content of a pickle.
        leaf: what becomes of a view, wherever it stands.

    Raises:
        Refused: if that makes more than a million values, or is nested deeper than 100.
    """
    made = 0

    def copy(value: Any, depth: int) -> Any:
        nonlocal made
        made += 1
        if made > _MOST_VALUES or depth > _DEEPEST:
            raise Refused(
                f"its containers are nested more than {_DEEPEST} deep, hold themselves, or hold "
                f"more than {_MOST_VALUES:,} values"
            )
        if isinstance(value, dict):
            return {key: copy(item, depth + 1) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)([copy(item, depth + 1) for item in value])
        if isinstance(value, Storage):  # stands for all of its numbers
            value = View(value, value.dtype, 0, (value.count,), (1,))
        return leaf(value) if isinstance(value, View) else value

    return copy(value, 0)


class _Machine:
    """The stack machine that a pickle is written for."""

    def __init__(self):
        self.stack, self.marks, self.memo = [], [], {}
        self.storages: dict[str, Storage] = {}
        self.stubbed: set[str] = set()

    def step(self, name: str, arg: Any) -> None:
        """Runs an opcode that handles values; the others are below."""
        stack = self.stack
        if name in _LITERALS:
            stack.append(arg)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[arg] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self.memo[arg])
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name == "POP":
            stack.pop()
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            self.marks.append(len(stack) - int(name[-1]))
            stack.append(tuple(self.since_mark()))
        elif name in ("TUPLE", "FROZENSET"):
            stack.append(tuple(self.since_mark()))
        elif name == "EMPTY_TUPLE":
            stack.append(())
        elif name in ("EMPTY_LIST", "EMPTY_SET"):
            stack.append([])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name in ("APPEND", "SETITEM"):
            self.marks.append(len(stack) - (1 if name == "APPEND" else 2))
            self.step(name + "S", None)
        elif name in ("APPENDS", "ADDITEMS"):
            _append(self.since_mark(), to=stack[-1])
        elif name == "SETITEMS":
            _set_items(self.since_mark(), to=stack[-1])
        elif name not in ("PROTO", "FRAME", "STOP"):
            self.step_of_objects(name, arg)

    def step_of_objects(self, name: str, arg: Any) -> None:
        """Runs an opcode that would import, make or change objects."""
        stack = self.stack
        if name == "GLOBAL":
            stack.append(self.named(*arg.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(self.named(module, attribute))
        elif name in ("REDUCE", "NEWOBJ"):
            args, callee = stack.pop(), stack.pop()
            stack.append(_call(callee, args))
        elif name == "BUILD":
            stack.pop()  # the attributes of an object, which are not read
        elif name == "BINPERSID":
            storage = _storage(*_checked_args(stack.pop()))
            if self.storages.setdefault(storage.key, storage) != storage:
                raise ValueError(f"storage {storage.key!r:.99} is two different ones")
            stack.append(storage)
        else:
            raise Refused(f"its pickle has the opcode {name}, which PyTorch does not write")

    def since_mark(self) -> list:
        """Takes what is above the last mark."""
        start = self.marks.pop()
        if not 0 <= start <= len(self.stack):
            raise IndexError("the stack is too short")
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def named(self, module: str, attribute: str) -> Foreign:
        """Looks a name up in our tables, and nowhere else."""
        if type(module) is not str or type(attribute) is not str:
            raise TypeError("a name that is no text")
        name = f"{torch_names.PYTHON_2.get(module, module)}.{attribute}"
        if len(name) > _LONGEST_NAME:
            raise Refused(f"it has the name {name!r:.99}..., longer than any")
        if torch_names.is_stubbed(name):
            self.stubbed.add(name)
        elif name not in _CALLED and not torch_names.is_known(name):
            raise Refused(f"it names {name!r}, which no file of weights needs")
        return Foreign(name)


def _append(items: list, to: Any) -> None:
    if type(to) is list:
        to.extend(items)
    elif not isinstance(to, Foreign):
        raise TypeError("appends to what is no list")


def _set_items(items: list, to: Any) -> None:
    """Sets keys and values in turn; keys are such as no file can make slow to look up."""
    if isinstance(to, Foreign):
        return
    if type(to) is not dict or len(items) % 2:
        raise TypeError("sets items of what is no dict")
    for key, value in zip(items[::2], items[1::2]):
        is_plain = key is None or type(key) in (str, bool, float, Foreign)
        if not is_plain and not (type(key) is int and abs(key) < 2**63):
            raise Refused(f"it has a dict with a key that is a {type(key).__name__}")
        to[key] = value


def _call(callee: Any, args: Any) -> Any:
    """Makes what a call of a named class or function would; of an unread class, its name."""
    if not isinstance(callee, Foreign):
        raise TypeError("calls what has no name")
    args = _checked_args(args)
    return _CALLED[callee.name](*args) if callee.name in _CALLED else callee


def _checked_args(args: Any) -> tuple:
    """Bounds arguments, which a pickle may hand over again and again at no cost to its size."""
    if type(args) is not tuple or len(args) > _MOST_ARGS:
        raise TypeError("arguments that are no short tuple")
    return args


def _is_size(number: Any) -> bool:
    """Whether this is a natural number that an array can have as a length."""
    return type(number) is int and 0 <= number < 2**63


def _storage(kind: str, of: Foreign, key: str, device: str, count: int, view=None) -> Storage:
    """Reads the reference to a storage; `view` is in old files, and none in all but the oldest."""
    if kind != "storage" or view is not None:
        raise Refused("it holds a module or a part of a storage, as PyTorch before 1.0 wrote them")
    if type(key) is not str or not _is_size(count):
        raise TypeError("a storage without a key or length")
    return Storage(key, torch_names.OF_STORAGE[of.name], count)


def _tensor(storage, offset, shape, strides, *unused) -> View:
    """Reads a tensor of a typed storage; what follows is of gradients, and then `metadata`."""
    return _view(storage, storage.dtype, offset, shape, strides, *unused[2:])


def _tensor_of_bytes(storage, offset, shape, strides, grad, hooks, dtype, *metadata) -> View:
    """Reads a tensor of an untyped storage."""
    return _view(storage, torch_names.OF_DTYPE[dtype.name], offset, shape, strides, *metadata)


def _view(storage, dtype, offset, shape, strides, metadata=None) -> View:
    """Checks that a tensor lies within its storage and isn't larger: no few bytes become many."""
    if metadata:
        raise Refused("it holds a conjugate or negated view of a tensor, which is not computed")
    if not isinstance(storage, Storage) or type(shape) is not tuple or type(strides) is not tuple:
        raise TypeError("a tensor without storage or shape")
    if len(shape) != len(strides) or len(shape) > _MOST_AXES:
        raise ValueError(f"a tensor of {len(shape)} axes and {len(strides)} strides")
    if not all(_is_size(number) for number in (offset, *shape, *strides)):
        raise ValueError("a tensor whose offset, shape or strides are no lengths")
    held = storage.count * storage.dtype.itemsize // dtype.itemsize
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides))
    if math.prod(shape) > held or (math.prod(shape) and last >= held):
        raise ValueError(f"a tensor reaches beyond the {held} elements of its storage")
    if math.prod(max(size, 1) for size in shape) >= 2**48:
        raise ValueError("an empty tensor of a size that no array has")
    return View(storage, dtype, offset, shape, strides)


def _parameter(view: View, *unused) -> View:
    if not isinstance(view, View):
        raise TypeError("a parameter of what is no tensor")
    return view


def _tensor_of_type(function: Foreign, kind: Foreign, args: tuple, *state) -> View:
    """Reads a tensor that has a class of its own, or attributes."""
    return _parameter(_call(function, args))


def _ordered_dict(*pairs) -> dict:
    if pairs:
        raise Refused("it holds an OrderedDict as Python 2 writes it")
    return {}


def _sequence(items: Any = ()) -> list | tuple:
    """Reads a set, or a shape; the items are not copied, for calls in a row could copy them."""
    if not isinstance(items, list | tuple):
        raise TypeError("a set of what is no list")
    return items


def _attribute(owner: Foreign, name: str) -> Foreign:
    """Reads a method of an unread class: still that class's name."""
    if not isinstance(owner, Foreign) or not torch_names.is_stubbed(owner.name):
        raise Refused("it names 'builtins.getattr', of what is no class of a training framework")
    return owner


_CALLED: dict[str, Callable[..., Any]] = {
    "builtins.complex": complex,
    "builtins.frozenset": _sequence,
    "builtins.getattr": _attribute,
    "builtins.set": _sequence,
    "collections.OrderedDict": _ordered_dict,
    "torch.Size": _sequence,
    "torch._tensor._rebuild_from_type_v2": _tensor_of_type,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor_of_bytes,
}
