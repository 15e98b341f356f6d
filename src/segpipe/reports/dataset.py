"""The report of `preprocess`: splits, shares of the classes, and what a person should know."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd

from segpipe.classes import ClassTable
from segpipe.data.store import num_px_of_classes
from segpipe.errors import Problem
from segpipe.files import write_json
from segpipe.reports.page import write_page


def write_dataset_report(
    folder: Path, manifest: pd.DataFrame, classes: ClassTable, digest: str, licence: str, warnings: Sequence[Problem]
) -> None:
    """Writes `report.json` and `report.html`.

    Args:
        folder: the store's.
        manifest: one row a sample.
        classes: the class table.
        digest: of the data set.
        licence: of the source.
        warnings: what was found and stops nothing.
    """
    splits = []
    for split, rows in manifest.groupby("split", sort=False):
        num_px = num_px_of_classes(rows, classes).sum(axis=0)
        shares = dict(zip(classes.names, (num_px / max(1, num_px.sum())).tolist(), strict=True))
        groups = sorted(rows["group"].unique())
        splits.append({"split": split, "num_samples": len(rows), "groups": groups, "shares": shares})
    splits.sort(key=lambda row: ("train", "val", "test").index(row["split"]))
    write_json(folder / "report.json", {"splits": splits, "warnings": [asdict(warning) for warning in warnings]})
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
        warnings=warnings,
    )
