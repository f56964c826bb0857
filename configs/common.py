"""Parts that configs share: each a function that returns a section with its defaults."""

from ml_collections import ConfigDict, config_dict


def base() -> ConfigDict:
    """Returns a config with every section; a config file sets what differs."""
    config = ConfigDict()
    config.seed = 0  # of initialisation, data order, crops, dropout
    config.init_from = ""  # .npz of released names, or a working directory, to start from
    config.model = ConfigDict()  # name, num_classes, and overrides of pst_jax.create_model
    config.data = data()
    config.clip = clip()
    config.optim = optim()
    config.train = train()
    config.eval = evaluation()
    return config


def data() -> ConfigDict:
    """Where the videos are."""
    return ConfigDict(
        {
            "root": "",  # folder that the lists' paths are relative to
            "train": "train.csv",  # list `path,label`, below root; or a folder per class
            "test": "test.csv",
            "class_names": "",  # file below root with a line per class, for the report; "": none
            "num_threads": 2,  # that decode, per process
            "num_workers": 0,  # processes that decode; 0: threads of this one
            "max_unreadable_share": 0.01,  # of the clips of training, replaced; above: stop
        }
    )


def clip() -> ConfigDict:
    """How training takes clips: the fields of pst_jax.data.transforms.ClipSpec (PST on K400)."""
    return ConfigDict(
        {
            "num_frames": 32,
            "size_px": 224,
            "short_side_px": 256,  # the shorter side is first resized to this
            "sampling": "dense",  # or "uniform" (Something-Something), "linspace" (LAPS)
            "stride_frames": 2,
            "crop": "random_resized",  # or "random", "none"
            "flip": "all",  # or "none"; "skip" and "swap" go with flip_labels
            "flip_labels": config_dict.placeholder(tuple),
        }
    )


def optim() -> ConfigDict:
    """The released PST recipe: AdamW by parameter groups, cosine by the epoch."""
    return ConfigDict(
        {
            "learning_rate": 1e-3,
            "schedule": "epoch_cosine",  # or "step_cosine"
            "warmup_epochs": 2.5,
            # (pattern of the parameter's path, factor on the rate, weight decay); the first match
            # wins. Paper/code difference: the released recipe means to spare norms the decay, but
            # its rule for the backbone is matched first, so that norms and biases do decay.
            "groups": (
                ("relative_position_bias_table", 1.0, 0.0),
                ("^head/", 1.0, 0.02),
                ("", 0.1, 0.02),
            ),
            "beta2": 0.999,
            "clip_norm": config_dict.placeholder(float),  # of the whole gradient; None: off
            "label_smoothing": 0.0,
        }
    )


def train() -> ConfigDict:
    """How long, and how often to say so."""
    return ConfigDict(
        {
            "batch_size": 64,  # over all devices
            "num_epochs": 30.0,
            "log_every_steps": 20,
            "checkpoint_every_steps": 200,
            "eval_every_epochs": 5,  # 0: only at the end
        }
    )


def evaluation() -> ConfigDict:
    """How a trained model is measured."""
    return ConfigDict(
        {
            "batch_size": 64,  # over all devices
            "views": "1x1",  # temporal clips x spatial crops; one view is measured as well
            "average": "prob",  # over the views of a video: "prob", "logit" or "sum"
            "short_side_px": 0,  # of the frames; 0: clip.short_side_px, for 3 crops clip.size_px
            "has_reversed_pairs": False,  # class 2k + 1 is class 2k played backwards
            "shuffle_frames": False,  # measure on time-shuffled frames too
        }
    )


def motion(kind: str, num_stages: int) -> ConfigDict:
    """Returns the parts that configs of the generated data set share.

    Args:
        kind: "pst", or "twin": the same network with no token moving between frames.
        num_stages: of the network.
    """
    if kind not in ("pst", "twin"):
        raise ValueError(f"the config's argument {kind!r} is unknown: use 'pst' or 'twin'")
    config = base()
    config.model = ConfigDict(
        {
            "name": "pst_tiny",
            "patch_size": (1, 4, 4),  # of one frame: an embedding that is blind to order
            "pattern": "C",
            "shift_stages": tuple(range(1, num_stages + 1)) if kind == "pst" else (),
            # A bias that knows the absolute frame, as released, would show the twin time.
            "bias_keys": "own",
            "head_dropout": 0.0,
            "dtype": "float32",  # of computing: "bfloat16" on accelerators
        }
    )
    config.data.motion = ConfigDict({"seed": 2022})  # never used while tuning
    config.data.class_names = "labels.txt"
    config.clip.update(sampling="uniform", crop="none", flip="none")
    config.optim.schedule = "step_cosine"
    config.optim.clip_norm = 1.0
    config.eval.has_reversed_pairs = True
    config.eval.shuffle_frames = True
    return config
