r"""LAPS (E) on Kinetics-400: 32 frames of 360 x 360 px.

    python train.py --config configs/laps/k400_laps_e.py --workdir runs/k400_laps_e \
        --config.data.root=DIR --config.init_from=visformer_s_in10k.npz

LAPS (E), 32x360, 434 GFLOPs, 40.2M parameters.
Accuracy: the paper's was not at hand. Nor is the stride of its frames: 8 as at 8x224.
8 GPUs assumed, of 3 clips in each of 10 microbatches. Starts from ImageNet-10k weights, position
embeddings resized.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.laps(learning_rate=0.036, batch_size=240, size_px=360, num_frames=32)
    config.model.name = "laps_e"
    return config
