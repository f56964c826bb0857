"""How far a converted model is from the network that its weights were of: per layer, per logit.

`record.py` writes what that network gave; nothing here needs PyTorch.
"""

import contextlib
import dataclasses
import difflib
import os
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import einops
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from tabulate import tabulate

from pst_jax.convert import names, trees
from pst_jax.convert.names import Arrays
from pst_jax.models.swin import Swin
from pst_jax.models.video import VideoModel
from pst_jax.models.visformer import Visformer
from pst_jax.models.vit import ViT

# By family: regex of a released module, bare, and the einops pattern from its output to ours. What
# is not here was never released as a tensor of ours: attention within windows above all.
_CLIP = "(b t) c h w -> b t h w c"
_LAYOUTS: dict[type[VideoModel], tuple[tuple[str, str], ...]] = {
    Swin: (
        (r"patch_embed(\.proj)?", "b c t h w -> b t h w c"),
        (r"patch_embed\.norm", "b (t h w) c -> b t h w c"),
        (
            r"layers\.\d+\.blocks\.\d+(\.(norm[12]|mlp(\.fc[12])?))?",
            "b t h w c -> b t (h w) c",
        ),
        (r"layers\.\d+\.downsample(\.(norm|reduction))?|norm", "b t h w c -> b t h w c"),
    ),
    ViT: (
        (r"patch_embed\.proj", _CLIP),
        (r"patch_embed", "(b t) (h w) c -> b t h w c"),
        (r"blocks\.\d+(\.(norm[12]|attn|mlp(\.fc[12])?))?|norm", "(b t) n c -> b t n c"),
    ),
    Visformer: (
        (r"stem\.[01]|patch_embed[123](\.(proj|norm))?|norm", _CLIP),
        (r"stage1\.\d+(\.(norm2|mlp\.conv[123]))?", _CLIP),
        (
            r"stage[23]\.\d+(\.(norm[12]|attn|mlp(\.conv[13])?))?",
            "(b t) c h w -> b t (h w) c",
        ),
    ),
}
# Key of a reference: our output (see `VideoModel`), and the pattern to it.
_OUTPUTS = {
    "features": ("features", "b c t h w -> b t h w c"),
    "frame_feats": ("frame_features", "b t c -> b t c"),
    "frame_logits": ("frame_logits", "b t k -> b t k"),
    "logits": ("logits", "b k -> b k"),
}
_LAYER = "layer/"
# Classes that a table has a line for.
_NUM_CLASSES = 20


@dataclasses.dataclass(frozen=True)
class Line:
    """How far one output is from its reference.

    Attributes:
        layer: released name of the module, or "features", "frame_feats", "frame_logits", "logits".
        shape: as released.
        max_abs: largest absolute difference.
        relative: that over the largest absolute value of the reference.
        by_class: of logits, the largest absolute difference of each class.
    """

    layer: str
    shape: tuple[int, ...]
    max_abs: float
    relative: float
    by_class: tuple[float, ...] = ()


