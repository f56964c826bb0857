r"""PST-B on Something-Something V2.

    python train.py --config configs/pst/ssv2_base.py --workdir runs/ssv2_base \
        --config.data.root=DIR --config.init_from=runs/k400_base

PST-B, 32x224, 247 GFLOPs, 88.8M parameters.
Expected: top-1 69.8 %, top-5 93.0 % (model card: with or without the dagger is not said).
8 GPUs of 8 clips. Starts from the run of configs/pst/k400_base.py.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.pst_something()
    config.model.name = "pst_base"
    return config
