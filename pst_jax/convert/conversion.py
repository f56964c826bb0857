"""The conversion command: from a source to a destination, with a report of what was changed."""

import argparse
import dataclasses
import json
import pathlib
from typing import Any

from pst_jax import files as whole_files
from pst_jax.convert import architecture, card, export, files, fit, folder, names, parity
from pst_jax.convert import preprocess as preprocesses
from pst_jax.convert.files import Source
from pst_jax.convert.folder import ModelFolder
from pst_jax.convert.preprocess import Preprocess
from pst_jax.files import check_writable, printable
from pst_jax.models import schedules
from pst_jax.models.variants import create_model
from pst_jax.models.video import VideoModel

_TOLERANCE = 1e-4
_NUM_SHOWN = 5
_NUMBERED = "class "
_KINDS = ("inflated", "resized", "copied", "dropped", "new")


def run(args: argparse.Namespace) -> None:
    """Converts `args.source` to `args.dest`, prints what was changed, and writes the report.

    Args:
        args: of the command, see `__main__`.

    Raises:
        ValueError: if it cannot be read, told, fitted or written, or where the outputs are further
            from those of the original network than rounding; nothing is written then.
    """
    export.check(args.dest, args.weights)
    _check_json(args)
    reference = parity.read_reference(args.parity) if args.parity else None
    contents, report = convert(files.read(args.source, args.key), args)
    if reference is not None:
        contents, report["parity"] = _compare(contents, reference, args.parity)
    report |= {"dest": args.dest, "written": export.write(args.dest, contents, args.weights)}
    if args.json:
        with whole_files.replacing(pathlib.Path(args.json)) as scratch:
            scratch.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(_summary(report))


def convert(source: Source, args: argparse.Namespace) -> tuple[ModelFolder, dict[str, Any]]:
    """Makes a model of weights as they were found.

    Args:
        source: of `files.read`.
        args: of the command.

    Returns:
        The model, and what the report says of it.

    Raises:
        ValueError: if the network cannot be told, or the weights do not fit it.
    """
    arguments = _arguments(source, args)
    model = create_model(**arguments)
    arguments["num_classes"] = model.num_classes
    preprocess, is_assumed = _preprocess(source, args, arguments["name"], model)
    weights = fit.weights_of(source, model, preprocess.size_px)
    variables, changes = fit.fit(weights, model, seed=args.seed, image_size=preprocess.size_px)
    new = [line.removeprefix("new: ").split()[0] for line in changes if line.startswith("new: ")]
    is_another = bool(args.arch or args.num_classes) or {args.overrides, args.preprocess} != {"{}"}
    labels, are_numbers = _labels(source, args, model.num_classes)
    contents = ModelFolder(
        arguments,
        variables,
        preprocess,
        labels,
        card.make_card(source, arguments, variables, preprocess, changes, is_another),
        tuple(dict.fromkeys([*source.context.get("untrained", ()), *new])),
    )
    report = {
        "source": str(source.path),
        "kind": source.kind,
        "sha256": source.sha256,
        "model": arguments,
        "preprocess": dataclasses.asdict(preprocess),
        "remarks": [*source.remarks, *_remarks(contents, is_assumed, are_numbers)],
        "renamed": [
            {"from": name, "to": path} for path, name in weights.renamed.items() if path not in new
        ],
        **_by_kind(changes + names.constants(source.arrays)),
    }
    return contents, report


def _remarks(contents: ModelFolder, is_assumed: bool, are_numbers: bool) -> list[str]:
    """Says what was not known, and so may not be what the user thinks."""
    name, lines = contents.arguments["name"], []
    if is_assumed:
        lines.append(
            f"clips: {contents.preprocess}, by the recipe of {name}; --preprocess changes it"
        )
    if are_numbers:
        lines.append("labels: numbers alone, none are known; name the classes by --labels")
    if contents.untrained:
        names = ", ".join(contents.untrained)
        lines.append(f"untrained: {names}; to start from (init_from), not to predict with")
    return lines


