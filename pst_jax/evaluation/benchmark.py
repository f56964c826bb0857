"""Times two networks in turn in one run, beside what XLA says of their programs.

    python -m pst_jax.evaluation.benchmark pst_tiny --mode train --batch 2
    python -m pst_jax.evaluation.benchmark pst_tiny:pattern=A --against swin2d_tiny

A model is NAME or NAME:key=value,key=value with overrides of `create_model`; without --against it
is compared with itself, shifts off. Clocks and neighbours make times drift, so the programs take
turns in random order, each round gives a ratio of its own, and each program is compared with itself
too: a ratio within that interval is noise.
"""

import ast
import dataclasses
import functools
import json
import os
import pathlib
import re
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import scipy.stats
from absl import app, flags, logging
from jax.sharding import Mesh
from tabulate import tabulate
from tqdm import tqdm

from pst_jax import sharding
from pst_jax.evaluation import cost
from pst_jax.huge_pages import use_huge_pages
from pst_jax.models.schedules import without_shifts
from pst_jax.models.variants import create_model
from pst_jax.training import optim
from pst_jax.training.state import TrainState
from pst_jax.training.step import make_predict, make_train_step

# Line of the table, key of the figures, unit.
_LINES = (
    ("median, ms", "seconds", 1e-3),
    ("bytes accessed, MB", "bytes", 1e6),
    ("GFLOP by XLA", "flops", 1e9),
    ("temporaries, MB", "temp_bytes", 1e6),
    ("peak memory, MB", "peak_bytes", 1e6),
)


@dataclasses.dataclass(frozen=True)
class Program:
    """A compiled program with its inputs on the device.

    Attributes:
        name: for tables.
        run: runs it once and waits for the results.
        analysis: by XLA: "bytes" accessed; "flops", a multiply-add being 2; "temp_bytes" of
            temporaries; "peak_bytes": arguments + outputs + temporaries - outputs in an argument's
            place, all that a run holds. (XLA's `peak_memory_in_bytes` is not used: on CPUs, in jax
            0.10 and 0.12, it leaves temporaries out.)
    """

    name: str
    run: Callable[[], Any]
    analysis: dict[str, float]


class Ratio(NamedTuple):
    """A median of ratios and its 95 % interval."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}]"


def parse_model(spec: str, num_frames: int | None = None, dtype: str = "float32") -> nn.Module:
    """Makes the model that a command line names.

    Args:
        spec: NAME or NAME:key=value,key=value; values are Python literals or plain strings.
        num_frames: of the clip; None: as the model has it.
        dtype: compute dtype, unless the spec has one.

    Raises:
        ValueError: if the spec cannot be read, or there is no such model.
    """
    name, colon, text = spec.partition(":")
    overrides = {"dtype": dtype} | ({} if num_frames is None else {"num_frames": num_frames})
    for item in re.split(r",(?=\s*\w+=)", text) if colon else ():
        key, equals, value = item.strip().partition("=")
        if not equals or key in ("name", "num_frames"):  # both programs see the same clips
            hint = "use --frames" if key == "num_frames" else "write NAME:key=value,key=value"
            raise ValueError(f"model {spec!r}: {item!r} is not understood; {hint}")
        try:
            overrides[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            overrides[key] = {"true": True, "false": False}.get(value, value)
    return create_model(name, **overrides)


def compile_forward(name: str, model: nn.Module, batch: int = 1, size_px: int = 224) -> Program:
    """Compiles inference from pixels, on one device.

    Args:
        name: of the program.
        model: of `create_model`; clips have its number of frames.
        batch: clips per run.
        size_px: height and width of the clips.
    """
    mesh = sharding.make_mesh(1)
    variables = jax.device_put(_variables(model, size_px), sharding.replicated(mesh))
    video = _clips(model, batch, size_px, mesh)["video"]
    compiled = make_predict(model, mesh).lower(variables, video).compile()
    return _program(name, compiled, lambda: jax.block_until_ready(compiled(variables, video)))


def compile_train(name: str, model: nn.Module, batch: int = 1, size_px: int = 224) -> Program:
    """Compiles the training step on one device, AdamW at a constant rate.

    Each run goes on from the state that the last one left; arguments as in `compile_forward`.
    """
    mesh = sharding.make_mesh(1)
    variables, clips = _variables(model, size_px), _clips(model, batch, size_px, mesh)
    optimizer = optim.adamw(lambda step: 1e-4, variables["params"], (optim.Group("", 1.0, 0.02),))
    create = functools.partial(TrainState.create, optimizer=optimizer)
    state = jax.jit(create, out_shardings=sharding.replicated(mesh))(variables)
    compiled = make_train_step(model, optimizer, mesh).lower(state, clips).compile()

    def run() -> None:
        nonlocal state  # the old one is donated
        state, sums = compiled(state, clips)
        jax.block_until_ready((state, sums))

    return _program(name, compiled, run)


MODES = {"forward": compile_forward, "train": compile_train}


def _variables(model: nn.Module, size_px: int) -> dict[str, Any]:
    """Draws variables much like initial ones: to compile those takes longer than the model."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        is_about_1 = path[-1].key in ("scale", "var")
        return rng.normal(is_about_1, 0.02, leaf.shape).astype(leaf.dtype)

    return jax.tree.map_with_path(draw, cost.abstract_variables(model, size_px))


