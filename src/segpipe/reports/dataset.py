"""The report of `preprocess`: splits, shares of the classes, warnings."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from segpipe.classes import ClassTable
from segpipe.data.building.decoding import Finding
from segpipe.data.store import num_px_of_classes
from segpipe.files import write_json
from segpipe.places import REPORT_FILE
from segpipe.reports.page import write_page
from segpipe.reports.problems import problems_of, write_pictures


def write_dataset_report(
    folder: Path,
    manifest: pd.DataFrame,
    classes: ClassTable,
    digest: str,
    licence: str,
    findings: Sequence[Finding],
    num_skipped: int,
) -> None:
    """Writes `report.json` and `report.html`, and the pictures next to it.

    Args:
        folder: the folder of the store.
        manifest: one row a sample.
        classes: the class table.
        digest: the data set's digest.
        licence: the source's licence.
        findings: the warnings, and the reasons why samples were left out.
        num_skipped: number of samples that were left out.
    """
    splits = []
    for split, rows in manifest.groupby("split", sort=False):
        num_px = num_px_of_classes(rows, classes).sum(axis=0)
        shares = dict(zip(classes.names, (num_px / max(1, num_px.sum())).tolist(), strict=True))
        groups = sorted(rows["group"].unique())
        splits.append({"split": split, "num_samples": len(rows), "groups": groups, "shares": shares})
    splits.sort(key=lambda row: ("train", "val", "test").index(row["split"]))
    # The gate must see samples that were left out, so they are warnings too.
    warnings = problems_of(findings, "warn", "skip")
    write_json(folder / REPORT_FILE, {"splits": splits, "num_skipped": num_skipped, "warnings": warnings})
    write_page(
        folder / "report.html",
        "dataset.html.j2",
        title="Data set",
        num_samples=len(manifest),
        num_groups=manifest["group"].nunique(),
        licence=licence,
        digest=digest,
        splits=splits,
        classes=list(zip(classes.names, classes.colors, strict=True)),
        groups=write_pictures(folder, findings),
        num_skipped=num_skipped,
    )
