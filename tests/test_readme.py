"""The README is true: its tree, its Python, its tables."""

import dataclasses
import pathlib
import re

import model_folders
import pytest
from video_files import frames_of_noise, write_video

import pst_jax
from pst_jax.convert import folder
from pst_jax.models.schedules import METHODS, options_of
from pst_jax.models.variants import VARIANTS

ROOT = pathlib.Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


def listed_files():
    """Paths in the README's tree: a name per line, indented below its folder."""
    tree = re.search(r"## Where things are\n\n```\n(.*?)```", TEXT, re.S).group(1)
    folders, found = {}, set()
    for indent, name in re.findall(r"^( *)(\S+)", tree, re.M):
        depth = len(indent)
        folders = {above: folder for above, folder in folders.items() if above < depth}
        if name.endswith("/"):
            folders[depth] = name
        else:
            found.add("".join(folders.values()) + name)
    return found


def test_the_tree_has_a_line_for_every_module_and_no_other():
    paths = [ROOT / "Makefile", *ROOT.glob("*.py"), *ROOT.glob("requirements*.txt")]
    paths += [*(ROOT / "configs").rglob("*.py"), *(ROOT / "pst_jax").rglob("*.py")]
    real = {str(path.relative_to(ROOT)) for path in paths if path.name != "__init__.py"}
    assert listed_files() == real


def test_nothing_is_left_to_fill_in():
    assert "RESULTS_" not in TEXT


def test_names_of_models_mixers_and_overrides_are_all_there():
    names = set(re.findall(r"^\| (\w+) +\|", TEXT, re.M)) | set(re.findall(r"`(\w+)`", TEXT))
    assert not set(pst_jax.list_models()) - names
    assert not set(METHODS) - names
    families = {variant.family for variant in VARIANTS.values()}
    attributes = {field.name for family in families for field in dataclasses.fields(family)}
    own = {"num_classes", "bias_frames", "parent", "name"}
    assert not (attributes | options_of("+".join(METHODS))) - own - names


@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    folder.write(tmp_path / "models" / "k400", model_folders.make())
    write_video(tmp_path / "clip.mp4", frames_of_noise(20, 40, 56))
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.S)
    assert len(blocks) == 3
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
