r"""Rows of PST's Table 1 on Something-Something V1: patterns, stages, parts of PST-T, and others.

    python train.py --config configs/pst/ssv1_ablations.py:pattern_a --workdir runs/pattern_a \
        --config.data.root=DIR --config.init_from=runs/k400_tiny

The argument is the name of a model below, without what is ahead of its row: "pattern_a" is
"pst_tiny_pattern_a", "joint" is "swin_tiny_joint".
32x224, 72 GFLOPs (joint: 106, local: 88).
Accuracy: the paper's was not at hand, nor from what each row started.
8 GPUs of 8 clips. Starts from the run of configs/pst/k400_tiny.py, whose parameters fit all rows
("avgpool" takes the middle of its bias tables).
"""

from ml_collections import ConfigDict

from configs import common

_ROWS = (
    # (a) how patches move
    "pst_tiny_none",
    "pst_tiny_center_one",
    "pst_tiny_uneven",
    "pst_tiny_even2",
    "pst_tiny_even3",
    # (b) patterns
    "pst_tiny_pattern_a",
    "pst_tiny_pattern_b",
    "pst_tiny_pattern_c",
    "pst_tiny_pattern_d",
    # (c) stages
    "pst_tiny_stages_1",
    "pst_tiny_stages_12",
    "pst_tiny_stages_123",
    "pst_tiny_stages_1234",
    # (d) without a part of it
    "pst_tiny_no_shift_back",
    "pst_tiny_no_alternate",
    "pst_tiny_no_shift_bias",
    # (e) ways for frames to meet
    "swin_tiny_avgpool",
    "swin_tiny_joint",
    "swin_tiny_local",
    "swin_tiny_sparse",
    "swin_tiny_channel",
    "swin_tiny_patch",
)
ROWS = {name.split("_tiny_")[1]: name for name in _ROWS}


def get_config(row: str = "") -> ConfigDict:
    config = common.pst_something("v1")
    config.model.name = ROWS[common.one_of(row, tuple(ROWS))]
    return config
