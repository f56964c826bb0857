"""The golden files: inputs, weights and outputs of the released PST."""

import pathlib

import numpy as np

import pst_jax

FOLDER = pathlib.Path(__file__).parent / "golden"


def load(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz") as archive:
        return {key: archive[key] for key in archive.files}


def state_dict(golden: dict[str, np.ndarray], prefix: str = "sd/") -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in golden.items() if k.startswith(prefix)}


def model(**overrides):
    """The network of every golden model file: two stages of PST."""
    shape = dict(embed_dim=24, depths=(2, 2), num_heads=(3, 6), drop_path_rate=0.0)
    return pst_jax.create_model("pst_tiny", 10, **(shape | overrides))
