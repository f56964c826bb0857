r"""PST-T† on Something-Something V2: attention over windows of two frames.

    python train.py --config configs/pst/ssv2_tiny_dagger.py --workdir runs/ssv2_tiny_dagger \
        --config.data.root=DIR --config.init_from=runs/k400_tiny

PST-T†, 32x224, 74 GFLOPs, 28.5M parameters.
Accuracy: the paper's was not at hand; nor are the data sets of the dagger rows.
8 GPUs of 8 clips. Starts from the run of configs/pst/k400_tiny.py, which has the same parameters.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.pst_something()
    config.model.name = "pst_tiny_dagger"
    return config
