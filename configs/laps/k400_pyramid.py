r"""LAPS's pyramid ablation on Kinetics-400: which frames leap attention pairs.

    python train.py --config configs/laps/k400_pyramid.py:123 --workdir runs/k400_pyramid_123 \
        --config.data.root=DIR --config.init_from=visformer_s_in10k.npz

The argument is the levels R over the blocks: 333 (neighbours), 222, 111 (half a clip apart) or 123.
8x224, 40.1 GFLOPs, 39.8M parameters.
Accuracy: the paper's was not at hand.
8 GPUs assumed, of 40 clips in each of 10 microbatches. Starts from ImageNet-10k weights.
"""

from ml_collections import ConfigDict

from configs import common

ROWS = ("333", "222", "111", "123")


def get_config(levels: str = "") -> ConfigDict:
    config = common.laps()
    config.model.name = f"laps_levels_{common.one_of(levels, ROWS)}"
    return config
