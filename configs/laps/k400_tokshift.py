r"""TokShift on Kinetics-400: a ViT whose class tokens shift channels between frames.

    python train.py --config configs/laps/k400_tokshift.py:base --workdir runs/k400_tokshift_base \
        --config.data.root=DIR --config.init_from=vit_base_patch16_224_in21k.npz

The argument is the row: base (8x224, 134.7 GFLOPs without attention's products), base_16 (16x224,
269.5), base_256 (8x256, 175.8), base_384 (8x384, 394.7), large (8x384, 1397.6; starts from
vit_large_patch16_384_in21k.npz) or large_12 (12x384, 2096.4; likewise).
Accuracy: the paper's was not at hand. Nor are clips per GPU of base_256 and large: 18 and 1.
8 GPUs assumed, of the clips below in each of 10 microbatches. Starts from ImageNet-21k weights.
"""

from ml_collections import ConfigDict

from configs import common

ROWS = {
    "base": dict(clips_per_gpu=24),
    "base_16": dict(clips_per_gpu=12, num_frames=16),
    "base_256": dict(clips_per_gpu=18, size_px=256),
    "base_384": dict(clips_per_gpu=5, size_px=384),
    "large": dict(clips_per_gpu=1, size_px=384),
    "large_12": dict(clips_per_gpu=1, size_px=384, num_frames=12),
}


def get_config(row: str = "") -> ConfigDict:
    config = common.vit(**ROWS[common.one_of(row, tuple(ROWS))])
    config.model.name = f"tokshift_{row}"
    return config
