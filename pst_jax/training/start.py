"""What a run starts from: initial variables or a checkpoint, in a folder that is its own."""

import json
import pathlib
from typing import Any

import jax
from ml_collections import ConfigDict
from tqdm import tqdm

from pst_jax import checkpoint, config_keys, convert, files, sharding
from pst_jax.training.state import TrainState


def initial_variables(config: ConfigDict, model, is_resumed: bool) -> dict[str, Any]:
    """Returns the variables to start from; those of a resumed run only give shapes."""
    size_px = config.clip.size_px
    if config.init_from and not is_resumed:
        variables, changes = convert.init_from_file(
            config.init_from, model, seed=config.seed, image_size=size_px
        )
        for change in changes:
            tqdm.write(f"init_from: {change}")
        return jax.tree.map(jax.numpy.asarray, variables)
    video = jax.numpy.zeros((1, model.num_frames, size_px, size_px, 3))
    init = jax.jit(lambda key: model.init(key, video, train=False))
    return init(jax.random.key(config.seed))


def resume(manager, fresh: TrainState, mesh, num_steps: int) -> TrainState:
    """Restores the newest checkpoint where there is one, and says so."""
    everywhere = sharding.replicated(mesh)
    if manager.latest_step() is None:
        return jax.device_put(fresh, everywhere)
    state = checkpoint.restore(manager, fresh, everywhere)
    done = "; nothing is left to do" if int(state.step) >= num_steps else ""
    tqdm.write(f"continuing after step {int(state.step)} of {num_steps}{done}")
    return state


def check_resumed(workdir: pathlib.Path, resolved: dict[str, Any]) -> None:
    """Raises ValueError where the run already there has another config."""
    file = workdir / "config.json"
    if not file.exists():
        return
    try:
        earlier = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(
            f"{file} is damaged ({error}): restore it, or use another --workdir"
        ) from None
    is_checked = lambda key: not key.startswith(config_keys.FREE)  # noqa: E731
    config_keys.check_same(earlier, resolved, str(workdir), is_checked)


def claim(workdir: pathlib.Path, resolved: dict[str, Any]) -> None:
    """Writes the resolved config."""
    file = workdir / "config.json"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with files.replacing(file) as scratch:
            scratch.write_text(json.dumps(resolved, indent=2) + "\n")
    except OSError as error:
        raise ValueError(f"workdir={str(workdir)!r} cannot be written: {error}") from None
