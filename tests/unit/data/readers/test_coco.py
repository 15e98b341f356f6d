"""COCO's instances as COCO, Roboflow, Label Studio and CVAT write them."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from facts import facts_of, missing

from segpipe.choices import READERS
from segpipe.classes import IGNORE_INDEX
from segpipe.data.readers.coco import read_source
from segpipe.data.sources.source import Source
from segpipe.errors import ConfigError, SourceError

BOX = [[1.0, 1.0, 4.0, 1.0, 4.0, 3.0, 1.0, 3.0]]  # 3 x 2 px
CATEGORIES = [
    {"supercategory": "person", "id": 1, "name": "person"},
    {"supercategory": "animal", "id": 17, "name": "cat"},
]


def _write(root: Path, name: str, document: Any) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def _image(image_id: Any, name: str, height: int | None = 6, width: int | None = 8) -> dict[str, Any]:
    return {"license": 4, "file_name": name, "height": height, "width": width, "id": image_id}


def _annotation(image_id: Any, category_id: Any = 1, segmentation: Any = BOX, **more: Any) -> dict[str, Any]:
    entry = {"segmentation": segmentation, "area": 6.0, "iscrowd": 0, "image_id": image_id, "bbox": [1, 1, 3, 2]}
    return {**entry, "category_id": category_id, "id": 100, **more}


def _document(images: list[Any], annotations: list[Any], categories: Any = CATEGORIES) -> dict[str, Any]:
    return {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}


def _pixels(source: Source, sample_id: str) -> Any:
    (sample,) = [sample for sample in source.samples if sample.sample_id == sample_id]
    reading = sample.label.read((6, 8))
    assert reading.faults == ()
    return reading.pixels


def _one_image(root: Path, *annotations: Any, categories: Any = CATEGORIES) -> Path:
    _touch(root, "a.jpg")
    _write(root, "result.json", _document([_image(0, "a.jpg")], list(annotations), categories))
    return root


def _messages(source: Source) -> list[tuple[str, str]]:
    return [(problem.kind, f"{problem.where}: {problem.what}") for problem in source.problems]


def test_cocos_own_layout(tmp_path: Path) -> None:
    _touch(
        tmp_path, "coco/train2017/000000000009.jpg", "coco/val2017/000000000139.jpg", "coco/val2017/000000000285.jpg"
    )
    licences = [{"url": "http://creativecommons.org/licenses/by/2.0/", "id": 4, "name": "Attribution License"}]
    train = _document([_image(9, "000000000009.jpg")], [_annotation(9, 17)])
    val = _document([_image(139, "000000000139.jpg"), _image(285, "000000000285.jpg")], [_annotation(139, 1)])
    _write(tmp_path, "coco/annotations/instances_train2017.json", train | {"licenses": licences})
    _write(tmp_path, "coco/annotations/instances_val2017.json", val | {"licenses": licences})
    _write(tmp_path, "coco/annotations/captions_val2017.json", {"annotations": [{"caption": "a cat"}]})
    source = read_source(root=tmp_path)
    assert source.problems == ()
    assert source.licence == "Attribution License"
    assert source.classes.names == ("background", "person", "cat")
    assert [(sample.sample_id, sample.official_split) for sample in source.samples] == [
        ("coco/train2017/000000000009", "train"),
        ("coco/val2017/000000000139", "val"),
        ("coco/val2017/000000000285", "val"),
    ]
    expected = np.zeros((6, 8), np.uint8)
    expected[1:3, 1:4] = 2
    assert np.array_equal(_pixels(source, "coco/train2017/000000000009"), expected)
    assert (_pixels(source, "coco/val2017/000000000285") == 0).all()


def test_roboflows_layout(tmp_path: Path) -> None:
    categories = [
        {"id": 0, "name": "leaves", "supercategory": "none"},
        {"id": 1, "name": "healthy", "supercategory": "leaves"},
        {"id": 2, "name": "rust", "supercategory": "leaves"},
    ]
    licences = [{"id": 1, "url": "https://creativecommons.org/licenses/by/4.0/", "name": "CC BY 4.0"}]
    name = "leaf_jpg.rf.79a28071be7ca7c93095c750f93f929d.jpg"
    for folder in ("train", "valid", "test"):
        _touch(tmp_path, f"{folder}/{name}")
        entry = _image(0, name) | {"date_captured": "2024-04-03T14:35:24+00:00", "extra": {"name": "leaf.jpg"}}
        document = _document([entry], [_annotation(0, 2)], categories) | {"licenses": licences}
        _write(tmp_path, f"{folder}/_annotations.coco.json", document)
    source = read_source(root=tmp_path)
    assert source.problems == ()
    assert source.classes.names == ("background", "healthy", "rust")
    assert source.licence == "CC BY 4.0"
    stem = name.removesuffix(".jpg")
    assert {sample.sample_id: sample.official_split for sample in source.samples} == {
        f"train/{stem}": "train",
        f"valid/{stem}": "val",
        f"test/{stem}": "test",
    }
    assert (_pixels(source, f"valid/{stem}") == 2).sum() == 6


def test_an_image_of_another_split_is_not_taken(tmp_path: Path) -> None:
    _touch(tmp_path, "valid/a.jpg")
    _write(tmp_path, "train/_annotations.coco.json", _document([_image(0, "a.jpg")], []))
    assert _messages(read_source(root=tmp_path)) == [
        ("listed-missing", "train/_annotations.coco.json: names a.jpg, no such image")
    ]


@pytest.mark.parametrize(
    ("listed", "file"),
    [
        ("images/23082be9-leaf.jpg", "images/23082be9-leaf.jpg"),
        ("images\\23082be9-leaf.jpg", "images/23082be9-leaf.jpg"),
        ("../../label-studio/media/upload/4/23082be9-leaf.jpg", "images/23082be9-leaf.jpg"),
        ("..\\..\\label-studio\\media\\upload\\4\\23082be9-leaf.jpg", "photos/leaf.jpg"),
        ("/data/local-files/?d=photos/leaf.jpg", "photos/leaf.jpg"),
    ],
)
def test_label_studios_layout(tmp_path: Path, listed: str, file: str) -> None:
    _touch(tmp_path, file)
    document = {
        "images": [{"width": 8, "height": 6, "id": 0, "file_name": listed}],
        "categories": [{"id": 0, "name": "Planet"}, {"id": 1, "name": "Moonwalker"}],
        "annotations": [{**_annotation(0, 0), "id": 0, "ignore": 0}],
        "info": {"year": 2023, "version": "1.0", "description": "", "contributor": "Label Studio", "url": ""},
    }
    _write(tmp_path, "result.json", document)
    source = read_source(root=tmp_path)
    assert source.problems == ()
    assert source.classes.names == ("background", "Planet", "Moonwalker")
    assert [sample.image for sample in source.samples] == [tmp_path / file]


def test_label_studios_images_without_a_size_take_the_files(tmp_path: Path) -> None:
    _touch(tmp_path, "images/a.jpg")
    _write(tmp_path, "result.json", _document([_image(0, "images/a.jpg", None, None)], []))
    assert (_pixels(read_source(root=tmp_path), "images/a") == 0).all()


def test_cvats_layout(tmp_path: Path) -> None:
    _touch(tmp_path, "images/default/frame_000000.png", "images/default/frame_000001.png")
    counts = [7, 2, 39]
    mask = _annotation(1, 1, {"counts": counts, "size": [6, 8]}, attributes={"occluded": False})
    images = [_image(1, "frame_000000.png"), _image(2, "frame_000001.png")]
    _write(tmp_path, "annotations/instances_default.json", _document(images, [mask]))
    source = read_source(root=tmp_path)
    assert source.problems == ()
    assert [sample.official_split for sample in source.samples] == [None, None]
    pixels = _pixels(source, "images/default/frame_000000")
    assert np.argwhere(pixels == 1).tolist() == [[1, 1], [2, 1]]


def test_packed_run_lengths(tmp_path: Path) -> None:
    root = _one_image(tmp_path, _annotation(0, 17, {"counts": "72W1", "size": [6, 8]}))
    assert np.argwhere(_pixels(read_source(root=root), "a") == 2).tolist() == [[1, 1], [2, 1]]


def test_a_flat_polygon_and_a_line_next_to_one(tmp_path: Path) -> None:
    root = _one_image(tmp_path, _annotation(0, 1, BOX[0]), _annotation(0, 17, [[5.0, 5.0, 6.0, 6.0], BOX[0]]))
    source = read_source(root=root)
    assert source.problems == ()
    assert (_pixels(source, "a") == 2).sum() == 6


@pytest.mark.parametrize(
    ("options", "names", "outside", "crowd"),
    [
        ({}, ("background", "person", "cat"), 0, IGNORE_INDEX),
        ({"background": "void"}, ("person", "cat"), IGNORE_INDEX, IGNORE_INDEX),
        ({"crowd": "class"}, ("background", "person", "cat"), 0, 1),
        ({"background": "void", "crowd": "class"}, ("person", "cat"), IGNORE_INDEX, 0),
    ],
)
def test_background_and_crowds(
    tmp_path: Path, options: dict[str, Any], names: tuple[str, ...], outside: int, crowd: int
) -> None:
    crowd_of_two_px = _annotation(0, 1, {"counts": [7, 2, 39], "size": [6, 8]}, iscrowd=1)
    root = _one_image(tmp_path, _annotation(0, 17, [[5, 3, 8, 3, 8, 6, 5, 6]]), crowd_of_two_px)
    source = READERS.call("coco", options, root=root)
    assert source.classes.names == names
    pixels = _pixels(source, "a")
    assert pixels[0, 0] == outside and pixels[1, 1] == crowd


def test_a_file_of_crowds_alone_as_datumaro_writes_masks_needs_the_option(tmp_path: Path) -> None:
    root = _one_image(tmp_path, _annotation(0, 1, {"counts": [7, 2, 39], "size": [6, 8]}, iscrowd=1))
    with pytest.raises(SourceError) as raised:
        READERS.call("coco", {}, root=root)
    assert not missing(str(raised.value), "iscrowd", "Datumaro", "--option crowd=class")
    assert _pixels(READERS.call("coco", {"crowd": "class"}, root=root), "a")[1, 1] == 1


@pytest.mark.parametrize("licences", [5, "x", {"name": "CC0"}, None])
def test_licences_that_are_not_a_list_are_ignored(tmp_path: Path, licences: Any) -> None:
    _touch(tmp_path, "a.jpg")
    _write(tmp_path, "result.json", _document([_image(0, "a.jpg")], []) | {"licenses": licences})
    assert read_source(root=tmp_path).licence == "not stated"


def test_a_category_called_background_takes_the_rest(tmp_path: Path) -> None:
    categories = [{"id": 3, "name": "cat"}, {"id": 5, "name": "background"}]
    source = read_source(root=_one_image(tmp_path, _annotation(0, 3), categories=categories))
    assert source.classes.names == ("cat", "background")
    assert (_pixels(source, "a") == 1).sum() == 48 - 6


def test_boxes_are_drawn_where_asked_for(tmp_path: Path) -> None:
    root = _one_image(tmp_path, _annotation(0, 1, []))
    assert _messages(read_source(root=root)) == [("annotation", "result.json: annotation 100 has no polygon")]
    assert (_pixels(read_source(root=root, boxes="draw"), "a") == 1).sum() == 6


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (_annotation(0, 99), "annotation 100 is of category 99, which is not listed; known: 1, 17"),
        (_annotation(0, [1]), "annotation 100 is of category [1], which is not listed; known: 1, 17"),
        (_annotation(0, 1, []), "annotation 100 has no polygon"),
        (_annotation(0, 1, None), "annotation 100 has no polygon"),
        (_annotation(0, 1, [[1, 1, 2, 2]]), "annotation 100 has no polygon"),
        (_annotation(0, 1, [[1, 1, 2, 2, 3, 3, 4]]), "has a polygon with 7 coordinates, an odd number"),
        (_annotation(0, 1, [[1, "x", 2, 2, 3, 3]]), "annotation 100 has a polygon with something that is no number"),
        (_annotation(0, 1, [*BOX, {}]), "annotation 100 has a polygon that is no list of numbers: {}"),
        (_annotation(0, 1, [*BOX, ""]), "annotation 100 has a polygon that is no list of numbers: ''"),
        (_annotation(0, 1, "x"), "annotation 100 has a segmentation that is no list: 'x'"),
        (_annotation(0, 1, {"counts": [48]}), "annotation 100 has run lengths without a size: None"),
        (_annotation(0, 1, {"counts": [1.5], "size": [6, 8]}), "run lengths that cannot be understood: [1.5]"),
        (_annotation(0, 1, {"counts": None, "size": [6, 8]}), "run lengths that cannot be understood: None"),
        (_annotation(7), "does not list image 7, but has annotations of it: 1"),
        ({"id": 3, "segmentation": BOX}, "annotations[0] has no image_id and category_id"),
        ("x", "annotations[0] has no image_id and category_id"),
    ],
)
def test_a_wrong_annotation_is_named(tmp_path: Path, annotation: Any, message: str) -> None:
    source = read_source(root=_one_image(tmp_path, annotation))
    (problem,) = source.problems
    assert (
        problem.kind == "annotation"
        and problem.where == "result.json"
        and not missing(problem.what, *facts_of(message))
    )
    # An image whose labels are not all understood must not be trained on.
    is_of_image = isinstance(annotation, dict) and annotation.get("image_id") == 0
    assert len(source.samples) == (0 if is_of_image else 1)


def test_all_problems_are_named_at_once(tmp_path: Path) -> None:
    _touch(tmp_path, "a.jpg", "b.jpg")
    images = [_image(0, "a.jpg"), _image(0, "b.jpg"), _image(1, "a.jpg"), _image(2, "no.jpg"), {"id": 3}, "x"]
    _write(tmp_path, "result.json", _document(images, [_annotation(0, 99), _annotation(9)]))
    assert sorted(_messages(read_source(root=tmp_path))) == [
        ("annotation", "result.json: annotation 100 is of category 99, which is not listed; known: 1, 17"),
        ("annotation", "result.json: does not list image 9, but has annotations of it: 1"),
        ("annotation", "result.json: images[4] has no id and file_name"),
        ("annotation", "result.json: images[5] has no id and file_name"),
        ("listed-missing", "result.json: names no.jpg, no such image"),
        ("name-twice", "result.json: lists a.jpg, which result.json has listed already"),
        ("name-twice", "result.json: lists the image id 0 twice"),
    ]


def test_faults_name_annotation_and_file(tmp_path: Path) -> None:
    root = _one_image(tmp_path, _annotation(0, 1, {"counts": [1, 2], "size": [6, 8]}))
    (sample,) = read_source(root=root).samples
    (fault,) = sample.label.read((6, 8)).faults
    assert fault.what == "annotation 100 of result.json has run lengths of 3 px together, not 48"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ('{"images": [],\n"annotations": [}', "result.json:2: is not JSON: "),
        ([], "result.json: is not COCO's JSON: holds no object"),
        ([{"id": 1, "annotations": []}], "result.json: is Label Studio's own JSON; export the project as COCO"),
        ({"images": [], "annotations": {}}, "result.json: is not COCO's JSON: has no list 'annotations'"),
        (_document([], [], []), "result.json: categories: the list has no class"),
        (_document([], [], [{"id": "1", "name": "a"}]), "categories[0]: has no whole number id and text name"),
        (_document([], [], CATEGORIES + [{"id": 1, "name": "a"}]), "categories[2]: id 1 stands there twice"),
        (_document([], [], CATEGORIES + [{"id": 2, "name": "cat "}]), "categories: named twice: cat"),
        (_document([], [], [{"id": i, "name": f"c{i}"} for i in range(255)]), "256 classes; at most 255 are possible"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, document: Any, message: str) -> None:
    _write(tmp_path, "result.json", document)
    with pytest.raises(SourceError) as caught:
        read_source(root=tmp_path)
    assert not missing(str(caught.value), *facts_of(message))


def test_files_must_have_one_table(tmp_path: Path) -> None:
    _write(tmp_path, "train/_annotations.coco.json", _document([], []))
    _write(tmp_path, "valid/_annotations.coco.json", _document([], [], CATEGORIES[:1]))
    with pytest.raises(SourceError, match=r"valid/_annotations\.coco\.json.*categories"):
        read_source(root=tmp_path)


def test_files_and_images_may_be_named(tmp_path: Path) -> None:
    _touch(tmp_path, "photos/a.jpg", "thumbnails/a.jpg")
    _write(tmp_path, "labels/my_train.json", _document([_image(0, "a.jpg")], []))
    source = read_source(root=tmp_path, annotations=["labels/*.json"], images="photos")
    (sample,) = source.samples
    assert (sample.image, sample.official_split) == (tmp_path / "photos/a.jpg", "train")
    with pytest.raises(SourceError, match=r"JSON.*option.*annotations.*x\.json"):
        read_source(root=tmp_path, annotations=["x.json"])


def test_options_stay_within_the_source(tmp_path: Path) -> None:
    root = _one_image(tmp_path)
    for options in ({"annotations": ["../*.json"]}, {"annotations": ["/x.json"]}, {"images": "../photos"}):
        with pytest.raises(ConfigError, match="within the source"):
            READERS.call("coco", options, root=root)
    with pytest.raises(SourceError, match=r"folder.*photos"):
        read_source(root=root, images="photos")


def test_a_class_without_annotations_stays_a_class(tmp_path: Path) -> None:
    # COCO's own 'person' is its own super-category; Roboflow's first category is that of others.
    assert read_source(root=_one_image(tmp_path)).classes.names == ("background", "person", "cat")


def test_a_super_category_that_is_used_is_a_class(tmp_path: Path) -> None:
    categories = [{"id": 0, "name": "leaf"}, {"id": 1, "name": "rust", "supercategory": "leaf"}]
    source = read_source(root=_one_image(tmp_path, _annotation(0, 0), categories=categories))
    assert source.classes.names == ("background", "leaf", "rust")


def test_without_annotations_the_layouts_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no annotations: none of annotations/instances_\*\.json, "):
        read_source(root=tmp_path)


def test_a_wrong_option_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'coco'.*background"):
        READERS.call("coco", {"background": "none"}, root=_one_image(tmp_path))


def test_labels_can_be_sent_to_a_worker_and_keep_their_key(tmp_path: Path) -> None:
    root = _one_image(tmp_path, _annotation(0, 1), _annotation(0, 17, {"counts": "72W1", "size": [6, 8]}))
    (first,), (second,) = read_source(root=root).samples, read_source(root=root).samples
    assert pickle.loads(pickle.dumps(first)) == second
    assert first.label.key == second.label.key


def test_another_images_annotations_do_not_change_a_key(tmp_path: Path) -> None:
    _touch(tmp_path, "b.jpg")
    (before,) = read_source(root=_one_image(tmp_path, _annotation(0, 1))).samples
    images = [_image(5, "b.jpg"), _image(3, "a.jpg")]
    _write(tmp_path, "result.json", _document(images, [_annotation(5, 1, id=1), _annotation(3, 1, id=2)]))
    after, _ = read_source(root=tmp_path).samples
    assert before.label.key == after.label.key
