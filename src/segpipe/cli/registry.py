"""`segpipe registry`: lists versions, says why one is the champion, and changes the champion."""

import argparse
import contextlib
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segpipe.cli.arguments import add_subcommands, guide
from segpipe.cli.pages import refuse_foreign
from segpipe.cli.table import table
from segpipe.config.reading import load_section
from segpipe.config.register import Register
from segpipe.errors import TrackingError
from segpipe.places import DATASET, EXPORTS, PAGES
from segpipe.tracking.tags import DECISION, ENVIRONMENT_PREFIX, LEDGER_ENTRY, REASONS, VAL_IOU_PREFIX, VAL_MEAN_IOU

if TYPE_CHECKING:
    from segpipe.reports.documents.comparison import ComparedVersion, VersionComparison
    from segpipe.reports.documents.versions import LedgerEntry, ShownVersion

PAGE = "docs/registry.md"
COMPARISON_FILE, LINEAGE_FILE = "comparison.json", "lineage.json"
NUM_LISTED = 50
SHOWN_VERSIONS = {"python", "torch", "cuda", "cudnn", "driver"}


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `registry` and its subcommands."""
    parser = commands.add_parser("registry", help="versions, champion, ledger")
    guide(parser, "registry list", PAGE)
    below = add_subcommands(parser)

    def add(name: str, run: Any, about: str, example: str = "") -> argparse.ArgumentParser:
        command = below.add_parser(name, help=about, description=about.capitalize() + ".")
        command.add_argument("--json", action="store_true", help="print one JSON document")
        guide(command, f"registry {name} {example}".rstrip(), PAGE)
        command.set_defaults(run=run, change=name)
        return command

    version = "its number, or 'champion'"
    listing = add("list", _list, "list the newest versions and the champion")
    listing.add_argument("--all", action="store_true", help=f"list all versions, not only the newest {NUM_LISTED}")
    show = add("show", _show, "print everything that the registry holds about a version", "champion")
    show.add_argument("version", metavar="VERSION", help=version)
    show.add_argument("--all", action="store_true", help="list all packages of the training's environment")
    compare = add(
        "compare", _compare, "compare two versions on the same validation images; writes a page", "champion 2"
    )
    compare.add_argument("first", metavar="FIRST", help=version)
    compare.add_argument("second", metavar="SECOND", help=version)
    compare.add_argument(
        "--output", type=Path, metavar="FOLDER", help="folder of the page (default pages/compare-FIRST-SECOND)"
    )
    trust = "run the code stored with a model even where no published commit has the same code"
    compare.add_argument("--trust", action="store_true", help=trust)
    promote = add("promote", _change, "make a version the champion by hand", "2 --why 'better at night'")
    promote.add_argument("version", metavar="VERSION", help=version)
    promote.add_argument("--why", required=True, type=_reason, metavar="TEXT", help="the reason, for the ledger")
    rollback = add(
        "rollback", _change, "make the previous champion the champion again, and pin it", "--why 'misses poles'"
    )
    rollback.add_argument(
        "--why", type=_reason, default="Rolled back by hand.", metavar="TEXT", help="the reason, for the ledger"
    )
    pin = add("pin", _change, "keep the champion, whatever the gate decides, until unpin", "champion")
    pin.add_argument("version", metavar="VERSION", help=version)
    pin.add_argument(
        "--why", type=_reason, default="Pinned by hand.", metavar="TEXT", help="the reason, for the ledger"
    )
    unpin = add("unpin", _change, "let the gate promote again", "--why 'new labels'")
    unpin.add_argument(
        "--why", type=_reason, default="Unpinned by hand.", metavar="TEXT", help="the reason, for the ledger"
    )
    add("history", _history, "print the ledger and verify it; exit code 1 if an entry was changed")
    rebuild = add("rebuild", _rebuild, "train a version again from its lineage alone; compare the weights", "champion")
    rebuild.add_argument("version", metavar="VERSION", help=version)
    rebuild.add_argument("--keep", type=Path, metavar="FOLDER", help="a new folder for the rebuilt files")
    lineage = add("lineage", _lineage, "write a page about a version: data, training, scores, decisions", "champion")
    lineage.add_argument("version", metavar="VERSION", help=version)
    lineage.add_argument("--output", type=Path, metavar="FOLDER", help="folder of the page (default pages/version-V)")


def _reason(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("must not be empty")
    return text.strip()


@contextlib.contextmanager
def _registry() -> Iterator[tuple[Any, Register]]:
    """Connects to MLflow; what MLflow prints goes to standard error, because standard output is for our lines."""
    from segpipe.tracking.client import connect, refusals

    settings = load_section(Register)  # all sections would import the augmentations, and with them OpenCV
    with contextlib.redirect_stdout(sys.stderr):
        client = connect()
        with refusals("the registry"):
            yield client, settings


def _print(options: argparse.Namespace, document: Mapping[str, object], lines: Sequence[str]) -> None:
    print(json.dumps(document, indent=2) if options.json else "\n".join(lines))


def _interval(low: float | None, high: float | None, sign: str = "") -> str:
    return "-" if low is None or high is None else f"{low:{sign}.4f} to {high:{sign}.4f}"


def _warn(warnings: Sequence[str]) -> list[str]:
    return [f"warning: {warning}" for warning in warnings]


def _list(options: argparse.Namespace) -> None:
    from segpipe.registry.versions import list_versions

    with _registry() as (client, settings):
        document = list_versions(client, settings.model_name, None if options.all else NUM_LISTED)
    if not document.versions and not options.json:
        raise TrackingError(f"MLflow holds no version of {settings.model_name!r}; run `dvc repro` first")
    champion = "pinned champion" if document.is_pinned else "champion"
    rows: list[list[object]] = [["version", "created", "mIoU", "95% interval", "decision", "commit", "MB", ""]]
    rows += [
        [
            version.version,
            version.created,
            version.mean_iou,
            _interval(version.low, version.high),
            version.decision,
            (version.commit or "-")[:12] + ("+changes" if version.is_dirty else ""),
            _number(version.size_mb, ".2f"),
            champion if version.is_champion else "",
        ]
        for version in document.versions
    ]
    _print(options, document.to_json(), [*table(rows), *_warn(document.warnings)])


def _show(options: argparse.Namespace) -> None:
    from segpipe.registry.versions import describe_version, find_version

    with _registry() as (client, settings):
        document = describe_version(client, find_version(client, settings.model_name, options.version))
    tags = {name: value for name, value in document.tags.items() if not _is_printed_elsewhere(name)}
    packages = {} if options.all else {name: value for name, value in tags.items() if _is_package(name, value)}
    shown = {name: value for name, value in tags.items() if name not in packages}
    folded = [f"{len(packages)} more packages: `segpipe registry show {document.version} --all`"] if packages else []
    place = ", the champion" if document.is_champion else ""
    place += ", pinned" if document.is_pinned else ""
    lines = [
        f"{document.model_name} version {document.version}{place}: {document.decision}",
        *document.reasons,
        "",
        *table(_score_rows(document)),
        "",
        *_lines_of(document.params),
        "",
        *_lines_of(shown),
        *folded,
        *(
            f"export to {form}: models:/{document.model_name}/{document.version}/{EXPORTS}/{form}"
            for form in document.exports
        ),
        "",
        *[line for entry in document.ledger for line in _tell(entry)],
        *_warn(document.warnings),
    ]
    _print(options, document.to_json(), lines)


def _score_rows(document: "ShownVersion") -> list[list[object]]:
    from segpipe.tracking.names import metric_name

    test = document.test
    rows: list[list[object]] = [
        ["IoU", "validation", "test"],
        ["mIoU", document.mean_iou, test.get("mean_iou")],
        [
            "95% interval",
            _interval(document.low, document.high),
            _interval(test.get("mean_iou_low"), test.get("mean_iou_high")),
        ],
    ]
    return rows + [[name, iou, test.get(f"iou_{metric_name(name)}")] for name, iou in document.iou.items()]


def _lines_of(values: Mapping[str, str]) -> list[str]:
    width = max(map(len, values), default=0)
    return [f"{name.ljust(width)}  {value}" for name, value in values.items()]


def _is_package(tag: str, value: str) -> bool:
    """Whether a tag gives the version of a package other than torch."""
    name = tag.removeprefix(ENVIRONMENT_PREFIX)
    is_version = re.match(r"\d+(\.\d+)+", value) is not None
    return name != tag and is_version and name not in SHOWN_VERSIONS


def _is_printed_elsewhere(tag: str) -> bool:
    """Whether `show` prints the tag's content in another part."""
    return tag.startswith((VAL_MEAN_IOU, VAL_IOU_PREFIX, REASONS, DECISION, LEDGER_ENTRY))


