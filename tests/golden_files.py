"""The golden files: inputs, weights and outputs of the released systems.

`visformer` and `vit` hold the input and the weights that all kinds of LAPS' networks share, bit for
bit, and under `<kind>/` what each kind makes of them; the others hold one network each.
"""

import json
import pathlib

import numpy as np

import pst_jax

FOLDER = pathlib.Path(__file__).parent / "golden"

# Kind -> variant, and what its config does not say.
KINDS = {
    "pst": ("pst_tiny", {}),
    "pst_diag_rpe": ("pst_tiny", {"bias_keys": "own"}),
    "swin2d": ("pst_tiny", {"shift_stages": ()}),
    "videoswin": ("videoswin_tiny", {}),
    "base2d": ("visformer_2d", {}),
    "base3d": ("visformer_3d", {}),
    "plain_shift": ("visformer_plain_shift", {}),
    "p_shift": ("visformer_periodic_shift", {}),
    "la": ("visformer_leap", {}),
    "laps": ("laps", {}),
    "vit2d": ("vit_base", {}),
    "tokshift": ("tokshift_base", {}),
    "vit_laps": ("vit_laps_base", {}),
}
# Key of a config -> ours.
_KEYS = {
    "n_frames": "num_frames",
    "img_size": "image_size",
    "window_size": "window",
    "patch_size": "patch_size",
    "init_channels": "init_channels",
    "embed_dim": "embed_dim",
    "depths": "depths",
    "num_heads": "num_heads",
    "mlp_ratio": "mlp_ratio",
    "drop_path_rate": "drop_path_rate",
}
FAMILIES = {
    "visformer": ("base2d", "base3d", "plain_shift", "p_shift", "la", "laps"),
    "vit": ("vit2d", "tokshift", "vit_laps"),
}
# Golden model file -> kind, and the file with its input, weights and config.
MODELS = {
    "pst_56": ("pst", "pst_56"),
    "pst_60x72": ("pst", "pst_60x72"),
    "pst_56_diag_rpe": ("pst_diag_rpe", "pst_56"),
    "swin2d_56": ("swin2d", "swin2d_56"),
    "videoswin_56": ("videoswin", "videoswin_56"),
    "videoswin_w277": ("videoswin", "videoswin_w277"),
    **{kind: (kind, family) for family, kinds in FAMILIES.items() for kind in kinds},
}


def load(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz") as archive:
        return {key: archive[key] for key in archive.files}


def state_dict(golden: dict[str, np.ndarray], prefix: str = "sd/") -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in golden.items() if k.startswith(prefix)}


def load_model_file(name: str) -> dict[str, np.ndarray]:
    """A golden model file with its input, weights and config, wherever they are stored."""
    source = load(MODELS[name][1])
    own = state_dict(source, f"{name}/") or load(name)
    return source | own


def model(**overrides):
    """The network of every golden file of PST: two stages."""
    shape = dict(embed_dim=24, depths=(2, 2), num_heads=(3, 6), drop_path_rate=0.0)
    return pst_jax.create_model("pst_tiny", 10, **(shape | overrides))


def model_of(kind: str, config: np.ndarray, **changes):
    """The network of a kind, as a golden file's config describes it, but for changes."""
    config = json.loads(str(config))
    variant, overrides = KINDS[kind]
    overrides = {ours: config[key] for key, ours in _KEYS.items() if key in config} | overrides
    if "depth" in config:
        is_list = isinstance(config["depth"], list)
        overrides["depths" if is_list else "depth"] = config["depth"]
    if config.get("fold_div"):
        overrides["fold_div"] = config["fold_div"]
    if "s2" in config:
        overrides["levels"] = config["s2"] + config.get("s3", [])
    return pst_jax.create_model(variant, config["num_classes"], **(overrides | changes))
