r"""DeiT-S on Something-Something V2, PST's Table 7: 2D, with TSM, with TPS.

    python train.py --config configs/pst/ssv2_deit_small.py:tps --workdir runs/ssv2_deit_small_tps \
        --config.data.root=DIR --config.init_from=deit_small_patch16_224.npz

The argument is the row: 2d, tsm or tps. 16x224, 74 GFLOPs, 22M parameters.
Accuracy: the paper's was not at hand. Nor were its recipe and data set: those of PST are assumed.
8 GPUs of 8 clips. Starts from ImageNet-1k weights of DeiT-S.
"""

from ml_collections import ConfigDict

from configs import common

ROWS = {"2d": "deit_small", "tsm": "deit_small_tsm", "tps": "deit_small_tps"}


def get_config(row: str = "") -> ConfigDict:
    config = common.pst_something(family="vit", num_frames=16)
    config.model.name = ROWS[common.one_of(row, tuple(ROWS))]
    return config
