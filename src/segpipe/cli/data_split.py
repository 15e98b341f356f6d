"""`segpipe data split`: proposes which groups to keep out of training."""

import argparse
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from segpipe.cli.table import table
from segpipe.config.params import Config, load_config
from segpipe.config.reading import PARAMS_FILE
from segpipe.errors import ConfigError, DataError, StoreError
from segpipe.files import whole_file
from segpipe.stages.stage import DATASET, LAST_DATASET

if TYPE_CHECKING:
    import pandas as pd

    from segpipe.data.splits.proposal import Proposal

MANIFEST = "manifest.parquet"
CLASS_PREFIX, ATTRIBUTE_PREFIX = "num_px_", "attribute_"
SPLITS = ("val", "test")
LINE_LENGTH = 100


@dataclass(frozen=True)
class Grouping:
    """What names a sample's group.

    Args:
        key: `group_pattern` or `group_column`, of `preprocess` in the parameters.
        value: the regular expression or the column.
    """

    key: str
    value: str


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `split`."""
    about = "propose a split by whole groups in which each class has its share"
    parser = commands.add_parser("split", help=about, description=about.capitalize() + ".")
    parser.add_argument("--val", type=_share, default=0.15, help="share of the samples (default 0.15)")
    parser.add_argument("--test", type=_share, default=0.15, help="share of the samples; 0 for none (default 0.15)")
    parser.add_argument("--by", type=_grouping, help="pattern:REGEX or column:NAME (default: as preprocess did)")
    parser.add_argument("--tie", action="store_true", help="keep groups together that hold images that look alike")
    parser.add_argument("--seed", type=int, default=0, help="another one may propose another split (default 0)")
    parser.add_argument("--manifest", type=Path, help="default: of the last preprocess, even where it failed")
    parser.add_argument("--write", action="store_true", help="write the proposal into params.yaml")
    parser.set_defaults(run=_split)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to below 1 (got {text!r})")
    return value


def _grouping(text: str) -> Grouping:
    kind, _, value = text.partition(":")
    if kind not in ("pattern", "column") or not value:
        raise argparse.ArgumentTypeError(f"must be pattern:REGEX or column:NAME (got {text!r})")
    if kind == "pattern":
        try:
            num_groups = re.compile(value).groups
        except re.error as error:
            raise argparse.ArgumentTypeError(f"must hold a regular expression: {error} (got {value!r})") from error
        if num_groups != 1:
            raise argparse.ArgumentTypeError(f"must have exactly one (group) that names the sequence (got {value!r})")
    return Grouping(f"group_{kind}", value)


def _split(options: argparse.Namespace) -> None:
    from segpipe.data.splits.proposal import find_limits, propose_split, tie_groups

    shares = {name: getattr(options, name) for name in SPLITS if getattr(options, name) > 0}
    if "val" not in shares or sum(shares.values()) >= 1:
        raise ConfigError(f"--val {options.val} --test {options.test}: val must be above 0, and both together below 1")
    manifest = _read_manifest(options.manifest)
    groups = _group(manifest, options.by)
    dealt = tie_groups(manifest.assign(group=groups)) if options.tie else groups
    class_names = [name.removeprefix(CLASS_PREFIX) for name in manifest.columns if name.startswith(CLASS_PREFIX)]
    num_px = manifest[[CLASS_PREFIX + name for name in class_names]].to_numpy("int64")
    proposal = propose_split(num_px, dealt, shares, options.seed)
    lists = {name: list[str]() for name in SPLITS if name in shares}
    for group, key in dict(sorted(zip(groups, dealt, strict=True))).items():
        if proposal.split_of_group[key] in lists:
            lists[proposal.split_of_group[key]].append(group)
    print("\n".join(_describe(proposal, class_names)))
    num_tied = len(set(groups)) - len(set(dealt))
    if num_tied:
        print(f"\n{len(set(groups))} groups count as {len(set(dealt))}, because some hold images that look alike.")
    limits = find_limits(proposal, class_names)
    if limits:
        print("\n" + "\n".join(limits))
    if options.write:
        _write(PARAMS_FILE, options.by, lists)
        print(f"\nWritten into {PARAMS_FILE}; run `dvc repro`.")
    else:
        print(f"\nFor {PARAMS_FILE}:\n\n{format_lines(options.by, lists)}")


def _read_manifest(path: Path | None) -> "pd.DataFrame":
    import pandas as pd

    # The first holds what preprocess counted even where it refused the split.
    places = [path] if path is not None else [LAST_DATASET / MANIFEST, DATASET / MANIFEST]
    existing = [place for place in places if place.is_file()]
    if not existing:
        raise StoreError(f"{places[-1]}: no such file; run `dvc repro preprocess` first: even if it fails, it counts")
    # DVC may have brought another revision's since.
    found = max(existing, key=lambda place: place.stat().st_mtime)
    try:
        manifest = pd.read_parquet(found)
    except (OSError, ValueError) as error:
        raise StoreError(f"{found}: is no manifest: {error}; run `dvc repro preprocess`") from error
    is_counted = any(str(name).startswith(CLASS_PREFIX) for name in manifest)
    if not {"sample_id", "group", "perceptual_hash"} <= set(manifest) or not is_counted or manifest.empty:
        raise StoreError(f"{found}: holds no samples; run `dvc repro preprocess`")
    return manifest


def _group(manifest: "pd.DataFrame", grouping: Grouping | None) -> list[str]:
    """Gives each sample's group.

    Raises:
        DataError: some have none.
        ConfigError: no such column.
    """
    from segpipe.data.splits.split import find_groups_by_pattern

    if grouping is None:
        return [str(group) for group in manifest["group"]]
    if grouping.key == "group_pattern":
        groups, problems = find_groups_by_pattern(manifest["sample_id"].tolist(), grouping.value)
        if problems:
            raise DataError(problems)
        return groups
    columns = [n.removeprefix(ATTRIBUTE_PREFIX) for n in manifest.columns if n.startswith(ATTRIBUTE_PREFIX)]
    if grouping.value not in columns:
        there = f"there are: {', '.join(columns)}" if columns else "the source has no table; give a pattern"
        raise ConfigError(f"--by column:{grouping.value}: no such column; {there}")
    column = manifest[ATTRIBUTE_PREFIX + grouping.value]
    empty = manifest["sample_id"][column.isna() | (column.astype(str) == "")].tolist()
    if empty:
        what = f"{len(empty)} samples have nothing there, the first is {empty[0]}"
        raise ConfigError(f"--by column:{grouping.value}: {what}; fill in the source's table")
    return column.astype(str).tolist()


def _describe(proposal: "Proposal", class_names: Sequence[str]) -> list[str]:
    num_samples = sum(proposal.num_samples)
    counts: list[list[object]] = [["split", "groups", "samples", "share %", "wanted %"]]
    counts += [
        [name, num_groups, count, f"{100 * count / num_samples:.1f}", f"{100 * wanted:.1f}"]
        for name, num_groups, count, wanted in zip(
            proposal.splits, proposal.num_groups, proposal.num_samples, proposal.wanted, strict=True
        )
    ]
    total = proposal.num_px.sum(axis=0)
    deviations = proposal.deviations
    rows: list[list[object]] = [["class", "share %", *proposal.splits]]
    for index, name in enumerate(class_names):
        share = f"{100 * total[index] / max(1, total.sum()):.2f}"
        rows.append([name, share, *(_percent(value) for value in deviations[:, index])])
    about = "How far each class's share of a split is from its share of the whole, in % of the latter:"
    return [*table(counts), "", about, "", *table(rows)]


def _percent(deviation: float) -> str:
    if deviation != deviation:
        return "-"
    return "missing" if deviation == -1 else f"{100 * deviation:+.1f}"


def format_lines(grouping: Grouping | None, lists: Mapping[str, Sequence[str]]) -> str:
    """Gives the lines of YAML that make a split, in the form that DVC's own writer leaves as it is."""
    lines = ["preprocess:"]
    if grouping is not None:
        lines.append(f"  {grouping.key}: {_scalar(grouping.value)}")
    lines.append("  split:")
    lines += [f"    {name}:\n{_list(groups, 4)}" for name, groups in lists.items()]
    return "\n".join(lines)


