"""Other names that weights of the same networks come under, turned into the released ones.

TokShift's first version holds query, key and value apart, and started from the ImageNet files of
the JAX ViT, whose kernels are [inputs, outputs] and have an axis of heads. timm counts a Swin's
downsampling with the stage behind it, and wraps no norm of a Visformer. torchvision has stages and
downsampling of a Video-Swin in one list.
"""

import re
from collections.abc import Iterable

import einops
import numpy as np

from pst_jax.convert.names import Arrays, check_unique

_BLOCK = r"^transformer\.encoder\.layer\.(\d+)\."
_JAX = r"^Transformer/encoderblock_(\d+)/"
_JAX_ATTENTION = _JAX + "MultiHeadDotProductAttention_1/"
_JAX_QKV = _JAX_ATTENTION + "(query|key|value)/"
_DENSE = "i o -> o i"

# Regex of a name, replacement, and the einops pattern to the released layout where it differs.
_RENAMES = {
  "ViT": (
    # TokShift, version 1.
    (r"^transformer\.embeddings\.position_embeddings$", "pos_embed", None),
    (r"^transformer\.embeddings\.cls_token$", "cls_token", None),
    (r"^transformer\.embeddings\.patch_embeddings\.", "patch_embed.proj.", None),
    (r"^transformer\.encoder\.encoder_norm\.", "norm.", None),
    (_BLOCK + r"attention_norm\.", r"blocks.\1.norm1.", None),
    (_BLOCK + r"ffn_norm\.", r"blocks.\1.norm2.", None),
    (_BLOCK + r"ffn\.", r"blocks.\1.mlp.", None),
    (_BLOCK + r"attn\.out\.", r"blocks.\1.attn.proj.", None),
    (_BLOCK + r"attn\.(query|key|value)\.", r"blocks.\1.attn.\2.", None),
    # The JAX ViT.
    (r"^cls$", "cls_token", None),
    (r"^Transformer/posembed_input/pos_embedding$", "pos_embed", None),
    (r"^embedding/kernel$", "patch_embed.proj.weight", "h w i o -> o i h w"),
    (r"^embedding/bias$", "patch_embed.proj.bias", None),
    (r"^Transformer/encoder_norm/scale$", "norm.weight", None),
    (r"^Transformer/encoder_norm/bias$", "norm.bias", None),
    (_JAX + r"LayerNorm_0/scale$", r"blocks.\1.norm1.weight", None),
    (_JAX + r"LayerNorm_0/bias$", r"blocks.\1.norm1.bias", None),
    (_JAX + r"LayerNorm_2/scale$", r"blocks.\1.norm2.weight", None),
    (_JAX + r"LayerNorm_2/bias$", r"blocks.\1.norm2.bias", None),
    (_JAX + r"MlpBlock_3/Dense_0/kernel$", r"blocks.\1.mlp.fc1.weight", _DENSE),
    (_JAX + r"MlpBlock_3/Dense_0/bias$", r"blocks.\1.mlp.fc1.bias", None),
    (_JAX + r"MlpBlock_3/Dense_1/kernel$", r"blocks.\1.mlp.fc2.weight", _DENSE),
    (_JAX + r"MlpBlock_3/Dense_1/bias$", r"blocks.\1.mlp.fc2.bias", None),
    (_JAX_QKV + r"kernel$", r"blocks.\1.attn.\2.weight", "i n d -> (n d) i"),
    (_JAX_QKV + r"bias$", r"blocks.\1.attn.\2.bias", "n d -> (n d)"),
    (_JAX_ATTENTION + r"out/kernel$", r"blocks.\1.attn.proj.weight", "n d o -> o (n d)"),
    (_JAX_ATTENTION + r"out/bias$", r"blocks.\1.attn.proj.bias", None),
    (r"^(head|pre_logits)/kernel$", r"\1.weight", _DENSE),
    (r"^(head|pre_logits)/bias$", r"\1.bias", None),
  ),
  "Visformer": (
    (r"^(stem\.1|patch_embed\d\.norm|stage\d\.\d+\.norm\d|norm)\.(\w+)$", r"\1.bn.\2", None),
  ),
}  # fmt: skip
# torchvision's Video-Swin: blocks in the even places of a list, downsampling in the odd ones.
_LISTED = re.compile(r"^features\.(\d+)\.(?=\d+\.|norm\.|reduction\.)")
_LISTED_MLP = {"mlp.0.": "mlp.fc1.", "mlp.3.": "mlp.fc2."}
_DOWNSAMPLE = re.compile(r"^layers\.(\d+)\.downsample\.")


def to_released(given: Arrays, network: str) -> dict[str, np.ndarray]:
    """Turns bare names and layouts of the other kinds into the released ones, bit for bit.

    Args:
        given: name -> array; what has a released name already, or an unknown one, stays.
        network: "Swin", "ViT" or "Visformer".

    Returns:
        Released bare name -> array; query, key and value joined in that order.

    Raises:
        ValueError: if two names become one.
    """
    if network == "Swin":
        pairs = list(zip(_swin_names(given), given.values()))
    else:
        pairs = [_rename(name, value, _RENAMES[network]) for name, value in given.items()]
    check_unique((name, new) for name, (new, _) in zip(given, pairs))
    return _join_qkv(dict(pairs))


def _swin_names(names: Iterable[str]) -> list[str]:
    """Returns the released names of a Swin of torchvision, timm, or as released."""
    renamed = [_unlisted(name).replace("head.fc.", "head.") for name in names]
    stages = {int(found[1]) for found in map(_DOWNSAMPLE.match, renamed) if found}
    if not stages or 0 in stages:  # counted with the stage ahead, as released
        return renamed
    ahead = lambda found: f"layers.{int(found[1]) - 1}.downsample."  # noqa: E731
    return [_DOWNSAMPLE.sub(ahead, name) for name in renamed]


def _unlisted(name: str) -> str:
    """Returns the released name of a torchvision name; any other as it is."""
    found = _LISTED.match(name)
    if not found:
        return name
    stage, is_downsample = divmod(int(found[1]), 2)
    name = name.removeprefix(found[0])
    for theirs, ours in _LISTED_MLP.items():
        name = name.replace(theirs, ours)
    return f"layers.{stage}.{'downsample' if is_downsample else 'blocks'}.{name}"


def _join_qkv(renamed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Joins queries, keys and values that are held apart."""
    for name in [name for name in renamed if ".attn.query." in name]:
        parts = [name.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
        joined = name.replace(".query.", ".qkv.")
        if joined not in renamed and all(part in renamed and renamed[part].ndim for part in parts):
            # Of unequal shapes they stay apart, and are listed as unknown; so beside a joined one.
            if len({renamed[part].shape for part in parts}) == 1:
                renamed[joined] = np.concatenate([renamed.pop(part) for part in parts])
    return renamed


def _rename(
    name: str, value: np.ndarray, renames: tuple[tuple[str, str, str | None], ...]
) -> tuple[str, np.ndarray]:
    for pattern, replacement, layout in renames:
        renamed, count = re.subn(pattern, replacement, name)
        if count and (layout is None or value.ndim == len(layout.split("->")[0].split())):
            return renamed, value if layout is None else einops.rearrange(value, layout)
    return name, value
