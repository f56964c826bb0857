"""The training loop: data in, steps, metrics and checkpoints out, from where it stopped."""

import contextlib
import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.sharding import Mesh
from ml_collections import ConfigDict
from tqdm import tqdm

from pst_jax import checkpoint, experiment, sharding
from pst_jax.data import crashes, loader
from pst_jax.data.crashes import CrashLog
from pst_jax.evaluation import views
from pst_jax.training import optim, precise_bn, start
from pst_jax.training.signals import stop_signals
from pst_jax.training.state import TrainState
from pst_jax.training.step import make_predict, make_train_step
from pst_jax.training.window import Window
from pst_jax.training.writer import MetricWriter, UnreadableList

DONE, PREEMPTED = 0, 75


def train(config: ConfigDict, workdir: str | os.PathLike) -> int:
    """Trains what a config describes, or goes on with it.

    Writes to `workdir`: config.json, metrics.jsonl, tensorboard/, checkpoints/, crashes/, and
    unreadable.txt if videos had to be replaced. An error in the data is raised after saving
    the steps done; a run that saved none may be started again with another config.

    Args:
        config: resolved, see `configs/common.py`.
        workdir: made where it is missing; one run each.

    Returns:
        0 when the last step is done, 75 when a signal stopped it (after saving).

    Raises:
        ValueError: if the config, the data or an earlier run in `workdir` do not fit.
    """
    if not os.fspath(workdir):
        raise ValueError("--workdir is empty: name a folder for the run")
    workdir = pathlib.Path(workdir)
    built = experiment.build(config)
    mesh = sharding.make_mesh()
    num_clips = len(built.train_records) * built.clip.num_repeats
    steps_per_epoch = max(num_clips // config.train.batch_size, 1)
    num_steps = loader.num_train_steps(
        num_clips, config.train.batch_size, math.ceil(config.train.num_epochs)
    )
    num_steps = min(num_steps, math.floor(config.train.num_epochs * steps_per_epoch))
    _check_sizes(config, mesh, len(built.train_records), num_steps)
    schedule = experiment.build_schedule(config, num_steps, steps_per_epoch)
    resolved = json.loads(config.to_json())
    resolved |= {"fingerprints": built.fingerprints, "class_names": built.class_names}
    is_resumed = checkpoint.is_saved(workdir)
    if is_resumed:
        start.check_resumed(workdir, resolved)
    variables = start.initial_variables(config, built.model, is_resumed)
    _check_statistics(config, variables)
    optimizer = experiment.build_optimizer(config, schedule, variables["params"])
    start.claim(workdir, resolved)
    crash_log = crashes.open_log(workdir, built.clip.decoder)
    with contextlib.ExitStack() as stack:
        manager = stack.enter_context(checkpoint.open_manager(workdir))
        state = start.resume(manager, TrainState.create(variables, optimizer), mesh, num_steps)
        run = _Run(
            config=config,
            resolved=resolved,
            workdir=workdir,
            built=built,
            mesh=mesh,
            manager=manager,
            writer=stack.enter_context(MetricWriter(workdir, int(state.step))),
            unreadable=UnreadableList(workdir, int(state.step)),
            crash_log=crash_log,
            train_step=make_train_step(
                built.model,
                optimizer,
                mesh,
                label_smoothing=config.optim.label_smoothing,
                seed=config.seed,
                accumulate=config.train.accumulate,
                normalise=built.normalise,
                augmentation=built.augmentation,
            ),
            predict=make_predict(built.model, mesh, normalise=built.normalise),
            measure=precise_bn.make_measure(
                built.model, mesh, normalise=built.normalise, augmentation=built.augmentation
            ),
            schedule=schedule,
            num_steps=num_steps,
            steps_per_epoch=steps_per_epoch,
            eval_every_steps=round(config.train.eval_every_epochs * steps_per_epoch),
            is_stopping=stack.enter_context(stop_signals()),
        )
        return run(state)


@dataclasses.dataclass
class _Run:
    """The parts of a run that stay the same from step to step, and what it counts."""

    config: ConfigDict
    resolved: dict[str, Any]
    workdir: pathlib.Path
    built: experiment.Experiment
    mesh: Mesh
    manager: Any
    writer: MetricWriter
    unreadable: UnreadableList
    crash_log: CrashLog
    train_step: Callable
    predict: Callable
    measure: Callable
    schedule: optim.Schedule
    num_steps: int
    steps_per_epoch: int
    eval_every_steps: int
    is_stopping: Callable[[], bool]
    newest: tuple[int, TrainState, dict[str, jax.Array]] | None = None

    def __call__(self, state: TrainState) -> int:
        """Runs from `state` to the last step, or to a signal."""
        try:
            return self._train(state)
        except ValueError:  # with the data: the steps done are not lost
            self._save()
            raise

    def _train(self, state: TrainState) -> int:
        config, first = self.config, int(state.step)
        batches = loader.train_batches(
            self.built.train_records,
            self.built.clip,
            batch_size=config.train.batch_size,
            num_epochs=math.ceil(config.train.num_epochs),
            seed=config.seed,
            start_step=first,
            num_threads=config.data.num_threads,
            num_workers=config.data.num_workers,
            crash_log=self.crash_log,
        )
        window = Window()
        bar = tqdm(total=self.num_steps, initial=first, unit="step", disable=None)
        with bar, contextlib.closing(batches):
            for step in range(first + 1, self.num_steps + 1):
                batch = window.wait_for(batches)
                self._count_replaced(step, batch.pop("problem"))
                del batch["index"]
                state, sums = self.train_step(state, sharding.shard_batch(batch, self.mesh))
                state = self._with_precise_statistics(step, state)
                self.newest = step, state, sums
                window.add(sums)
                bar.update()
                if step % config.train.log_every_steps == 0 or step == self.num_steps:
                    _check_finite(step, sums)
                    self._log(step, window, bar)
                    window = Window()
                is_last = step == self.num_steps
                # Ahead of saving: what is killed in between is done again, and not left out.
                if is_last or self.eval_every_steps and step % self.eval_every_steps == 0:
                    self._evaluate(step, state)
                is_due = step % config.train.checkpoint_every_steps == 0
                is_stopping = self.is_stopping()
                if is_last or is_due or is_stopping:
                    self._save()
                if is_stopping and not is_last:
                    logging.warning("stopped after step %d, saved; rerun to go on", step)
                    return PREEMPTED
        return DONE

    def _with_precise_statistics(self, step: int, state: TrainState) -> TrainState:
        """Measures the running statistics anew after an epoch, where the config asks for it."""
        config = self.config
        is_due = step == self.num_steps or step % self.steps_per_epoch == 0
        if not (config.train.precise_bn_batches and is_due):
            return state
        self.newest = None  # should this fail: a saved state that lacks it would never get it
        batches = precise_bn.stream(
            self.built.train_records,
            self.built.clip,
            # What BatchNorm sees at once in training.
            batch_size=config.train.batch_size // config.train.accumulate,
            num_batches=config.train.precise_bn_batches,
            seed=config.seed,
            step=step,
            num_threads=config.data.num_threads,
            num_workers=config.data.num_workers,
            crash_log=self.crash_log,
        )
        rng = jax.random.fold_in(jax.random.key(config.seed), step)
        with contextlib.closing(batches):
            batch_stats = precise_bn.measure_all(
                self.measure, state.variables, batches, self.mesh, rng
            )
        return state.replace(batch_stats=batch_stats)

    def _save(self) -> None:
        """Saves the state after the newest step, unless a bad gradient has spoiled it."""
        if self.newest is not None:
            step, state, sums = self.newest
            _check_finite(step, sums)
            checkpoint.save(self.manager, state, self.resolved)

    def _log(self, step: int, window: Window, bar: tqdm) -> None:
        """Writes and shows what happened since the last time."""
        values = window.close() | {"learning_rate": float(self.schedule(step - 1))}
        values["num_replaced"] = self.unreadable.count
        self.writer.write(step, "train", values)
        text = (
            "loss {loss:.3f}, top-1 {top1:.1%}, {clips_per_s:.0f} clips/s, waits for data "
            "{data_wait_share:.0%}".format(**values)
        )
        if self.unreadable.count:
            text += f", {self.unreadable.count} clips replaced, see {self.unreadable.path}"
        bar.set_postfix_str(text)
        if bar.disable:  # not a terminal
            tqdm.write(f"step {step} of {self.num_steps}: {text}")

    def _count_replaced(self, step: int, problems: np.ndarray) -> None:
        """Lists replaced videos, and stops the run where there are too many."""
        found = [str(problem) for problem in problems if problem]
        if not found:
            return
        self.unreadable.add(step, found)
        allowed, num_seen = self.config.data.max_unreadable_share, step * len(problems)
        # One in the first few clips is no share yet: judge by 1,000, or by all where that is fewer.
        num_judged = max(num_seen, min(1000, self.num_steps * len(problems)))
        if self.unreadable.count > allowed * num_judged:
            raise ValueError(
                f"{self.unreadable.count} of {num_seen} clips could not be read and were replaced, "
                f"more than config.data.max_unreadable_share={allowed}: mend the files listed in "
                f"{self.unreadable.path} (python -m pst_jax.data.inspect finds all such), or raise "
                f"the share, and run the same command again; the last: {found[-1]}"
            )

    def _evaluate(self, step: int, state: TrainState) -> None:
        """Evaluates one view of each test video, and writes the figures."""
        result = views.predict_all(
            self.predict,
            state.variables,
            self.built.test_records,
            self.built.view_clip(num_crops=1),
            self.mesh,
            batch_size=self.config.eval.batch_size,
            num_threads=self.config.data.num_threads,
            num_workers=self.config.data.num_workers,
            crash_log=self.crash_log,
        )
        values = views.accuracy(result, self.config.eval.has_reversed_pairs)
        values = {name: value for name, value in values.items() if isinstance(value, float)}
        num_read, num_videos = int(result.is_read.sum()), len(result.is_read)
        self.writer.write(step, "test", values | {"num_unreadable": num_videos - num_read})
        if num_read < num_videos:
            count = f"{num_videos - num_read} of {num_videos} test videos"
            # A file name need not be UTF-8, and a terminal may refuse it.
            first = result.problems[0].encode("utf-8", "backslashreplace").decode()
            tqdm.write(f"{count} could not be read; the first: {first}")
        figures = ", ".join(f"{name} {value:.1%}" for name, value in values.items())
        tqdm.write(f"step {step}: {figures}")


def _check_sizes(config: ConfigDict, mesh: Mesh, num_videos: int, num_steps: int) -> None:
    """Raises ValueError where nothing could be trained, or batches do not divide."""
    if num_steps < 1:
        raise ValueError(
            f"{num_videos} videos and config.train.num_epochs={config.train.num_epochs} do not "
            f"fill a batch of config.train.batch_size={config.train.batch_size}"
        )
    for section in ("train", "eval"):
        if config[section].batch_size % mesh.size:
            raise ValueError(
                f"config.{section}.batch_size={config[section].batch_size} must be a multiple of "
                f"the {mesh.size} devices"
            )
    accumulate = config.train.accumulate
    if config.train.batch_size % (accumulate * mesh.size):
        raise ValueError(
            f"config.train.batch_size={config.train.batch_size} must be a multiple of config.train."
            f"accumulate={accumulate} times the {mesh.size} devices, {accumulate * mesh.size}"
        )
    repeats = config.clip.num_repeats
    microbatch = config.train.batch_size // accumulate if config.train.precise_bn_batches else 0
    if config.train.batch_size % repeats or microbatch % repeats:
        raise ValueError(
            f"config.clip.num_repeats={repeats} must divide config.train.batch_size="
            f"{config.train.batch_size}, and with config.train.precise_bn_batches a microbatch as "
            f"well, of config.train.accumulate={accumulate}"
        )
    if jax.process_count() > 1:
        raise ValueError("train.py runs on one host so far: start one process")


def _check_statistics(config: ConfigDict, variables: dict[str, Any]) -> None:
    """Raises ValueError where statistics are to be measured of a model that has none."""
    count = config.train.precise_bn_batches
    if count and not variables.get("batch_stats"):
        raise ValueError(
            f"config.train.precise_bn_batches={count}: {config.model.name} has no BatchNorm whose "
            "statistics could be measured; set it to 0"
        )


def _check_finite(step: int, sums: dict[str, jax.Array]) -> None:
    """Raises ValueError before a state that a bad gradient has spoiled is used or saved."""
    for name in ("loss", "grad_norm"):
        value = float(sums[name])
        if not math.isfinite(value):
            raise ValueError(
                f"{name} at step {step} is {value}: lower config.optim.learning_rate or set "
                "config.optim.clip_norm; what was saved before is whole"
            )