def _tell(entry: "LedgerEntry") -> list[str]:
    before, after = entry.champion_before or "none", entry.champion_after or "none"
    move = f"champion {after}" if before == after else f"champion {before} -> {after}"
    pinned = ", pinned" if entry.is_pinned else ""
    head = f"{entry.number:>4}  {entry.time}  {entry.who}  version {entry.version or '-'} {entry.action}"
    return [f"{head}  ({move}{pinned})", *(f"      {reason}" for reason in entry.reasons)]


def _compare(options: argparse.Namespace) -> None:
    from segpipe.files import whole_folder, write_json
    from segpipe.registry.describing.comparison import compare_versions
    from segpipe.registry.versions import find_version
    from segpipe.reports.comparison import write_comparison_page

    with _registry() as (client, settings):
        first = find_version(client, settings.model_name, options.first)
        second = find_version(client, settings.model_name, options.second)
        output = options.output or PAGES / f"compare-{first.version}-{second.version}"
        refuse_foreign(output, COMPARISON_FILE, "index.html", "*.png")
        with whole_folder(output) as folder:
            document = compare_versions(
                client, first, second, DATASET, settings.num_block_images, folder, options.trust
            )
            write_comparison_page(folder, document)
            write_json(folder / COMPARISON_FILE, document.to_json())
    _print(options, document.to_json(), [*_tell_comparison(document), "", f"Page: {output / 'index.html'}"])


