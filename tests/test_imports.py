"""Who may import whom: ops <- layers <- models <- the rest; and what needs which package."""

import ast
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
FILES = sorted((ROOT / "pst_jax").rglob("*.py"))

# Part -> parts of pst_jax that it may import besides itself; "" is what lies at the top.
ALLOWED = {
    "ops": set(),
    "layers": {"ops"},
    "models": {"ops", "layers"},
    # The commands alone need more than files, and what draws batches is imported by none but one.
    "data": {"files", "command_line", "explain"},
    "convert": {
        "__version__",
        "ops",
        "layers",
        "models",
        "data",
        "evaluation",
        "checkpoint",
        "files",
        "command_line",
    },
    "training": {
        "ops",
        "models",
        "data",
        "convert",
        "evaluation",
        "checkpoint",
        "sharding",
        "experiment",
        "config_keys",
        "files",
    },
    "evaluation": {
        "models",
        "data",
        "convert",
        "training",
        "checkpoint",
        "sharding",
        "experiment",
        "config_keys",
        "files",
        "huge_pages",
    },
    "explain": {"ops", "data", "evaluation", "experiment", "config_keys", "files"},
    "predict": {
        "ops",
        "models",
        "data",
        "convert",
        "evaluation",
        "files",
        "command_line",
    },
    "files": set(),
    "checkpoint": {"training"},
    "experiment": {"ops", "data", "models", "training", "evaluation", "config_keys"},
    "config_keys": {"models", "training"},
    "sharding": set(),
    "huge_pages": set(),
    "command_line": {"files", "huge_pages"},
    "__init__": {"models", "ops", "convert", "predict"},
}
# Commands that may import more than the part they stand in: they time what it feeds.
COMMANDS = {"data/benchmark.py": {"evaluation", "jax"}}
# Package -> the only parts that may import it.
ONLY = {
    "orbax": {"checkpoint"},
    "optax": {"training"},
    "grain": {"data"},
    "av": {"data"},
    "cv2": {"data", "predict"},
    "safetensors": {"convert"},
    "ml_collections": {"training", "evaluation", "experiment"},
    "tensorboardX": {"training"},
    "jinja2": {"evaluation", "explain"},
    "array_record": {"data"},
    "msgpack": {"data"},
    "tensorflow_datasets": {"data"},
}


def part_of(file):
    relative = file.relative_to(ROOT / "pst_jax")
    return relative.parts[0].removesuffix(".py")


def imports(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_the_arrows_hold(file):
    part = part_of(file)
    besides = COMMANDS.get(str(file.relative_to(ROOT / "pst_jax")), set())
    for name in imports(file):
        package, *rest = name.split(".")
        if package == "pst_jax" and rest:
            assert rest[0] in {part} | ALLOWED[part] | besides, f"{part} imports {name}"
        assert part in ONLY.get(package, {part}), f"{part} imports {name}"
        if part == "ops":
            assert package != "flax", "ops is free of flax"
        if part == "data":
            assert package not in {"jax", "flax"} - besides, "data workers need no jax"


def test_configs_import_ml_collections_and_common_alone():
    for file in (ROOT / "configs").rglob("*.py"):
        for name in imports(file):
            assert name.split(".")[0] == "ml_collections" or name == "configs.common", file


def test_models_cost_and_conversion_need_no_data_packages(tmp_path):
    program = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {'grain', 'av', 'cv2', 'ml_collections', 'tensorboardX',
                                  'tensorflow_datasets', 'matplotlib', 'orbax'}:
            raise ImportError('blocked: ' + name)
sys.meta_path.insert(0, Block())
import pst_jax
from pst_jax.evaluation import cost
model = pst_jax.create_model('pst_testing', 3)
pst_jax.convert.init_from_file
print(cost.count(model, 32).params, pst_jax.convert.from_torch.__name__)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.split()[1] == "from_torch"


def test_data_workers_import_no_model():
    program = (
        "import sys, pst_jax.data.decode, pst_jax.data.motion; "
        "print('jax' in sys.modules or 'flax' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"
