import io
import os
import pickle
import struct
import subprocess

import pytest
from convert.torch_by_hand import AGAIN, legacy, ops, read, refuse, tensor, zipped

from pst_jax.convert import torch_pickle
from pst_jax.convert.torch_pickle import Foreign


@pytest.mark.parametrize("make", [zipped, legacy])
def test_files_made_by_hand_are_as_torch_makes_them(tmp_path, make):
    read(tmp_path, make(b"}" + ops("a") + tensor() + b"s"))
    read(tmp_path, make(tensor(shape=(0, 2**40), strides=(1, 0))))
    read(tmp_path, make(tensor(offset=3, shape=(1, 1), strides=(2**62, 5))))


class Call:
    """Pickles as a call."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def attack(function, *args):
    return pickle.dumps(Call(function, *args), protocol=2)[2:-1]


def attacks(marker):
    """Pickles without ends, each of which makes the file `marker` where it is run."""
    code = f"open({str(marker)!r}, 'w')"
    shell = f"touch {marker}"
    system = b"c" + os.system.__module__.encode() + b"\nsystem\n"
    return {
        "os.system": attack(os.system, shell),
        "eval": attack(eval, code),
        "exec": attack(exec, code),
        "popen": attack(subprocess.Popen, ["touch", str(marker)]),
        "io.open": attack(io.open, str(marker), "w"),
        "getattr": attack(getattr, Call(__import__, "os"), "system"),
        "dotted": ops("io") + ops("open.__call__") + b"\x93" + ops((str(marker), "w")) + b"R",
        "in the optimizer": b"}" + ops("state_dict") + b"}s" + ops("optimizer") + b"]"
        + attack(eval, code) + b"as",
        "as a state": b"ccollections\nOrderedDict\n)R}" + ops("items") + attack(eval, code) + b"sb",
        "as a slot": b"ccollections\nOrderedDict\n)RN}" + ops("x") + attack(eval, code) + b"s\x86b",
        "as an argument of a stub": b"cpathlib\nPurePosixPath\n" + attack(eval, code) + b"0)R",
        "inst": b"(" + ops(shell) + b"i" + system[1:],
        "obj": b"(" + system + ops(shell) + b"o",
        "thrown away": attack(os.system, shell) + b"0N",
        "a stub's name": b"cnumpy\nos.system\n" + system + ops((shell,)) + b"R\x85R",
        "eval of today": b"cbuiltins\neval\n" + ops((code,)) + b"R",
    }  # fmt: skip


@pytest.mark.parametrize("make", [zipped, legacy])
@pytest.mark.parametrize("name", attacks("x"))
def test_nothing_that_a_pickle_names_is_run(tmp_path, name, make):
    marker = tmp_path / "made"
    pickled = attacks(marker)[name]
    refuse(tmp_path, make(pickled), r"it names '|the opcode (INST|OBJ)")
    assert not marker.exists()


@pytest.mark.parametrize("name", ["os.system", "eval", "popen", "in the optimizer", "thrown away"])
def test_the_attacks_are_real(tmp_path, name):
    marker = tmp_path / "made"
    result = pickle.loads(b"\x80\x02" + attacks(marker)[name] + b".")
    if isinstance(result, subprocess.Popen):
        result.wait()
    assert marker.exists()


def test_every_pickle_of_a_legacy_file_is_guarded(tmp_path):
    marker = tmp_path / "made"
    parts = legacy(b"N").split(b".", 4)
    for i in range(1, 5):
        pickled = [*parts]
        pickled[i] = b"\x80\x02" + attack(eval, f"open({str(marker)!r}, 'w')")
        refuse(tmp_path, b".".join(pickled), "it names '__builtin__.eval'|it names 'builtins.eval'")
    assert not marker.exists()


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("torch.storage _load_from_bytes", "'torch.storage._load_from_bytes'"),
        ("torch._utils _rebuild_sparse_tensor", "'torch._utils._rebuild_sparse_tensor'"),
        ("torch._utils _rebuild_qtensor", "'torch._utils._rebuild_qtensor'"),
        ("torch.nn.modules.linear Linear", "'torch.nn.modules.linear.Linear'"),
        ("numpyx evil", "'numpyx.evil'"),
        ("torch.optimal x", "'torch.optimal.x'"),
        ("collections OrderedDict.fromkeys", "'collections.OrderedDict.fromkeys'"),
        ("copy_reg _reconstructor", "'copyreg._reconstructor'"),
        ("x" * 300 + " y", "'xxx.*longer than any"),
    ],
)
def test_unknown_names_are_refused_by_name(tmp_path, named, message):
    pickled = "c{}\n{}\n".format(*named.split(" ")).encode()
    refuse(tmp_path, zipped(b"}" + ops("meta") + pickled + b"s"), message)


@pytest.mark.parametrize(
    "pickled",
    [
        b"cnumpy.testing._private.utils\nrunstring\n" + ops(("raise SystemExit", {})) + b"R",
        b"cmmengine.x\nConfigDict\n)\x81}" + ops("__class__") + ops("x") + b"sb",
        b"cmmengine.x\nConfigDict\n)\x81(" + ops("items") + ops(1) + b"u",
        b"ccollections\ndeque\n]" + ops(1) + b"a\x85R" + ops(2) + b"a",
        b"c__builtin__\ngetattr\ncmmengine.x\nB\n" + ops("mean") + b"\x86R",
    ],
)
def test_objects_of_frameworks_are_names(tmp_path, pickled):
    content = read(tmp_path, zipped(b"}" + ops("a") + pickled + b"s"))
    assert isinstance(content["a"], Foreign)
    refuse(tmp_path, zipped(pickled), "it is one object of the class")


def test_attributes_do_not_shadow_methods(tmp_path):
    shadowed = b"ccollections\nOrderedDict\n)R(" + ops("a") + ops(1) + b"u}" + ops("items") + b"Nsb"
    content = read(tmp_path, zipped(shadowed))
    assert type(content) is dict and content.items() == {"a": 1}.items()


def nested(depth, opened=b"]", closed=b"a"):
    return opened * depth + closed * (depth - 1)


LAUGHS = b"]" + b"".join(b"q%c](h%ch%ce" % (i, i, i) for i in range(60))


@pytest.mark.parametrize("make", [zipped, legacy])
@pytest.mark.parametrize(
    ("pickled", "message"),
    [
        (nested(20_000), "more than 100 deep"),
        (b"N" + b"\x85" * 20_000, "more than 100 deep"),
        (b"]q\x00h\x00a", "hold themselves"),
        (b"}q\x01" + ops("a") + b"h\x01s", "hold themselves"),
        (b"}N" + b"\x85" * 20_000 + b"Ns", "a key that is a tuple"),
        (b"}" + ops(2**61 - 1 << 9) + b"Ns", "a key that is a int"),
        (b"\x82\x01", "opcode EXT1"),
        (b"ccollections\nOrderedDict\n]\x85R", "as Python 2 writes it"),
        (b"c__builtin__\ngetattr\nctorch\nSize\n" + ops("x") + b"\x86R", "'builtins.getattr'"),
        (b"(" + ops("module") + b"NNNNtQ", "PyTorch before 1.0"),
        (tensor()[:-2] + b"}" + ops("conj") + b"\x88stR", "a conjugate or negated view"),
    ],
)
def test_bombs_and_oddities_are_refused(tmp_path, make, pickled, message):
    refuse(tmp_path, make(pickled), message)


def test_work_is_bounded(tmp_path, monkeypatch):
    refuse(tmp_path, zipped(LAUGHS), "more than 1,000,000 values")
    monkeypatch.setattr(torch_pickle, "_MOST_STEPS", 1000)
    refuse(tmp_path, zipped(b"N0" * 500 + b"N"), "more than 1,000 steps")
    read(tmp_path, zipped(b"N0" * 498 + b"N"))


HUGE = 2**62


@pytest.mark.parametrize("make", [zipped, legacy])
@pytest.mark.parametrize(
    "pickled",
    [
        b"X\xff\xff\xff\xff",
        b"\x8d" + struct.pack("<Q", HUGE),
        b"\x8b\xff\xff\xff\x7f",
        b"I" + b"9" * 9999 + b"\n",
        b"Nr\xff\xff\xff\xffh\x00",
        b"0",
        b"t",
        b"\x86",
        b"a",
        b"h\x07",
        b"]Ns",
        b"]NR",
        b"NQ",
        b"\x8c\xff",
        tensor(count=5),
        tensor(count=HUGE),
        tensor(count=2**64),
        tensor(offset=1),
        tensor(offset=-1),
        tensor(shape=(HUGE,), strides=(0,)),
        tensor(shape=(5,), strides=(0,)),
        tensor(shape=(2, 2), strides=(3, 1)),
        tensor(shape=(2,), strides=(-1,)),
        tensor(shape=(2,), strides=(HUGE,)),
        tensor(shape=(-2, -2), strides=(1, 1)),
        tensor(shape=(2,), strides=(1, 1)),
        tensor(shape=(1,) * 40, strides=(1,) * 40),
        tensor(shape=(0, HUGE, HUGE), strides=(1, 1, 1)),
        tensor(shape=(1.5,)),
        tensor(shape=[4]),
        tensor(kind=b"ctorch\nDoubleStorage\n"),
        tensor(kind=b"ctorch\nfloat32\n"),
        tensor() + tensor(kind=b"ctorch\nIntStorage\n") + b"\x86",
    ],
)
def test_what_cannot_be_is_damage(tmp_path, make, pickled):
    refuse(tmp_path, make(pickled), "is damaged or cut off", AGAIN)