def _tell_comparison(document: "VersionComparison") -> list[str]:
    one, two = document.versions
    names = [f"version {one.version}", f"version {two.version}"]
    rows: list[list[object]] = [["IoU", *names, "difference", "95% interval"]]
    named = [("mIoU", document.mean_iou), *((row.name, row) for row in document.classes)]
    for name, row in named:
        difference = "-" if row.difference is None else f"{row.difference:+.4f}"
        rows.append([name, row.first, row.second, difference, _interval(row.low, row.high, "+")])
    costs: list[list[object]] = [
        ["", *names],
        ["ms an image (80% of calls)", *(_latency(version) for version in (one, two))],
        ["MB", *(_number(version.size_mb, ".2f") for version in (one, two))],
        ["parameters", *(_number(version.num_parameters, ",") for version in (one, two))],
    ]
    probability, images = document.mean_iou.probability, document.set
    judged = "" if probability is None else f"; version {two.version} is better with probability {probability:.3f}"
    noun = images.kind if images.num_units == 1 else f"{images.kind}s"
    lines = [*table(rows), f"{images.num_images} images in {images.num_units} {noun}{judged}"]
    lines += ["", *table(costs), *document.notes]
    parts = {"data": document.data, "params": document.params, "environment": document.environment}
    for part, differences in parts.items():
        if differences:
            lines += ["", *table([[part, *names], *([row.name, row.first, row.second] for row in differences)])]
    return lines


