"""The leak gate: what it must stop, and what it must let through."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from facts import missing
from PIL import Image
from starter import TEST, VAL

from segpipe.data.inspection.fingerprint import fingerprint
from segpipe.data.splits.leaks import (
    MIN_AGREEMENT,
    PAIR_GAP_PX,
    PAIR_HEIGHT_PX,
    Leak,
    draw_pair,
    find_alike,
    find_leaks,
)
from segpipe.faults import KINDS


class Samples:
    """Images for a manifest; remembers which of them are read."""

    def __init__(self) -> None:
        self.images: list[np.ndarray] = []
        self.rows: list[dict[str, object]] = []
        self.read: list[int] = []

    def add(self, sample_id: str, split: str, image: np.ndarray, group: str | None = None, mask: str = "m") -> None:
        self.images.append(np.ascontiguousarray(image))
        self.rows.append(
            {
                "sample_id": sample_id,
                "group": group or sample_id,
                "split": split,
                "height": image.shape[0],
                "width": image.shape[1],
                "image_sha256": hashlib.sha256(self.images[-1].tobytes()).hexdigest(),
                "mask_sha256": mask,
                "perceptual_hash": fingerprint(self.images[-1]),
            }
        )

    def find(self) -> list[Leak]:
        def read_image(index: int) -> np.ndarray:
            self.read.append(index)
            return self.images[index]

        leaks = find_leaks(pd.DataFrame(self.rows), read_image)
        assert all(leak.kind in KINDS for leak in leaks)
        return leaks


@pytest.fixture
def samples() -> Samples:
    return Samples()


@pytest.fixture(scope="module")
def streets(starter_folder: Path) -> dict[str, np.ndarray]:
    """The starter's images, 192 x 256."""
    files = sorted((starter_folder / "images").iterdir())
    return {file.stem: np.asarray(Image.open(file).convert("RGB")) for file in files}


def _add_streets(samples: Samples, streets: dict[str, np.ndarray]) -> None:
    for sample_id, image in streets.items():
        group = sample_id.split("_")[0]
        name = "val" if group in VAL else "test" if group in TEST else "train"
        samples.add(sample_id, name, image, group)


def test_the_starter_does_not_leak(samples: Samples, streets: dict[str, np.ndarray]) -> None:
    _add_streets(samples, streets)
    assert samples.find() == []
    assert len(samples.read) < len(streets) / 2, "most images are separated without reading them"


def _compress(image: np.ndarray) -> np.ndarray:
    return np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_COLOR))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(_compress, id="compressed"),
        pytest.param(lambda image: cv2.resize(image, None, fx=0.9, fy=0.9), id="90 percent"),
        pytest.param(lambda image: image[:, ::-1], id="mirrored"),
        pytest.param(lambda image: cv2.add(image, np.full(image.shape, 10, np.uint8)), id="brighter"),
        pytest.param(lambda image: image[6:-4, 8:-5], id="cropped"),
        pytest.param(lambda image: _compress(np.ascontiguousarray(image[5:, -4::-1])), id="all at once"),
    ],
)
@pytest.mark.parametrize("sample_id", ["street03_002", "street23_001"])
def test_a_copy_in_another_split_is_found_and_nothing_else(
    samples: Samples, streets: dict[str, np.ndarray], change: Callable[[np.ndarray], np.ndarray], sample_id: str
) -> None:
    _add_streets(samples, streets)
    samples.add("copy", "test", change(streets[sample_id]))
    (leak,) = samples.find()
    assert leak.kind == "leak-near"
    assert {samples.rows[leak.first]["sample_id"], samples.rows[leak.second]["sample_id"]} == {"copy", sample_id}
    side = "val" if sample_id == "street23_001" else "train"
    assert leak.where == f"copy (test) and {sample_id} ({side})"
    assert leak.similarity is not None
    assert leak.similarity > 0.9
    assert f"similarity {leak.similarity:.2f}" in leak.problem.what


def test_a_mirrored_copy_is_called_so(samples: Samples, streets: dict[str, np.ndarray]) -> None:
    samples.add("a", "train", streets["street00_000"])
    samples.add("b", "val", streets["street00_000"][:, ::-1])
    (leak,) = samples.find()
    assert "mirrored" in leak.what


def test_a_copy_in_the_same_split_is_no_leak(samples: Samples, streets: dict[str, np.ndarray]) -> None:
    samples.add("a", "train", streets["street00_000"])
    samples.add("b", "train", _compress(streets["street00_000"]))
    samples.add("c", "val", streets["street05_000"])
    assert samples.find() == []


