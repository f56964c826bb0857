import json
import pathlib
import subprocess
import sys

import pytest

from pst_jax.evaluation import averages, report

ROOT = pathlib.Path(__file__).parents[2]


def test_a_table_has_the_columns_that_some_run_has():
    text = report.table({"a": {"top1": 0.5, "params": 1234}, "b": {"top1": 1.0, "step": 7}})
    header, _, first, second = text.splitlines()
    assert "top-1 %" in header and "within pairs %" not in header
    assert [cell.strip() for cell in first.split("|")[1:-1]] == ["a", "50.0", "1,234", ""]
    assert [cell.strip() for cell in second.split("|")[1:-1]] == ["b", "100.0", "", "7"]


def test_the_command_sets_runs_side_by_side_and_names_what_is_missing(tmp_path):
    for name, value in (("one", 0.25), ("two", 0.75)):
        (tmp_path / name).mkdir()
        (tmp_path / name / report.FILE).write_text(json.dumps({"top1": value}))

    def run(*names):
        command = [sys.executable, "-m", "pst_jax.evaluation.report"]
        command += [str(tmp_path / name) for name in names]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    result = run("one", "two")
    assert "25.0" in result.stdout and "75.0" in result.stdout
    missing = run("one", "three")
    assert missing.returncode != 0 and "three" in missing.stdout + missing.stderr


@pytest.mark.parametrize("text", ["4", "x3", "4x2", "0x1", "axb"])
def test_views_are_clips_x_crops(text):
    with pytest.raises(ValueError, match="CLIPSxCROPS"):
        averages.parse_views(text)
    assert averages.parse_views("4x3") == (4, 3)
