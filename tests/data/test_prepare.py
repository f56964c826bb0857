"""The command prepares everything that can be read, goes on where it stopped, and tells all."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import layouts
import pytest
from video_files import frames_of_noise, write_video

from pst_jax.data import prepare as command
from pst_jax.data.frames import VideoError, as_it_is
from pst_jax.data.index import read_dataset, read_index
from pst_jax.data.pack import Settings
from pst_jax.data.prepare import prepare
from pst_jax.data.records import fingerprint
from pst_jax.data.sources import open_record

ROOT = pathlib.Path(__file__).parents[2]
TWO = Settings(videos_per_shard=2)


@pytest.fixture
def source(tmp_path):
    """Seven videos of two classes, one of them broken; three shards of two and one of one."""
    for number in range(6):
        path = tmp_path / "source" / "ab"[number % 2] / f"{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path, frames_of_noise(10 + number, 32, 48, number))
    (tmp_path / "source" / "b" / "broken.mp4").write_bytes(b"no video")
    return tmp_path / "source"


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "pst_jax.data.prepare", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        **options,
    )


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def open_all(listing):
    """Of each record: its number of frames, or None where it cannot be read."""
    counts = []
    for record in listing.records:
        try:
            with open_record(record) as video:
                counts.append(len(video.read(range(video.num_frames), as_it_is)))
        except VideoError:
            counts.append(None)
    return counts


@pytest.mark.parametrize("form", ["h264", "jpeg"])
def test_the_command_prepares_what_can_be_read_and_tells_the_rest(form, source, tmp_path):
    target, report = tmp_path / "target", tmp_path / "report.json"
    arguments = (source, target, "--format", form, "--videos_per_shard", 2, "--num_workers", 2)
    result = run(*arguments, "--verify", "--json", report)
    assert result.returncode == 1, result.stderr
    assert "6 of 7 videos are prepared" in result.stdout and "UNREADABLE: 1" in result.stdout
    assert "b/broken.mp4: is not a video" in result.stdout and "Traceback" not in result.stderr
    summary = json.loads(report.read_text())[""]
    assert (summary["num_videos"], summary["num_done"], summary["num_frames"]) == (7, 7, 75)
    files = sum(file.stat().st_size for file in source.glob("*/?.mp4"))
    assert summary["bytes_in"] == files and summary["bytes_out"] == summary["bytes_prepared"] > 0
    (unreadable,) = summary["unreadable"]
    assert unreadable["video_id"] == "b/broken.mp4" and not summary["damaged"]
    raw, prepared = read_index(source), read_index(target)
    assert fingerprint(prepared.records) == fingerprint(raw.records)
    assert prepared.class_names == raw.class_names == ("a", "b")
    assert open_all(prepared) == open_all(raw) == [10, 12, 14, 11, 13, 15, None]
    shards = {path.name for path in target.glob("*.array_record")}
    assert shards == {f"{number:05d}-of-00004.array_record" for number in range(4)}
    line = json.loads((target / "manifest.jsonl").read_text().splitlines()[3])
    assert (line["width"], line["height"], line["fps"], line["record"]) == (
        48,
        32,
        16.0,
        line["record"],
    )


def test_every_split_is_prepared(source, tmp_path):
    (tmp_path / "both").mkdir()
    for split in ("train", "val"):
        (tmp_path / "both" / split).symlink_to(source)
    summaries = prepare(str(tmp_path / "both"), tmp_path / "target", TWO)
    assert set(summaries) == {"train", "validation"}
    assert set(read_dataset(tmp_path / "target")) == {"train", "validation"}


def test_running_it_again_makes_what_is_not_there(source, tmp_path):
    target = tmp_path / "target"
    first = prepare(str(source), target, TWO)[""]
    whole = contents(target)
    again = prepare(str(source), target, TWO)[""]
    assert (first.num_done, again.num_done) == (7, 0)
    assert again.num_prepared == 6 and len(again.unreadable) == 1
    assert contents(target) == whole
    (target / "00001-of-00004.array_record").unlink()
    (target / "manifest.jsonl").unlink()
    (target / ".manifest.jsonl.1.aa.tmp").write_text("of a run that was killed")
    assert prepare(str(source), target, TWO, num_workers=2)[""].num_done == 2
    assert contents(target) == whole


def test_a_run_that_is_killed_is_gone_on_with_to_the_same_bytes(source, tmp_path):
    for number in range(8, 40):
        write_video(source / "a" / f"{number}.mp4", frames_of_noise(40, 64, 96, number))
    prepare(str(source), tmp_path / "unbroken", TWO, num_workers=2)
    target = tmp_path / "target"
    program = [sys.executable, "-m", "pst_jax.data.prepare", source, target]
    program += ["--videos_per_shard", "2", "--num_workers", "2"]
    for num_shards in (1, 4, 9):
        killed = subprocess.Popen(program, cwd=ROOT, stderr=subprocess.DEVNULL)
        deadline_s = time.monotonic() + 60
        while len(list(target.glob("*.array_record"))) < num_shards:
            assert killed.poll() is None and time.monotonic() < deadline_s
            time.sleep(0.01)
        killed.kill()
        assert killed.wait() == -signal.SIGKILL
        with pytest.raises(ValueError):
            read_index(target)
    before = contents(target)
    assert run(*program[3:]).returncode == 1
    assert contents(target) == contents(tmp_path / "unbroken")
    for name in before:
        assert name.endswith(".tmp") or contents(target)[name] == before[name]


def test_a_video_that_takes_its_process_down_or_too_long_is_told(source, tmp_path, monkeypatch):
    # When it starts, as these processes do, Python runs a sitecustomize.py that is on its path.
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, time, pst_jax.data.pack as pack\n"
        "whole = pack.pack\n"
        "def fatal(record, settings):\n"
        "    if record.video_id == 'a/2.mp4': os.kill(os.getpid(), signal.SIGSEGV)\n"
        "    if record.video_id == 'b/3.mp4': time.sleep(100)\n"
        "    return whole(record, settings)\n"
        "pack.pack = fatal\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    summary = prepare(str(source), tmp_path / "target", TWO, num_workers=2, timeout_s=3)[""]
    reasons = {entry["video_id"]: entry["reason"] for entry in summary.unreadable}
    assert "SIGSEGV" in reasons["a/2.mp4"] and reasons["b/3.mp4"] == "took longer than 3 s"
    assert set(reasons) == {"a/2.mp4", "b/3.mp4", "b/broken.mp4"}
    assert open_all(read_index(tmp_path / "target")) == [10, None, 14, 11, None, 15, None]


def test_a_folder_of_something_else_is_refused(source, tmp_path):
    target = tmp_path / "target"
    prepare(str(source), target, TWO)
    with pytest.raises(ValueError, match="other crf=21 than asked for now .crf=18.: give another"):
        prepare(str(source), target, Settings(crf=18, videos_per_shard=2))
    (source / "a" / "new.mp4").write_bytes(b"")
    with pytest.raises(ValueError, match="prepared with other source='7:.*delete this one"):
        prepare(str(source), target, TWO)
    (source / "a" / "new.mp4").unlink()
    (source / "c").mkdir()
    with pytest.raises(ValueError, match="other class names"):
        prepare(str(source), target, TWO)
    (tmp_path / ".notes.tmp").write_text("not ours")
    with pytest.raises(ValueError, match="holds other files"):
        prepare(str(source), tmp_path, TWO)
    assert (tmp_path / ".notes.tmp").exists() and not (tmp_path / "dataset.json").exists()


def test_parts_of_other_times_are_another_list(source, tmp_path):
    for end, message in ((0.5, None), (0.4, "other parts=")):
        (source / "list.csv").write_text(f"path,label,start,end\na/0.mp4,0,0,{end}\n")
        if message is None:
            prepare(str(source / "list.csv"), tmp_path / "target", TWO)
            assert open_all(read_index(tmp_path / "target")) == [8]
        else:
            with pytest.raises(ValueError, match=message):
                prepare(str(source / "list.csv"), tmp_path / "target", TWO)


def test_targets_that_cannot_be_used_are_refused(source, tmp_path):
    with pytest.raises(ValueError, match="must be a local folder"):
        prepare(str(source), "gs://bucket/target", TWO)
    for inside in (source, source / "a" / "target"):
        with pytest.raises(ValueError, match="lies in SRC.*give a folder elsewhere"):
            prepare(str(source), inside, TWO)
    with command._locked(source):
        with pytest.raises(ValueError, match="is being prepared: wait for the other"):
            with command._locked(source):
                pass


def test_verify_finds_what_was_damaged_since(source, tmp_path):
    target = tmp_path / "target"
    prepare(str(source), target, TWO)
    path = target / "00000-of-00004.array_record"
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    damaged = prepare(str(source), target, TWO, verify=True)[""].damaged
    assert [entry["video_id"] for entry in damaged] == ["a/0.mp4"]
    assert "damaged" in damaged[0]["reason"] and damaged[0]["path"] == str(path)
    path.unlink()
    assert not prepare(str(source), target, TWO, verify=True)[""].damaged


def test_images_without_times_are_prepared(tmp_path):
    from layouts import write_images

    write_images(tmp_path / "source" / "a" / "clip", frames_of_noise(20, 40, 48))
    (tmp_path / "source" / "list.csv").write_text("a/clip,0\n")
    for settings in (TWO, Settings("jpeg", gop=None, crf=None, quality=90)):
        target = tmp_path / settings.format
        prepare(str(tmp_path / "source" / "list.csv"), target, settings)
        assert open_all(read_index(target)) == [20]
        line = json.loads((target / "manifest.jsonl").read_text())
        assert line["fps"] is None and line["num_frames"] == 20


@pytest.mark.parametrize(
    "wrong, message",
    [
        (["--crf", "20", "--format", "jpeg"], "--crf is of --format h264"),
        (["--quality", "90"], "--quality of jpeg"),
        (["--crf", "52"], r"must be an integer in \[0, 51\]"),
        (["--json", "missing/report.json"], "cannot be written"),
    ],
)
def test_wrong_flags_are_one_line(wrong, message, tmp_path):
    result = run(tmp_path / "missing", tmp_path / "target", *wrong)
    assert result.returncode and "Traceback" not in result.stderr
    assert re.search(message, result.stderr), result.stderr


def test_a_source_that_is_not_there_is_one_line(tmp_path):
    result = run(tmp_path / "missing", tmp_path / "target", env=os.environ)
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
    assert "does not exist" in result.stderr


def test_a_missing_video_is_taken_up_when_it_has_come(tmp_path):
    layouts.kinetics(tmp_path / "raw")
    first = prepare(str(tmp_path / "raw"), tmp_path / "small", Settings(videos_per_shard=5))
    assert len(first["train"].missing) == 1 and not first["train"].unreadable
    listing = read_index(tmp_path / "small" / "train")
    (missing,) = listing.missing
    assert len(listing.present) == 8
    name = f"{missing.video_id}.mp4"
    write_video(tmp_path / "raw" / "train" / name, frames_of_noise(8, 32, 40))
    again = prepare(str(tmp_path / "raw"), tmp_path / "small", Settings(videos_per_shard=5))
    assert not again["train"].missing and again["train"].num_done == 4  # its shard alone
    assert read_index(tmp_path / "small" / "train").missing == ()
    open_all(read_index(tmp_path / "small" / "train"))