def test_images_alike_in_one_group_are_reported_as_the_group(samples: Samples, streets: dict[str, np.ndarray]) -> None:
    samples.add("a_1", "train", streets["street00_000"], "a")
    samples.add("a_2", "val", _compress(streets["street00_000"]), "a")
    assert [leak.kind for leak in samples.find()] == ["leak-sequence"]


@pytest.mark.parametrize(
    ("splits", "masks", "kind", "words"),
    [
        (("train", "val"), "mm", "leak-exact", "are one image, with the same mask, on both sides of a split"),
        (("val", "test"), "mn", "leak-exact", "are one image, with different masks, on both sides of a split"),
        (("train", "train"), "mm", "duplicate", "are one image, with the same mask"),
        (("train", "train"), "mn", "duplicate", "are one image, with different masks"),
    ],
)
def test_the_same_image_twice(
    samples: Samples, streets: dict[str, np.ndarray], splits: tuple[str, str], masks: str, kind: str, words: str
) -> None:
    samples.add("a", splits[0], streets["street00_000"], mask=masks[0])
    samples.add("other", "train", streets["street04_000"])
    samples.add("b", splits[1], streets["street00_000"], mask=masks[1])
    (leak,) = samples.find()
    assert (leak.kind, leak.what, leak.similarity) == (kind, words, 1.0)
    assert leak.where == f"a ({splits[0]}), b ({splits[1]})"
    assert (leak.first, leak.second) == (0, 2)
    assert samples.read == [], "the hashes say it"
    assert ("right mask" in leak.fix) == (kind == "duplicate" and masks == "mn")


def test_the_same_bytes_in_another_shape_are_another_image(samples: Samples) -> None:
    samples.add("a", "train", np.zeros((10, 20, 3), np.uint8))
    samples.add("b", "train", np.zeros((20, 10, 3), np.uint8))
    assert samples.find() == []


def test_many_images_of_one_colour_are_one_line(samples: Samples) -> None:
    noise = np.random.default_rng(0).integers(0, 3, (200, 48, 64, 3), np.uint8)
    for i in range(100):
        samples.add(f"blank_{i}", ("train", "val", "test")[i % 3], np.full((48, 64, 3), 128, np.uint8))
    for i in range(200):
        samples.add(f"nearly_{i}", ("train", "val", "test")[i % 3], 100 + noise[i])
    (leak,) = samples.find()
    assert leak.kind == "duplicate"
    assert "nearly one colour" in leak.what
    assert len(leak.where) < 300
    assert samples.read == []


def test_many_skies_are_no_leak(samples: Samples) -> None:
    rng = np.random.default_rng(0)
    for i in range(60):
        fall = np.linspace(60, 60 + rng.uniform(80, 120), 96)[:, None, None] + rng.normal(0, 2, (96, 128, 3))
        samples.add(f"sky_{rng.integers(10**9)}", ("train", "val", "test")[i % 3], fall.astype(np.uint8))
    assert [leak for leak in samples.find() if leak.kind == "leak-near"] == []


def test_a_sample_is_reported_once(samples: Samples, streets: dict[str, np.ndarray]) -> None:
    for i in range(8):
        samples.add(f"a{i}", "train", cv2.add(streets["street00_000"], np.full((192, 256, 3), i, np.uint8)))
    samples.add("b", "val", _compress(streets["street00_000"]))
    (leak,) = samples.find()
    assert samples.rows[leak.first]["sample_id"] == "b"
    assert len(samples.read) == 2, "what looks alike first is enough"


def test_a_group_in_two_splits_is_reported_with_its_closest_pair(
    samples: Samples, streets: dict[str, np.ndarray]
) -> None:
    # Frames 9 and 10 are neighbours although 10 sorts before 9 as text; 2 and 3 are the other border.
    frames = {1: "val", 2: "val", 3: "train", 9: "train", 10: "test"}
    for number, split in frames.items():
        shown = 7 if number in (9, 10) else number % 7
        samples.add(f"s_{number}", split, cv2.add(streets[f"street00_00{shown}"], number), "s")
    samples.add("t_1", "train", streets["street09_000"], "t")
    leaks = [leak for leak in samples.find() if leak.kind == "leak-sequence"]
    assert [str(leak.problem) for leak in leaks] == [
        "group s: is in train (2) and val (2) and test (1); "
        "neighbours in different splits are s_9 (train) and s_10 (test). "
        "Split by whole groups; `segpipe data split` proposes how"
    ]
    assert (leaks[0].first, leaks[0].second) == (3, 4)


