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
            from those of the original network than rounding.
    """
    folder.check_new(args.dest)
    if args.json and not pathlib.Path(args.json).parent.is_dir():
        raise ValueError(f"--json={args.json}: there is no such folder")
    reference = parity.read_reference(args.parity) if args.parity else None
    source = files.read(args.source, args.key)
    contents, report = convert(source, args)
    report |= {"dest": args.dest, "written": export.write(args.dest, contents, args.weights)}
    lines = []
    if reference is not None:
        lines = parity.compare(contents.make_model(), contents.variables, reference)
    report["parity"] = [vars(line) for line in lines]
    if args.json:
        with whole_files.replacing(pathlib.Path(args.json)) as scratch:
            scratch.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(_summary(report))
    if lines:
        print(parity.table(lines))
        for line in lines:
            difference = line.max_abs if line.layer == "logits" else line.relative
            if not difference <= _TOLERANCE:  # nor NaN
                raise ValueError(
                    f"{line.layer} is {difference:.1e} from {args.parity}, more than {_TOLERANCE}, "
                    "and the first that is: is --arch the network of it?"
                )


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
    preprocess = _preprocess(source, args, arguments["name"], model)
    weights = fit.weights_of(source, model, preprocess.size_px)
    variables, changes = fit.fit(weights, model, seed=args.seed, image_size=preprocess.size_px)
    is_another = bool(args.arch or args.num_classes) or {args.overrides, args.preprocess} != {"{}"}
    contents = ModelFolder(
        arguments,
        variables,
        preprocess,
        _labels(source, args, model.num_classes),
        card.make_card(source, arguments, variables, preprocess, changes, is_another),
    )
    report = {
        "source": str(source.path),
        "kind": source.kind,
        "sha256": source.sha256,
        "model": arguments,
        "remarks": [*source.remarks, *_remarks(contents)],
        "renamed": [{"from": name, "to": path} for path, name in weights.renamed.items()],
        **_by_kind(changes + names.constants(source.arrays)),
    }
    return contents, report


def _arguments(source: Source, args: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments of `create_model`: as said, as the source says, as it shows."""
    overrides = _json_object("--overrides", args.overrides)
    if args.num_classes is not None:
        overrides["num_classes"] = args.num_classes
    if source.arguments and not args.arch:
        return {**source.arguments, **overrides}
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
) -> Preprocess:
    """Returns how clips are taken: as the source says, else as the row's release does."""
    if "preprocess" in source.context:
        found = source.context["preprocess"]
    elif "config" in source.context:
        found = preprocesses.of_run(source.context["config"])
    else:
        found = preprocesses.released(name, model)
    changed = _json_object("--preprocess", args.preprocess)
    return Preprocess.from_json(dataclasses.asdict(found) | changed)


def _labels(source: Source, args: argparse.Namespace, num_classes: int) -> tuple[str, ...]:
    """Returns the names of the classes: as given, as the source says, or numbers."""
    if args.labels:
        return folder.read_labels(args.labels)
    known = source.context.get("labels") or source.context.get("config", {}).get("class_names")
    if known and len(known) == num_classes:
        return tuple(known)
    return tuple(f"{_NUMBERED}{number}" for number in range(num_classes))


def _remarks(contents: ModelFolder) -> list[str]:
    """Says what a user may not expect of the result."""
    if contents.labels[0] != f"{_NUMBERED}0":
        return []
    return ["labels: numbers alone, none are known; name the classes by --labels"]


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
        f"renamed: {len(report['renamed'])} arrays",
    ]
    for kind in _KINDS:
        lines += [f"{kind}: {what}" for what in report[kind][:_NUM_SHOWN]]
        if len(report[kind]) > _NUM_SHOWN:
            lines.append(f"{kind}: {len(report[kind]) - _NUM_SHOWN} more (--json lists all)")
    return "\n".join([*lines, f"wrote: {report['dest']} ({report['written']})"])
