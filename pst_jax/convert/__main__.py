"""Converts weights: `python -m pst_jax.convert SOURCE DEST`.

SOURCE is a PyTorch file (.pth, .pt) of TPS, Video-Swin, LAPS, TokShift, or of an ImageNet Swin,
DeiT, ViT or Visformer (inflated); .safetensors; .npz; an orbax checkpoint; a model folder; or a
working directory of train.py. PyTorch is not needed, and nothing in a file is run.

DEST without a suffix becomes a model folder, which predict takes; .orbax an orbax checkpoint; .pth,
.pt, .safetensors and .npz files of released names. Exit codes: 0 done, 1 error, or further than
1e-4 from the reference of --parity.
"""

import argparse

from pst_jax.command_line import integer_in, new_parser, run_command


def main(args: argparse.Namespace) -> None:
    """Converts, and prints what was changed."""
    from pst_jax.convert import conversion  # after the flags: a wrong one is told at once

    conversion.run(args)


def make_parser() -> argparse.ArgumentParser:
    """Makes the parser of the command."""
    parser = new_parser("convert", __doc__)
    add = parser.add_argument
    add("source", help="what to read")
    add("dest", help="what to write; must not exist")
    add("--arch", metavar="NAME", help="row of pst_jax.list_models(), where SOURCE cannot tell")
    add("--num_classes", type=int, help="of the head (SOURCE's; an image network's: the row's)")
    add("--overrides", default="{}", metavar="JSON", help="further arguments of create_model")
    add("--preprocess", default="{}", metavar="JSON", help="fields of preprocess.json to change")
    add("--labels", metavar="FILE", help="a class name per line, or kinetics400")
    add("--key", help="entry of a PyTorch file that holds the weights; default: the likeliest")
    add("--weights", choices=("orbax", "safetensors"), help="of a model folder (orbax)")
    add("--parity", metavar="NPZ", help="outputs of the original network, to compare with")
    add("--seed", type=integer_in(0, 2**32 - 1), default=0, help="of what starts anew (0)")
    add("--json", metavar="FILE", help="write the report there too")
    return parser


if __name__ == "__main__":
    run_command(main, make_parser())
