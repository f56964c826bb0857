"""Checkpoints by orbax: a model's variables, the rest of the training state, and the config.

A checkpoint is complete or does not exist: orbax writes to a temporary directory and renames it.
"""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import traverse_util
from jax.sharding import Sharding

from pst_jax.training.state import TrainState

DIRECTORY = "checkpoints"
# Of a model's variables, each an item of its own; the second only where the model has any.
_COLLECTIONS = ("params", "batch_stats")


def run_directory(path: pathlib.Path) -> pathlib.Path:
    """Returns the directory of a run, named by itself or by that of its checkpoints."""
    return path.parent if path.name == DIRECTORY else path


def is_saved(workdir: pathlib.Path) -> bool:
    """Tells whether a run has saved a step; touches nothing."""
    return any(entry.name.isdigit() for entry in (workdir / DIRECTORY).glob("*"))


def open_manager(
    workdir: pathlib.Path, keep: int = 2, is_read_only: bool = False
) -> ocp.CheckpointManager:
    """Opens the checkpoints of a working directory, which is made where it is missing.

    Args:
        workdir: the run's directory.
        keep: how many of the newest checkpoints are kept.
        is_read_only: whether to leave all as it is, for a run that may be training meanwhile.

    Returns:
        A manager, to be closed.
    """
    options = ocp.CheckpointManagerOptions(
        max_to_keep=None if is_read_only else keep,
        enable_async_checkpointing=False,
        create=not is_read_only,
        cleanup_tmp_directories=not is_read_only,
    )
    handlers = {
        **{name: ocp.StandardCheckpointHandler() for name in (*_COLLECTIONS, "optimizer")},
        "config": ocp.JsonCheckpointHandler(),
    }
    return ocp.CheckpointManager(
        (workdir / DIRECTORY).absolute(), options=options, item_handlers=handlers
    )


def save(manager: ocp.CheckpointManager, state: TrainState, config: dict[str, Any]) -> None:
    """Saves a state under its step, unless that step is saved already."""
    step = int(state.step)
    if step in manager.all_steps():
        return
    arrays = ocp.args.StandardSave
    manager.save(
        step,
        args=ocp.args.Composite(
            **{name: arrays(tree) for name, tree in state.variables.items()},
            optimizer=arrays(state.opt_state),
            config=ocp.args.JsonSave(config),
        ),
    )


def restore(manager: ocp.CheckpointManager, fresh: TrainState, sharding: Sharding) -> TrainState:
    """Restores the newest checkpoint.

    Args:
        manager: of `open_manager`, with at least one checkpoint.
        fresh: a state of the same model and optimizer; its values do not matter.
        sharding: where the arrays are to live.

    Returns:
        The saved state.

    Raises:
        ValueError: if the checkpoint was made by another model.
    """
    step = manager.latest_step()
    _check_variables(manager, step, fresh.variables)
    wanted = {**fresh.variables, "optimizer": fresh.opt_state}
    with _telling_damage(*_of_step(manager, step)):
        saved = manager.restore(step, args=_restoring(wanted, sharding))
    count = jax.device_put(jax.numpy.int32(step), sharding)
    return TrainState(count, saved["params"], saved.get("batch_stats", {}), saved["optimizer"])


def restore_variables(
    workdir: pathlib.Path,
    expected: dict[str, Any] | None = None,
    sharding: Sharding | None = None,
) -> tuple[dict[str, Any], int]:
    """Restores the variables of a run's newest checkpoint.

    Args:
        workdir: the run's directory, or its directory of checkpoints.
        expected: variables (arrays or shapes) that the checkpoint must have; None: whatever it has.
        sharding: where the arrays are to live; None: on the first device.

    Returns:
        Variables for the model's `apply` ("params", and "batch_stats" of a model with BatchNorm),
        and the step after which they were saved.

    Raises:
        ValueError: if there is no checkpoint, or it was made by another model.
    """
    workdir = run_directory(pathlib.Path(workdir))
    if not (workdir / DIRECTORY).is_dir():
        raise ValueError(
            f"{workdir} holds no checkpoints: name the workdir of a run, or train there first, by "
            "train.py"
        )
    with open_manager(workdir, is_read_only=True) as manager:
        step = manager.latest_step()
        if step is None:
            raise ValueError(f"{workdir / DIRECTORY} is empty: train there first, by train.py")
        if expected is not None:
            _check_variables(manager, step, expected)
        with _telling_damage(*_of_step(manager, step)):
            wanted = _saved_variables(manager, step) if expected is None else expected
            restored = manager.restore(step, args=_restoring(wanted, sharding))
    return {name: restored[name] for name in wanted}, step


