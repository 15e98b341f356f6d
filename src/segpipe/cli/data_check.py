"""`segpipe data check` and `segpipe data kinds`: find faults in labelled images before a training."""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segpipe.cli.arguments import guide
from segpipe.cli.data_source import add_source_arguments, choose_source, read_sources
from segpipe.cli.pages import refuse_foreign
from segpipe.cli.table import table
from segpipe.config.preprocess import Split
from segpipe.errors import MAX_PROBLEMS_SHOWN, SourceError, fold_problems
from segpipe.faults import KINDS
from segpipe.places import CHECK_PAGE
from segpipe.stages.stage import writing_alone

if TYPE_CHECKING:
    from segpipe.data.building.build import Built
    from segpipe.data.sources.source import Source
    from segpipe.reports.problems import ProblemGroup

WITHOUT_SPLITS = frozenset({"split-empty"})


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `check` and `kinds` to the commands of `segpipe data`."""
    about = "look for faulty images and labels in a source; exit code 1 if one would stop a training"
    check = commands.add_parser("check", help=about, description=about.capitalize() + ".")
    add_source_arguments(check)
    check.add_argument(
        "--output", type=Path, default=CHECK_PAGE, metavar="FOLDER", help=f"folder of the page (default {CHECK_PAGE})"
    )
    check.add_argument(
        "--fix",
        action="store_true",
        help="count safe fixes as done, as with preprocess.policy.fix; SOURCE stays as it is",
    )
    guide(check, "data check photos --format folder", "docs/data-faults.md")
    check.set_defaults(run=_check)
    kinds = commands.add_parser("kinds", help="list the kinds of faults: what each means, its consequence, its fix")
    guide(kinds, "data kinds", "docs/data-faults.md")
    kinds.set_defaults(run=_list_kinds)


def _check(options: argparse.Namespace) -> None:
    from segpipe.data.building.build import build_store
    from segpipe.data.sources.joining import join_sources
    from segpipe.files import whole_folder
    from segpipe.reports.problems import write_check_report

    refuse_foreign(options.output, "report.json", "report.html", "pictures")
    choice, settings, mapping = choose_source(options)
    if options.fix:
        settings = settings.model_copy(update={"policy": settings.policy.model_copy(update={"fix": True})})
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".check.", dir=options.output.parent) as scratch:
        sources = read_sources(choice, Path(scratch))
        source = join_sources(sources, settings.classes, settings.ignore)
        if options.source is not None and any(sample.official_split == "test" for sample in source.samples):
            settings = settings.model_copy(update={"split": Split(val="source", test="source")})
        store = Path(scratch, "store")
        store.mkdir()
        built = build_store(source, sources[""][0], settings, store, {}, None, mapping)
        if options.source is not None:
            built = _without_splits(built)
        with writing_alone(options.output), whole_folder(options.output) as folder:
            num_samples, num_used = len(source.samples), len(built.manifest)
            groups = write_check_report(folder, choice.source, built.findings, num_samples, num_used)
    _tell(groups, source, built, options)
    if problems := built.of_action("fail"):
        noun = "problem" if len(problems) == 1 else "problems"
        raise SourceError(f"{choice.source}: {len(problems)} {noun} would stop a training; see the lines above")


def _without_splits(built: "Built") -> "Built":
    """Drops the findings about empty splits: params.yaml decides the splits, and SOURCE is checked without it."""
    from dataclasses import replace

    return replace(built, findings=tuple(f for f in built.findings if f.problem.kind not in WITHOUT_SPLITS))


def _tell(groups: "Sequence[ProblemGroup]", source: "Source", built: "Built", options: argparse.Namespace) -> None:
    from segpipe.data.building.advice import advise

    for group in groups:
        print(f"\n{group.name}: {group.kind.meaning} ({len(group.shown)}, {group.consequence})")
        folded = fold_problems(one.problem for one in group.shown)
        for line, _ in folded[:MAX_PROBLEMS_SHOWN]:
            print(f"  {line}")
        if rest := folded[MAX_PROBLEMS_SHOWN:]:
            print(f"  and {sum(len(equal) for _, equal in rest)} more on the page")
    if advice := advise(source, [*built.of_action("fail"), *built.of_action("skip")]):
        print(f"\n{advice}")
    print(
        f"\n{len(built.manifest)} of {len(source.samples)} samples can be used. Page: {options.output / 'report.html'}"
    )
    if options.fix:
        print("To have `preprocess` make these fixes, write into params.yaml:  preprocess: {policy: {fix: true}}")


def _list_kinds(options: argparse.Namespace) -> None:
    rows = [("kind", "meaning", "default action", "other actions", "with policy.fix")]
    for name, kind in KINDS.items():
        others = ", ".join(action for action in kind.allowed if action != kind.action)
        rows.append((name, kind.meaning, kind.action, others, kind.safe_fix or "-"))
    print("\n".join(table(rows)))
