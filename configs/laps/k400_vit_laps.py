r"""LAPS on a ViT on Kinetics-400: leap attention with periodic shift, class tokens included.

    python train.py --config configs/laps/k400_vit_laps.py:base --workdir runs/k400_vit_laps_base \
        --config.data.root=DIR --config.init_from=vit_base_patch16_224_in21k.npz

The argument is the row: base (8x224), base_384 (8x384) or large (8x384; starts from
vit_large_patch16_384_in21k.npz).
Accuracy: the paper's was not at hand.
8 GPUs assumed, of the clips below in each of 10 microbatches. Starts from ImageNet-21k weights.
"""

from ml_collections import ConfigDict

from configs import common

ROWS = {
    "base": dict(clips_per_gpu=18),
    "base_384": dict(clips_per_gpu=3, size_px=384),
    "large": dict(clips_per_gpu=1, size_px=384),
}


def get_config(row: str = "") -> ConfigDict:
    config = common.vit(**ROWS[common.one_of(row, tuple(ROWS))], stride_frames=8)
    config.model.name = f"vit_laps_{row}"
    return config