def save_model(path: pathlib.Path, variables: dict[str, Any], config: dict[str, Any]) -> None:
    """Saves a model alone, laid out as a step of a run is: an item per collection, and a config.

    Args:
        path: a directory that does not exist.
        variables: of the model.
        config: anything that JSON can hold.
    """
    items = {name: ocp.args.StandardSave(tree) for name, tree in variables.items()}
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        checkpointer.save(
            path.absolute(),
            args=ocp.args.Composite(**items, config=ocp.args.JsonSave(config)),
        )


def is_model(path: pathlib.Path) -> bool:
    """Tells whether a directory is an orbax checkpoint: one of a model, a step, or a bare tree."""
    return any((path / name).exists() for name in ("_CHECKPOINT_METADATA", "_METADATA"))


def restore_model(path: pathlib.Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Restores what `save_model` saved, a step of a run, or a bare tree with "params" in it.

    Returns:
        Variables as numpy arrays, and the config that was saved with them; None where none was.

    Raises:
        ValueError: if it is damaged, or holds no parameters.
    """
    path, config = path.absolute(), None
    with _telling_damage(path, "get it again"):
        if (path / "params").is_dir():
            names = [name for name in _COLLECTIONS if (path / name).is_dir()]
            tree = {name: _restore_tree(path / name) for name in names}
            if (path / "config").is_dir():
                with ocp.Checkpointer(ocp.JsonCheckpointHandler()) as checkpointer:
                    config = checkpointer.restore(path / "config")
        else:
            tree = _restore_tree(path)
    if "params" not in tree:
        raise ValueError(f"{path} holds {', '.join(map(str, tree))}, and no params: name a model")
    return {name: tree[name] for name in _COLLECTIONS if name in tree}, config


def _restore_tree(path: pathlib.Path) -> dict[str, Any]:
    """Restores a tree of arrays on the first device, wherever it was saved from."""
    with ocp.StandardCheckpointer() as checkpointer:
        wanted = _placed(checkpointer.metadata(path).item_metadata.tree)
        return jax.tree.map(np.asarray, checkpointer.restore(path, wanted))


@contextlib.contextmanager
def _telling_damage(path: pathlib.Path, remedy: str) -> Iterator[None]:
    """Turns what orbax raises where files are missing or cut off into one line."""
    try:
        yield
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        reason = next(iter(str(error).strip("'\"").splitlines()), type(error).__name__)
        raise ValueError(
            f"{path} cannot be restored ({reason}): it is damaged, or of another kind; {remedy}"
        ) from None


def _of_step(manager: ocp.CheckpointManager, step: int) -> tuple[pathlib.Path, str]:
    return manager.directory / str(step), (
        "move it away to go on from the checkpoint before it, or use the optimizer it was made with"
    )


def _restoring(wanted: dict[str, Any], sharding: Sharding | None) -> ocp.args.Composite:
    """Asks orbax for items by name, shaped like the trees `wanted`."""
    trees = _placed(wanted, sharding)
    items = {name: ocp.args.StandardRestore(tree) for name, tree in trees.items()}
    return ocp.args.Composite(**items)


def _placed(tree: Any, sharding: Sharding | None = None) -> Any:
    """Returns shapes and dtypes of a tree, and where it is to live; None: on the first device."""
    sharding = sharding or jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree
    )


def _saved_variables(manager: ocp.CheckpointManager, step: int) -> dict[str, Any]:
    """Returns the shapes and dtypes of the variables that were saved."""
    saved = manager.item_metadata(step)
    return {name: dict(saved[name]) for name in _COLLECTIONS if name == "params" or name in saved}


def _check_variables(manager: ocp.CheckpointManager, step: int, expected: dict[str, Any]) -> None:
    """Raises ValueError where the saved variables are not those of the expected model."""
    with _telling_damage(*_of_step(manager, step)):
        saved = _shapes(_saved_variables(manager, step))
    wanted = _shapes(expected)
    lines = [f"missing: {path} {wanted[path]}" for path in wanted.keys() - saved.keys()]
    lines += [f"unknown: {path} {saved[path]}" for path in saved.keys() - wanted.keys()]
    lines += [
        f"misshapen: {path} is {saved[path]}, the model has {wanted[path]}"
        for path in wanted.keys() & saved.keys()
        if saved[path] != wanted[path]
    ]
    if lines:
        raise ValueError(
            f"the checkpoint of step {step} in {manager.directory} was made by another model (use "
            "its own config, or --config.init_from to fine-tune it):\n  "
            + "\n  ".join(sorted(lines))
        )


def _shapes(variables: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Returns shapes by path; parameters, of which most speak, without their collection's name."""
    flat = traverse_util.flatten_dict(variables, sep="/")
    return {path.removeprefix("params/"): tuple(leaf.shape) for path, leaf in flat.items()}