def _scalar(text: str) -> str:
    """Writes a string so that YAML reads a string: `0016E5` would be a number."""
    if not text.isprintable():
        return json.dumps(text)
    yaml, written = YAML(), io.StringIO()
    yaml.width = len(text) + LINE_LENGTH  # never two lines
    yaml.dump([text], written)
    return written.getvalue().removeprefix("- ").rstrip("\n")


def _list(items: Sequence[str], column: int) -> str:
    return "\n".join(f"{' ' * column}- {_scalar(item)}" for item in items)


def _write(path: Path, grouping: Grouping | None, lists: Mapping[str, Sequence[str]]) -> None:
    """Changes the split in a parameter file and nothing else: comments and layout stay.

    Raises:
        ConfigError: the file is wrong, or laid out so that this cannot be done safely; it stays as it was.
    """
    load_config(path)
    text = path.read_text(encoding="utf-8")
    try:
        edited = edit_split(text, grouping, lists)
        _check_edit(text, edited, grouping, lists)
    except _TooUnusualError as error:
        raise ConfigError(
            f"{path}: cannot be edited safely ({error}); write it yourself:\n{format_lines(grouping, lists)}"
        ) from error
    with whole_file(path) as temporary:
        temporary.write_text(edited, encoding="utf-8")


class _TooUnusualError(Exception):
    """A layout that an edit might break."""