def read_reference(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads what another network made of a video.

    Args:
        path: of an `.npz` as `record.record` writes it: `x` float [B, F, H, W, 3], normalised, and
            any of `logits` [B, K], `features` [B, C, T, H, W] (of a Swin or Visformer, after the
            final norm), `frame_feats` [B, T, C], `frame_logits` [B, T, K], and
            `layer/<released name of a module>`, laid out as that module's output. What else is in
            the file is not read.

    Returns:
        These arrays by name; x is float32.

    Raises:
        ValueError: for no such file, one of another kind or damaged, and for arrays that are
            missing, misshapen or not finite.
    """
    try:
        if not isinstance(path, str | os.PathLike) or not os.path.isfile(path):
            raise ValueError("there is no such file")
        arrays = _load(path)
        _check(arrays)
    except ValueError as error:
        raise ValueError(
            f"reference {str(path)!r} (of pst_jax/convert/record.py, where the original network "
            f"runs): {error}"
        ) from None
    return arrays | {"x": arrays["x"].astype(np.float32)}


def _load(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads from an .npz the arrays that are compared."""
    try:
        if not zipfile.is_zipfile(path):
            raise ValueError("not a zip file, or cut off")
        with np.load(path, allow_pickle=False) as archive:
            wanted = [name for name in archive.files if name == "x" or _is_compared(name)]
            return {name: np.asarray(archive[name]) for name in wanted}
    except (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"it is no .npz of arrays ({error})") from None


def _is_compared(name: str) -> bool:
    return name in _OUTPUTS or name.startswith(_LAYER)


def _check(arrays: Arrays) -> None:
    """Raises ValueError unless there is a video, and something that was made of it."""
    if "x" not in arrays:
        raise ValueError("it has no x, the video [B, F, H, W, 3]")
    if len(arrays) == 1:
        raise ValueError(
            f"it has nothing to compare: record one of {', '.join(_OUTPUTS)}, or {_LAYER}NAME"
        )
    clips, lines = arrays["x"].shape, []
    if len(clips) != 5 or clips[-1] != 3 or 0 in clips:
        lines.append(f"misshapen: x is {clips}, not [B, F, H, W, 3]")
    for name, value in arrays.items():
        if not np.issubdtype(value.dtype, np.floating):
            lines.append(f"no float array: {name} is {value.dtype}")
        elif not np.isfinite(value).all():
            lines.append(f"not finite: {name} holds NaN or infinity")
        if name in _OUTPUTS:
            axes = _OUTPUTS[name][1].split(" -> ")[0].upper().split()
            if value.ndim != len(axes) or value.shape[:1] != clips[:1]:
                lines.append(f"misshapen: {name} is {value.shape}, not [{', '.join(axes)}] of x")
    if lines:
        raise ValueError("these are no outputs of one network:" + trees.listing(lines))


def compare(model: VideoModel, variables: Mapping[str, Any], reference: Arrays) -> list[Line]:
    """Compares a converted model with its reference, in float32 at the highest precision.

    Args:
        model: of `create_model`; its compute dtype does not matter.
        variables: of `from_torch`.
        reference: of `read_reference`, or arrays named alike.

    Returns:
        A line for every output in the reference: layers in the order in which they end, then
        features, what is by frame, and logits last.

    Raises:
        ValueError: as `read_reference` for its arrays; listing the layers that this family has not,
            and those of another shape; or if the video does not fit the model.
    """
    given = {_bare(name): name for name in reference if _is_compared(name)}
    _check({name: reference[name] for name in ("x", *given.values()) if name in reference})
    model = model.clone(dtype=jnp.float32, remat=False)
    expected = {}

    def run(variables, video):
        found = _outputs(model, variables, video, given)
        expected.update(_in_our_layouts(found, {key: reference[given[key]] for key in given}))
        # A list: of a dict, jit would sort the keys.
        return [found[key][0] for key in expected]

    with jax.default_matmul_precision("highest"):
        variables = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), variables)
        ours = jax.jit(run)(variables, jnp.asarray(reference["x"], jnp.float32))
    return [
        _line(given[key].removeprefix(_LAYER), reference[given[key]].shape, value, np.asarray(own))
        for (key, value), own in zip(expected.items(), ours)
    ]


def _bare(name: str) -> str:
    """Strips from a key of a reference, or a released module's name, what does not tell it apart.

    The released batch norms are wrapped: `norm1` gives what `norm1.bn` does.
    """
    return names.bare_name(name.removeprefix(_LAYER)).removesuffix(".bn")


