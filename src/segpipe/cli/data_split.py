"""`segpipe data split`: proposes which groups to keep out of training."""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segpipe.cli.arguments import grouping, guide
from segpipe.cli.data_source import add_source_arguments, choose_source, read_sources
from segpipe.cli.table import table
from segpipe.config.split_edit import KEPT_OUT, format_lines, write_split
from segpipe.errors import ConfigError, SourceError
from segpipe.places import CACHE, DATASET, LAST_DATASET

if TYPE_CHECKING:
    import pandas as pd

    from segpipe.data.splits.proposal import Proposal


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `split`."""
    about = "propose a split by whole groups in which each class has its share"
    parser = commands.add_parser("split", help=about, description=about.capitalize() + ".")
    add_source_arguments(parser)
    parser.add_argument("--val", type=_share, default=0.15, metavar="SHARE", help="share of the samples (default 0.15)")
    parser.add_argument(
        "--test",
        type=_share,
        default=0.15,
        metavar="SHARE",
        help="share of the samples; 0 for none (default 0.15)",
    )
    parser.add_argument(
        "--by",
        type=grouping,
        metavar="GROUPING",
        help="pattern:REGEX or column:NAME (default: the groups of preprocess)",
    )
    parser.add_argument("--tie", action="store_true", help="keep groups with look-alike images in one split")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="SEED", help="another seed may propose another split (default 0)"
    )
    parser.add_argument(
        "--manifest",
        type=Path,
        metavar="FILE",
        help="what a preprocess has counted (default: the last one, without SOURCE)",
    )
    parser.add_argument("--write", action="store_true", help="write the proposal into params.yaml")
    guide(parser, "data split --val 0.2 --test 0.1 --write", "docs/splits.md")
    parser.set_defaults(run=_split)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to below 1 (got {text!r})")
    return value


def _split(options: argparse.Namespace) -> None:
    from segpipe.data.splits.counted import group_rows
    from segpipe.data.splits.proposal import find_limits, propose_split, tie_groups
    from segpipe.data.store import CLASS_COLUMN_PREFIX as PREFIX

    shares = {name: getattr(options, name) for name in KEPT_OUT if getattr(options, name) > 0}
    if "val" not in shares or sum(shares.values()) >= 1:
        raise ConfigError(f"--val {options.val} --test {options.test}: val must be above 0, and both together below 1")
    manifest = _read_or_count(options)
    groups = group_rows(manifest, options.by)
    dealt = tie_groups(manifest.assign(group=groups)) if options.tie else groups
    class_names = [name.removeprefix(PREFIX) for name in manifest.columns if name.startswith(PREFIX)]
    num_px = manifest[[PREFIX + name for name in class_names]].to_numpy("int64")
    proposal = propose_split(num_px, dealt, shares, options.seed)
    lists = {name: list[str]() for name in KEPT_OUT if name in shares}
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
    if not lists["val"]:
        num_groups = sum(proposal.num_groups)
        fix = "label images of another group, or name finer groups by --by"
        raise ConfigError(f"data split: {num_groups} group cannot be divided into train and val; {fix}")
    if options.write:
        write_split(options.params, options.by, lists)
        print(f"\nWritten into {options.params}; run `dvc repro`.")
    else:
        print(f"\nFor {options.params}:\n\n{format_lines(options.by, lists)}")


def _read_or_count(options: argparse.Namespace) -> "pd.DataFrame":
    """Gives what is counted in each sample: by the last preprocess, or now."""
    from segpipe.data.splits.counted import read_counted
    from segpipe.data.store import MANIFEST

    if options.manifest is not None:
        if options.source is not None:
            raise ConfigError("--manifest and SOURCE: give one of them")
        return read_counted([options.manifest])
    # The first is there even where preprocess refused the split.
    counted = [path for path in (LAST_DATASET / MANIFEST, DATASET / MANIFEST) if path.is_file()]
    if options.source is None and counted:
        return read_counted(counted)
    return _count(options)


def _count(options: argparse.Namespace) -> "pd.DataFrame":
    """Reads all samples of a source; the pixels are written to a scratch folder and forgotten."""
    from segpipe.data.building.build import build_store
    from segpipe.data.sources.joining import join_sources

    choice, settings, mapping = choose_source(options)
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="split.", dir=CACHE) as scratch:
        sources = read_sources(choice, Path(scratch))
        source = join_sources(sources, settings.classes, settings.ignore)
        store = Path(scratch, "store")
        store.mkdir()
        manifest = build_store(source, sources[""][0], settings, store, {}, None, mapping).manifest
    fix = "`segpipe data check` says what is wrong with them"
    if manifest.empty:
        raise SourceError(f"{choice.source}: no sample can be used; {fix}")
    if len(manifest) < len(source.samples):
        print(f"{len(source.samples) - len(manifest)} of {len(source.samples)} samples cannot be used; {fix}\n")
    return manifest


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
    about = "Each class's share of a split, minus its share of the whole, in % of its share of the whole:"
    return [*table(counts), "", about, "", *table(rows)]


def _percent(deviation: float) -> str:
    if deviation != deviation:
        return "-"
    return "missing" if deviation == -1 else f"{100 * deviation:+.1f}"
