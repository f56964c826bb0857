r"""Your own clips: PST-T on a list of videos, by the released recipe for Kinetics-400.

    python train.py --config configs/videos.py --workdir runs/mine --config.data.root=DIR \
        --config.data.train=train.csv --config.data.test=test.csv --config.model.num_classes=10 \
        --config.init_from=swin_tiny_patch4_window7_224.npz

Lists hold lines `path,label` with labels from 0; a folder with a folder per class does as well.
For a GPU or TPU; no accuracy is claimed for it. Sizes for a laptop: --config.clip.size_px=112
--config.clip.short_side_px=128 --config.clip.num_frames=8 --config.model.num_frames=8
--config.train.batch_size=8.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.base()
    config.model.update(
        name="pst_tiny",
        num_classes=400,
        num_frames=32,
        drop_path_rate=0.1,
        head_dropout=0.5,
        dtype="float32",  # of computing: "bfloat16" on accelerators
        remat=False,  # recompute blocks in the backward pass, where memory is short
    )
    config.data.root = "data/videos"
    config.eval.views = "4x3"
    return config