def _clips(model: nn.Module, batch: int, size_px: int, mesh: Mesh) -> dict[str, jax.Array]:
    rng, shape = np.random.default_rng(0), (batch, model.num_frames, size_px, size_px, 3)
    clips = {
        "video": rng.integers(0, 256, shape, np.uint8),
        "label": rng.integers(0, model.num_classes, batch, np.int32),
        "mask": np.ones(batch, bool),
    }
    return sharding.shard_batch(clips, mesh)


def _program(name: str, compiled: jax.stages.Compiled, run: Callable[[], Any]) -> Program:
    counted, memory = compiled.cost_analysis(), compiled.memory_analysis()
    ends = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    analysis = {
        "bytes": counted["bytes accessed"],
        "flops": counted["flops"],
        "temp_bytes": memory.temp_size_in_bytes,
        "peak_bytes": memory.temp_size_in_bytes + ends,
    }
    return Program(name, run, analysis)


def interleave(
    runs: Sequence[Callable[[], Any]],
    rounds: int,
    seed: int = 0,
    clock: Callable[[], float] = time.perf_counter,
) -> np.ndarray:
    """Times runs in turn, each round in an order of its own, after an untimed round.

    Args:
        runs: each waits for its results before it returns.
        rounds: timed rounds.
        seed: of the orders.
        clock: in seconds.

    Returns:
        Seconds, float64 [rounds, len(runs)].
    """
    rng, seconds = np.random.default_rng(seed), np.empty((rounds, len(runs)))
    for run in runs:
        run()
    for row in tqdm(seconds, unit="round", leave=False, disable=None):
        for column in rng.permutation(len(runs)):
            start = clock()
            runs[column]()
            row[column] = clock() - start
    return seconds


def median_seconds(run: Callable[[], Any], rounds: int = 10) -> float:
    """Returns the median time of a run, in seconds, after an untimed one."""
    return float(np.median(interleave([run], rounds)))


def paired_ratio(a: np.ndarray, b: np.ndarray, seed: int = 0) -> Ratio:
    """Returns the median of a / b over the rounds, and its 95 % interval by bootstrap.

    Args:
        a: seconds [rounds], at least 2 rounds.
        b: likewise, of the same rounds.
        seed: of the bootstrap.
    """
    # Percentiles, because the default method fails where all ratios are equal.
    found = scipy.stats.bootstrap((a / b,), np.median, method="percentile", random_state=seed)
    low, high = found.confidence_interval
    return Ratio(float(np.median(a / b)), float(low), float(high))


def position(ratio: Ratio, noise: Ratio) -> str:
    """Says where the interval of `ratio` lies, seen from that of `noise`."""
    if ratio.low > noise.high:
        return "lies above"
    if ratio.high < noise.low:
        return "lies below"
    return "lies within" if noise.low <= ratio.low <= ratio.high <= noise.high else "overlaps"


def compare(model: Program, against: Program, rounds: int, seed: int = 0) -> dict[str, Any]:
    """Times two programs in turn, and sets all that is known of them side by side.

    Returns:
        JSON values: "model" and "against" (name, median seconds, XLA's analysis), "ratio" of each
        figure, "noise": the ratio of seconds of each program to itself, and "position".
    """
    # Both twice: a program that runs after itself may find its data in a cache, and were one
    # alone run twice, it alone would.
    seconds = interleave([program.run for program in (model, against) * 2], rounds, seed)
    ratio, noise, noise_against = (
        paired_ratio(seconds[:, i], seconds[:, j], seed) for i, j in ((0, 1), (0, 2), (1, 3))
    )
    a, b = (
        {"name": program.name, "seconds": float(np.median(seconds[:, i::2])), **program.analysis}
        for i, program in enumerate((model, against))
    )
    ratios = {key: a[key] / b[key] if b[key] else None for key in model.analysis}
    return {
        "model": a,
        "against": b,
        "ratio": {"seconds": ratio._asdict(), **ratios},
        "noise": {"model": noise._asdict(), "against": noise_against._asdict()},
        "position": position(ratio, noise),
    }


