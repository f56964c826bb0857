"""The table of models: one entry per published row, and how a model is made of an entry."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any, Literal

from pst_jax.models import schedules, values
from pst_jax.models.swin import Swin
from pst_jax.models.video import VideoModel
from pst_jax.models.visformer import Visformer
from pst_jax.models.vit import ViT


@dataclasses.dataclass(frozen=True)
class Variant:
    """A row of the table.

    Attributes:
        family: the backbone.
        attributes: of the backbone, where they differ from its defaults.
        mixers: methods by name, joined by "+"; see `schedules`.
        options: of the methods, where they differ from their defaults.
        source: the published row; None where there is none.
        published: (GFLOPs, millions of parameters), with the digits printed; None where they are
            not.
        counted: what the published GFLOPs count.
        published_classes: classes of the published parameters.
    """

    family: type[VideoModel]
    attributes: Mapping[str, Any]
    mixers: str
    source: str | None
    published: tuple[str | None, str | None] = (None, None)
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    counted: Literal["all", "conv + linear"] = "all"
    published_classes: int = 400


_TINY = dict(embed_dim=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24))
_BASE = dict(embed_dim=128, depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32))
_TESTING = dict(embed_dim=16, depths=(2, 2), num_heads=(1, 2), num_frames=8, drop_path_rate=0.0)
# The table spans the clip.
_CLIP = dict(bias_frames="clip")
# As released: moreover, the bias takes the keys' time from the clip's first frame.
_PST = _CLIP | dict(bias_keys="first_frame")
# "Temporal attention window 2": the parameters of PST, so the table spans the clip.
_DAGGER = _CLIP | dict(window=(2, 7, 7))
_VIDEO_SWIN = dict(window=(8, 7, 7), temporal_shift=True, bias_keys="cut")
_VIDEO_SWIN_16 = _VIDEO_SWIN | dict(window=(16, 7, 7))
_NO_TEMPORAL_SHIFT = _VIDEO_SWIN | dict(temporal_shift=False)
_NO_SHIFT = _NO_TEMPORAL_SHIFT | dict(spatial_shift=False)

# Tiles of Table 1 (a). The paper's Figure 2a shows center-one; by how many frames it moves was not
# at hand (1 here), and of "1/4 uneven" only the share (one of 2 x 2 here, all in one direction).
_TILES = {
    "none": ((0,),),
    "center_one": ((0, 0, 0), (0, 1, 0), (0, 0, 0)),
    "uneven": ((0, 0), (0, 1)),
    "even2": ((0, 1), (1, 0)),
    "even3": "A",
}


def _pst_tiny(row: str, **options: Any) -> Variant:
    return Variant(Swin, _TINY | _PST, "pst", f"PST Table 1 {row}", ("72", None), options)


def _swin_tiny(
    mixers: str, row: str | None, gflops: str | None, attributes: Mapping[str, Any] = _CLIP
) -> Variant:
    return Variant(Swin, _TINY | attributes, mixers, row, (gflops, None))


_SWIN = {
    "pst_tiny": Variant(Swin, _TINY | _PST, "pst", "PST: PST-T", ("72", "28.5")),
    "pst_base": Variant(
        Swin, _BASE | _PST, "pst", "PST: PST-B", ("247", "88.8"), published_classes=174
    ),
    "pst_tiny_dagger": Variant(Swin, _TINY | _DAGGER, "pst", "PST: PST-T†", ("74", "28.5")),
    "pst_base_dagger": Variant(
        Swin, _BASE | _DAGGER, "pst", "PST: PST-B†", ("252", "88.8"), published_classes=174
    ),
    "swin2d_tiny": Variant(Swin, _TINY, "none", "PST Table 6: 2D Swin-T", ("72", None)),
    "swin2d_base": Variant(Swin, _BASE, "none", "PST Table 6: 2D Swin-B", ("247", None)),
    "videoswin_tiny": Variant(
        Swin, _TINY | _VIDEO_SWIN, "none", "Video-Swin: Swin-T", ("88", None)
    ),
    "videoswin_base": Variant(
        Swin, _BASE | _VIDEO_SWIN, "none", "Video-Swin: Swin-B", ("282", None)
    ),
    "videoswin_tiny_16": Variant(
        Swin, _TINY | _VIDEO_SWIN_16, "none", "PST: Video-Swin-T", ("106", None)
    ),
    "videoswin_base_16": Variant(
        Swin, _BASE | _VIDEO_SWIN_16, "none", "PST: Video-Swin-B", ("321", None)
    ),
    "videoswin_tiny_no_temporal_shift": Variant(
        Swin, _TINY | _NO_TEMPORAL_SHIFT, "none", "Video-Swin: Swin-T, no temporal shift"
    ),
    "videoswin_tiny_no_shift": Variant(
        Swin, _TINY | _NO_SHIFT, "none", "Video-Swin: Swin-T, no shift"
    ),
    **{
        f"pst_tiny_{name}": _pst_tiny(f"(a): {name.replace('_', ' ')}", pattern=tile)
        for name, tile in _TILES.items()
    },
    **{
        f"pst_tiny_pattern_{name.lower()}": _pst_tiny(f"(b): {name}-{cells}", pattern=name)
        for name, cells in (("A", 3), ("B", 4), ("C", 9), ("D", 16))
    },
    **{
        f"pst_tiny_stages_{'1234'[:last]}": _pst_tiny(
            f"(c): {last} stage{'s' * (last > 1)}", shift_stages=tuple(range(1, last + 1))
        )
        for last in (1, 2, 3, 4)
    },
    **{
        f"pst_tiny_no_{option}": _pst_tiny(f"(d): no {option.replace('_', ' ')}", **{option: False})
        for option in ("shift_back", "alternate", "shift_bias")
    },
    "swin_tiny_avgpool": Variant(
        Swin, _TINY, "none", "PST Table 1 (e): average pool (2D)", ("72", None)
    ),
    "swin_tiny_joint": _swin_tiny("joint", "PST Table 1 (e): joint", "106"),
    "swin_tiny_local": _swin_tiny("local", "PST Table 1 (e): local", "88"),
    "swin_tiny_sparse": _swin_tiny("sparse", "PST Table 1 (e): sparse", "72"),
    # Of "alternate" and "patch only" not more than the names was at hand: here both are a patch
    # shift in every block, and so the same network.
    "swin_tiny_channel": _swin_tiny("tsm", "PST Table 1 (e): channel only", "72", _PST),
    "swin_tiny_patch": _swin_tiny("patch", "PST Table 1 (e): patch only", "72", _PST),
    "swin_tiny_divided": _swin_tiny("divided", None, None),
    "swin_tiny_lg": _swin_tiny("lg", None, None),
    "swin_tiny_axial": _swin_tiny("axial", None, None),
    "pst_testing": Variant(Swin, _TESTING | _PST, "pst", None),
}


def _visformer(
    mixers: str,
    row: str,
    gflops: str,
    mparams: str = "39.8",
    attributes: Mapping[str, Any] | None = None,
    **options: Any,
) -> Variant:
    attributes = attributes or {}
    return Variant(Visformer, attributes, mixers, f"LAPS: {row}", (gflops, mparams), options)


_VISFORMER = {
    "visformer_2d": _visformer("none", "Base2D", "39.1"),
    "visformer_3d": _visformer("joint", "Base3D", "46.5"),
    "visformer_plain_shift": _visformer("plain", "plain shift", "39.1"),
    "visformer_periodic_shift": _visformer("periodic", "periodic shift", "39.1"),
    "visformer_leap": _visformer("leap", "leap attention", "40.1"),
    "laps": _visformer("laps", "LAPS", "40.1"),
    "laps_l": _visformer(
        "laps", "LAPS (L)", "173.0", "40.0", {"num_frames": 16, "image_size": 320}
    ),
    "laps_h": _visformer(
        "laps", "LAPS (H)", "346.0", "40.0", {"num_frames": 32, "image_size": 320}
    ),
    "laps_e": _visformer(
        "laps", "LAPS (E)", "434.0", "40.2", {"num_frames": 32, "image_size": 360}
    ),
    **{
        f"laps_levels_{''.join(map(str, levels))}": _visformer(
            "laps", f"pyramid R = {list(levels)}", "40.1", levels=levels
        )
        for levels in ((3, 3, 3), (2, 2, 2), (1, 1, 1), (1, 2, 3))
    },
}

_LARGE = dict(embed_dim=1024, depth=24, num_heads=16, image_size=384)
_DEIT_SMALL = dict(embed_dim=384, num_heads=6, num_frames=16)
_VIT_LEVELS = dict(levels=(1, 2, 3, 1))


def _tokshift(row: str, gflops: str, **attributes: Any) -> Variant:
    source, counted = f"TokShift: {row}", "conv + linear"
    return Variant(ViT, attributes, "tokshift", source, (gflops, None), counted=counted)


def _deit(mixers: str, row: str, **options: Any) -> Variant:
    return Variant(ViT, _DEIT_SMALL, mixers, f"PST Table 7: {row}", ("74", "22"), options)


_VIT = {
    "vit_base": Variant(
        ViT, {}, "none", "TokShift: ViT (Video)", ("134.7", None), counted="conv + linear"
    ),
    "vit_large": Variant(ViT, _LARGE, "none", None),
    "tokshift_base": _tokshift("B 8x224", "134.7"),
    "tokshift_base_16": _tokshift("B 16x224", "269.5", num_frames=16),
    "tokshift_base_256": _tokshift("B 8x256", "175.8", image_size=256),
    "tokshift_base_384": _tokshift("B 8x384", "394.7", image_size=384),
    "tokshift_large": _tokshift("L 8x384", "1397.6", **_LARGE),
    "tokshift_large_12": _tokshift("L 12x384", "2096.4", num_frames=12, **_LARGE),
    "vit_laps_base": Variant(ViT, {}, "laps", "LAPS: ViT-B 8x224", options=_VIT_LEVELS),
    "vit_laps_base_384": Variant(
        ViT, {"image_size": 384}, "laps", "LAPS: ViT-B 8x384", options=_VIT_LEVELS
    ),
    "vit_laps_large": Variant(ViT, _LARGE, "laps", "LAPS: ViT-L 8x384", options=_VIT_LEVELS),
    "deit_small": _deit("none", "DeiT-S 2D"),
    "deit_small_tsm": _deit("tsm", "DeiT-S TSM", shift_blocks="odd"),
    "deit_small_tps": _deit("patch", "DeiT-S TPS", shift_blocks="odd"),
}

VARIANTS: dict[str, Variant] = _SWIN | _VISFORMER | _VIT

# Set by the table, not by a caller.
_FIXED = ("bias_frames", "num_classes", "parent", "name")


def list_models() -> list[str]:
    """Returns the names that `create_model` knows, sorted."""
    return sorted(VARIANTS)


def create_model(name: str, num_classes: int = 400, **overrides: Any) -> VideoModel:
    """Makes a model of the variant table.

    Args:
        name: one of `list_models()`.
        num_classes: classes of the head.
        **overrides: attributes of the backbone (see `Swin`, `ViT`, `Visformer`); `mixers`, methods
            by name, joined by "+" (see `schedules`), on any backbone; and options of the methods
            (`pattern`, `shift_stages`, `shift_blocks`, `shift_back`, `alternate`, `shift_bias`,
            `fold_div`, `levels`). The default is the published row.

    Returns:
        A linen module: `init(rng, video, train=False)` gives its variables,
        `apply(variables, video, train=False)` logits float32 [B, num_classes], and with
        `method=model.features` the last tokens.

    Raises:
        ValueError: for an unknown name or override, or a value that does not fit.
    """
    if not isinstance(name, str) or name not in VARIANTS:
        raise ValueError(f"model {name!r} is unknown{nearest(str(name), VARIANTS)}")
    try:
        return _make(VARIANTS[name], num_classes, overrides)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _make(variant: Variant, num_classes: int, overrides: Mapping[str, Any]) -> VideoModel:
    fields = {f.name: f for f in dataclasses.fields(variant.family) if f.name not in _FIXED}
    overrides = {key: values.freeze(value) for key, value in overrides.items()}
    values.check(overrides | {"num_classes": num_classes}, fields)
    mixers = overrides.pop("mixers", variant.mixers)
    options = schedules.options_of(mixers)
    for key in overrides:
        if key not in fields and key not in options:
            known = nearest(key, (fields.keys() | options) - {"mixers"} | {"mixers"})
            raise ValueError(f"no override {key!r} (with mixers={mixers!r}){known}")
    attributes = dict(variant.attributes)
    attributes |= {key: value for key, value in overrides.items() if key in fields}
    if "dtype" in attributes:
        attributes["dtype"] = values.float_dtype(attributes["dtype"])
    model = variant.family(num_classes=num_classes, mixers=(), **attributes)
    model.check_attributes()
    chosen = {key: value for key, value in overrides.items() if key in options}
    depths, window = model.attention_stages
    _check(model, chosen)
    if mixers == variant.mixers:  # the row's options are for its own methods
        chosen = dict(variant.options) | chosen
    planned = schedules.schedule(mixers, depths, model.num_tokens, window, **chosen)
    for mixer in (mixer for stage in planned for block in stage for mixer in block):
        mixer.check_frames(model.num_tokens)
    return _fit_bias(model.clone(mixers=planned), "bias_keys" in overrides)


def _check(model: VideoModel, options: Mapping[str, Any]) -> None:
    """Raises ValueError where the MLP has no width, or options name what the network lacks."""
    if int(model.embed_dim * model.mlp_ratio) < 1:
        raise ValueError(
            f"mlp_ratio={model.mlp_ratio} leaves an MLP without width: use a larger one"
        )
    depths, _ = model.attention_stages
    stages, levels = options.get("shift_stages", ()), options.get("levels") or ()
    if any(stage > len(depths) for stage in stages):
        raise ValueError(
            f"shift_stages={stages}: stages with attention are 1 to {len(depths)}; leave out others"
        )
    if len(levels) > sum(depths):
        raise ValueError(
            f"levels={levels} are more than the {sum(depths)} blocks with attention: give at most "
            "one for each"
        )


def _fit_bias(model: VideoModel, is_keys_chosen: bool) -> VideoModel:
    """Makes a Swin's bias fit its mixers: over the clip, and with own keys, where they need it."""
    if not isinstance(model, Swin):
        return model
    mixers = [mixer for stage in model.mixers for block in stage for mixer in block]
    if any(mixer.pattern or not isinstance(mixer.partition.frames, int) for mixer in mixers):
        model = model.clone(bias_frames="clip")
    is_clip = model.bias_frames == "clip"
    fits = {
        "own": True,
        "first_frame": is_clip and all(mixer.partition.is_of_frames for mixer in mixers),
        "cut": not is_clip,
    }
    if fits[model.bias_keys]:
        return model
    if is_keys_chosen:
        raise ValueError(
            f"bias_keys={model.bias_keys!r} was not released for this network: 'first_frame' needs "
            "a bias table over the clip and groups of one frame, 'cut' a table over the window; "
            "use 'own'"
        )
    return model.clone(bias_keys="own")


def nearest(key: str, known: Any) -> str:
    """Returns the tail of an error message: the nearest known name, and all of them."""
    close = difflib.get_close_matches(key, list(known), n=1)
    hint = f"; did you mean {close[0]!r}?" if close else "."
    return f"{hint} Known: {', '.join(sorted(known))}"
