"""What a model costs: parameters and multiply-adds, counted on its traced program.

`python -m pst_jax.evaluation.cost --all` prints the table of published rows (`--names` some of
them). Like the counter that most papers used, a multiply-add counts once, a LayerNorm as 5 per
element and a batch norm as 2; softmax, GELU, bias and data movement are not counted. TokShift's
paper counts convolutions and linear layers alone, so that a column has their sum.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from absl import app, flags
from tabulate import tabulate

from pst_jax.models.variants import VARIANTS, create_model, nearest

_NORM_FLOPS_PER_ELEMENT = {nn.LayerNorm: 5, nn.BatchNorm: 2}


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one clip, forward: parameters, and multiply-adds by kind.

    Attributes:
        params: number of parameters.
        head: of them, those of the classifier.
        conv: multiply-adds of convolutions (the patch embedding's product is one).
        linear: of linear layers.
        matmul: of products of activations (attention).
        norm: of normalisation, as counted by the papers' tool.
    """

    params: int
    head: int
    conv: int
    linear: int
    matmul: int
    norm: int

    @property
    def conv_linear(self) -> int:
        """Multiply-adds of convolutions and linear layers."""
        return self.conv + self.linear

    @property
    def total(self) -> int:
        """Multiply-adds of all kinds."""
        return self.conv + self.linear + self.matmul + self.norm


def count(model: nn.Module, size_px: int | None = None) -> Cost:
    """Counts a model's parameters and multiply-adds for one clip of its own length.

    Args:
        model: of `create_model`.
        size_px: height and width of the clip; None: the model's own, or 224.

    Returns:
        The counts, exact for the traced program; nothing is computed or compiled.
    """
    video, norms = _clip_of(model, size_px), []

    def intercept(call, args, kwargs, context):
        out = call(*args, **kwargs)
        kind = type(context.module)
        if kind in _NORM_FLOPS_PER_ELEMENT and context.method_name == "__call__":
            norms.append(_NORM_FLOPS_PER_ELEMENT[kind] * out.size)
        return out

    # Initialising runs the network once, and draws parameters without any product.
    init = lambda video: model.init(jax.random.key(0), video, train=False)  # noqa: E731
    with nn.intercept_methods(intercept):
        program, variables = jax.make_jaxpr(init, return_shape=True)(video)
    kinds = dict.fromkeys(("conv", "linear", "matmul"), 0)
    for kind, multiply_adds in _products(program.jaxpr):
        kinds[kind] += multiply_adds
    params = variables["params"]
    return Cost(_size(params), _size(params["head"]), norm=sum(norms), **kinds)


