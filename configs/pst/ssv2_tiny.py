r"""PST-T on Something-Something V2.

    python train.py --config configs/pst/ssv2_tiny.py --workdir runs/ssv2_tiny \
        --config.data.root=DIR --config.init_from=runs/k400_tiny

PST-T, 32x224, 72 GFLOPs, 28.5M parameters.
Expected: top-1 67.9 %, top-5 90.8 % (model card: with or without the dagger is not said).
8 GPUs of 8 clips. Starts from the run of configs/pst/k400_tiny.py.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.pst_something()
    config.model.name = "pst_tiny"
    return config
