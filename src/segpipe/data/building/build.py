"""Builds the store from a source: unchanged samples are taken over, new ones are decoded, checked and counted.

DVC empties the folder that it tracks before each run, so the last store is also kept in a cache of hard links. A sample
whose files, label and reading code are unchanged is not decoded again. A shard with only such samples is not even
copied.
"""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from segpipe.classes import ClassTable
from segpipe.config.preprocess import Policy, Preprocess
from segpipe.data.building.decoding import NUM_PICTURES_OF_KIND, Finding, Run, build_run, name_of
from segpipe.data.building.reuse import KEY, LastStore, find_keys, keep_store
from segpipe.data.building.shards import split_into_runs
from segpipe.data.building.workers import map_in_workers
from segpipe.data.inspection.fault_picture import encode_picture
from segpipe.data.inspection.unusable_names import find_unusable_names
from segpipe.data.sources.source import RawSample, Source
from segpipe.data.splits.leaks import draw_pair, find_leaks
from segpipe.data.splits.split import assign_splits, find_groups
from segpipe.data.store import ATTRIBUTE_COLUMN_PREFIX, SHARDS, TRAIN, Store, num_px_of_classes, write_manifest
from segpipe.documents import DECIDES_NOTHING, ImageMapping
from segpipe.errors import Problem
from segpipe.faults import shown

NUM_PAIRS_DRAWN = 12


@dataclass(frozen=True)
class Built:
    """A store and what was found in its source.

    Attributes:
        manifest: one row a sample that is kept.
        findings: all that was found.
        num_skipped: samples that were left out.
        num_decoded: samples that were not taken over from the store before.
    """

    manifest: pd.DataFrame
    findings: tuple[Finding, ...]
    num_skipped: int
    num_decoded: int

    def of_action(self, action: str) -> list[Problem]:
        """The problems that have a consequence: `fail`, `skip` or `warn`."""
        return [finding.problem for finding in self.findings if finding.action == action]


def build_store(
    source: Source,
    root: Path,
    settings: Preprocess,
    output: Path,
    sha256: Mapping[Path, str],
    cache: Path | None,
    mapping: ImageMapping = DECIDES_NOTHING,
) -> Built:
    """Decodes, checks, counts and writes all samples of a source.

    Args:
        source: what a reader found.
        root: the folder below which the source's files lie; paths in messages are relative to it.
        settings: groups, splits and what is done about faults.
        output: existing empty folder for the store.
        sha256: of the source's files; a sample with other files is always decoded.
        cache: folder of the store that was built last, where this one is kept next; None for none.
        mapping: how the values of image files become 8-bit RGB.

    Returns:
        The manifest and all findings; if one has the action `fail`, the store must not be used.
    """
    policy = settings.policy
    findings = [Finding(problem, policy.action_of(problem.kind)) for problem in source.problems]

    def find(problems: Sequence[Problem]) -> None:
        findings.extend(Finding(problem, policy.action_of(problem.kind)) for problem in problems)

    samples, problems = _without_twins(source.samples, root)
    find(problems)
    find(find_unusable_names(source.classes, samples))
    groups, problems = find_groups(samples, settings.group_pattern, settings.group_column)
    find(problems)
    splits, problems = assign_splits(samples, groups, settings.split, settings.seed)
    find(problems)

    keys = find_keys(samples, sha256, source.classes, mapping)
    counted, found, num_decoded = _write_samples(samples, keys, root, source.classes, policy, output, cache, mapping)
    findings += found
    num_skipped = _count_skipped(findings)
    num_halves = sum(finding.action == "skip" and not finding.sample_id for finding in findings)
    find(_find_too_many_skipped(len(samples) + num_halves, num_skipped, policy))
    manifest = _make_manifest(counted, samples, groups, splits)
    if len(manifest):
        write_manifest(output, manifest, source.classes, source.licence)
        if cache is not None:
            # Samples with findings are read again each time, so that every run reports their findings.
            clean = keys.keys() - {finding.sample_id for finding in findings}
            keyed = manifest.copy()
            keyed[KEY] = [keys[name] if name in clean else None for name in manifest["sample_id"]]
            keep_store(cache, output, keyed, source.classes, source.licence)
        # Otherwise the split or the class may be in samples that could not be read.
        if not any(finding.action == "fail" and finding.sample_id for finding in findings):
            find(_find_emptied_splits(splits, manifest))
            find(_find_absent_classes(manifest, source.classes))
        findings += _find_leaks(Store(source.classes, "", manifest, output), policy)
    else:
        find([Problem("empty", "all samples", "none of them can be used", "Fix the problems above")])
    return Built(manifest, tuple(findings), num_skipped, num_decoded)


def _without_twins(samples: Sequence[RawSample], root: Path) -> tuple[list[RawSample], list[Problem]]:
    """Sorts samples by id; of two with the same id one is kept, the same one in any order of the samples."""
    by_id = {sample.sample_id: sample for sample in sorted(samples, key=lambda sample: str(sample.image))}
    count = Counter(sample.sample_id for sample in samples)
    problems = []
    for name in sorted(name for name in by_id if count[name] > 1):
        images = sorted({name_of(sample.image, root) for sample in samples if sample.sample_id == name})
        what = f"names {count[name]} samples of the source: {shown(images)}"
        fix = "Rename or remove one" if len(images) > 1 else "Remove one of the entries that name it"
        problems.append(Problem("id-twice", name, what, fix))
    return [by_id[name] for name in sorted(by_id)], problems


