"""Files appear whole or not at all, and nobody else's is touched."""

import os

import pytest

from pst_jax import files


def test_no_file_beside_it_is_touched_and_none_is_left(tmp_path):
    path = tmp_path / "out.json"
    for name in ("out.json.tmp", ".out.json.tmp"):
        (tmp_path / name).write_text("the user's")
    with files.replacing(path) as one, files.replacing(path) as other:  # as of two threads
        assert len({one, other, path}) == 3
        one.write_text("first")
        other.write_text("second")
    assert path.read_text() == "first"  # its block ended last
    path.unlink()
    assert [file.read_text() for file in tmp_path.iterdir()] == ["the user's"] * 2


def test_a_body_that_fails_leaves_what_there_was(tmp_path):
    path = tmp_path / "out.json"
    path.write_text("before")
    with pytest.raises(ZeroDivisionError), files.replacing(path) as scratch:
        scratch.write_text("half")
        raise ZeroDivisionError
    assert [file.read_text() for file in tmp_path.iterdir()] == ["before"]


def test_names_that_cannot_be_written_are_refused(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    files.check_writable(tmp_path / "file")
    for name in (".", "file/out.json", "none/out.json"):
        with pytest.raises(ValueError, match="a folder that exists and can be written to"):
            files.check_writable(tmp_path / name)
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(ValueError, match="cannot be written"):
        files.check_writable(tmp_path / "out.json")


def test_names_are_shown_whatever_they_are():
    assert files.printable("saut à la perche.mp4") == "saut à la perche.mp4"
    assert files.printable("a\n\x1b[2J\udcff.mp4") == r"a\n\x1b[2J\udcff.mp4"
