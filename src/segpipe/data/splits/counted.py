"""What `preprocess` has counted, to propose a split from: it counts even if it refuses the split of `params.yaml`."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from segpipe.config.split_edit import Grouping
from segpipe.data.splits.split import find_groups_by_pattern
from segpipe.data.store import ATTRIBUTE_COLUMN_PREFIX, CLASS_COLUMN_PREFIX
from segpipe.errors import ConfigError, DataError, StoreError


def read_counted(files: Sequence[Path]) -> pd.DataFrame:
    """Reads the newest manifest, with what `preprocess` has counted in each sample.

    Args:
        files: the paths at which a manifest may be.

    Raises:
        StoreError: there is none, or it holds no samples.
    """
    existing = [file for file in files if file.is_file()]
    if not existing:
        raise StoreError(f"{files[-1]}: no such file; run `dvc repro preprocess` first: it counts even if it fails")
    # DVC may have checked out another revision's since.
    found = max(existing, key=lambda place: place.stat().st_mtime)
    try:
        manifest = pd.read_parquet(found)
    except (OSError, ValueError) as error:
        raise StoreError(f"{found}: is no manifest: {error}; run `dvc repro preprocess`") from error
    is_counted = any(str(name).startswith(CLASS_COLUMN_PREFIX) for name in manifest)
    if not {"sample_id", "group", "perceptual_hash"} <= set(manifest) or not is_counted or manifest.empty:
        raise StoreError(f"{found}: holds no samples; run `dvc repro preprocess`")
    return manifest


def group_rows(manifest: pd.DataFrame, grouping: Grouping | None) -> list[str]:
    """Gives each sample's group.

    Args:
        manifest: of `read_counted`.
        grouping: what names the groups; None takes those that `preprocess` found.

    Raises:
        DataError: some have none.
        ConfigError: no such column.
    """
    if grouping is None:
        return [str(group) for group in manifest["group"]]
    if grouping.key == "group_pattern":
        groups, problems = find_groups_by_pattern(manifest["sample_id"].tolist(), grouping.value)
        if problems:
            raise DataError(problems)
        return groups
    prefix = ATTRIBUTE_COLUMN_PREFIX
    columns = [name.removeprefix(prefix) for name in manifest.columns if name.startswith(prefix)]
    if grouping.value not in columns:
        there = f"there are: {', '.join(columns)}" if columns else "the source has no table; give a pattern"
        raise ConfigError(f"--by column:{grouping.value}: no such column; {there}")
    column = manifest[prefix + grouping.value]
    empty = manifest["sample_id"][column.isna() | (column.astype(str) == "")].tolist()
    if empty:
        what = f"{len(empty)} samples have no value there, the first is {empty[0]}"
        raise ConfigError(f"--by column:{grouping.value}: {what}; fill in the source's table")
    return column.astype(str).tolist()
