"""What `record` writes; what needs PyTorch is skipped where there is none."""

import ast
import pathlib
import subprocess
import sys

import golden_files
import numpy as np
import pytest

import pst_jax
from pst_jax import convert
from pst_jax.convert import parity, record

ROOT = pathlib.Path(__file__).parents[2]
KINDS = ["vit", "visformer", "pst"]


def test_recording_needs_no_jax_and_no_new_python():
    program = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in {'jax', 'flax', 'einops', 'torch', 'tabulate'}:
            raise ImportError('blocked: ' + name)
sys.meta_path.insert(0, Block())
import pst_jax.convert.record
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)
    ast.parse(pathlib.Path(record.__file__).read_text(), feature_version=(3, 8))


@pytest.fixture
def networks():
    pytest.importorskip("torch")
    from convert import torch_networks

    return torch_networks


@pytest.mark.parametrize("kind", KINDS)
def test_recording_again_gives_the_carried_arrays(kind, networks, tmp_path):
    network, video = networks.make(kind, seed=0)
    record.record(network, video, tmp_path / "again.npz", networks.RUNS[kind])
    carried = golden_files.load(f"torch/{kind}_recorded")
    for name, value in network.state_dict().items():
        np.testing.assert_array_equal(carried[f"sd/{name}"], value.numpy(), err_msg=name)
    again = parity.read_reference(tmp_path / "again.npz")
    rest = {name for name in carried if name != "config" and not name.startswith("sd/")}
    assert again.keys() == rest
    for name, value in again.items():
        np.testing.assert_allclose(value, carried[name], rtol=0, atol=3e-5, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_another_network_of_pytorch_is_met_in_every_layer(kind, networks, tmp_path):
    network, video = networks.make(kind, seed=1)
    record.record(network, video, tmp_path / "other.npz", networks.RUNS[kind])
    config = networks.CONFIGS[kind]
    model = pst_jax.create_model(config["variant"], config["num_classes"], **config["overrides"])
    released = {name: value.numpy() for name, value in network.state_dict().items()}
    variables = convert.from_torch(released, model)
    lines = parity.compare(model, variables, parity.read_reference(tmp_path / "other.npz"))
    worst = max(lines, key=lambda line: line.relative)
    print(f"\n{kind}: {worst.layer} {worst.relative:.1e}, logits {lines[-1].max_abs:.1e}")
    assert worst.relative < 5e-6


def test_recording_leaves_the_network_as_it_was(networks, tmp_path):
    network, video = networks.make("visformer", seed=0)
    network.train()
    network.stage1.training = False
    before = {name: value.clone() for name, value in network.state_dict().items()}
    run = networks.RUNS["visformer"]
    record.record(network, video, tmp_path / "one.npz", run, layers=r"stage1\.\d")
    assert network.training and not network.stage1.training
    assert not any(part._forward_hooks for part in network.modules())
    for name, value in network.state_dict().items():
        assert (value == before[name]).all(), name
    layers = [name for name in np.load(tmp_path / "one.npz") if "layer/" in name]
    assert layers == ["layer/stage1.0", "layer/stage1.1"]


def test_what_cannot_be_recorded_is_refused(networks, tmp_path):
    network, video = networks.make("vit", seed=0)
    run, path = networks.RUNS["vit"], tmp_path / "none.npz"
    with pytest.raises(ValueError, match="video is uint8"):
        record.record(network, video.astype(np.uint8), path, run)
    with pytest.raises(ValueError, match="no module whose name fits the regex layers='encoder'"):
        record.record(network, video, path, run, layers="encoder")
    with pytest.raises(ValueError, match="patch_embed runs more than once"):
        record.record(network, video, path, lambda m, v: run(m, v) and run(m, v))
    with pytest.raises(ValueError, match="run returned 'score', Tensor"):
        record.record(network, video, path, lambda m, v: {"score": run(m, v)["logits"]})
    with pytest.raises(ValueError, match=r"logits \[6, 5\] for 2 clips"):
        record.record(network, video, path, lambda m, v: run(m, v)["frame_logits"].flatten(0, 1))
    assert not path.exists()
