r"""PST-B on Kinetics-400.

    python train.py --config configs/pst/k400_base.py --workdir runs/k400_base \
        --config.data.root=DIR --config.init_from=swin_base_patch4_window7_224.npz

PST-B, 32x224, 247 GFLOPs, 88.8M parameters.
Expected: top-1 82.5 %, top-5 95.6 % (model card: with or without the dagger is not said).
8 GPUs of 8 clips. Starts from ImageNet-1k weights of the 2D Swin, inflated.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.pst_k400()
    config.model.name = "pst_base"
    return config
