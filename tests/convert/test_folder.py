import json
import subprocess

import jax
import model_folders
import numpy as np
import pytest

from pst_jax.convert import folder


@pytest.fixture(scope="module")
def contents():
    return model_folders.make()


@pytest.fixture
def written(tmp_path, contents):
    folder.write(tmp_path / "model", contents)
    return tmp_path / "model"


@pytest.mark.parametrize("weights", ["safetensors", "orbax"])
def test_a_model_comes_back_bit_for_bit_in_either_form(tmp_path, contents, weights):
    folder.write(tmp_path / "model", contents, weights)
    found = folder.read(tmp_path / "model")
    assert (tmp_path / "model" / folder.WEIGHTS[weights]).exists()
    jax.tree.map(np.testing.assert_array_equal, found.variables, contents.variables)
    assert found.make_model() == contents.make_model()
    same = ("arguments", "preprocess", "labels", "card")
    assert all(getattr(found, name) == getattr(contents, name) for name in same)
    assert not [file for file in tmp_path.iterdir() if file.name != "model"]


def test_the_sums_are_those_of_sha256sum(written):
    subprocess.run(["sha256sum", "--check", "--strict", folder.SUMS], cwd=written, check=True)


@pytest.mark.parametrize("weights", ["safetensors", "orbax"])
def test_a_flipped_byte_in_any_file_is_told_by_its_name(tmp_path, contents, weights):
    path = tmp_path / "model"
    folder.write(path, contents, weights)
    files = [file for file in path.rglob("*") if file.is_file()]
    assert len(files) > 5
    for file in files:
        whole = file.read_bytes()
        at = len(whole) // 2
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(ValueError, match=r"SHA256SUMS"):
            folder.read(path)
        file.write_bytes(whole)
    folder.read(path)


@pytest.mark.parametrize("name", ["config.json", "labels.txt", "model.safetensors", "SHA256SUMS"])
def test_a_missing_file_is_told_by_its_name(written, name):
    (written / name).unlink()
    with pytest.raises(ValueError, match=name):
        folder.read(written)


def test_weights_that_nobody_signed_are_not_read(written):
    (written / "model.orbax").mkdir()
    (written / "model.orbax" / "params").write_bytes(b"x")
    with pytest.raises(ValueError, match="model.orbax/params is not in"):
        folder.read(written)


def test_a_note_beside_is_no_matter(written):
    (written / "NOTES").write_text("mine")
    folder.read(written)


def sign(path, name):
    """Puts the sum of a changed file into the list, as its message says."""
    sums = (path / folder.SUMS).read_text().splitlines()
    kept = [line for line in sums if not line.endswith(f"  {name}")]
    digest = subprocess.run(
        ["sha256sum", name], cwd=path, check=True, capture_output=True, text=True
    )
    (path / folder.SUMS).write_text("\n".join([*kept, digest.stdout.strip()]) + "\n")


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config.json", {"format": 2}, "format 2"),
        ("config.json", {"model": {"name": "os.system"}}, "unknown"),
        ("config.json", {"model": {"name": "pst_testing", "num_classes": 6}}, "misshapen: head"),
        ("config.json", {"model": {"name": "pst_testing", "embed_dim": 32}}, "misshapen"),
        ("config.json", {"model": 3}, "describe"),
        ("preprocess.json", {"num_frames": 16}, "16 frames"),
        ("preprocess.json", {"crops": 3}, "crops"),
        ("preprocess.json", {"std": [0, 1, 1]}, "std"),
        ("preprocess.json", {"short_side_px": 31}, "short_side_px"),
    ],
)
def test_a_file_that_does_not_fit_the_others_is_one_line(written, name, change, message):
    values = json.loads((written / name).read_text())
    (written / name).write_text(json.dumps(values | change))
    sign(written, name)
    with pytest.raises(ValueError, match=message):
        folder.read(written)


def test_labels_can_be_changed_and_signed(written):
    (written / "labels.txt").write_text("a\nb\nc\nd\ne\n")
    sign(written, "labels.txt")
    assert folder.read(written).labels == tuple("abcde")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (("a", "b"), "2 labels"),
        (("a", "b", "b", "c", "d"), "twice"),
        (("a", "b", "\x1b[31m", "c", "d"), "printed"),
        (("a", " ", "b", "c", "d"), "printed"),
    ],
)
def test_labels_that_would_mislead_are_refused(contents, labels, message):
    with pytest.raises(ValueError, match=message):
        model_folders.make(labels=labels)


def test_nothing_is_overwritten_and_nothing_is_left_of_a_failure(tmp_path, contents, written):
    with pytest.raises(ValueError, match="exists"):
        folder.write(written, contents)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file is no folder"):
        folder.write(tmp_path / "file" / "model", contents)
    (tmp_path / "file").unlink()
    broken = model_folders.make(card="\ud800")  # no UTF-8
    with pytest.raises(UnicodeEncodeError):
        folder.write(tmp_path / "other", broken)
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_the_kinetics_labels_come_with_the_library():
    labels = folder.read_labels("kinetics400")
    folder.check_labels(labels, 400)
    assert (labels[0], labels[6], labels[-1]) == ("abseiling", "arm wrestling", "zumba")
    assert list(labels) == sorted(labels)


def test_another_list_is_named_by_its_file(tmp_path):
    with pytest.raises(ValueError, match="kinetics400"):
        folder.read_labels("something")
    (tmp_path / "utf16").write_bytes("a\nb".encode("utf-16"))
    with pytest.raises(ValueError, match="utf16"):
        folder.read_labels(tmp_path / "utf16")
