"""The model card: where a model comes from, and what was measured of it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tabulate import tabulate

from pst_jax import __version__
from pst_jax.convert import trees
from pst_jax.convert.files import Source
from pst_jax.convert.preprocess import Preprocess
from pst_jax.models.variants import VARIANTS

_REPORT = "report.json"
_NOT_MEASURED = "Not measured of this model."
_PROVENANCE = "Where the weights come from"


def make_card(
    source: Source,
    arguments: Mapping[str, Any],
    variables: Mapping[str, Any],
    preprocess: Preprocess,
    changes: Sequence[str],
    is_another: bool,
) -> str:
    """Writes the card of a converted model, Markdown.

    Args:
        source: where its weights were found.
        arguments: of `create_model`.
        variables: of the model.
        preprocess: how it takes clips.
        changes: lines `kind: what`, of `fit`.
        is_another: whether it is another network, or takes other clips, than the source says; what
            was measured of that does not hold for it.
    """
    num_params = sum(np.size(leaf) for leaf in trees.flatten(variables).values())
    row = VARIANTS[arguments["name"]].source
    overrides = {k: v for k, v in arguments.items() if k not in ("name", "num_classes")}
    clip = preprocess
    parts = [
        f"# {arguments['name']}, {arguments['num_classes']} classes\n",
        f"`pst_jax.create_model`: {arguments['name']}{f' ({row})' if row else ''}"
        f"{f', with {json.dumps(overrides)}' if overrides else ''}. {num_params:,} weights.\n",
        f"## {_PROVENANCE}\n",
        *_provenance(source, changes),
        "\n## Accuracy\n",
        (_NOT_MEASURED if changes or is_another else _accuracy(source)).rstrip("\n"),
        "\n## Clips\n",
        f"{clip}, cut from a shorter side of {clip.short_side_px} px; (pixel - mean) / std with "
        f"mean {list(clip.mean)} and std {list(clip.std)}; views averaged by {clip.average!r}.\n",
        "## Licence\n",
        "That of the source of the weights, and of the data that they were trained on.",
    ]
    return "\n".join(parts) + "\n"


def _provenance(source: Source, changes: Sequence[str]) -> list[str]:
    lines = [f"- `{source.path.name}`, {source.kind}"]
    if source.sha256:
        lines.append(f"- sha256 `{source.sha256}`")
    config = source.context.get("config")
    if config:
        lines += [
            f"- trained by pst_jax, seed {config.get('seed')}; started from "
            f"{config.get('init_from') or 'nothing (random)'}",
            *(f"- {name} list (count:hash) {text}" for name, text in _lists(config)),
        ]
    lines.append(f"- converted by pst_jax {__version__}")
    lines += [f"- {line}" for line in changes if line.startswith("new")]
    counts = {}
    for line in changes:
        kind = line.partition(":")[0]
        counts[kind] = counts.get(kind, 0) + 1
    shown = ", ".join(f"{count} arrays {kind}" for kind, count in counts.items())
    lines.append(f"- {shown or 'no array was changed to fit'}")
    if "card" in source.context:
        lines += ["\nOf that folder:\n", _section(source.context["card"], _PROVENANCE).rstrip()]
    return lines


def _lists(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    return sorted(config.get("fingerprints", {}).items())


def _section(card: str, title: str) -> str:
    """Returns the text of a section of a card."""
    return card.partition(f"\n## {title}\n\n")[2].partition("\n## ")[0].rstrip("\n") + "\n"


def _accuracy(source: Source) -> str:
    """Returns what eval.py has measured of exactly these weights, or that nothing was."""
    if "card" in source.context:
        return _section(source.context["card"], "Accuracy")
    try:
        report = json.loads((source.path / _REPORT).read_text(encoding="utf-8"))
        if report["step"] != source.context["step"]:
            return f"Not measured after step {source.context['step']}; run eval.py first.\n"
        rows = [
            {
                "views": row["views"],
                "average": row["average"],
                "top-1 %": f"{row['top1'] * 100:.2f}",
                "top-5 %": f"{row['top5'] * 100:.2f}",
                "videos": row["num_read"],
            }
            for row in report["evaluations"]
        ]
        table = tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)
        return f"Of step {report['step']} on the test list {report['fingerprint']}:\n\n{table}\n"
    except (OSError, KeyError, TypeError, ValueError):
        return _NOT_MEASURED
