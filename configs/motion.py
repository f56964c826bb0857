"""The embedded default: a small PST, or its twin without time, on generated videos.

    python train.py --config configs/motion.py --workdir runs/pst
    python train.py --config configs/motion.py:twin --workdir runs/twin

Both are the same network, parameters, data and steps; in the twin no token moves between frames.
Neither the embedding (patches of one frame) nor the mean over frames knows order, so the twin
gives a clip and its reversal the same logits: 50 % within pairs by construction.
Expected on 2 CPU cores: see the README's results table.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(kind: str = "pst") -> ConfigDict:
    config = common.motion(kind, num_stages=1)
    config.model.update(
        num_classes=16,
        num_frames=8,
        embed_dim=64,
        depths=(4,),
        num_heads=(2,),
        drop_path_rate=0.0,
    )
    config.data.root = "data/motion"
    config.data.motion.update(
        difficulty="easy",
        size_px=28,
        num_frames=17,  # uniform sampling of 8 of 17 is its own mirror image in time
        train_per_class=300,
        test_per_class=40,
    )
    config.clip.update(num_frames=8, size_px=28, short_side_px=28)
    config.optim.learning_rate = 3e-3
    config.optim.beta2 = 0.95  # so short a run is over before 1,000 steps are averaged
    config.optim.warmup_epochs = 0.3
    config.optim.groups = (("relative_position_bias_table", 10.0, 0.0), ("", 1.0, 0.02))
    config.train.batch_size = 16
    config.train.num_epochs = 4.0
    config.train.eval_every_epochs = 1
    return config
