"""A video that takes its decoder's process down costs that video, and nothing else."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest
from video_files import frames_of_noise, write_video

from pst_jax.data.crashes import CrashLog, open_log
from pst_jax.data.frames import VideoError
from pst_jax.data.records import Record

ROOT = pathlib.Path(__file__).parents[2]

# Every Python that finds it dies as it opens bomb.mp4, as of a fault in the library that decodes.
CRASHING_DECODER = """
import ctypes
import av
honest = av.open
def open_or_die(file, *args, **kwargs):
    if str(file).endswith("bomb.mp4"):
        ctypes.string_at(0)  # a real fault: this thread does not come to its next line
    return honest(file, *args, **kwargs)
av.open = open_or_die
"""

PROGRAM = """
import contextlib, hashlib, json, pathlib, sys
from pst_jax.data import crashes, loader
from pst_jax.data.records import Record
from pst_jax.data.transforms import ClipSpec

if __name__ == "__main__":
    folder, how, num_workers = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    records = [Record(str(path), 0, path.name) for path in sorted(folder.glob("*.mp4"))]
    spec = ClipSpec(num_frames=2, size_px=16, short_side_px=16)
    log = crashes.open_log(folder / "run", "pyav")
    options = dict(num_workers=num_workers, num_threads=2, crash_log=log)
    if how == "train":
        options |= dict(batch_size=2, num_epochs=2, seed=3)
        batches = loader.train_batches(records, spec, **options)
    else:
        batches = loader.eval_batches(records, spec, batch_size=2, **options)
    digest, problems, masks = hashlib.sha256(), [], []
    with contextlib.closing(batches):
        for batch in batches:
            digest.update(batch["video"].tobytes() + batch["index"].tobytes())
            problems += [str(problem) for problem in batch["problem"] if problem]
            masks += batch["mask"].tolist()
    print(json.dumps({"digest": digest.hexdigest(), "problems": problems, "masks": masks}))
"""


@pytest.fixture
def folder(tmp_path):
    for name in ("a", "b", "bomb", "c", "d"):
        write_video(tmp_path / f"{name}.mp4", frames_of_noise(4, 16, 16))
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path


def run(folder, how, num_workers, is_crashing=True):
    """The exit code and what was printed."""
    site = folder / "site"
    site.mkdir(exist_ok=True)
    (site / "sitecustomize.py").write_text(CRASHING_DECODER if is_crashing else "")
    paths = [str(site), str(ROOT)]
    done = subprocess.run(
        [sys.executable, str(folder / "program.py"), str(folder), how, str(num_workers)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else done.stderr


def test_a_worker_that_dies_is_started_again_without_the_video(folder):
    code, seen = run(folder, "train", num_workers=2)
    assert code == 0
    assert len(seen["problems"]) == 2 and all(seen["masks"])  # once in each of two epochs
    assert all("bomb.mp4: takes its decoder down" in problem for problem in seen["problems"])
    # The clips are those that come where the file is merely unreadable.
    (folder / "bomb.mp4").write_bytes(b"")
    code, other = run(folder, "train", num_workers=0, is_crashing=False)
    assert code == 0 and other["digest"] == seen["digest"]


def test_the_same_command_goes_on_where_a_thread_took_all_down(folder):
    code, _ = run(folder, "eval", num_workers=0)
    assert code == -signal.SIGSEGV
    code, seen = run(folder, "eval", num_workers=0)
    assert code == 0
    assert seen["masks"] == [True, True, False, True, True, False]  # the last is padding
    (problem,) = seen["problems"]
    assert problem.startswith(f"{folder}/bomb.mp4: takes its decoder down")


def test_a_process_that_was_killed_blames_no_video(tmp_path):
    path = write_video(tmp_path / "a.mp4", frames_of_noise(4, 16, 16))
    record = Record(path, 0, "a.mp4")
    program = f"""
import os, signal
from pst_jax.data.crashes import CrashLog
from pst_jax.data.records import Record
with CrashLog({str(tmp_path / "crashes")!r}).reading(Record({path!r}, 0, "a.mp4")):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT)
    assert done.returncode == -signal.SIGKILL
    (mark,) = (tmp_path / "crashes").iterdir()
    assert json.loads(mark.read_text())["path"] == path
    log = open_log(tmp_path, "pyav")
    assert log.reasons == {} and not mark.exists()
    with log.reading(record):
        pass


def test_what_crashed_is_known_to_later_logs_and_a_damaged_list_is_named(tmp_path):
    record = Record("bad.mp4", 0, "bad.mp4")
    known = {"bad.mp4 None 0.0 None": "its process died"}
    (tmp_path / "crashing.json").write_text(json.dumps(known))
    log = CrashLog(str(tmp_path))
    log.settle()
    with pytest.raises(VideoError, match="bad.mp4: its process died"), log.reading(record):
        pass
    with log.reading(Record("bad.mp4", 0, "bad.mp4#2", start_s=1.0)):  # another part
        pass
    (tmp_path / "stray.mark").write_text("")
    for text in ("{", "[1]", "3"):
        (tmp_path / "crashing.json").write_text(text)
        with pytest.raises(ValueError, match="crashing.json is damaged .*: remove it"):
            CrashLog(str(tmp_path)).settle()


def test_what_another_stream_has_found_is_no_riddle_to_this_one(tmp_path):
    """A stream's processes hold the log as it was when they started."""
    path = write_video(tmp_path / "a.mp4", frames_of_noise(4, 16, 16))
    log = CrashLog(str(tmp_path / "crashes"))
    log.settle()
    (tmp_path / "crashes" / "1-1-1.mark").write_text(
        json.dumps({"path": path, "label": 0, "video_id": "a.mp4"})
    )
    log.reasons[f"{path} None 0.0 None"] = "takes its decoder down"
    assert log.settle() == 1
    assert log.settle() == 0  # and the mark is settled
