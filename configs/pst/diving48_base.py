r"""PST-B on Diving48.

    python train.py --config configs/pst/diving48_base.py --workdir runs/diving48_base \
        --config.data.root=DIR --config.init_from=runs/k400_base

PST-B, 32x224, 247 GFLOPs, 88.8M parameters.
Accuracy: the paper's was not at hand.
8 GPUs of 8 clips. Starts from the run of configs/pst/k400_base.py.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.pst_diving48()
    config.model.name = "pst_base"
    return config
