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
    if kind not in ("pst", "twin"):
        raise ValueError(f"configs/motion.py:{kind} is unknown: use 'pst' or 'twin'")
    config = common.base()
    config.model = ConfigDict(
        {
            "name": "pst_tiny",
            "num_classes": 16,
            "num_frames": 8,
            "patch_size": (1, 4, 4),
            "embed_dim": 64,
            "depths": (4,),
            "num_heads": (2,),
            "pattern": "C",
            "shift_stages": (1,) if kind == "pst" else (),
            # A bias that knows the absolute frame, as released, would show the twin time.
            "bias_keys": "own",
            "drop_path_rate": 0.0,
            "head_dropout": 0.0,
        }
    )
    config.data.root = "data/motion"
    config.data.motion = ConfigDict(
        {
            "difficulty": "easy",
            "size_px": 28,
            "num_frames": 17,  # uniform sampling of 8 of 17 is its own mirror image in time
            "train_per_class": 300,
            "test_per_class": 40,
            "seed": 2022,  # never used while tuning
        }
    )
    config.clip = ConfigDict(
        {
            "num_frames": 8,
            "size_px": 28,
            "short_side_px": 28,
            "sampling": "uniform",
            "crop": "none",
        }
    )
    config.optim.learning_rate = 2e-3
    config.optim.schedule = "step_cosine"
    config.optim.warmup_epochs = 0.3
    config.optim.groups = (("", 1.0, 0.02),)
    config.optim.clip_norm = 1.0
    config.train.batch_size = 16
    config.train.num_epochs = 4.0
    config.train.eval_every_epochs = 1
    config.eval.has_reversed_pairs = True
    config.eval.shuffle_frames = True
    return config
