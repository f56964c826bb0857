"""Evaluates a trained model: `python eval.py --config configs/motion.py --workdir runs/pst`.

Prints the figures and writes them to WORKDIR/report.json. Exit codes: 0 done, 1 error.
"""

from absl import app, flags, logging
from ml_collections import config_flags

from pst_jax.huge_pages import use_huge_pages

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    help_string="The file that the run was trained with, and the same --config.KEY=VALUE.",
    lock_config=True,
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; report.json goes there.")
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "Folder of another run whose checkpoint to evaluate; default: workdir."
)
_VIEWS = flags.DEFINE_string(
    "views", None, "CLIPSxCROPS per video, such as 4x3; default: config.eval.views."
)


def main(argv: list[str]) -> int:
    """Evaluates, and turns errors that a user can mend into one line."""
    if len(argv) > 1:
        raise app.UsageError(f"not understood: {' '.join(argv[1:])}")
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # orbax tells every step of a save
    from pst_jax.evaluation import report

    try:
        result = report.evaluate(_CONFIG.value, _WORKDIR.value, _CHECKPOINT.value, _VIEWS.value)
    except ValueError as error:
        logging.error("%s", error)
        return 1
    print(report.table({_WORKDIR.value: result}))
    return 0


if __name__ == "__main__":
    use_huge_pages()
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
