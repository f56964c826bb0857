"""Parts that configs share: each a function that returns a section with its defaults."""

from ml_collections import ConfigDict, config_dict


def base() -> ConfigDict:
    """Returns a config with every section; a config file sets what differs."""
    config = ConfigDict()
    config.seed = 0  # of initialisation, data order, crops, dropout
    config.init_from = ""  # weights to start from: a file, a model folder, a workdir
    config.model = ConfigDict()  # see `model`
    config.data = data()
    config.clip = clip()
    config.augment = augment()
    config.pixels = pixels()
    config.optim = optim()
    config.train = train()
    config.eval = evaluation()
    return config


def model(family: str) -> ConfigDict:
    """What the command line can change of a model: arguments of pst_jax.create_model.

    Args:
        family: "swin", "visformer" or "vit".
    """
    widths = {
        "swin": {"embed_dim": int, "depths": tuple, "num_heads": tuple},
        "visformer": {"init_channels": int, "embed_dim": int, "depths": tuple, "num_heads": int},
        "vit": {"patch_size": int, "embed_dim": int, "depth": int, "num_heads": int},
    }[family]
    optional = {"mixers": str, "drop_path_rate": float, "head_dropout": float} | widths
    return ConfigDict(
        {
            "name": "",
            "num_classes": 400,
            "dtype": "float32",  # of computing: "bfloat16" on accelerators
            "remat": False,  # recompute blocks in the backward pass, where memory is short
            # None: as the named model has it.
            **{key: config_dict.placeholder(kind) for key, kind in optional.items()},
        }
    )


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
            "short_side_max_px": config_dict.placeholder(int),  # drawn up to this; None: fixed
            "sampling": "dense",  # or "uniform" (Something-Something), "linspace" (LAPS)
            "stride_frames": 2,
            "crop": "random_resized",  # or "random", "none"
            "area_range": (0.08, 1.0),  # of random_resized: shares of the frame's area
            "aspect_range": (3 / 4, 4 / 3),  # likewise, width / height
            "flip": "all",  # or "none"; "skip" and "swap" go with flip_labels
            # Classes never mirrored, or the mirrored class of each; or a data set that
            # pst_jax.data.label_maps knows: "ssv1", "ssv2", "motion", "motion_hard".
            "flip_labels": config_dict.placeholder(object),
            "reverse": "none",  # half of the clips played backwards: "all", "skip" or "swap"
            "reverse_labels": config_dict.placeholder(object),  # likewise: "motion", "motion_hard"
            "num_repeats": 1,  # clips taken of a video each time that it is opened
            "frame_offset": 0,  # added to the frames' numbers
            "decoder": "pyav",  # or "opencv"
            "policy": "none",  # or "rand", "rand_released" (as PST), "auto": see data.policies
            "policy_ops": 2,  # of the RandAugments: operations per clip
            "policy_magnitude": 9.0,  # likewise, of 10
        }
    )


def augment() -> ConfigDict:
    """What is done to clips on the device: the fields of pst_jax.ops.augment.Augmentation."""
    return ConfigDict(
        {
            "colour_jitter": 0.0,  # probability of each of four changes of colour (LAPS: 0.1)
            "erase": 0.0,  # probability that a box is erased (PST: 0.25)
            "mixup": 0.0,  # alpha of mixup; 0: off
            "cutmix": 0.0,  # alpha of cutmix; both on: one of them for each clip
        }
    )


