"""The names in the pickles of PyTorch files: dtypes, storages, and what lies beside weights."""

import jax.numpy as jnp
import numpy as np

# Each dtype's name, and that of the storage class of old, which the newest dtypes have not.
DTYPES = {
    "float64": (np.dtype(np.float64), "DoubleStorage"),
    "float32": (np.dtype(np.float32), "FloatStorage"),
    "float16": (np.dtype(np.float16), "HalfStorage"),
    "bfloat16": (np.dtype(jnp.bfloat16), "BFloat16Storage"),
    "complex128": (np.dtype(np.complex128), "ComplexDoubleStorage"),
    "complex64": (np.dtype(np.complex64), "ComplexFloatStorage"),
    "int64": (np.dtype(np.int64), "LongStorage"),
    "int32": (np.dtype(np.int32), "IntStorage"),
    "int16": (np.dtype(np.int16), "ShortStorage"),
    "int8": (np.dtype(np.int8), "CharStorage"),
    "uint64": (np.dtype(np.uint64), None),
    "uint32": (np.dtype(np.uint32), None),
    "uint16": (np.dtype(np.uint16), None),
    "uint8": (np.dtype(np.uint8), "ByteStorage"),
    "bool": (np.dtype(np.bool_), "BoolStorage"),
}
# Name in a pickle -> dtype; of an untyped storage, that of bytes.
OF_DTYPE = {f"torch.{name}": dtype for name, (dtype, _) in DTYPES.items()}
OF_STORAGE = {f"torch.{storage}": dtype for dtype, storage in DTYPES.values() if storage} | {
    "torch.UntypedStorage": np.dtype(np.uint8),
    "torch.storage.UntypedStorage": np.dtype(np.uint8),
}
# Names beside weights that say nothing to us: of classes, and of types that tensors are made as.
_BARE = """
_codecs.encode builtins.bool builtins.bytearray builtins.bytes builtins.dict builtins.float
builtins.int builtins.list builtins.slice builtins.str builtins.tuple torch.Tensor torch.device
torch.nn.parameter.Buffer torch.nn.parameter.Parameter
""".split()
# What training frameworks leave beside weights: packages and classes whose objects are not read.
_STUBBED = """
addict apex argparse.Namespace collections.Counter collections.defaultdict collections.deque
datetime deepspeed detectron2 easydict fvcore hydra iopath lightning lightning_fabric mmaction mmcls
mmcv mmdet mmengine mmpretrain numpy omegaconf pathlib pytorch_lightning slowfast timesformer timm
torch.amp torch.cuda.amp torch.optim types.SimpleNamespace yacs
""".split()
_WITHIN_STUBBED = tuple(f"{package}." for package in _STUBBED)
# Packages by the names that pickles of protocol 2 call them.
PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}


def is_stubbed(name: str) -> bool:
    """Whether a name is of a package or class whose objects are not read."""
    return name in _STUBBED or name.startswith(_WITHIN_STUBBED)


def is_known(name: str) -> bool:
    """Whether a name is of a dtype, a storage or a type that no object is made of."""
    return name in OF_DTYPE or name in OF_STORAGE or name in _BARE