def _compare(
    contents: ModelFolder, reference: dict[str, Any], name: str
) -> tuple[ModelFolder, list[dict[str, Any]]]:
    """Compares a model with the outputs of the original, and prints how they differ.

    Returns:
        The model, its card with the result, and the lines of the report.

    Raises:
        ValueError: if they differ by more than rounding.
    """
    lines = parity.compare(contents.make_model(), contents.variables, reference)
    print(parity.table(lines))
    worst = 0.0
    for line in lines:
        # Of logits below 1, as they are: their share of hardly anything says nothing.
        difference = min(line.max_abs, line.relative) if line.layer == "logits" else line.relative
        if not difference <= _TOLERANCE:  # nor NaN
            raise ValueError(
                f"{line.layer} differs from {name} by {difference:.1e} of its largest value, more "
                f"than {_TOLERANCE}, and is the first that does: is --arch the network of it? "
                "Nothing is written"
            )
        worst = max(worst, difference)
    verdict = f"parity: equal to {pathlib.Path(name).name} within {worst:.1e} ({len(lines)} layers)"
    print(printable(verdict))
    card_text = contents.card.replace("\n\n## Accuracy", f"\n- {verdict}\n\n## Accuracy", 1)
    return dataclasses.replace(contents, card=card_text), [vars(line) for line in lines]


def _check_json(args: argparse.Namespace) -> None:
    """Raises ValueError where the report could not be written, or would overwrite weights."""
    if args.json is None:
        return
    if not args.json.endswith(".json"):
        raise ValueError(f"--json={args.json}: name a file that ends in .json")
    check_writable(args.json)


def _arguments(source: Source, args: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments of `create_model`: as said, as the source says, as it shows."""
    overrides = _json_object("--overrides", args.overrides)
    if args.num_classes is not None:
        overrides["num_classes"] = args.num_classes
    if source.arguments and not args.arch:
        kept = dict(source.arguments)
        if "mixers" in overrides:  # the options of the source's own are not for them
            for option in schedules.options_of("+".join(schedules.METHODS)):
                kept.pop(option, None)
        return kept | overrides
    if not source.is_ours:
        return architecture.describe(source.arrays, args.arch, overrides)
    if not args.arch:
        raise ValueError(f"{source.path} does not say which network it is: give --arch")
    return {"name": args.arch, **overrides}


def _json_object(flag: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
        if isinstance(value, dict):
            return value
        reason = f"it is a {type(value).__name__}"
    except ValueError as error:
        reason = str(error)
    raise ValueError(f"{flag}={text!r} must be a JSON object, such as '{{\"key\": 1}}': {reason}")


def _preprocess(
    source: Source, args: argparse.Namespace, name: str, model: VideoModel
) -> tuple[Preprocess, bool]:
    """Returns how clips are taken, and whether the row's recipe was assumed for want of a word."""
    is_assumed = False
    if "preprocess" in source.context:
        found = source.context["preprocess"]
    elif "config" in source.context:
        found = preprocesses.of_run(source.context["config"])
    else:
        found, is_assumed = preprocesses.released(name, model), True
    changed = _json_object("--preprocess", args.preprocess)
    return Preprocess.from_json(dataclasses.asdict(found) | changed), is_assumed


def _labels(
    source: Source, args: argparse.Namespace, num_classes: int
) -> tuple[tuple[str, ...], bool]:
    """Returns the names of the classes, and whether they are numbers for want of names."""
    if args.labels:
        return folder.read_labels(args.labels), False
    known = source.context.get("labels") or source.context.get("config", {}).get("class_names")
    if known and len(known) == num_classes:
        return tuple(known), known[0] == f"{_NUMBERED}0"
    return tuple(f"{_NUMBERED}{number}" for number in range(num_classes)), True


def _by_kind(changes: list[str]) -> dict[str, list[str]]:
    kinds = {kind: [] for kind in _KINDS}
    for line in changes:
        kind, _, what = line.partition(": ")
        kinds[kind].append(what)
    return kinds


def _summary(report: dict[str, Any]) -> str:
    model = dict(report["model"])
    name, classes = model.pop("name"), model.pop("num_classes")
    lines = [
        f"read: {report['source']} ({report['kind']})",
        f"network: {name}, {classes} classes{', with ' + json.dumps(model) if model else ''}",
        *report["remarks"],
    ]
    if report["renamed"]:
        lines.append(f"renamed: {len(report['renamed'])} arrays")
    for kind in _KINDS:
        lines += [f"{kind}: {what}" for what in report[kind][:_NUM_SHOWN]]
        if len(report[kind]) > _NUM_SHOWN:
            lines.append(f"{kind}: {len(report[kind]) - _NUM_SHOWN} more (--json lists all)")
    lines.append(f"wrote: {report['dest']} ({report['written']})")
    return "\n".join(map(printable, lines))
