"""Trains a model: `python train.py --config configs/motion.py --workdir runs/pst`.

Any value that the config lists can be set on the command line: --config.train.batch_size=8. The
same command again goes on where it stopped. Exit codes: 0 done, 1 error, 75 stopped by a signal
after saving.
"""

from absl import flags
from ml_collections import config_flags

from pst_jax.command_line import run_script

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    help_string="File that describes the run, such as configs/motion.py, or configs/motion.py:twin "
    "with an argument. Set single values by --config.KEY=VALUE.",
    lock_config=True,
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder for checkpoints, metrics and the resolved config; one run each."
)


def main() -> int:
    """Trains, or goes on."""
    from pst_jax.training import loop  # after the flags: a wrong one is told at once

    return loop.train(_CONFIG.value, _WORKDIR.value)


if __name__ == "__main__":
    run_script(main, required=("config", "workdir"))
