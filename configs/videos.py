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
    config = common.pst_k400()
    config.model.name = "pst_tiny"
    config.data.update(root="data/videos", train="train.csv", test="test.csv")
    return config
