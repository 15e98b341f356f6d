"""Several sources as one: `download` pins what is joined, `preprocess` maps the classes."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
from facts import missing
from integration.project import Project, add_sample

SHA256 = re.compile(r"`sha256: ([0-9a-f]{64})`")


@pytest.fixture
def joined(sources: Project, tmp_path: Path) -> Project:
    """A project with a second folder of frames next to its own."""
    other = sources.root / "more"
    shutil.copytree(sources.root / "data", other)
    for path in [*other.glob("images/*"), *other.glob("masks/*")]:
        path.unlink()
    for frame in range(3):
        add_sample(other, f"e_{frame:03d}")
    return sources


@pytest.mark.parametrize("kind", ["folder", "archive"])
def test_what_is_joined_is_pinned_by_its_content(joined: Project, kind: str) -> None:
    source = "more"
    if kind == "archive":
        source = Path(shutil.make_archive(str(joined.root / "more"), "zip", joined.root / "more")).name
    joined.change_params("download.join", {"city": {"source": source, "format": "folder"}})
    message = joined.refused("download")
    assert message.startswith("params.yaml: download.join.city.sha256: is missing")
    found = SHA256.search(message)
    assert found is not None
    joined.change_params("download.join", {"city": {"source": source, "format": "folder", "sha256": found[1]}})
    joined.stage("download")
    joined.stage("preprocess")
    manifest = pd.read_parquet(joined.root / "build/dataset/manifest.parquet")
    ids = manifest["sample_id"].tolist()
    assert [name for name in ids if "/" in name] == [f"city/e_{frame:03d}" for frame in range(3)]
    assert len(ids) == 15
    if kind == "folder":
        add_sample(joined.root / "more", "e_003")
        assert f"sha256: is {found[1]}" in joined.refused("download")


def test_classes_are_mapped_and_a_map_with_holes_is_refused_whole(joined: Project) -> None:
    joined.change_params("preprocess.classes", {"thing": ["box"], "rest": ["sky"]})
    joined.stage("download")
    message = joined.refused("preprocess")
    assert message.startswith("preprocess.classes: not named: ground")
    joined.change_params("preprocess.ignore", ["ground"])
    joined.stage("preprocess")
    manifest = pd.read_parquet(joined.root / "build/dataset/manifest.parquet")
    assert {"num_px_thing", "num_px_rest"} <= set(manifest)
    assert joined.json("build/dataset/dataset.json")["classes"]["names"] == ["thing", "rest"]


def test_a_file_that_names_a_path_is_refused_as_nobody_would_watch_it(sources: Project) -> None:
    (sources.root / "where.yaml").write_text("source: data\n", encoding="utf-8")
    sources.change_params("download.source", "where.yaml")
    assert sources.refused("download").startswith("where.yaml: source: data is a path; name it in params.yaml")


def test_why_there_is_no_data_set_is_shown_on_a_page(sources: Project) -> None:
    (sources.root / "data/images/c_009.png").write_bytes((sources.root / "data/images/a_000.png").read_bytes())
    (sources.root / "data/masks/c_009.png").write_bytes((sources.root / "data/masks/a_000.png").read_bytes())
    sources.stage("download")
    message = sources.refused("preprocess")
    assert not missing(message, "a_000 (train)", "c_009 (val)")
    page = (sources.root / "pages/preprocess/report.html").read_text(encoding="utf-8")
    pictures = list((sources.root / "pages/preprocess/pictures").iterdir())
    assert pictures
    assert all(f"pictures/{picture.name}" in page for picture in pictures)
