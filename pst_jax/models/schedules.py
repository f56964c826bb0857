"""Which Mixers each block gets: methods by name, joined by +, over the blocks of a network."""

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from pst_jax.ops.mixing import Mixer
from pst_jax.ops.partitions import Leap, Partition, leap_distance, leap_levels
from pst_jax.ops.temporal_channel_shift import ChannelShift
from pst_jax.ops.temporal_patch_shift import Tile, as_tile

# By stage and block, the mixers of the attentions that follow one another in it.
Mixers = tuple[tuple[tuple[Mixer, ...], ...], ...]
# What a method sets of a block's mixers: fields of Mixer, or several for several attentions.
Fields = dict[str, Any] | tuple[dict[str, Any], ...]
Blocks = Literal["every", "odd"]


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a block stands.

    Attributes:
        stage: from 1, of those with attention.
        block: within the stage, from 0.
        index: among all blocks with attention, from 0.
        num_frames: frames T after embedding.
        window: (frames, rows, columns) of the backbone's windows.
    """

    stage: int
    block: int
    index: int
    num_frames: int
    window: tuple[int, int, int]

    def is_in(self, shift_stages: Sequence[int], shift_blocks: Blocks) -> bool:
        """Tells whether the options let this block shift."""
        return self.stage in shift_stages and (shift_blocks == "every" or self.block % 2 == 1)


def none(place: Place) -> Fields:
    """No frame sees another: the 2D network (or the backbone's own deep windows)."""
    return {}


def tsm(
    place: Place,
    *,
    fold_div: int = 8,
    shift_stages: Sequence[int] = (1, 2, 3, 4),
    shift_blocks: Blocks = "every",
) -> Fields:
    """Channel shift ahead of attention: per head, ends kept. Source: the released PST."""
    on = fold_div and place.is_in(shift_stages, shift_blocks)
    return {"before": ChannelShift(fold_div)} if on else {}


def patch(
    place: Place,
    *,
    pattern: str | Tile = "C",
    shift_stages: Sequence[int] = (1, 2, 3, 4),
    shift_blocks: Blocks = "every",
    shift_back: bool = True,
    shift_bias: bool = True,
) -> Fields:
    """Temporal patch shift. Source: PST (ECCV 2022), Section 3.

    A tile must fit the windows (of the first stage with attention, where they are whole frames);
    on a smaller grid, as in a window that shrinks, its top left part is used.
    """
    tile = as_tile(pattern)
    rows, columns = place.window[1:]
    if len(tile) > rows or len(tile[0]) > columns:
        raise ValueError(
            f"pattern={pattern!r} has {len(tile)} x {len(tile[0])} cells, more than the window "
            f"{(rows, columns)}: use a smaller pattern or a larger window"
        )
    if not place.is_in(shift_stages, shift_blocks):
        return {}
    return {"pattern": tile, "shift_back": shift_back, "shift_bias": shift_bias}


def pst(
    place: Place,
    *,
    pattern: str | Tile = "C",
    shift_stages: Sequence[int] = (1, 2, 3, 4),
    shift_back: bool = True,
    alternate: bool = True,
    shift_bias: bool = True,
    fold_div: int = 8,
) -> Fields:
    """PST: in every stage, even blocks shift channels and odd blocks patches.

    Without `alternate`, our reading of the ablation: every block shifts patches, none channels.

    Source: PST (ECCV 2022), Section 3 and Table 1 (c, d); the order of blocks is the released one.
    """
    shifted = patch(
        place,
        pattern=pattern,
        shift_stages=shift_stages,
        shift_back=shift_back,
        shift_bias=shift_bias,
    )
    if alternate and place.block % 2 == 0:
        return tsm(place, fold_div=fold_div, shift_stages=shift_stages)
    return shifted


def plain(place: Place, *, fold_div: int = 4) -> Fields:
    """Shift of the attention's output, once along all channels. Source: the released LAPS."""
    shift = ChannelShift(fold_div, periods=1, edge="zero", first="next")
    return {"after": shift} if fold_div else {}


def periodic(place: Place, *, fold_div: int = 4) -> Fields:
    """Periodic shift: the same within each head. Source: LAPS (ACM MM 2022), Section 3."""
    shift = ChannelShift(fold_div, periods=None, edge="zero", first="next")
    return {"after": shift} if fold_div else {}


def tokshift(place: Place, *, fold_div: int = 4) -> Fields:
    """Shift of the class token (of all, where there is none) on the residual stream itself.

    Source: TokShift (ACM MM 2021), Section 3; twice per block, as released.
    """
    shift = ChannelShift(fold_div, periods=1, edge="zero", first="next", tokens="class")
    return {"stream": shift} if fold_div else {}


def leap(place: Place, *, levels: Sequence[int | None] | None = None) -> Fields:
    """Leap attention: pairs of frames T // 2**level apart, the levels in turn.

    Args:
        place: the block.
        levels: of the blocks one after another, and again from the first; None for a block that
            attends in single frames. By default all levels that T has, the farthest first: what
            the released configs have.

    Source: LAPS (ACM MM 2022), Section 3.
    """
    levels = leap_levels(place.num_frames) if levels is None else levels
    if not levels:
        raise ValueError(
            f"num_frames={place.num_frames} (after embedding) form no leap pairs at any level: "
            "use an even number"
        )
    for level in levels:
        if level is not None:
            leap_distance(place.num_frames, level)
    level = levels[place.index % len(levels)]
    return {} if level is None else {"partition": Partition(Leap(level))}


def laps(place: Place, *, levels: Sequence[int | None] | None = None, fold_div: int = 4) -> Fields:
    """LAPS: leap attention, then periodic shift. Source: LAPS (ACM MM 2022), Section 3."""
    return leap(place, levels=levels) | periodic(place, fold_div=fold_div)


def joint(place: Place) -> Fields:
    """All frames attend together. Source: TimeSformer (ICML 2021), Section 3; LAPS' Base3D."""
    return {"partition": Partition("all")}


def local(place: Place) -> Fields:
    """Half the clip's neighbouring frames attend together: 8 of 16, as PST's Table 1 (e) counts."""
    return {"partition": Partition("half")}


def sparse(place: Place) -> Fields:
    """Every T-th token of a window's T * N attends together, N in each group.

    PST's Table 1 (e) gives its cost (72 G, as in space only), not its definition: this is the
    strided pattern of Sparse Transformers (2019), which has that cost.
    """
    return {"partition": Partition("all", is_sparse=True)}


def divided(place: Place) -> Fields:
    """Attention over time at each place, then in space. Source: TimeSformer, Section 3 (T + S)."""
    return {"partition": Partition("all", 1, 1)}, {}


def axial(place: Place) -> Fields:
    """Over time, along rows, along columns. Source: TimeSformer, Section 3 (T + W + H)."""
    spans = ("all", 1, 1), (1, 1, "all"), (1, "all", 1)
    return tuple({"partition": Partition(*span)} for span in spans)


def lg(place: Place) -> Fields:
    """Local, then global: half of each side in all frames, then every other token of each axis.

    Sides are those of the backbone's windows. Our block form of TimeSformer's L + G (Section 3),
    whose neighbourhoods slide.
    """
    spans = ("all", "half", "half"), ("every_other",) * 3
    return tuple({"partition": Partition(*span)} for span in spans)


METHODS: dict[str, Callable[..., Fields]] = {
    method.__name__: method
    for method in (
        none, tsm, patch, pst, periodic, plain, tokshift, leap, laps,
        joint, local, sparse, divided, lg, axial,
    )
}  # fmt: skip


def method_names(mixers: str) -> tuple[str, ...]:
    """Splits names joined by "+", such as "pst+leap".

    Raises:
        ValueError: for an unknown name, listing the known ones.
    """
    names = tuple(name.strip() for name in mixers.split("+"))
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        raise ValueError(
            f"mixers={mixers!r}: {unknown[0]!r} is unknown; known, and joined by +: "
            f"{', '.join(METHODS)}"
        )
    return names


def options_of(mixers: str) -> set[str]:
    """Returns the names of the options that methods joined by "+" take."""
    methods = [METHODS[name] for name in method_names(mixers)]
    return {key for method in methods for key in _options(method)}


def _options(method: Callable) -> Iterable[str]:
    parameters = inspect.signature(method).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]


