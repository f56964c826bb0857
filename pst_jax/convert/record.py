"""Records what a PyTorch network makes of a video, layer by layer, for `parity.read_reference`.

Needs numpy and PyTorch alone, and Python 3.8: use this file, or a copy of it, in the environment
that the original network runs in.
"""

from __future__ import annotations

import contextlib
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

# Modules whose outputs `parity` compares. A Swin attends in windows, so what its attention gives
# has no place in the clip.
LAYERS = (
    r"(module\.)?(backbone\.|base_model\.)?("
    r"stem\.[01]|patch_embed[123]?|norm"
    r"|layers\.\d+\.(downsample|blocks\.\d+(\.(norm[12]|mlp))?)"
    r"|blocks\.\d+(\.(norm[12]|attn|mlp))?"
    r"|stage\d\.\d+(\.norm[12])?|stage[23]\.\d+\.(attn|mlp))"
)
OUTPUTS = ("logits", "features", "frame_feats", "frame_logits")


def run_channels_first(module: Any, video: Any) -> Any:
    """Runs a module on a video [B, F, H, W, 3] laid out as [B, 3, F, H, W]."""
    return module(video.permute(0, 4, 1, 2, 3))


def record(
    module: Any,
    video: np.ndarray,
    path: str,
    run: Callable[[Any, Any], Any] = run_channels_first,
    layers: str = LAYERS,
) -> None:
    """Runs a PyTorch network in evaluation mode and writes its outputs to an `.npz`.

    On a GPU convolutions may round to TF32, far coarser than what is compared: use the CPU.

    Args:
        module: the torch.nn.Module, float32, with its weights; left as it was.
        video: float32 [B, F, H, W, 3], RGB, normalised as the network wants it.
        path: of the file to write.
        run: of the module and the video, a tensor [B, F, H, W, 3]: lays the video out as the
            module takes it, runs it, and returns logits [B, K], or a dict of some of "logits",
            "features" [B, C, T, H, W], "frame_feats" [B, T, C] and "frame_logits" [B, T, K].
            A recogniser whose own output is probabilities:
            `lambda m, v: m.cls_head(m.backbone(v.permute(0, 4, 1, 2, 3)))`; a network that takes
            frames one by one:
            `lambda m, v: m(v.flatten(0, 1).movedim(-1, 1)).unflatten(0, v.shape[:2]).mean(1)`.
        layers: regex of the names of the modules to record.

    Raises:
        ValueError: if the video is no such array, no module has such a name, one runs several
            times, or `run` returns something else.
    """
    import torch

    clip = _check_video(video)
    device = next((parameter.device for parameter in module.parameters()), "cpu")
    with torch.no_grad(), _watched(module, layers) as kept:
        outputs = run(module, torch.from_numpy(clip).to(device))
    if not kept:
        names = ", ".join([name for name, _ in module.named_modules() if name][:20])
        raise ValueError(
            f"of {names}, ... no module whose name fits the regex layers={layers!r} gave a tensor: "
            "record the network as released, or give a regex"
        )
    arrays = {"x": clip, **_named(outputs, len(clip))}
    arrays.update((f"layer/{name}", value) for name, value in kept.items())
    with open(path, "wb") as file:
        np.savez(file, **arrays)


def _check_video(video: Any) -> np.ndarray:
    """Returns a video as float32; raises ValueError unless it is [B, F, H, W, 3] and float."""
    clip = np.asarray(video)
    if clip.ndim != 5 or clip.shape[-1] != 3 or clip.dtype.kind != "f":
        raise ValueError(
            f"video is {clip.dtype} {list(clip.shape)}: it must be float [B, F, H, W, 3], "
            "normalised; `run` brings it to the network's own layout"
        )
    return np.ascontiguousarray(clip, dtype=np.float32)


@contextlib.contextmanager
def _watched(module: Any, layers: str) -> Iterator[dict]:
    """Keeps a module in evaluation mode, and what its parts give, by name, in the yielded dict."""
    parts = dict(module.named_modules())
    kept, modes = {}, [(part, part.training) for part in parts.values()]
    hooks = [
        part.register_forward_hook(functools.partial(_keep, kept, name))
        for name, part in parts.items()
        if re.fullmatch(layers, name)
    ]
    try:
        # Not by eval() and train(), which some released networks override.
        for part, _ in modes:
            part.training = False
        yield kept
    finally:
        for hook in hooks:
            hook.remove()
        for part, mode in modes:
            part.training = mode


def _keep(kept: dict, name: str, module: Any, inputs: Any, output: Any) -> None:
    """Keeps the output of one module; a forward hook."""
    if name in kept:
        raise ValueError(
            f"{name} runs more than once: record a single view, without views in chunks or "
            "checkpointing"
        )
    if hasattr(output, "detach"):
        kept[name] = _to_numpy(output)


def _to_numpy(tensor: Any) -> np.ndarray:
    """Copies a tensor, for the next module may write in it."""
    return np.array(tensor.detach().cpu().float().numpy())


def _named(outputs: Any, num_clips: int) -> dict:
    """Returns what `run` returned as name -> array."""
    named = outputs if isinstance(outputs, Mapping) else {"logits": outputs}
    for name, value in named.items():
        if name not in OUTPUTS or not hasattr(value, "detach"):
            raise ValueError(
                f"run returned {name!r}, {type(value).__name__}: it must return logits, a tensor, "
                f"or a dict of tensors with names among {', '.join(OUTPUTS)}"
            )
        if value.ndim == 0 or value.shape[0] != num_clips:
            raise ValueError(
                f"run returned {name} {list(value.shape)} for {num_clips} clips: the first axis "
                "must be of clips, where frames are in the batch too by .unflatten(0, (B, T))"
            )
    return {name: _to_numpy(value) for name, value in named.items()}
