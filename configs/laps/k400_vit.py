r"""ViT-B on Kinetics-400, 2D: TokShift's baseline, in which no frame sees another.

    python train.py --config configs/laps/k400_vit.py --workdir runs/k400_vit \
        --config.data.root=DIR --config.init_from=vit_base_patch16_224_in21k.npz

TokShift, ViT (Video), 8x224, 134.7 GFLOPs without attention's products.
Accuracy: the paper's was not at hand. Nor are its clips per GPU: those of TokShift.
8 GPUs assumed, of 24 clips in each of 10 microbatches. Starts from ImageNet-21k weights.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.vit(clips_per_gpu=24)
    config.model.name = "vit_base"
    return config