def edit_split(text: str, grouping: Grouping | None, lists: Mapping[str, Sequence[str]]) -> str:
    """Replaces the values of the split in the text of a parameter file.

    Args:
        text: of a valid parameter file.
        grouping: replaces the one that is there; None leaves it.
        lists: the groups of val and, where there is one, test.
    """
    preprocess = _value(YAML(typ="safe", pure=True).compose(text), "preprocess")
    split = _value(preprocess, "split")
    if preprocess is None or split is None or preprocess.flow_style or split.flow_style:
        raise _TooUnusualError("preprocess and preprocess.split must have a line for each key")
    edits: list[tuple[int, int, str]] = []

    def put(section: MappingNode, key: str, items: Sequence[str] | None, scalar: str = "") -> None:
        """Puts a list, or a scalar, '' for null, in the place of a value; what stands behind a key stays there."""
        found = next(((name, node) for name, node in section.value if name.value == key), None)
        if found is None:
            first = section.value[0][0].start_mark
            text_of_key = f"{key}:\n{_list(items, first.column)}" if items else f"{key}: {scalar}"
            if items or scalar:
                edits.append((first.index, first.index, f"{text_of_key}\n{' ' * first.column}"))
            return
        name, node = found
        lines = f"\n{_list(items, name.start_mark.column)}" if items else ""
        if isinstance(node, SequenceNode) and not node.flow_style:  # begins on a line of its own
            edits.append((text.rindex("\n", 0, node.start_mark.index), _end(node), lines))
            if scalar:
                edits.append((name.end_mark.index + 1, name.end_mark.index + 1, f" {scalar}"))
            return
        start, end = node.start_mark.index, _end(node)
        if start == end:  # nothing is there, which is null
            start = end = name.end_mark.index + 1
        edits.append((start, end, scalar if start != end else f" {scalar}".rstrip()))
        if lines:
            line_end = text.find("\n", end)
            line_end = len(text) if line_end < 0 else line_end
            edits.append((line_end, line_end, lines))

    if grouping is not None:
        other = "group_column" if grouping.key == "group_pattern" else "group_pattern"
        put(preprocess, other, None)
        put(preprocess, grouping.key, None, _scalar(grouping.value))
    for name in SPLITS:
        put(split, name, lists.get(name))
    for start, end, value in sorted(edits, reverse=True):
        text = text[:start] + value + text[end:]
    return re.sub(r"[ ]+$", "", text, flags=re.MULTILINE)


def _value(node: Node | None, key: str) -> Any:
    if not isinstance(node, MappingNode):
        return None
    return next((value for name, value in node.value if name.value == key), None)


def _end(node: Node) -> int:
    """Where a value's own text ends; a list with a line for each item claims what follows it, too."""
    if isinstance(node, SequenceNode) and not node.flow_style:
        return _end(node.value[-1])
    return int(node.end_mark.index)


def _check_edit(before: str, after: str, grouping: Grouping | None, lists: Mapping[str, Sequence[str]]) -> None:
    """Verifies that the edited text says what was meant, and keeps each comment."""
    yaml = YAML(typ="safe", pure=True)
    wanted = yaml.load(before)
    wanted["preprocess"]["split"] = {"val": lists["val"], "test": lists.get("test")}
    if grouping is not None:
        wanted["preprocess"] |= {"group_pattern": None, "group_column": None, grouping.key: grouping.value}
    try:
        if Config.model_validate(yaml.load(after)) != Config.model_validate(wanted):
            raise _TooUnusualError("another meaning would result")
    except (YAMLError, ValueError) as error:
        raise _TooUnusualError(str(error)) from error
    lost = [line for line in before.splitlines() if "#" in line and line[line.index("#") :] not in after]
    if lost:
        raise _TooUnusualError(f"a comment would be lost: {lost[0].strip()}")
