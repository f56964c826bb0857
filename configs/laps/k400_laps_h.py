r"""LAPS (H) on Kinetics-400: 32 frames of 320 x 320 px.

    python train.py --config configs/laps/k400_laps_h.py --workdir runs/k400_laps_h \
        --config.data.root=DIR --config.init_from=visformer_s_in10k.npz

LAPS (H), 32x320, 346 GFLOPs, 40.0M parameters.
Accuracy: the paper's was not at hand. Nor is the stride of its frames: 8 as at 8x224.
8 GPUs assumed, of 4 clips in each of 10 microbatches. Starts from ImageNet-10k weights, position
embeddings resized.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.laps(learning_rate=0.036, batch_size=320, size_px=320, num_frames=32)
    config.model.name = "laps_h"
    return config
