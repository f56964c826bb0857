r"""PST-B on Something-Something V1.

    python train.py --config configs/pst/ssv1_base.py --workdir runs/ssv1_base \
        --config.data.root=DIR --config.init_from=runs/k400_base

PST-B, 32x224, 247 GFLOPs, 88.8M parameters.
Expected: top-1 58.3 %, top-5 83.9 % (model card: with or without the dagger is not said).
8 GPUs of 8 clips. Starts from the run of configs/pst/k400_base.py.
With ":paper_bug" behind the file's name it mirrors the classes, and takes the frames, that the
release does.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(recipe: str = "") -> ConfigDict:
    config = common.pst_something_v1(recipe)
    config.model.name = "pst_base"
    return config
