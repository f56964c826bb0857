"""Makes the .pth and .pt of tests/golden/torch by torch.save, and gives what is in them.

Where torch is installed: `python -m tests.convert.make_torch_files`. The tests read the files
without torch, and draw the numbers anew.
"""

import collections
import contextlib
import pathlib
import sys
import types
import warnings

import numpy as np

FOLDER = pathlib.Path(__file__).parents[1] / "golden" / "torch"
LAYOUTS = ("zip", "legacy")


def arrays():
    """Numbers by name; bfloat16 ones as float32 that are exact in it."""
    rng = np.random.default_rng(20)
    return {
        "float32": rng.normal(size=(3, 4)).astype(np.float32),
        "float16": rng.normal(size=5).astype(np.float16),
        "float64": rng.normal(size=(2, 1, 3)),
        "bfloat16": rng.integers(-128, 128, (4, 2)).astype(np.float32) / 4,
        "int64": rng.integers(-(2**40), 2**40, 6),
        "int32": rng.integers(-99, 99, 3).astype(np.int32),
        "int16": rng.integers(-99, 99, 3).astype(np.int16),
        "int8": rng.integers(-99, 99, 3).astype(np.int8),
        "uint8": rng.integers(0, 255, 7).astype(np.uint8),
        "bool": rng.integers(0, 2, 9).astype(bool),
        "complex64": (rng.normal(size=3) + 1j).astype(np.complex64),
        "scalar": np.float32(rng.normal()),
        "empty": np.zeros((0, 3), np.float32),
        "base": rng.normal(size=(4, 6)).astype(np.float32),
    }


def weights():
    """Those of the small network."""
    rng = np.random.default_rng(21)
    shapes = {"0.weight": (2, 3), "0.bias": (2,), "1.weight": (2,), "1.bias": (2,)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def views(base):
    """Ways to look at one storage, alike in numpy and torch."""
    return {
        "transposed": base.T,
        "sliced": base[1:3, ::2],
        "row": base[2],
        "element": base[3, 5],
        "none of it": base[4:],
    }


def tensors(torch):
    """The arrays and views as torch's, in an OrderedDict with attributes as a state dict has."""
    made = collections.OrderedDict()
    for name, value in arrays().items():
        made[name] = torch.from_numpy(np.array(value))
    made["bfloat16"] = made["bfloat16"].bfloat16()
    made.update(views(made["base"]))
    made["expanded"] = made["float32"][:1].expand(3, 4)
    made["parameter"] = torch.nn.Parameter(made["float32"])
    made["tagged"] = torch.nn.Parameter(made["float64"])
    made["tagged"].tag = "a parameter with an attribute"
    made["buffer"] = torch.nn.Buffer(made["int16"])
    made._metadata = {"": {"version": 1}}
    return made


def plain(torch):
    """What a script may save beside the tensors, as far as it is read."""
    rest = {"none": None, "list": [1, 2.5, True], "set": {3}, "size": torch.Size([2, 3])}
    return {"state_dict": tensors(torch), "rest": rest | {"complex": 1 + 2j, "tuple": (1, ("a",))}}


def trained(torch):
    """A small network, and an optimizer with momentum after a step of length 0."""
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.LayerNorm(2))
    network.load_state_dict({name: torch.from_numpy(v) for name, v in weights().items()})
    optimizer = torch.optim.SGD(network.parameters(), 0.0, momentum=0.9)
    network(torch.ones(4, 3)).square().sum().backward()
    optimizer.step()
    return network, optimizer


def mmcv(torch):
    """The layout of the checkpoints of mmcv's runner."""
    network, optimizer = trained(torch)
    meta = {"epoch": 30, "iter": 9, "mmaction_version": "0.15.0+db018fb", "CLASSES": ("a", "b")}
    return {
        "meta": meta | {"config": "model = dict(\n)", "hook_msgs": {}},
        "state_dict": network.state_dict(),
        "optimizer": optimizer.state_dict(),
    }


@contextlib.contextmanager
def classes():
    """Gives modules of other packages, with classes of the names that files know."""
    names = {
        "HistoryBuffer": "mmengine.logging.history_buffer",
        "ConfigDict": "mmengine.config.config",
        "Network": "somebody.models",
    }
    made = {}
    for name, module in names.items():
        bases = (dict,) if name == "ConfigDict" else ()
        made[name] = type(name, bases, {"__module__": module, "mean": lambda self: 0})
        made[name].mean.__qualname__, made[name].mean.__module__ = f"{name}.mean", module
        sys.modules[module] = types.ModuleType(module)
        setattr(sys.modules[module], name, made[name])
        for package in (module.split(".")[0], module.rpartition(".")[0]):
            sys.modules.setdefault(package, types.ModuleType(package))
    try:
        yield types.SimpleNamespace(**made)
    finally:
        for name in list(sys.modules):
            if name.split(".")[0] in ("mmengine", "somebody"):
                del sys.modules[name]


def mmengine(torch, foreign):
    """The layout of mmengine's checkpoints: objects of its classes and of numpy beside weights."""
    network, optimizer = trained(torch)
    buffer = foreign.HistoryBuffer()
    buffer.history, buffer.methods = np.arange(3.0), {"mean": foreign.HistoryBuffer.mean}
    return {
        "meta": {"cfg": foreign.ConfigDict(lr=0.1), "path": pathlib.PurePosixPath("a/b")},
        "state_dict": network.state_dict(),
        "message_hub": {"log_scalars": collections.OrderedDict(loss=buffer), "eta": np.float64(2)},
        "optimizer": optimizer.state_dict(),
        "counts": collections.Counter("aab"),
    }


def main():
    import torch

    FOLDER.mkdir(exist_ok=True)
    with classes() as foreign, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of legacy formats and TorchScript
        module = foreign.Network()
        module.weight = torch.zeros(2)
        made = {"plain": plain(torch), "mmcv": mmcv(torch), "mmengine": mmengine(torch, foreign)}
        for layout in LAYOUTS:
            for name, content in (made | {"module": module}).items():
                torch.save(
                    content,
                    FOLDER / f"{name}_{layout}.pth",
                    _use_new_zipfile_serialization=layout == "zip",
                )
        torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), FOLDER / "script.pt")


if __name__ == "__main__":
    main()
