"""Evaluates a trained model: `python eval.py --config configs/motion.py --workdir runs/pst`.

Prints the figures and writes them to WORKDIR: report.json, report.html to look at, and
predictions.npz. Exit codes: 0 done, 1 error.
"""

from absl import flags
from ml_collections import config_flags

from pst_jax.command_line import run_script

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    help_string="The file that the run was trained with, such as configs/motion.py, and the same "
    "--config.KEY=VALUE.",
    lock_config=True,
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; the report goes there.")
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "Folder of another run whose checkpoint to evaluate; default: workdir."
)
_VIEWS = flags.DEFINE_string(
    "views", None, "CLIPSxCROPS per video, such as 4x3; default: config.eval.views."
)
_AGAINST = flags.DEFINE_string(
    "against", None, "Folder of another run, evaluated on these videos, to compare frame by frame."
)


def main() -> None:
    """Evaluates the newest checkpoint."""
    from pst_jax.evaluation import report

    result = report.evaluate(
        _CONFIG.value, _WORKDIR.value, _CHECKPOINT.value, _VIEWS.value, _AGAINST.value
    )
    print(report.table({_WORKDIR.value: result}))


if __name__ == "__main__":
    run_script(main, required=("config", "workdir"))