@pytest.mark.parametrize("is_shuffled", [False, True])
def test_a_video_without_groups_is_found(samples: Samples, streets: dict[str, np.ndarray], is_shuffled: bool) -> None:
    """Every image is a group of its own, and the split is by chance."""
    rng = np.random.default_rng(0)
    order = rng.permutation(len(streets)) if is_shuffled else range(len(streets))
    images = list(streets.values())
    for number, index in enumerate(order):
        samples.add(f"image_{number}", ["train", "val"][rng.random() < 0.3], images[index])
    leaks = samples.find()
    assert [leak.kind for leak in leaks if leak.kind != "leak-near"] == ([] if is_shuffled else ["leak-sequence"])
    if not is_shuffled:
        assert leaks[0].where == "240 samples without a known group"
        assert not missing(leaks[0].what, "neighbours", "different")
        assert "group_pattern" in leaks[0].fix


def test_few_samples_without_groups_are_not_called_sequences(samples: Samples, streets: dict[str, np.ndarray]) -> None:
    for number in range(10):
        frame = cv2.add(streets[f"street{number // 5:02d}_000"], np.full((192, 256, 3), number, np.uint8))
        samples.add(f"image_{number}", ["train", "val"][number % 2], frame)
    assert {leak.kind for leak in samples.find()} == {"leak-near"}


def test_an_empty_manifest_does_not_leak() -> None:
    assert find_leaks(pd.DataFrame(), lambda index: np.zeros((1, 1, 3), np.uint8)) == []


@pytest.mark.parametrize("block", [1, 50, 1 << 22])
def test_the_search_finds_what_comparing_one_by_one_finds(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segpipe.data.splits.leaks.BLOCK_SIZE", block)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 63)).astype(np.float32)
    vectors[20:] = vectors[:20] + rng.normal(size=(20, 63)) * rng.uniform(0, 1, (20, 1))
    vectors[5:10] = vectors[0] + rng.normal(size=(5, 63)) * 0.1
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    groups = rng.integers(0, 12, 40)
    rows, columns = np.arange(20, 40), np.arange(20)
    expected = []
    for row in rows:
        others = [c for c in columns if groups[c] != groups[row]]
        best = sorted(others, key=lambda c: -float(vectors[row] @ vectors[c]))[:3]
        expected += [(row, c, False) for c in best if vectors[row] @ vectors[c] >= MIN_AGREEMENT]
    assert len(expected) > 5
    assert sorted(find_alike(vectors, groups, rows, columns)) == sorted(expected)


def test_a_pair_is_drawn_side_by_side() -> None:
    white, black = np.full((480, 640, 3), 250, np.uint8), np.zeros((24, 10, 3), np.uint8)
    drawn = draw_pair(white, black)
    assert drawn.shape == (PAIR_HEIGHT_PX, 320 + PAIR_GAP_PX + 100, 3)
    assert drawn[0, 0].tolist() == [250] * 3
    assert drawn[0, 322].tolist() == [255] * 3
    assert drawn[-1, -1].tolist() == [0] * 3


def _names_in(camvid: Path) -> list[tuple[str, str, str]]:
    with zipfile.ZipFile(camvid) as archive:
        found = [
            (name, re.search(r"CamVid/(train|val|test)/([^/]+)\.jpg$", name)) for name in sorted(archive.namelist())
        ]
    return [(name, match[1], match[2]) for name, match in found if match]


def test_camvids_official_split_is_flagged(samples: Samples, camvid_archive: Path) -> None:
    """The groups show it: no image of the archive is read."""
    grey = np.random.default_rng(0).integers(0, 3, (8, 8, 3), np.uint8)
    for number, (_, split, sample_id) in enumerate(_names_in(camvid_archive)):
        image = grey.copy()
        image[0, 0] = number % 256, number // 256, 0
        samples.add(sample_id, split, image, sample_id.split("_")[0])
    leaks = samples.find()
    assert [(leak.kind, leak.where) for leak in leaks] == [
        ("leak-sequence", "group 0001TP"),
        ("leak-sequence", "group 0016E5"),
    ]
    assert "train (62) and test (62)" in leaks[0].what
    assert "train (204) and val (101)" in leaks[1].what


@pytest.mark.slow
def test_camvid_by_sequences_does_not_leak_and_its_neighbours_are_seen(samples: Samples, camvid_archive: Path) -> None:
    official = Samples()
    splits = {"0006R0": "val", "0001TP": "test"}
    with zipfile.ZipFile(camvid_archive) as archive:
        for name, split, sample_id in _names_in(camvid_archive):
            image = np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB"))
            group = sample_id.split("_")[0]
            samples.add(sample_id, splits.get(group, "train"), image, group)
            official.add(sample_id, split, image)
    assert samples.find() == []
    # Without named sequences, their borders look alike.
    assert "0001TP_008550 (test) and 0001TP_008520 (train)" in [leak.where for leak in official.find()]