def _outputs(
    model: VideoModel, variables: Mapping[str, Any], video: jax.Array, given: Mapping[str, str]
) -> dict[str, tuple[jax.Array, str]]:
    """Returns bare name -> output and the pattern to it, in the order of the network.

    Args:
        model: of `create_model`.
        variables: of it.
        video: float32 [B, F, H, W, 3].
        given: what is wanted, besides layers and logits, of `_OUTPUTS`.
    """
    found = {}

    def keep(method, args, kwargs, context):
        output = method(*args, **kwargs)
        name = _bare(names.released_name("/".join(context.module.path) + "/", model)[:-1])
        pattern = _pattern(name, model)
        if pattern is not None and context.method_name == "__call__":
            found[name] = output, pattern
        return output

    with nn.intercept_methods(keep):
        logits = model.apply(variables, video, train=False)
    for key, (output, pattern) in _OUTPUTS.items():
        if key in given and output != "logits":
            found[key] = model.apply(variables, video, train=False, output=output), pattern
    return found | {"logits": (logits, _OUTPUTS["logits"][1])}


def _pattern(name: str, model: VideoModel) -> str | None:
    """Returns the pattern to our output of a released module, or None where we have none."""
    layouts = _LAYOUTS[type(model)]
    return next((pattern for regex, pattern in layouts if re.fullmatch(regex, name)), None)


def _in_our_layouts(
    found: Mapping[str, tuple[jax.Array, str]], reference: Arrays
) -> dict[str, np.ndarray]:
    """Brings reference arrays, bare name -> array, to our layouts and into our order.

    Raises:
        ValueError: listing those that we have not, and those of another shape.
    """
    lines, arrays = [_unknown(name, found) for name in reference if name not in found], {}
    for name, (ours, pattern) in found.items():
        if name not in reference:
            continue
        theirs, own = pattern.split(" -> ")
        axes = re.sub(r"\(.*?\)", "_", own).split()
        sizes = {axis: size for axis, size in zip(axes, ours.shape) if axis != "_"}
        with contextlib.suppress(einops.EinopsError):
            arrays[name] = einops.rearrange(reference[name], pattern, **sizes)
        if name not in arrays or arrays[name].shape != ours.shape:
            shape = reference[name].shape
            lines.append(
                f"misshapen: {name} is {shape} as [{theirs}], ours {ours.shape} as [{own}]"
            )
    if lines:
        raise ValueError(
            "the reference is of another network, or has modules that give no tensor of ours (such "
            "as attention within windows; leave them out):" + trees.listing(lines)
        )
    return arrays


def _unknown(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"unknown: {name}" + (f"; the nearest known is {close[0]}" if close else "")


def _line(layer: str, shape: tuple[int, ...], expected: np.ndarray, ours: np.ndarray) -> Line:
    difference = np.abs(ours.astype(np.float64) - expected)
    max_abs, largest = float(difference.max()), float(np.abs(expected).max())
    relative = max_abs / largest if largest else (np.inf if max_abs else 0.0)
    by_class = tuple(difference.max(axis=0).tolist()) if layer == "logits" else ()
    return Line(layer, shape, max_abs, relative, by_class)


def table(lines: Sequence[Line]) -> str:
    """Formats lines as a table in Markdown, and below it one of the logits by class.

    Of more than 20 classes, the 20 that differ most.
    """
    headers = ["layer", "shape", "largest difference", "relative"]
    rows = [
        [line.layer, line.shape, f"{line.max_abs:.1e}", f"{line.relative:.1e}"] for line in lines
    ]
    tables = [_markdown(rows, headers)]
    for line in lines:
        if line.by_class:
            order = range(len(line.by_class))
            if len(order) > _NUM_CLASSES:
                order = sorted(order, key=lambda k: -line.by_class[k])[:_NUM_CLASSES]
            rows = [[k, f"{line.by_class[k]:.1e}"] for k in order]
            tables.append(_markdown(rows, ["class", "largest difference"]))
    return "\n\n".join(tables)


def _markdown(rows: Sequence[Sequence[Any]], headers: Sequence[str]) -> str:
    align = ["left"] + ["right"] * (len(headers) - 1)
    return tabulate(rows, headers, tablefmt="github", colalign=align, disable_numparse=True)
