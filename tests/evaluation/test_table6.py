import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from pst_jax.evaluation import benchmark, cost, table6
from pst_jax.evaluation.benchmark import Ratio

ROOT = pathlib.Path(__file__).parents[2]
TINY = {
    "still": table6.Row("2D", "still", 10, 20, "pst_testing", {"shift_stages": ()}),
    "moving": table6.Row("PST", "still", 11, 30, "pst_testing"),
    "alone": table6.Row("other", "absent", 12, None, "pst_testing", {"depths": (1, 1)}),
}
# Parameters at 400 classes and G multiply-adds at 32x224x224, counted on the released systems.
MEASURED = {
    "swin2d_t": (27_831_562, 72.366),
    "video_swin_t": (28_531_222, 106.000),
    "pst_t": (28_531_222, 72.366),
    "swin2d_b": (87_159_368, 247.778),
    "video_swin_b": (89_065_688, 320.946),
    "pst_b": (89_065_688, 247.778),
    "pst_b_dagger": (89_065_688, 252.655),
}


@pytest.mark.parametrize("key", table6.ROWS)
def test_rows_are_the_papers(key):
    row = table6.ROWS[key]
    counted = cost.count(row.build())
    gflops = counted.total / 1e9
    assert (counted.params, round(gflops, 3)) == MEASURED[key]
    # The paper cuts the decimals off, but for Video-Swin-B it rounds them.
    assert row.paper_gflops == (round(gflops) if key == "video_swin_b" else int(gflops))


def test_rows_take_other_lengths():
    row = table6.ROWS["video_swin_t"]
    assert row.build(8, "bfloat16").dtype == "bfloat16"
    assert row.build(64).num_frames == 64


def test_rows_are_set_beside_their_2d_network(monkeypatch):
    compiled = []

    def compile_program(name, model, batch, size_px):
        compiled.append((name, model.num_frames, model.dtype, batch, size_px))
        seconds = {"still": 2.0, "moving": 3.0, "alone": 5.0}[name]
        return benchmark.Program(name, lambda: seconds, {"peak_bytes": 7e6 * seconds})

    def interleave(runs, rounds):
        *seconds, again = [run() for run in runs]
        return np.array([[*seconds, again * 1.1]] * rounds)

    monkeypatch.setitem(benchmark.MODES, "train", compile_program)
    monkeypatch.setattr(benchmark, "interleave", interleave)
    options = dict(batch=6, num_frames=4, size_px=32, dtype="bfloat16")
    figures = table6.measure(TINY, 3, mode="train", **options)
    assert compiled == [(name, 4, "bfloat16", 6, 32) for name in TINY]
    still, moving, alone = figures["rows"].values()
    assert moving["ratio"] == Ratio(1.5, 1.5, 1.5)._asdict() and moving["paper_ratio"] == 1.5
    assert still["ratio"] is still["paper_ratio"] is alone["ratio"] is alone["paper_ms"] is None
    assert (moving["seconds"], moving["clips_per_second"], moving["peak_bytes"]) == (3, 2, 21e6)
    assert moving["gflops"] == cost.count(TINY["moving"].build(4), 32).total / 1e9
    assert figures["noise"]["median"] == pytest.approx(1 / 1.1)
    _, _, *rows, _, noise = table6.as_text(figures).splitlines()
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    assert cells[1][0] == "PST" and cells[1][4:] == [
        *("3000.00", "2.00", "1.500 [1.500, 1.500]", "11", "30", "1.50")
    ]
    assert cells[2][6:] == ["-", "12", "-", "-"]
    assert noise == "Ratio of 2D to itself: 0.909 [0.909, 0.909]"


def test_rows_are_chosen_by_key_and_an_unknown_one_is_named():
    assert list(table6.choose(["pst_t", "swin2d_t"])) == ["swin2d_t", "pst_t"]
    assert table6.choose(None) == table6.ROWS
    with pytest.raises(ValueError, match="'pst_x'.*pst_b_dagger"):
        table6.choose(["pst_t", "pst_x"])


def test_the_command_prints_and_writes_the_rows_named(tmp_path):
    path = tmp_path / "table6.json"
    # Quick to compile, and not started anew for huge pages.
    flags = {"XLA_FLAGS": "--xla_backend_optimization_level=0", "GLIBC_TUNABLES": ""}
    line = [
        sys.executable,
        "-m",
        "pst_jax.evaluation.table6",
        "--names",
        "swin2d_t",
        "--json",
        path,
    ]
    line += ["--frames", "4", "--size", "32", "--rounds", "2"]
    result = subprocess.run(line, cwd=ROOT, env=os.environ | flags, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "| 2D Swin-T |     27.83 |" in result.stdout and "frames 4" in result.stdout
    figures = json.loads(path.read_text())
    assert list(figures["rows"]) == ["swin2d_t"] and figures["frames"] == 4
    assert figures["rows"]["swin2d_t"]["peak_bytes"] > 4 * 27_831_562