def as_text(figures: dict[str, Any]) -> str:
    """Formats the result of `compare` as a Markdown table and what is to be said of it."""
    a, b, ratio = (figures[key] for key in ("model", "against", "ratio"))
    shown = {key: f"{ratio[key]:.3f}" for key in ratio if isinstance(ratio[key], float)}
    shown["seconds"] = str(Ratio(**ratio["seconds"]))
    rows = [(line, a[key] / unit, b[key] / unit, shown.get(key)) for line, key, unit in _LINES]
    headers = ("", a["name"], b["name"], "ratio [95 %]")
    noise = [str(Ratio(**figures["noise"][key])) for key in ("model", "against")]
    return (
        tabulate(rows, headers, tablefmt="github", floatfmt=".3f", missingval="-")
        + f"\n\nRatio of each to itself: {noise[0]}; {noise[1]}\n"
        + f"The ratio's interval {figures['position']} that of {a['name']} to itself."
    )


def define_flags(rounds: int) -> None:
    """Defines the flags of the timing commands; not at import, where names would clash."""
    flags.DEFINE_enum("mode", "forward", list(MODES), "Inference, or the whole training step.")
    flags.DEFINE_integer("batch", 1, "Clips per run.", lower_bound=1)
    flags.DEFINE_integer("frames", None, "Frames of a clip; default: the model's.", lower_bound=1)
    flags.DEFINE_integer("size", 224, "Height and width of a clip in pixels.", lower_bound=1)
    flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of computing.")
    flags.DEFINE_integer("rounds", rounds, "Timed runs of each program.", lower_bound=2)
    flags.DEFINE_string("json", None, "Also write all figures to this file.")


def run_command(measure: Callable[[Any], dict[str, Any]], show: Callable[[Any], str]) -> None:
    """Measures, prints and writes what the flags ask for; a user's mistake is one line.

    Args:
        measure: from the flags' values to JSON values, "frames" among them.
        show: formats these.
    """
    options = flags.FLAGS
    if not options["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # jax tells of the backends that it does not find
    try:
        if options.json and not pathlib.Path(options.json).parent.is_dir():
            raise ValueError(f"json={options.json!r}: there is no such folder")
        figures = measure(options)
        settings = {key: options[key].value for key in ("mode", "dtype", "batch", "size", "rounds")}
        settings |= {
            "frames": figures.pop("frames"),
            "device": jax.devices()[0].device_kind,
            "cores": os.cpu_count(),
            "jax": jax.__version__,
            "matmul_precision": jax.config.jax_default_matmul_precision or "default",
        }
        print(show(figures) + "\n" + ", ".join(f"{key} {settings[key]}" for key in settings))
        if options.json:
            pathlib.Path(options.json).write_text(json.dumps(settings | figures, indent=2) + "\n")
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


def measure(spec: str, options: Any) -> dict[str, Any]:
    """Compiles and compares as the command line says."""
    model = parse_model(spec, options.frames, options.dtype)
    if options.against is None:
        other = model.clone(mixers=without_shifts(model.mixers))
        if other == model:
            raise ValueError(f"{spec} has no shifts to switch off: name a model with --against")
    else:
        other = parse_model(options.against, model.num_frames, options.dtype)
    compile_program = MODES[options.mode]
    programs = (
        compile_program(name, network, options.batch, options.size)
        for name, network in ((spec, model), (options.against or "without shifts", other))
    )
    return {"frames": model.num_frames, **compare(*programs, options.rounds)}


def main(argv: list[str]) -> None:
    """Compares the model of the command line."""
    if len(argv) != 2:
        raise app.UsageError("Name one model: python -m pst_jax.evaluation.benchmark MODEL")
    run_command(lambda options: measure(argv[1], options), as_text)


if __name__ == "__main__":
    use_huge_pages()
    define_flags(rounds=30)
    flags.DEFINE_string("against", None, "The model to compare with; default: itself, shifts off.")
    app.run(main)
