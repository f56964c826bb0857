"""Which classes of a data set a mirror, or playing backwards, exchanges.

Classes are numbers from 0, in the order that the data set itself gives.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pst_jax.data.transforms import Flip


class Exchange(NamedTuple):
    """Pairs of classes that become each other; every other class stays what it is."""

    num_classes: int
    pairs: tuple[tuple[int, int], ...]


# Something-Something: "left to right" and "right to left". Source: mmaction2, its data sets' maps.
# The generated data set: by the names of `motion_scenes`.
_MOTION = ((0, 1), (4, 6), (5, 7))
MIRRORED: Mapping[str, Exchange] = {
    "ssv1": Exchange(174, ((2, 4), (30, 41), (52, 66))),
    "ssv2": Exchange(174, ((86, 87), (93, 94), (166, 167))),
    "motion": Exchange(16, _MOTION),
    "motion_hard": Exchange(20, (*_MOTION, (16, 17), (18, 19))),
}
REVERSED: Mapping[str, Exchange] = {
    "motion": Exchange(16, tuple((k, k + 1) for k in range(0, 16, 2))),
    "motion_hard": Exchange(20, tuple((k, k + 1) for k in range(0, 20, 2))),
}


def resolve(labels: Any, mode: Flip, maps: Mapping[str, Exchange]) -> Any:
    """Turns the name of a data set into the labels that `transforms.changed_label` takes.

    Args:
        labels: a name in `maps`; what is no text (a config's own labels) is returned as it is.
        mode: of `changed_label`.
        maps: `MIRRORED` or `REVERSED`.

    Returns:
        For `swap` the label that each class becomes, for other modes the classes that change.

    Raises:
        ValueError: if the name is unknown.
    """
    if not isinstance(labels, str):
        return labels
    if labels not in maps:
        raise ValueError(
            f"the labels {labels!r} are no data set's: known are {', '.join(maps)}; or give a "
            "tuple of classes"
        )
    num_classes, pairs = maps[labels]
    if mode != "swap":
        return tuple(sorted(label for pair in pairs for label in pair))
    becomes = dict(pairs) | {b: a for a, b in pairs}
    return tuple(becomes.get(label, label) for label in range(num_classes))