def _size(tree: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def abstract_variables(model: nn.Module, size_px: int):
    """Returns the variables' shapes and dtypes, without computing any."""
    init = lambda video: model.init(jax.random.key(0), video, train=False)  # noqa: E731
    return jax.eval_shape(init, _clip_of(model, size_px))


def _clip_of(model: nn.Module, size_px: int | None) -> jax.ShapeDtypeStruct:
    """Returns shape and dtype of one clip; of the model's own size, or 224, where none is given."""
    size_px = size_px or getattr(model, "image_size", 224)
    return jax.ShapeDtypeStruct((1, model.num_frames, size_px, size_px, 3), jnp.float32)


def _products(jaxpr: Any) -> Iterator[tuple[str, int]]:
    """Yields (kind, multiply-adds) of every product in a program, inner programs included."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), (batch, _) = equation.params["dimension_numbers"]
            sizes = [equation.invars[0].aval.shape[axis] for axis in contracted]
            is_conv = "patch_embed" in str(equation.source_info.name_stack)
            kind = "conv" if is_conv else "matmul" if batch else "linear"
            yield kind, math.prod(equation.outvars[0].aval.shape) * math.prod(sizes)
        if equation.primitive.name == "conv_general_dilated":
            # A kernel's elements but for its output channels are what each output sums over.
            spec = equation.params["dimension_numbers"].rhs_spec
            kernel = equation.invars[1].aval.shape
            summed = math.prod(kernel) // kernel[spec[0]]
            yield "conv", math.prod(equation.outvars[0].aval.shape) * summed
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda p: hasattr(p, "eqns")
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from _products(inner)


def xla_flops(model: nn.Module, size_px: int | None = None) -> float:
    """Returns XLA's own count for the forward of one clip: FLOPs of the compiled program.

    A multiply-add counts as 2 there, and element-wise work is included.
    """
    forward = jax.jit(lambda v, x: model.apply(v, x, train=False))
    compiled = forward.lower(abstract_variables(model, size_px), _clip_of(model, size_px)).compile()
    return compiled.cost_analysis()["flops"]


def published_names() -> list[str]:
    """Returns the variants that stand for a published row, in the table's order."""
    return [name for name, variant in VARIANTS.items() if variant.source]


def table(names: Iterable[str]) -> list[dict]:
    """Returns a row for each variant: counts at 400 classes, and what was published.

    Parameters are counted with the classes of the published figure; see `difference`.
    """
    rows = []
    for name in names:
        variant = VARIANTS[name]
        model = create_model(name)
        cost = count(model)
        gflops, millions = variant.published
        head = cost.head // model.num_classes  # a weight per feature, and a bias
        params = cost.params - head * (model.num_classes - variant.published_classes)
        counted = cost.total if variant.counted == "all" else cost.conv_linear
        size_px = getattr(model, "image_size", 224)
        rows.append(
            {
                "model": name,
                "row": variant.source or "-",
                "input": f"{model.num_frames}x{size_px}²",
                "params": params,
                "conv + linear": cost.conv_linear / 1e9,
                "attention": cost.matmul / 1e9,
                "norm": cost.norm / 1e9,
                "total": cost.total / 1e9,
                "published G": gflops,
                "off by %": difference(counted / 1e9, gflops),
                "published M": millions,
                "M off by %": difference(params / 1e6, millions),
            }
        )
    return rows


def difference(value: float, published: str | None) -> str | None:
    """Compares a value with a published figure.

    Returns:
        None without a figure; "0" where the figure is the value rounded to its digits; the
        percentage by which the value is larger, with "cut" where the figure is the value with
        further digits cut off.
    """
    if published is None:
        return None
    figure, step = float(published), 10.0 ** -len(published.partition(".")[2])
    if abs(value - figure) <= step / 2:
        return "0"
    return f"{100 * (value / figure - 1):+.2f}" + (" cut" if 0 < value - figure < step else "")


def as_text(rows: list[dict]) -> str:
    """Formats rows of `table` as a Markdown table."""

    def cell(value: Any) -> str:
        if isinstance(value, str | None):
            return value or "-"
        return f"{value:,}" if isinstance(value, int) else f"{value:.3f}"

    cells = [[cell(value) for value in row.values()] for row in rows]
    align = ["left"] * 3 + ["right"] * (len(rows[0]) - 3)
    return tabulate(cells, list(rows[0]), tablefmt="github", colalign=align, disable_numparse=True)


def main(argv: list[str]) -> None:
    """Prints the table, and writes it as JSON where asked."""
    if len(argv) > 1:
        raise app.UsageError(f"not understood: {' '.join(argv[1:])}; choose rows with --names")
    if bool(NAMES.value) == ALL.value:
        raise app.UsageError("say --all, or --names with one or more models, separated by commas")
    if JSON.value and not pathlib.Path(JSON.value).parent.is_dir():
        raise app.UsageError(f"--json={JSON.value}: there is no such folder")
    for name in NAMES.value or ():
        if name not in VARIANTS:
            raise app.UsageError(f"--names has {name!r}, which is unknown{nearest(name, VARIANTS)}")
    rows = table(NAMES.value or published_names())
    if XLA.value:
        for row in rows:
            row["XLA GFLOP"] = xla_flops(create_model(row["model"])) / 1e9
    print(as_text(rows))
    if JSON.value:
        pathlib.Path(JSON.value).write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    ALL = flags.DEFINE_bool("all", False, "All published rows.")
    NAMES = flags.DEFINE_list("names", None, "Models to count, in place of --all.")
    XLA = flags.DEFINE_bool("xla", False, "Compile each for XLA's own count too (slow).")
    JSON = flags.DEFINE_string("json", None, "Also write the rows to this file, as JSON.")
    app.run(main)
