"""The generated data set in clutter, for those with an accelerator: a hierarchical PST.

    python train.py --config configs/motion_hard.py --workdir runs/hard
    python train.py --config configs/motion_hard.py:twin --workdir runs/hard_twin

20 classes in 10 time-reversed pairs (rotation and orbit too), 112 px, a moving camera, bright
distractors; two stages, so that shifted windows, masks and merging take part. Not trained here.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(kind: str = "pst") -> ConfigDict:
    config = common.motion(kind, num_stages=2)
    config.model.update(
        num_classes=20,
        num_frames=16,
        embed_dim=64,
        depths=(2, 4),
        num_heads=(2, 4),
        drop_path_rate=0.1,
    )
    config.data.root = "data/motion_hard"
    config.data.motion.update(
        difficulty="hard",
        size_px=112,
        num_frames=33,  # uniform sampling of 16 of 33 is its own mirror image in time
        train_per_class=2000,
        test_per_class=100,
    )
    config.clip.update(num_frames=16, size_px=112, short_side_px=112)
    config.optim.groups = (("", 1.0, 0.05),)
    config.optim.label_smoothing = 0.1
    config.train.num_epochs = 20.0
    return config
