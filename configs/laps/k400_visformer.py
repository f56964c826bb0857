r"""LAPS's baselines and ablations on Kinetics-400: Visformer-S without LAPS.

    python train.py --config configs/laps/k400_visformer.py:leap --workdir runs/visformer_leap \
        --config.data.root=DIR --config.init_from=visformer_s_in10k.npz

The argument is the row: 2d, 3d, plain_shift, periodic_shift or leap. 8x224, 39.1 GFLOPs (3d: 46.5,
leap: 40.1), 39.8M parameters.
Accuracy: the paper's was not at hand.
8 GPUs assumed, of 40 clips in each of 10 microbatches (3d: 20). Starts from ImageNet-10k weights.
"""

from ml_collections import ConfigDict

from configs import common

ROWS = {
    "2d": "visformer_2d",
    "3d": "visformer_3d",
    "plain_shift": "visformer_plain_shift",
    "periodic_shift": "visformer_periodic_shift",
    "leap": "visformer_leap",
}


def get_config(row: str = "") -> ConfigDict:
    name = ROWS[common.one_of(row, tuple(ROWS))]
    # Joint attention leaves room for half the clips.
    config = common.laps(learning_rate=0.1, batch_size=1600) if row == "3d" else common.laps()
    config.model.name = name
    return config