def schedule(
    mixers: str,
    depths: Sequence[int],
    num_frames: int,
    window: tuple[int, int, int],
    **options: Any,
) -> Mixers:
    """Returns the mixers of every block.

    Args:
        mixers: names of `METHODS` joined by "+": what each sets is put together.
        depths: blocks of each stage that has attention.
        num_frames: frames T after embedding.
        window: (frames, rows, columns) of the backbone's windows; a frame's tokens where it has
            none.
        **options: of the methods (`options_of`); those that a method does not take are for the
            others.

    Returns:
        By stage and block, a Mixer for each attention in it.

    Raises:
        ValueError: for an unknown name, an option out of range, or two methods that set the same.
    """
    names = method_names(mixers)
    stages, index = [], 0
    for stage, depth in enumerate(depths, start=1):
        blocks = []
        for block in range(depth):
            place = Place(stage, block, index, num_frames, window)
            found = [
                METHODS[name](
                    place, **{k: options[k] for k in _options(METHODS[name]) if k in options}
                )
                for name in names
            ]
            blocks.append(_join(mixers, found, window[0]))
            index += 1
        stages.append(tuple(blocks))
    return tuple(stages)


def _join(mixers: str, found: list[Fields], depth: int) -> tuple[Mixer, ...]:
    """Puts together what several methods set of one block's mixers."""
    count = max(len(fields) if isinstance(fields, tuple) else 1 for fields in found)
    joined = [{} for _ in range(count)]
    for fields in found:
        each = fields if isinstance(fields, tuple) else (fields,) * count
        if len(each) != count:
            raise ValueError(f"mixers={mixers!r} joins methods of several attentions: use one")
        for mine, theirs in zip(joined, each):
            both = [key for key in mine.keys() & theirs.keys() if mine[key] != theirs[key]]
            if both:
                raise ValueError(f"mixers={mixers!r}: two of them set {both[0]!r}; use one")
            mine |= theirs
    if count > 1 and any(isinstance(f, dict) and "partition" in f for f in found):
        raise ValueError(f"mixers={mixers!r}: two of them set 'partition'; use one")
    return tuple(Mixer(**{"partition": Partition(depth)} | fields) for fields in joined)


def without_shifts(mixers: Mixers) -> Mixers:
    """Returns the mixers with no patch or channel shifted, all else as it was.

    A network of these has the parameters of the given one and runs the same code: what a
    comparison of the two shows is the shifts.
    """
    off = {"pattern": None, "before": None, "after": None, "stream": None}
    return tuple(
        tuple(tuple(dataclasses.replace(mixer, **off) for mixer in block) for block in stage)
        for stage in mixers
    )
