r"""PST-T on Something-Something V1.

    python train.py --config configs/pst/ssv1_tiny.py --workdir runs/ssv1_tiny \
        --config.data.root=DIR --config.init_from=runs/k400_tiny

PST-T, 32x224, 72 GFLOPs, 28.5M parameters.
Expected: top-1 54.0 %, top-5 82.3 % (model card: with or without the dagger is not said).
8 GPUs of 8 clips. Starts from the run of configs/pst/k400_tiny.py.
With ":paper_bug" behind the file's name it mirrors the classes, and takes the frames, that the
release does.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(recipe: str = "") -> ConfigDict:
    config = common.pst_something_v1(recipe)
    config.model.name = "pst_tiny"
    return config