def pixels() -> ConfigDict:
    """Channel statistics, on 0..255, by which pixels become the network's input: ImageNet's."""
    return ConfigDict({"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)})


def optim() -> ConfigDict:
    """The released PST recipe: AdamW by parameter groups, cosine by the epoch."""
    return ConfigDict(
        {
            "optimizer": "adamw",  # or "sgd"
            "learning_rate": 1e-3,
            "schedule": "epoch_cosine",  # or "step_cosine", "epoch_steps"
            "warmup_epochs": 2.5,
            "milestones": (),  # of epoch_steps: epochs after which the rate falls
            "decay_factor": 0.1,  # of the rate at each of them
            # (pattern of the parameter's path, factor on the rate, weight decay); the first match
            # wins. Paper/code difference: the released recipe means to spare norms the decay, but
            # its rule for the backbone is matched first, so that norms and biases do decay.
            "groups": (
                ("relative_position_bias_table", 1.0, 0.0),
                ("^head/", 1.0, 0.02),
                ("", 0.1, 0.02),
            ),
            "beta2": 0.999,  # of adamw
            "momentum": 0.9,  # of sgd
            "clip_norm": config_dict.placeholder(float),  # of the whole gradient; None: off
            "label_smoothing": 0.0,
        }
    )


def train() -> ConfigDict:
    """How long, and how often to say so."""
    return ConfigDict(
        {
            "batch_size": 64,  # of an optimizer step, over all devices
            "accumulate": 1,  # microbatches that it is computed in, one after the other
            "num_epochs": 30.0,
            "precise_bn_batches": 0,  # to measure BatchNorm by after each epoch; 0: off
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


def pst_k400(
    *,
    learning_rate: float = 1e-3,
    batch_size: int = 64,
    size_px: int = 224,
    num_frames: int = 32,
    family: str = "swin",
) -> ConfigDict:
    """The released PST recipe on Kinetics-400; `model.name`, `data.root`, `init_from` are open.

    It starts from ImageNet-1k weights of the 2D network.

    Args:
        learning_rate: peak.
        batch_size: clips of an optimizer step; released: 8 on each of 8 GPUs.
        size_px: of the clips.
        num_frames: of a clip.
        family: see `model`.
    """
    config = base()
    config.model = model(family)
    config.model.update(num_frames=num_frames, drop_path_rate=0.1, head_dropout=0.5)
    if family == "vit":
        config.model.image_size = size_px
    config.data.test = "val.csv"
    config.clip.update(num_frames=num_frames, size_px=size_px, short_side_px=size_px * 8 // 7)
    config.optim.learning_rate = learning_rate
    config.train.batch_size = batch_size
    config.eval.views = "4x3"
    return config


def pst_something(version: str = "v2", **options: float | str) -> ConfigDict:
    """The released PST recipe on Something-Something V1 and V2.

    It starts from the Kinetics-400 checkpoint. As released, but that V1 is put right.
    Paper/code difference: for V1 the release spares the left and right classes of V2 the mirror,
    and takes every frame one too early, the first one from a file that does not exist. Here V1's
    own classes and its own frames; "v1_released" is the release's (that file read as the first).

    Args:
        version: "v1", "v1_released" or "v2".
        **options: of `pst_k400`.
    """
    config = pst_k400(**options)
    config.model.num_classes = 174
    lists = {
        "v1": ("something-something-v1-train.csv", "something-something-v1-validation.csv"),
        "v2": ("labels/train.json", "labels/validation.json"),
    }
    config.data.train, config.data.test = lists[version[:2]]
    # Classes with a left or right in their name: never mirrored.
    config.clip.update(flip="skip", flip_labels="ssv1" if version == "v1" else "ssv2")
    config.clip.update(sampling="uniform", policy="rand_released")
    config.clip.frame_offset = -1 if version == "v1_released" else 0
    config.augment.erase = 0.25
    config.optim.label_smoothing = 0.1
    config.eval.views = "1x3"
    return config


def pst_something_v1(recipe: str = "", **options: float | str) -> ConfigDict:
    """Returns `pst_something` of V1 by a config file's argument: "", or "paper_bug" as released."""
    if recipe:
        one_of(recipe, ("paper_bug",))
    return pst_something("v1_released" if recipe else "v1", **options)


def pst_diving48(**options: float | str) -> ConfigDict:
    """The released PST recipe on Diving48; it starts from the Kinetics-400 checkpoint.

    Args:
        **options: of `pst_k400`.
    """
    config = pst_something(**options)
    config.model.num_classes = 48
    config.data.update(train="Diving48_V2_train.json", test="Diving48_V2_test.json")
    config.clip.update(flip="all", flip_labels=None)
    config.optim.label_smoothing = 0.02
    return config


def laps(
    *,
    learning_rate: float = 0.2,
    batch_size: int = 3200,
    size_px: int = 224,
    num_frames: int = 8,
    stride_frames: int = 8,
    precise_bn_batches: int = 200,
    family: str = "visformer",
) -> ConfigDict:
    """The LAPS recipe on Kinetics-400; `model.name`, `data.root` and `init_from` are open.

    The released last step of the rate, after epoch 18 of 18, never comes: left out.

    Args:
        learning_rate: of the first ten epochs.
        batch_size: clips of an optimizer step, of 10 microbatches: 40 per GPU by LAPS at 8 x 224.
            How many GPUs there were is not known: 8 are assumed.
        size_px: of the clips.
        num_frames: of a clip.
        stride_frames: frames of the video per frame of the clip's window.
        precise_bn_batches: 0 for models without BatchNorm.
        family: see `model`.
    """
    config = base()
    config.model = model(family)
    config.model.update(num_frames=num_frames, image_size=size_px)
    # Released as rounded shares of 1, which are not quite those of the other models.
    config.pixels.mean = tuple(255 * share for share in (0.486, 0.457, 0.407))
    config.clip.update(num_frames=num_frames, size_px=size_px, stride_frames=stride_frames)
    config.clip.update(sampling="linspace", crop="random", short_side_px=size_px)
    config.data.test = "val.csv"
    config.augment.colour_jitter = 0.1
    config.clip.short_side_max_px = {224: 360, 384: 512}.get(size_px, size_px * 3 // 2)
    config.optim.update(optimizer="sgd", learning_rate=learning_rate, groups=(("", 1.0, 0.0),))
    config.optim.update(schedule="epoch_steps", milestones=(10, 15), warmup_epochs=0.0)
    config.optim.update(clip_norm=1.0, label_smoothing=0.1)
    config.train.update(batch_size=batch_size, accumulate=10, num_epochs=18.0)
    config.train.precise_bn_batches = precise_bn_batches
    config.eval.update(views="10x3", average="sum")
    return config


def vit(
    *, clips_per_gpu: int, size_px: int = 224, num_frames: int = 8, stride_frames: int = 32
) -> ConfigDict:
    """The recipe of TokShift, and of LAPS on a ViT: as `laps`, but for rate, pixels and BatchNorm.

    It starts from ImageNet-21k weights of the ViT.

    Args:
        clips_per_gpu: of each of 10 microbatches; the learning rate is a hundredth of it. 8 GPUs
            are assumed.
        size_px: of the clips.
        num_frames: of a clip.
        stride_frames: frames of the video per frame of the clip's window; LAPS: 8.
    """
    config = laps(
        learning_rate=clips_per_gpu / 100,
        batch_size=clips_per_gpu * 10 * 8,
        size_px=size_px,
        num_frames=num_frames,
        stride_frames=stride_frames,
        precise_bn_batches=0,
        family="vit",
    )
    config.pixels.update(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
    return config


def one_of(argument: str, known: tuple[str, ...]) -> str:
    """Returns a config file's argument (after the colon), if it is one of `known`."""
    if argument not in known:
        raise ValueError(f"the config's argument {argument!r} is unknown: use {', '.join(known)}")
    return argument


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
