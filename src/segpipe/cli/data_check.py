"""`segpipe data check` and `segpipe data kinds`: find faults in labelled images before a training."""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segpipe.choices import READERS
from segpipe.cli.arguments import option
from segpipe.cli.pages import refuse_foreign
from segpipe.cli.table import table
from segpipe.config.download import Download, Images, SourceChoice, locate
from segpipe.config.params import Config, load_config
from segpipe.config.preprocess import Policy, Preprocess, Split
from segpipe.config.reading import PARAMS_FILE
from segpipe.documents import ImageMapping
from segpipe.errors import MAX_PROBLEMS_SHOWN, SourceError, fold_problems
from segpipe.faults import KINDS
from segpipe.places import CHECK_PAGE, DOWNLOADS
from segpipe.stages.stage import writing_alone

if TYPE_CHECKING:
    from segpipe.data.building.build import Built
    from segpipe.data.sources.source import Source
    from segpipe.reports.problems import ProblemGroup

DEFAULT_FORMAT = "folder"
WITHOUT_SPLITS = frozenset({"split-empty"})


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `check` and `kinds` to the commands of `segpipe data`."""
    about = "look for faulty images and labels in a source; exit code 1 if one would stop a training"
    check = commands.add_parser("check", help=about, description=about.capitalize() + ".")
    check.add_argument("source", nargs="?", metavar="SOURCE", help="folder or archive (default: those in params.yaml)")
    check.add_argument("--format", help=f"format of SOURCE, see `segpipe data formats` (default {DEFAULT_FORMAT})")
    check.add_argument(
        "--option", action="append", default=[], type=option, help="an option of the format, as KEY=VALUE; repeatable"
    )
    check.add_argument("--output", type=Path, default=CHECK_PAGE, help=f"folder of the page (default {CHECK_PAGE})")
    check.add_argument(
        "--fix",
        action="store_true",
        help="count safe fixes as done, as with preprocess.policy.fix; SOURCE stays as it is",
    )
    check.add_argument("--params", type=Path, default=PARAMS_FILE, help=f"a parameter file (default {PARAMS_FILE})")
    check.set_defaults(run=_check)
    kinds = commands.add_parser("kinds", help="list the kinds of faults: what each means, its consequence, its fix")
    kinds.set_defaults(run=_list_kinds)


def _check(options: argparse.Namespace) -> None:
    from segpipe.data.building.build import build_store
    from segpipe.data.sources.joining import join_sources
    from segpipe.files import whole_folder
    from segpipe.reports.problems import write_check_report

    refuse_foreign(options.output, "report.json", "report.html", "pictures")
    choice, settings, mapping = _choose(options)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".check.", dir=options.output.parent) as scratch:
        sources = _read_sources(choice, Path(scratch))
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


def _choose(options: argparse.Namespace) -> tuple[SourceChoice, Preprocess, ImageMapping]:
    """Decides what is checked, and by which settings."""
    has_params = options.source is None or options.params.exists()
    config: Config | None = load_config(options.params) if has_params else None
    if options.source is None:
        if options.format is not None or options.option:
            raise SourceError("--format and --option need SOURCE; without SOURCE, params.yaml gives format and options")
        assert config is not None
        choice: SourceChoice = config.download
        settings = config.preprocess
    else:
        if not Path(options.source).exists():
            raise SourceError(
                f"{options.source}: no such folder or archive; an address goes into download.source of params.yaml"
            )
        name = READERS.check(options.format or DEFAULT_FORMAT)
        choice = SourceChoice(source=options.source, format=name, options=dict(options.option))
        policy = Policy() if config is None else config.preprocess.policy
        settings = Preprocess(split=Split(val="source"), policy=policy)
    if options.fix:
        settings = settings.model_copy(update={"policy": settings.policy.model_copy(update={"fix": True})})
    images = Images() if config is None else config.download.images
    return choice, settings, images.mapping


def _read_sources(choice: SourceChoice, scratch: Path) -> "dict[str, tuple[Path, Source]]":
    """Reads the sources, the main one first and without a name: a folder where it is, all else unpacked."""
    from segpipe.data.fetching.fetch import fetch

    sources = {}
    joined = choice.join if isinstance(choice, Download) else {}
    for number, (name, one) in enumerate({"": locate(choice), **joined}.items()):
        root = Path(one.source)
        if not root.is_dir():
            root = scratch / f"source{number}"
            fetch(one.source, one.sha256, root, cache=DOWNLOADS, allow_http=one.allow_http)
        try:
            sources[name] = (root, READERS.call(one.format, one.options, root=root))
        except SourceError as error:
            raise SourceError(str(error).replace(str(root), one.source)) from error
    return sources


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
