r"""LAPS on Kinetics-400: leap attention with periodic shift in a Visformer-S.

    python train.py --config configs/laps/k400_laps.py --workdir runs/k400_laps \
        --config.data.root=DIR --config.init_from=visformer_s_in10k.npz

LAPS, 8x224, 40.1 GFLOPs, 39.8M parameters.
Accuracy: the paper's was not at hand.
8 GPUs assumed, of 40 clips in each of 10 microbatches. Starts from ImageNet-10k weights.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.laps()
    config.model.name = "laps"
    return config
