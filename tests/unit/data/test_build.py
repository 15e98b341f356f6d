"""Building the store: every problem of a source in one message, and what is only worth knowing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from segpipe.config import Preprocess
from segpipe.data.build import build_store
from segpipe.data.readers.folder import read_source
from segpipe.data.source import RawSample
from segpipe.data.store import Sample, Store
from segpipe.errors import DataError, Problem

Pairs = dict[str, tuple[Any, Any]]
SETTINGS = {"group_pattern": "^([^_]+)_", "split": {"val": ["v"]}}


@pytest.fixture
def pairs(make_sample: Callable[..., Sample]) -> Pairs:
    """Two sequences, of two and one samples, every class in each."""
    samples = [make_sample(name) for name in ("t_0", "t_1", "v_0")]
    return {sample.sample_id: (sample.image, sample.mask) for sample in samples}


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., tuple[pd.DataFrame, list[Problem]]]:
    def build(root: Path, **settings: Any) -> tuple[pd.DataFrame, list[Problem]]:
        output = tmp_path / "dataset"
        output.mkdir()
        return build_store(read_source(root=root), root, Preprocess.model_validate(SETTINGS | settings), output)

    return build


def _problems(build: Callable[..., Any], root: Path, **settings: Any) -> list[tuple[str, str]]:
    with pytest.raises(DataError) as caught:
        build(root, **settings)
    return sorted((problem.kind, problem.where) for problem in caught.value.problems)


def test_a_good_source_becomes_a_store(
    make_folder_source: Callable[..., Path], pairs: Pairs, build: Callable[..., Any], tmp_path: Path
) -> None:
    manifest, warnings = build(make_folder_source(pairs))
    assert warnings == []
    assert manifest[["sample_id", "group", "split"]].to_numpy().tolist() == [
        ["t_0", "t", "train"],
        ["t_1", "t", "train"],
        ["v_0", "v", "val"],
    ]
    store = Store.open(tmp_path / "dataset")
    for index, (image, mask) in enumerate(pairs.values()):
        np.testing.assert_array_equal(store.read(index)[0], image)
        np.testing.assert_array_equal(store.read(index)[1], mask)


def test_more_samples_than_are_decoded_ahead_keep_their_order(
    make_folder_source: Callable[..., Path], make_sample: Callable[..., Sample], build: Callable[..., Any]
) -> None:
    samples = [make_sample(f"{group}_{i:02d}") for group in "tv" for i in range(20)]
    root = make_folder_source({sample.sample_id: (sample.image, sample.mask) for sample in samples})
    assert build(root)[0]["sample_id"].tolist() == [sample.sample_id for sample in samples]


def test_all_problems_are_reported_together(
    make_folder_source: Callable[..., Path], pairs: Pairs, build: Callable[..., Any]
) -> None:
    image, mask = pairs["t_0"]
    outside = mask.copy()
    outside[0, 0] = 77
    root = make_folder_source(
        {
            **pairs,
            "t_small": (image, mask[:16]),
            "t_value": (image, outside),
            "t_cut": (image, mask),
            "nogroup": pairs["v_0"],
        }
    )
    Image.fromarray(image).save(root / "images" / "t_nomask.png")
    Image.fromarray(mask).save(root / "masks" / "t_noimage.png")
    cut = root / "images" / "t_cut.png"
    cut.write_bytes(cut.read_bytes()[:500])
    (root / "masks" / "v_0.png").write_text("no image")
    assert _problems(build, root, split={"val": ["v", "w"]}) == [
        ("group-missing", "nogroup"),
        ("group-unknown", "preprocess.split.val"),
        ("image-damaged", "images/t_cut.png"),
        ("image-missing", "masks/t_noimage.png"),
        ("mask-missing", "images/t_nomask.png"),
        ("mask-values", "masks/t_value.png"),
        ("not-an-image", "masks/v_0.png"),
        ("size-mismatch", "masks/t_small.png"),
    ]


def test_a_sample_whose_image_and_mask_are_both_wrong_is_two_problems(
    make_folder_source: Callable[..., Path], pairs: Pairs, build: Callable[..., Any]
) -> None:
    root = make_folder_source(pairs)
    for folder in ("images", "masks"):
        (root / folder / "t_0.png").write_text("no image")
    assert _problems(build, root) == [("not-an-image", "images/t_0.png"), ("not-an-image", "masks/t_0.png")]


def test_a_source_without_one_good_sample_says_why(
    make_folder_source: Callable[..., Path], pairs: Pairs, build: Callable[..., Any]
) -> None:
    root = make_folder_source(pairs)
    for path in (root / "images").iterdir():
        path.write_text("no image")
    assert _problems(build, root) == [("not-an-image", f"images/{name}.png") for name in pairs]


def test_an_empty_source_says_so(make_folder_source: Callable[..., Path], build: Callable[..., Any]) -> None:
    assert "empty" in dict(_problems(build, make_folder_source({})))


def test_a_class_absent_from_train_is_a_problem(
    make_folder_source: Callable[..., Path], pairs: Pairs, build: Callable[..., Any]
) -> None:
    for name in ("t_0", "t_1"):
        pairs[name][1][pairs[name][1] == 1] = 0
    assert _problems(build, make_folder_source(pairs)) == [("class-absent", "class car")]


@pytest.mark.parametrize(("twin", "is_leak"), [("v_1", True), ("t_2", False)], ids=["across", "within"])
def test_the_same_image_on_both_sides_of_a_split_is_a_leak(
    make_folder_source: Callable[..., Path], pairs: Pairs, build: Callable[..., Any], twin: str, is_leak: bool
) -> None:
    root = make_folder_source({**pairs, twin: pairs["t_0"]})
    if is_leak:
        assert _problems(build, root) == [("leak", "t_0 (train), v_1 (val)")]
    else:
        build(root)


def test_a_class_absent_from_val_is_a_warning(
    make_folder_source: Callable[..., Path], pairs: Pairs, build: Callable[..., Any]
) -> None:
    pairs["v_0"][1][pairs["v_0"][1] == 2] = 255
    _, (warning,) = build(make_folder_source(pairs))
    assert (warning.kind, warning.where) == ("class-absent", "split val, class sky")


def test_a_val_split_of_void_alone_is_a_problem(
    make_folder_source: Callable[..., Path], pairs: Pairs, build: Callable[..., Any]
) -> None:
    pairs["v_0"][1][:] = 255
    assert _problems(build, make_folder_source(pairs)) == [("split-void", "split val")]


def test_a_group_on_both_sides_of_a_split_is_a_warning(
    make_folder_source: Callable[..., Path], pairs: Pairs, tmp_path: Path
) -> None:
    """Only a source's own split can do that."""
    root = make_folder_source(pairs)
    source = read_source(root=root)
    official: list[RawSample] = [
        dataclasses.replace(sample, official_split=split)
        for sample, split in zip(source.samples, ("train", "val", "train"), strict=True)
    ]
    (tmp_path / "dataset").mkdir()
    settings = Preprocess.model_validate(SETTINGS | {"split": {"val": "source"}})
    source = dataclasses.replace(source, samples=tuple(official))
    _, (warning,) = build_store(source, root, settings, tmp_path / "dataset")
    assert (warning.kind, warning.where) == ("group-straddles", "group t")
    assert "train and val" in warning.what


@pytest.mark.parametrize(("twin", "is_reported"), [("v_1", True), ("t_2", False)], ids=["across", "within"])
def test_an_image_that_looks_alike_in_another_split_is_a_warning(
    make_folder_source: Callable[..., Path], pairs: Pairs, build: Callable[..., Any], twin: str, is_reported: bool
) -> None:
    image, mask = pairs["t_0"]
    alike = cv2.convertScaleAbs(image, alpha=0.98, beta=1)
    _, warnings = build(make_folder_source({**pairs, twin: (alike, mask)}))
    found = [(warning.kind, warning.where) for warning in warnings]
    assert found == ([("near-duplicate", "t_0 (train) and v_1 (val)")] if is_reported else [])
