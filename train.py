"""Trains a model: `python train.py --config configs/motion.py --workdir runs/pst`.

Any value of the config can be set on the command line: --config.train.batch_size=8. The same
command again goes on where it stopped. Exit codes: 0 done, 1 error, 75 stopped by a signal after
saving.
"""

from absl import app, flags, logging
from ml_collections import config_flags

from pst_jax.huge_pages import use_huge_pages

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    help_string="File that describes the run, such as configs/motion.py, or configs/motion.py:twin "
    "with an argument. Set single values by --config.KEY=VALUE.",
    lock_config=True,
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder for checkpoints, metrics and the resolved config; one run each."
)


def main(argv: list[str]) -> int:
    """Trains, and turns errors that a user can mend into one line."""
    if len(argv) > 1:
        raise app.UsageError(f"not understood: {' '.join(argv[1:])}")
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # orbax tells every step of a save
    from pst_jax.training import loop  # after the flags: a wrong one is told at once

    try:
        return loop.train(_CONFIG.value, _WORKDIR.value)
    except ValueError as error:
        logging.error("%s", error)
        return 1
    except KeyboardInterrupt:
        logging.error("interrupted before it could save; what was saved earlier is whole")
        return 1


if __name__ == "__main__":
    use_huge_pages()
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
