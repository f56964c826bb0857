"""What a model costs: parameters and multiply-adds, counted on its traced program.

`python -m pst_jax.evaluation.cost` prints the table of published rows. Like the counter that the
papers used, a multiply-add counts once and a LayerNorm as 5 per element; softmax, GELU, bias and
data movement are not counted.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from absl import app, flags
from tabulate import tabulate

from pst_jax.models.variants import VARIANTS, create_model

_NORM_FLOPS_PER_ELEMENT = 5


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one clip, forward: parameters, and multiply-adds by kind.

    Attributes:
        params: number of parameters.
        conv: multiply-adds of convolutions (the patch embedding's product is one).
        linear: of linear layers.
        matmul: of products of activations (attention).
        norm: of normalisation, as counted by the papers' tool.
    """

    params: int
    conv: int
    linear: int
    matmul: int
    norm: int

    @property
    def total(self) -> int:
        """Multiply-adds of all kinds."""
        return self.conv + self.linear + self.matmul + self.norm


def count(model: nn.Module, size_px: int = 224) -> Cost:
    """Counts a model's parameters and multiply-adds for one clip of its own length.

    Args:
        model: of `create_model`.
        size_px: height and width of the clip.

    Returns:
        The counts, exact for the traced program; nothing is computed or compiled.
    """
    video = jax.ShapeDtypeStruct((1, model.num_frames, size_px, size_px, 3), jnp.float32)
    variables = abstract_variables(model, size_px)
    norm_elements = []

    def intercept(call, args, kwargs, context):
        out = call(*args, **kwargs)
        if isinstance(context.module, nn.LayerNorm) and context.method_name == "__call__":
            norm_elements.append(out.size)
        return out

    with nn.intercept_methods(intercept):
        program = jax.make_jaxpr(lambda v, x: model.apply(v, x, train=False))(variables, video)
    kinds = dict.fromkeys(("conv", "linear", "matmul"), 0)
    for kind, multiply_adds in _products(program.jaxpr):
        kinds[kind] += multiply_adds
    return Cost(
        params=sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"])),
        norm=_NORM_FLOPS_PER_ELEMENT * sum(norm_elements),
        **kinds,
    )


def abstract_variables(model: nn.Module, size_px: int):
    """Returns the variables' shapes and dtypes, without computing any."""
    video = jax.ShapeDtypeStruct((1, model.num_frames, size_px, size_px, 3), jnp.float32)
    return jax.eval_shape(lambda x: model.init(jax.random.key(0), x, train=False), video)


def _products(jaxpr: Any) -> Iterator[tuple[str, int]]:
    """Yields (kind, multiply-adds) of every product in a program, inner programs included."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), (batch, _) = equation.params["dimension_numbers"]
            sizes = [equation.invars[0].aval.shape[axis] for axis in contracted]
            is_conv = "patch_embed" in str(equation.source_info.name_stack)
            kind = "conv" if is_conv else "matmul" if batch else "linear"
            yield kind, math.prod(equation.outvars[0].aval.shape) * math.prod(sizes)
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda p: hasattr(p, "eqns")
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from _products(inner)


def xla_flops(model: nn.Module, size_px: int = 224) -> float:
    """Returns XLA's own count for the forward of one clip: FLOPs of the compiled program.

    A multiply-add counts as 2 there, and element-wise work is included.
    """
    video = jax.ShapeDtypeStruct((1, model.num_frames, size_px, size_px, 3), jnp.float32)
    forward = jax.jit(lambda v, x: model.apply(v, x, train=False))
    compiled = forward.lower(abstract_variables(model, size_px), video).compile()
    return compiled.cost_analysis()["flops"]


def table(with_xla: bool = True) -> list[dict]:
    """Returns a row for every published variant at 224 x 224, 400 classes; G multiply-adds.

    Args:
        with_xla: whether to compile the models for XLA's own count, which takes a minute.
    """
    rows = []
    for name, variant in VARIANTS.items():
        if variant.source is None:
            continue
        model = create_model(name)
        cost = count(model)
        gflops, millions = variant.published
        rows.append(
            {
                "model": name,
                "row": variant.source,
                "input": f"{model.num_frames}x224x224",
                "params": cost.params,
                "conv": cost.conv / 1e9,
                "linear": cost.linear / 1e9,
                "matmul": cost.matmul / 1e9,
                "norm": cost.norm / 1e9,
                "total": cost.total / 1e9,
                "XLA GFLOP": xla_flops(model) / 1e9 if with_xla else None,
                "paper GFLOPs": gflops,
                "paper Mparams": millions,
            }
        )
    return rows


def as_text(rows: list[dict]) -> str:
    """Formats rows of `table` as a Markdown table."""
    return tabulate(
        rows, headers="keys", tablefmt="github", floatfmt=".3f", intfmt=",", missingval="-"
    )


def main(_) -> None:
    """Prints the table, and writes it as JSON where asked."""
    rows = table()
    print(as_text(rows))
    if JSON.value:
        pathlib.Path(JSON.value).write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    JSON = flags.DEFINE_string("json", None, "Also write the rows to this file, as JSON.")
    app.run(main)
