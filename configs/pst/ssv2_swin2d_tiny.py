r"""2D Swin-T on Something-Something V2: no frame sees another before the mean.

    python train.py --config configs/pst/ssv2_swin2d_tiny.py --workdir runs/ssv2_swin2d_tiny \
        --config.data.root=DIR --config.init_from=swin_tiny_patch4_window7_224.npz

PST Table 6, 2D Swin-T, 32x224, 72 GFLOPs.
Accuracy: the paper's was not at hand.
8 GPUs of 8 clips, by the recipe of PST. Starts from ImageNet-1k weights: there is no run of it on
Kinetics-400 here.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.pst_something()
    config.model.name = "swin2d_tiny"
    return config