def _latency(version: "ComparedVersion") -> str:
    """Gives the median, and the range without the fastest and the slowest tenth."""
    if version.latency_low_ms is None:
        return _number(version.latency_ms, ".1f")
    return f"{version.latency_ms:.1f} ({version.latency_low_ms:.1f} to {version.latency_high_ms:.1f})"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _change(options: argparse.Namespace) -> None:
    """Promotes, rolls back, pins or unpins."""
    from segpipe.registry.champion import pin, promote, roll_back, unpin
    from segpipe.registry.describing.card import write_card
    from segpipe.registry.versions import describe_entry, find_version

    with _registry() as (client, settings):
        if "version" in options:
            change = {"promote": promote, "pin": pin}[options.change]
            ledger = change(client, find_version(client, settings.model_name, options.version), options.why)
        else:
            change_any = {"rollback": roll_back, "unpin": unpin}[options.change]
            ledger = change_any(client, settings.model_name, options.why)
        write_card(client, settings.model_name)
    entry = describe_entry(ledger.entries[-1])
    pinned = ", pinned: the gate promotes no version until `segpipe registry unpin`" if entry.is_pinned else ""
    _print(
        options, entry.to_json(), [f"The champion of {ledger.model_name} is version {entry.champion_after}{pinned}."]
    )


def _history(options: argparse.Namespace) -> None:
    from segpipe.registry.champion import find_outside_change
    from segpipe.registry.ledger import read_ledger
    from segpipe.registry.versions import describe_entry
    from segpipe.reports.documents.versions import History

    with _registry() as (client, settings):
        ledger = read_ledger(client, settings.model_name)
        outside = find_outside_change(client, ledger)
    entries = [describe_entry(sealed) for sealed in ledger.entries]
    document = History(
        model_name=ledger.model_name,
        entries=entries,
        head=ledger.head,
        problems=ledger.problems,
        outside_change=outside,
    )
    lines = [line for entry in entries for line in _tell(entry)]
    if not ledger.problems:
        noun = "entry" if len(entries) == 1 else "entries"
        lines.append(f"The chain of {len(entries)} {noun} is intact; its last digest is {ledger.head}.")
    _print(options, document.to_json(), lines + ([f"warning: {outside}"] if outside else []))
    if ledger.problems:
        found = "; ".join(ledger.problems)
        raise TrackingError(f"the ledger of {ledger.model_name!r} was changed after it was written: {found}")


def _rebuild(options: argparse.Namespace) -> None:
    from dataclasses import asdict

    from segpipe.registry.describing.provenance import open_record
    from segpipe.registry.rebuilding.rebuild import rebuild
    from segpipe.registry.versions import find_version

    def say(line: str) -> None:
        print(line, file=sys.stderr)

    with _registry() as (client, settings):
        version = find_version(client, settings.model_name, options.version)
        with open_record(version) as record:
            rebuilt = rebuild(record, Path(), say, options.keep)
    verdict = "identical" if rebuilt.is_identical else "NOT identical"
    lines = [
        f"{settings.model_name} version {rebuilt.version}: {verdict}.",
        f"weights sha256  {rebuilt.weights_sha256}",
        f"rebuilt         {rebuilt.rebuilt_sha256}",
        f"val mIoU        {rebuilt.mean_iou:.4f}, rebuilt {rebuilt.rebuilt_mean_iou:.4f} "
        f"({rebuilt.rebuilt_mean_iou - rebuilt.mean_iou:+.4f})",
        *(f"differs: {difference}" for difference in rebuilt.differences),
    ]
    document = {**asdict(rebuilt), "folder": rebuilt.folder and str(rebuilt.folder)}
    _print(options, document, lines)
    if not rebuilt.is_identical:
        parts = ", ".join(dict.fromkeys(difference.part for difference in rebuilt.differences))
        raise TrackingError(f"version {rebuilt.version} was not rebuilt bit for bit; what differs: {parts}")


def _lineage(options: argparse.Namespace) -> None:
    from segpipe.files import whole_folder, write_json
    from segpipe.registry.describing.provenance import trace_version
    from segpipe.registry.versions import find_version
    from segpipe.reports.lineage import write_lineage_page

    with _registry() as (client, settings):
        version = find_version(client, settings.model_name, options.version)
        output = options.output or PAGES / f"version-{version.version}"
        refuse_foreign(output, LINEAGE_FILE, "index.html")
        document = trace_version(client, version)
    with whole_folder(output) as folder:
        write_lineage_page(folder, document)
        write_json(folder / LINEAGE_FILE, document.to_json())
    _print(options, document.to_json(), [f"Page: {output / 'index.html'}"])
