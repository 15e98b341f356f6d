"""The report of `preprocess`: samples of splits and classes, sizes, shares of the classes, warnings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from segpipe.classes import ClassTable, Color
from segpipe.data.building.decoding import Finding
from segpipe.data.store import TEST, TRAIN, VAL, Store, evenly_spread, num_px_of_classes
from segpipe.documents import DatasetReport, ReportedSplit
from segpipe.files import write_json
from segpipe.places import REPORT_FILE, REPORT_PAGE
from segpipe.reports.page import write_page
from segpipe.reports.problems import problems_of, write_pictures
from segpipe.reports.samples import ShownSample, show_class, show_labels

NUM_SAMPLES_OF_SPLIT = 3
MAX_CLASSES_DRAWN = 60
CLASS_PICTURE_PX, SAMPLE_PICTURE_PX = 220, 360
NUM_SIZES = 6


@dataclass(frozen=True)
class SplitSummary:
    """A split of the data set.

    Attributes:
        name: of the split.
        num_samples: how many.
        groups: their groups, sorted.
        shares: by class, the share of the labelled pixels, 0..1.
        void_share: the share of all pixels that have no label, 0..1.
        num_images: by class, how many images show it.
    """

    name: str
    num_samples: int
    groups: Sequence[str]
    shares: Mapping[str, float]
    void_share: float
    num_images: Mapping[str, int]


@dataclass(frozen=True)
class ClassExample:
    """A class in the image that has the largest part of it.

    Attributes:
        name: of the class.
        color: RGB.
        sample_id: the image's name.
        picture: a `data:` address.
    """

    name: str
    color: Color
    sample_id: str
    picture: str


def write_dataset_report(
    folder: Path,
    manifest: pd.DataFrame,
    classes: ClassTable,
    digest: str,
    licence: str,
    findings: Sequence[Finding],
    num_skipped: int,
) -> None:
    """Writes `report.json` and `report.html`, which holds the pictures that it shows.

    Args:
        folder: the folder of the store, with its shards.
        manifest: one row a sample.
        classes: the class table.
        digest: the data set's digest.
        licence: the source's licence.
        findings: the warnings, and the reasons why samples were left out.
        num_skipped: number of samples that were left out.
    """
    splits = [_summarize(name, rows, classes) for name in (TRAIN, VAL, TEST) if len(rows := _of_split(manifest, name))]
    write_json(folder / REPORT_FILE, _report(splits, findings, num_skipped).to_json())
    store = Store(classes, digest, manifest.reset_index(drop=True), folder)
    examples = _draw_classes(store)
    write_page(
        folder / REPORT_PAGE,
        "dataset.html.j2",
        title="Data set",
        num_samples=len(manifest),
        num_groups=manifest["group"].nunique(),
        licence=licence,
        digest=digest,
        splits=splits,
        sizes=_count_sizes(manifest),
        classes=list(zip(classes.names, classes.colors, strict=True)),
        samples=[(split.name, _draw_split(store, split.name)) for split in splits],
        examples=examples,
        num_not_drawn=max(0, classes.num_classes - MAX_CLASSES_DRAWN),
        groups=write_pictures(folder, findings),
        num_skipped=num_skipped,
    )


def _of_split(manifest: pd.DataFrame, name: str) -> pd.DataFrame:
    return manifest[manifest["split"] == name]


def _summarize(name: str, rows: pd.DataFrame, classes: ClassTable) -> SplitSummary:
    num_px = num_px_of_classes(rows, classes)
    of_class, num_images = num_px.sum(axis=0), (num_px > 0).sum(axis=0)
    num_labelled = int(of_class.sum())
    num_all = int((rows["height"].astype(np.int64) * rows["width"]).sum())
    return SplitSummary(
        name,
        len(rows),
        sorted(rows["group"].unique()),
        dict(zip(classes.names, (of_class / max(1, num_labelled)).tolist(), strict=True)),
        1 - num_labelled / max(1, num_all),
        dict(zip(classes.names, num_images.tolist(), strict=True)),
    )


def _report(splits: Sequence[SplitSummary], findings: Sequence[Finding], num_skipped: int) -> DatasetReport:
    reported = [
        ReportedSplit(split=one.name, num_samples=one.num_samples, groups=one.groups, shares=one.shares)
        for one in splits
    ]
    # The gate must see samples that were left out, so they are warnings too.
    warnings = problems_of(findings, "warn", "skip")
    return DatasetReport(splits=reported, num_skipped=num_skipped, warnings=warnings)


def _count_sizes(manifest: pd.DataFrame) -> list[tuple[str, int]]:
    """Gives the most frequent sizes of images and how many have them; the rest in one line."""
    sizes = manifest["width"].astype(str) + " × " + manifest["height"].astype(str)  # noqa: RUF001 (the sign of sizes)
    counts = [(str(size), int(count)) for size, count in sizes.value_counts().items()]
    counts.sort(key=lambda row: (-row[1], row[0]))
    rest = sum(count for _, count in counts[NUM_SIZES:])
    return counts[:NUM_SIZES] + ([(f"{len(counts) - NUM_SIZES} other sizes", rest)] if rest else [])


def _draw_split(store: Store, name: str) -> list[ShownSample]:
    """Draws samples that are evenly spread over a split."""
    rows = np.flatnonzero(store.manifest["split"] == name).tolist()
    shown = []
    for place in evenly_spread(len(rows), NUM_SAMPLES_OF_SPLIT):
        image, mask = store.read(rows[place])
        sample_id = str(store.manifest["sample_id"].iat[rows[place]])
        shown.append(show_labels(image, mask, store.classes, title=name, caption=sample_id, max_px=SAMPLE_PICTURE_PX))
    return shown


def _draw_classes(store: Store) -> list[ClassExample]:
    """Draws each class in the image of which it covers the most, of at most `MAX_CLASSES_DRAWN` classes."""
    num_px = store.num_px()
    area = (store.manifest["height"].astype(np.int64) * store.manifest["width"]).to_numpy()
    examples = []
    for number in range(min(store.classes.num_classes, MAX_CLASSES_DRAWN)):
        if not num_px[:, number].any():
            continue
        index = int((num_px[:, number] / area).argmax())
        picture = show_class(*store.read(index), number, CLASS_PICTURE_PX)
        sample_id = str(store.manifest["sample_id"].iat[index])
        examples.append(ClassExample(store.classes.names[number], store.classes.colors[number], sample_id, picture))
    return examples
