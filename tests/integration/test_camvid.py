"""The first two stages on the real CamVid, where the archive is at hand."""

import shutil
from pathlib import Path

import pandas as pd
import pytest
from integration.project import REPOSITORY, Project

RECIPE = REPOSITORY / "recipes/camvid.yaml"

# Shares of all pixels of the official test split, as published with the archive.
TEST_SHARES = {
    "sky": 0.1707,
    "building": 0.2461,
    "pole": 0.0118,
    "road": 0.2581,
    "pavement": 0.0927,
    "tree": 0.1125,
    "sign_symbol": 0.0101,
    "fence": 0.0118,
    "car": 0.0397,
    "pedestrian": 0.0063,
    "bicyclist": 0.0019,
}
VOID_SHARE = 0.0383


@pytest.fixture
def camvid(sources: Project, camvid_archive: Path) -> Project:
    """A project with CamVid's recipe as its parameters."""
    shutil.copyfile(RECIPE, sources.root / "params.yaml")
    sources.change_params("download.source", str(camvid_archive))
    return sources


def test_the_recipe_brings_camvid_into_the_store_by_whole_sequences(camvid: Project) -> None:
    camvid.stage("download")
    camvid.stage("preprocess")

    manifest = pd.read_parquet(camvid.root / "build/dataset/manifest.parquet")
    assert len(manifest) == 701
    assert set(manifest["height"]) == {360}
    assert set(manifest["width"]) == {480}
    # 0006R0 chooses (101), the official test is reported (233), all else trains.
    assert manifest["split"].value_counts().to_dict() == {"train": 367, "test": 233, "val": 101}
    val_groups = set(manifest.loc[manifest["split"] == "val", "group"])
    train_groups = set(manifest.loc[manifest["split"] == "train", "group"])
    assert not val_groups & train_groups

    test = manifest[manifest["split"] == "test"]
    num_px = int((test["height"] * test["width"]).sum())
    for name, share in TEST_SHARES.items():
        assert test[f"num_px_{name}"].sum() / num_px == pytest.approx(share, abs=6e-5), name
    labelled_px = sum(int(test[f"num_px_{name}"].sum()) for name in TEST_SHARES)
    assert 1 - labelled_px / num_px == pytest.approx(VOID_SHARE, abs=6e-5)
