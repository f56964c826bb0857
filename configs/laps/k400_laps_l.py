r"""LAPS (L) on Kinetics-400: 16 frames of 320 x 320 px.

    python train.py --config configs/laps/k400_laps_l.py --workdir runs/k400_laps_l \
        --config.data.root=DIR --config.init_from=visformer_s_in10k.npz

LAPS (L), 16x320, 173 GFLOPs, 40.0M parameters.
Accuracy: the paper's was not at hand. Nor is the stride of its frames: 8 as at 8x224.
Nor are its rate and clips per GPU: twice those of LAPS (H), which has twice the frames.
8 GPUs assumed, of 8 clips in each of 10 microbatches. Starts from ImageNet-10k weights, position
embeddings resized.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.laps(learning_rate=0.072, batch_size=640, size_px=320, num_frames=16)
    config.model.name = "laps_l"
    return config
