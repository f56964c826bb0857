r"""Video-Swin-B on Something-Something V2: windows of 16 x 7 x 7 tokens.

    python train.py --config configs/pst/ssv2_videoswin_base.py --workdir runs/ssv2_videoswin_base \
        --config.data.root=DIR --config.init_from=swin_base_patch4_window7_224.npz

PST, Video-Swin-B, 32x224, 321 GFLOPs.
Accuracy: the paper's was not at hand.
8 GPUs of 8 clips, by the recipe of PST. Starts from ImageNet-1k weights of the 2D Swin, inflated:
there is no run of it on Kinetics-400 here.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.pst_something()
    config.model.name = "videoswin_base_16"
    return config
