"""Writes tests/golden/torch: what PyTorch makes of a video, with its weights (and no jax).

python tests/convert/make_recordings.py
"""

import json
import pathlib
import sys

import numpy as np

ROOT = pathlib.Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from convert import torch_networks  # noqa: E402

from pst_jax.convert.record import record  # noqa: E402


def main():
    folder = ROOT / "tests/golden/torch"
    folder.mkdir(exist_ok=True)
    for kind, config in torch_networks.CONFIGS.items():
        network, video = torch_networks.make(kind, seed=0)
        path = folder / f"{kind}_recorded.npz"
        record(network, video, path, torch_networks.RUNS[kind])
        with np.load(path) as archive:
            arrays = dict(archive)
        # Both are exact in half precision.
        halves = {f"sd/{k}": v.numpy() for k, v in network.state_dict().items()}
        halves["x"] = arrays["x"]
        arrays |= {name: value.astype(np.float16) for name, value in halves.items()}
        np.savez_compressed(path, config=json.dumps(config), **arrays)
        print(path.name, path.stat().st_size)


if __name__ == "__main__":
    main()
