r"""PST-T on Diving48.

    python train.py --config configs/pst/diving48_tiny.py --workdir runs/diving48_tiny \
        --config.data.root=DIR --config.init_from=runs/k400_tiny

PST-T, 32x224, 72 GFLOPs, 28.5M parameters.
Accuracy: the paper's was not at hand.
8 GPUs of 8 clips. Starts from the run of configs/pst/k400_tiny.py.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.pst_diving48()
    config.model.name = "pst_tiny"
    return config