def _write_samples(
    samples: Sequence[RawSample],
    keys: Mapping[str, str],
    root: Path,
    classes: ClassTable,
    policy: Policy,
    output: Path,
    cache: Path | None,
    mapping: ImageMapping,
) -> tuple[list[pd.DataFrame], list[Finding], int]:
    """Fills the shards: unchanged ones by links, the others by workers."""
    (output / SHARDS).mkdir()
    ids = [sample.sample_id for sample in samples]
    last = LastStore(cache, list(keys.values())) if cache is not None else None
    counted: list[pd.DataFrame] = []  # columns take a fraction of the memory of rows
    runs: list[Run] = []
    for run in split_into_runs(ids):
        run_keys = [keys.get(ids[i]) for i in run]
        taken_over = last.take_over([ids[i] for i in run], run_keys, output) if last is not None else None
        if taken_over is not None:
            counted.append(pd.DataFrame(taken_over))
            continue
        places = [last.place_of(key) if last is not None else None for key in run_keys]
        runs.append(Run([samples[i] for i in run], places, root, classes, policy, output, mapping))
    num_decoded = sum(place is None for run in runs for place in run.places)
    findings: list[Finding] = []
    num_pictures: Counter[str] = Counter()
    results = map_in_workers(build_run, [(run,) for run in runs])
    for run_rows, found in tqdm(results, total=len(runs), unit="shard", disable=not sys.stderr.isatty()):
        if run_rows:
            counted.append(pd.DataFrame(run_rows))
        findings += _with_few_pictures(found, num_pictures)
    return counted, findings, num_decoded


def _with_few_pictures(findings: Sequence[Finding], num_pictures: Counter[str]) -> list[Finding]:
    """Keeps only the first pictures of each kind, because each run gives some, and counts them."""
    few = []
    for finding in findings:
        kind = finding.problem.kind
        if finding.picture is not None and num_pictures[kind] == NUM_PICTURES_OF_KIND:
            few.append(replace(finding, picture=None))
        else:
            num_pictures[kind] += finding.picture is not None
            few.append(finding)
    return few


def _make_manifest(
    counted: Sequence[pd.DataFrame], samples: Sequence[RawSample], groups: Sequence[str], splits: Sequence[str]
) -> pd.DataFrame:
    """Joins what was counted with group and split, one row a sample in order of the ids."""
    if not counted:
        return pd.DataFrame()
    columns = {
        "sample_id": [sample.sample_id for sample in samples],
        "group": list(groups),
        "split": list(splits),
    }
    for name in sorted({name for sample in samples for name in sample.attributes}):
        columns[f"{ATTRIBUTE_COLUMN_PREFIX}{name}"] = [sample.attributes.get(name, "") for sample in samples]
    return pd.DataFrame(columns).merge(pd.concat(counted), on="sample_id", validate="one_to_one")


def _count_skipped(findings: Sequence[Finding]) -> int:
    """How many samples are left out by the policy; an image or a mask without the other counts too."""
    of_files = sum(finding.action == "skip" and not finding.sample_id for finding in findings)
    failed = {finding.sample_id for finding in findings if finding.action == "fail"}
    return of_files + len({finding.sample_id for finding in findings if finding.action == "skip"} - failed - {""})


def _find_too_many_skipped(num_samples: int, num_skipped: int, policy: Policy) -> list[Problem]:
    if num_skipped <= policy.max_skipped * num_samples:
        return []
    what = f"{num_skipped} of {num_samples} samples are left out, more than {policy.max_skipped:.1%}"
    fix = "Fix them, or raise preprocess.policy.max_skipped"
    return [Problem("too-many-skipped", "all samples", what, fix)]


def _find_emptied_splits(splits: Sequence[str], manifest: pd.DataFrame) -> list[Problem]:
    """Splits that had samples until all of them were left out."""
    fix = "Fix them, or choose other groups"
    return [
        Problem("split-empty", f"split {name}", "all of its samples are left out", fix)
        for name in sorted(set(splits) - set(manifest["split"]))
    ]


def _find_absent_classes(manifest: pd.DataFrame, classes: ClassTable) -> list[Problem]:
    problems = []
    for split, rows in manifest.groupby("split"):
        num_px = num_px_of_classes(rows, classes).sum(axis=0)
        if split != TRAIN and not num_px.any():
            groups = shown(sorted(set(rows["group"])))
            what = f"has no labelled pixel: its {len(rows)} samples, of group {groups}, are void"
            fix = f"Label some, or write groups with labels: `preprocess.split.{split}: [GROUP]` (`segpipe data split`)"
            problems.append(Problem("split-void", f"split {split}", what, fix))
        for name, count in zip(classes.names, num_px, strict=True):
            if count == 0 and split == TRAIN:
                fix = "Label some, move a sequence that has it into train, or remove it from the class table"
                what = "has no pixel in the training split"
                problems.append(Problem("class-untrained", f"class {name}", what, fix))
            elif count == 0:
                what = "does not occur and is not measured there"
                problems.append(Problem("class-absent", f"split {split}, class {name}", what, "Label some"))
    return problems


def _find_leaks(store: Store, policy: Policy) -> list[Finding]:
    """Runs the leak gate, and draws the first pairs of each kind."""
    findings: list[Finding] = []
    for leak in find_leaks(store.manifest, lambda index: store.read(index)[0]):
        picture = None
        if sum(finding.problem.kind == leak.kind for finding in findings) < NUM_PAIRS_DRAWN:
            picture = encode_picture(draw_pair(store.read(leak.first)[0], store.read(leak.second)[0]))
        findings.append(Finding(leak.problem, policy.action_of(leak.kind), picture=picture))
    return findings
