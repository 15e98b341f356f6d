"""COCO's panoptic set in the layout of its archives."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from facts import facts_of, missing
from PIL import Image

from segpipe.classes import IGNORE_INDEX
from segpipe.data.readers.coco_panoptic import PanopticMask, read_source
from segpipe.errors import ConfigError, SourceError

CATEGORIES = [
    {"supercategory": "person", "isthing": 1, "id": 1, "name": "person"},
    {"supercategory": "animal", "isthing": 1, "id": 17, "name": "cat", "color": [255, 179, 240]},
    {"supercategory": "wall", "isthing": 0, "id": 199, "name": "wall-other-merged"},
]
# 3226956 = 76 + 256 * 61 + 65536 * 49
NUMBERS = np.array([[3226956, 3226956, 0], [700, 700, 5]], np.uint32)
SEGMENTS = [
    {"id": 3226956, "category_id": 1, "iscrowd": 0, "bbox": [0, 0, 2, 1], "area": 2},
    {"id": 700, "category_id": 199, "iscrowd": 0, "bbox": [0, 1, 2, 1], "area": 2},
    {"id": 5, "category_id": 17, "iscrowd": 1, "bbox": [2, 1, 1, 1], "area": 1},
]


def _save(path: Path, numbers: np.ndarray[Any, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = np.stack([numbers >> shift & 255 for shift in (0, 8, 16)], axis=-1).astype(np.uint8)
    Image.fromarray(channels).save(path)


def _write(root: Path, subset: str = "val2017", lead: str = "", **changes: Any) -> dict[str, Any]:
    document = {
        "info": {"year": 2018},
        "licenses": [],
        "images": [{"license": 2, "file_name": "000000000139.jpg", "height": 2, "width": 3, "id": 139}],
        "annotations": [{"segments_info": SEGMENTS, "file_name": "000000000139.png", "image_id": 139}],
        "categories": CATEGORIES,
        **changes,
    }
    folder = root / "annotations"
    _save(folder / f"panoptic_{subset}" / "000000000139.png", NUMBERS)
    (folder / f"panoptic_{subset}.json").write_text(json.dumps(document))
    image = root / f"{lead}{subset}" / "000000000139.jpg"
    image.parent.mkdir(parents=True, exist_ok=True)
    image.touch()
    return document


@pytest.mark.parametrize("images", ["images/", ""])
@pytest.mark.parametrize("wrapping", ["", "coco"])
def test_the_archives_layout(tmp_path: Path, images: str, wrapping: str) -> None:
    _write(tmp_path / wrapping, "val2017", images)
    _write(tmp_path / wrapping, "train2017", images)
    (tmp_path / wrapping / "annotations/panoptic_coco_categories.json").write_text(json.dumps(CATEGORIES))
    source = read_source(root=tmp_path)
    assert source.problems == ()
    assert source.classes.names == ("person", "cat", "wall-other-merged")
    assert source.classes.colors[1] == (255, 179, 240)
    assert [(sample.sample_id, sample.official_split) for sample in source.samples] == [
        ("train2017/000000000139", "train"),
        ("val2017/000000000139", "val"),
    ]
    for sample in source.samples:
        assert sample.image.is_file()
        reading = sample.label.read((2, 3))
        assert reading.faults == () and reading.pixels is not None and reading.pixels.dtype == np.uint8
        assert reading.pixels.tolist() == [[0, 0, IGNORE_INDEX], [2, 2, 1]]


def test_numbers_that_are_not_listed_are_named(tmp_path: Path) -> None:
    _save(tmp_path / "a.png", NUMBERS)
    reading = PanopticMask(tmp_path / "a.png", ((700, 2),)).read((2, 3))
    (fault,) = reading.faults
    assert reading.pixels is None and fault.kind == "mask-values"
    assert fault.what == "holds segments that its annotation does not list: 5, 3226956 (3 px)"
    assert fault.pixels is not None and fault.pixels.tolist() == [[True, True, False], [False, False, True]]


def test_other_pictures_are_named(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 3), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"x")
    kinds = [PanopticMask(tmp_path / name, ()).read((2, 3)).faults[0].kind for name in ("a.png", "b.png")]
    assert kinds == ["mask-mode", "not-an-image"]


def test_a_label_can_be_sent_and_its_key_is_its_table(tmp_path: Path) -> None:
    label = PanopticMask(tmp_path / "a.png", ((5, 1), (700, 2)))
    assert pickle.loads(pickle.dumps(label)) == label
    assert label.key == PanopticMask(tmp_path / "b.png", ((700, 2), (5, 1))).key
    assert label.key != PanopticMask(tmp_path / "a.png", ((5, 2), (700, 2))).key


@pytest.mark.parametrize(
    ("annotation", "kind", "message"),
    [
        (
            {"segments_info": SEGMENTS, "file_name": "x.png", "image_id": 139},
            "mask-missing",
            "names panoptic_val2017/x",
        ),
        (
            {"segments_info": SEGMENTS, "file_name": "000000000139.png", "image_id": 7},
            "annotation",
            "annotations[0] has",
        ),
        ({"segments_info": SEGMENTS, "file_name": "000000000139.png", "image_id": []}, "annotation", "annotations[0]"),
        ("x", "annotation", "annotations[0] has no file_name"),
        ({"file_name": "000000000139.png", "image_id": 139}, "annotation", "has no list segments_info"),
        (
            {"segments_info": [{"id": 1, "category_id": 3}], "file_name": "000000000139.png", "image_id": 139},
            "annotation",
            "annotation of 000000000139.png has segments of categories that are not listed: 3",
        ),
        (
            {"segments_info": [{"id": 1 << 24, "category_id": 1}], "file_name": "000000000139.png", "image_id": 139},
            "annotation",
            "has segments with ids outside 1..16777215: 16777216",
        ),
        (
            {
                "segments_info": [*SEGMENTS, {"id": 700, "category_id": 1}],
                "file_name": "000000000139.png",
                "image_id": 139,
            },
            "annotation",
            "has segments that are listed twice, with other categories: 700",
        ),
    ],
)
def test_a_wrong_annotation_is_named(tmp_path: Path, annotation: Any, kind: str, message: str) -> None:
    _write(tmp_path, annotations=[annotation])
    source = read_source(root=tmp_path)
    problem = source.problems[0]
    assert (problem.kind, problem.where) == (kind, "annotations/panoptic_val2017.json")
    assert not missing(problem.what, *facts_of(message))
    assert source.samples == ()


def test_images_without_files_and_without_annotations_are_named(tmp_path: Path) -> None:
    images = [{"file_name": f"{name}.jpg", "id": i} for i, name in ((139, "000000000139"), (1, "no"), (2, "bare"))]
    annotations = [
        {"segments_info": SEGMENTS, "file_name": "000000000139.png", "image_id": image_id} for image_id in (139, 1, 139)
    ]
    _write(tmp_path, images=images, annotations=annotations)
    problems = read_source(root=tmp_path).problems
    assert [(problem.kind, problem.what) for problem in problems] == [
        ("listed-missing", "names no.jpg, no such image"),
        ("name-twice", "has two annotations of 000000000139.png"),
        ("mask-missing", "has no annotation of bare.jpg"),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"annotations": None}, "is not COCO's panoptic JSON: has no list 'annotations'"),
        ({"categories": []}, "categories: 0; there must be 1..255"),
        ({"categories": [{"id": 1}]}, "categories[0]: has no whole number id and text name"),
        ({"categories": CATEGORIES + CATEGORIES[:1]}, "categories[3]: 'person' or its id stands there twice"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    _write(tmp_path, **changes)
    with pytest.raises(SourceError) as caught:
        read_source(root=tmp_path)
    assert not missing(str(caught.value), *facts_of(message))


def test_both_files_must_have_one_table(tmp_path: Path) -> None:
    _write(tmp_path, "train2017")
    _write(tmp_path, "val2017", categories=CATEGORIES[:2])
    with pytest.raises(SourceError, match=r"val2017\.json.*categories.*panoptic_train2017\.json"):
        read_source(root=tmp_path)


def test_another_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no annotations/panoptic_\*\.json"):
        read_source(root=tmp_path)


def test_the_layout_of_datumaro_is_read(tmp_path: Path) -> None:
    _write(tmp_path, "train", "images/")
    _write(tmp_path, "default", "images/")
    samples = read_source(root=tmp_path).samples
    assert [(sample.sample_id, sample.official_split) for sample in samples] == [
        ("default/000000000139", None),
        ("train/000000000139", "train"),
    ]


def test_the_png_files_may_lie_next_to_the_annotations(tmp_path: Path) -> None:
    _write(tmp_path)
    (tmp_path / "annotations/panoptic_val2017").rename(tmp_path / "panoptic_val2017")
    (sample,) = read_source(root=tmp_path).samples
    assert sample.label.files == (tmp_path / "panoptic_val2017/000000000139.png",)


def test_all_names_may_be_options(tmp_path: Path) -> None:
    _write(tmp_path)
    (tmp_path / "annotations").rename(tmp_path / "labels")
    (tmp_path / "labels/panoptic_val2017").rename(tmp_path / "segments")
    (tmp_path / "val2017").rename(tmp_path / "photos")
    source = read_source(root=tmp_path, annotations=["labels/*.json"], images="photos", masks="segments")
    assert source.problems == ()
    assert source.samples[0].image == tmp_path / "photos/000000000139.jpg"


@pytest.mark.parametrize("options", [{"images": "../a"}, {"annotations": ["/a.json"]}, {"masks": ".."}])
def test_options_stay_below_the_root(tmp_path: Path, options: dict[str, Any]) -> None:
    _write(tmp_path)
    with pytest.raises(ConfigError, match=next(iter(options))):
        read_source(root=tmp_path, **options)


def test_a_folder_of_an_option_that_is_not_there_is_named(tmp_path: Path) -> None:
    _write(tmp_path)
    with pytest.raises(SourceError, match="no folder photos"):
        read_source(root=tmp_path, images="photos")
