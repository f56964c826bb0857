r"""PST-T on Kinetics-400.

    python train.py --config configs/pst/k400_tiny.py --workdir runs/k400_tiny \
        --config.data.root=DIR --config.init_from=swin_tiny_patch4_window7_224.npz

PST-T, 32x224, 72 GFLOPs, 28.5M parameters.
Expected: top-1 78.6 %, top-5 93.5 % (model card: with or without the dagger is not said).
8 GPUs of 8 clips. Starts from ImageNet-1k weights of the 2D Swin, inflated.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.pst_k400()
    config.model.name = "pst_tiny"
    return config
