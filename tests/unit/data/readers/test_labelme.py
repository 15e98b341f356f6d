"""LabelMe's JSON files as LabelMe writes them."""

from __future__ import annotations

import base64
import io
import json
import pickle
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from facts import facts_of, missing
from PIL import Image

from segpipe.choices import READERS
from segpipe.classes import IGNORE_INDEX
from segpipe.data.readers.labelme import read_source
from segpipe.data.sources.source import Source
from segpipe.errors import ConfigError, SourceError

SQUARE = [[1.0, 1.0], [3.0, 1.0], [3.0, 3.0], [1.0, 3.0]]  # 3 x 3 px, both edges inside


def _shape(label: Any, points: Any = SQUARE, kind: Any = "polygon", **more: Any) -> dict[str, Any]:
    entry = {"label": label, "points": points, "group_id": None, "description": "", "shape_type": kind, "flags": {}}
    return {**entry, "mask": None, **more}


def _write(root: Path, name: str, *shapes: Any, image: str | None = None, size: Any = (6, 8), data: Any = None) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    image = f"{Path(name).stem}.jpg" if image is None else image
    document = {"version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": image, "imageData": data}
    document |= {"imageHeight": size[0], "imageWidth": size[1]}
    (root / name).write_text(json.dumps(document, indent=2), encoding="utf-8")


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def _one(root: Path, *shapes: Any, **more: Any) -> Path:
    _touch(root, "a.jpg")
    _write(root, "a.json", *shapes, **more)
    return root


def _pixels(source: Source, size_hw: tuple[int, int] = (6, 8)) -> Any:
    assert source.problems == ()
    reading = source.samples[0].label.read(size_hw)
    assert reading.faults == ()
    return reading.pixels


def test_jsons_next_to_their_images(tmp_path: Path) -> None:
    _touch(tmp_path, "2011_000003.jpg", "more/2011_000025.jpg")
    _write(tmp_path, "2011_000003.json", _shape("person"), _shape("bus", [[0, 0], [1, 1]], "rectangle"))
    _write(tmp_path, "more/2011_000025.json", _shape("__ignore__"))
    source = read_source(root=tmp_path)
    assert source.problems == ()
    assert source.classes.names == ("_background_", "bus", "person")
    assert [sample.sample_id for sample in source.samples] == ["2011_000003", "more/2011_000025"]
    expected = np.zeros((6, 8), np.uint8)
    expected[1:4, 1:4] = 2
    expected[0:2, 0:2] = 1
    assert np.array_equal(_pixels(source), expected)
    ignored = source.samples[1].label.read((6, 8)).pixels
    assert ignored is not None and (ignored == IGNORE_INDEX).sum() == 9
    assert source.samples[1].label.files == (tmp_path / "more/2011_000025.json",)


@pytest.mark.parametrize(
    ("options", "labels", "names"),
    [
        ({"classes": ["cat", "bus"]}, "bus\ncat\n", ("_background_", "cat", "bus")),
        ({}, "__ignore__\n_background_\ncat\nbus\ndog\n", ("_background_", "cat", "bus", "dog")),
        ({"background": "void"}, "cat\nbus\n", ("cat", "bus")),
    ],
)
def test_the_order_of_the_classes_is_given(
    tmp_path: Path, options: dict[str, Any], labels: str, names: tuple[str, ...]
) -> None:
    (tmp_path / "labels.txt").write_text(labels)
    source = READERS.call("labelme", options, root=_one(tmp_path, _shape("bus")))
    assert source.classes.names == names
    pixels = _pixels(source)
    assert pixels[1, 1] == names.index("bus")
    assert pixels[0, 0] == (0 if "_background_" in names else IGNORE_INDEX)


def test_background_may_be_drawn(tmp_path: Path) -> None:
    root = _one(tmp_path, _shape("cat"), _shape("_background_", [[2, 2]], "point"))
    assert (_pixels(read_source(root=root)) == 0).all()


def test_masks_of_its_ai_tools(tmp_path: Path) -> None:
    data = io.BytesIO()
    Image.fromarray(np.array([[1, 0, 1]], np.uint8)).save(data, "PNG")
    patch = base64.b64encode(data.getvalue()).decode()
    root = _one(tmp_path, _shape("cat", [[2.0, 4.0], [4.0, 4.0]], "mask", mask=patch))
    assert np.argwhere(_pixels(read_source(root=root))).tolist() == [[4, 2], [4, 4]]


def test_old_files_have_no_kinds_and_no_size(tmp_path: Path) -> None:
    root = _one(tmp_path, _shape("cat", kind=None), size=(None, None))
    assert _pixels(read_source(root=root), (5, 5)).shape == (5, 5)


@pytest.mark.parametrize(
    ("listed", "file"),
    [
        ("..\\images\\a.jpg", "images/a.jpg"),
        ("../images/a.jpg", "images/a.jpg"),
        ("C:\\Users\\ann\\set\\a.jpg", "labels/a.jpg"),
        ("renamed.jpg", "labels/a.png"),
    ],
)
def test_images_are_found(tmp_path: Path, listed: str, file: str) -> None:
    _touch(tmp_path, file)
    _write(tmp_path, "labels/a.json", _shape("cat"), image=listed)
    source = read_source(root=tmp_path)
    assert source.problems == ()
    assert [sample.image for sample in source.samples] == [tmp_path / file]


def test_an_image_inside_the_json_can_be_written_out(tmp_path: Path) -> None:
    data = io.BytesIO()
    Image.new("RGB", (8, 6)).save(data, "JPEG")
    _write(tmp_path, "a.json", _shape("cat"), data=base64.b64encode(data.getvalue()).decode())
    (problem,) = read_source(root=tmp_path).problems
    assert (problem.kind, problem.where, problem.what) == ("image-missing", "a.json", "names a.jpg, no such image")
    _, command = problem.fix.split("write it to a file: ")
    subprocess.run([sys.executable, *shlex.split(command)[1:]], cwd=tmp_path, check=True)
    assert (tmp_path / "a.jpg").read_bytes() == data.getvalue()
    assert read_source(root=tmp_path).problems == ()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (_shape("catt"), "shape 1 (catt) has the label 'catt'; did you mean 'cat'"),
        (_shape(None), "shape 1 (None) has the label None; "),
        (_shape("cat", kind="points"), "shape 1 (cat) is a 'points'; possible: circle, "),
        (_shape("cat", SQUARE[:2]), "shape 1 (cat) is a polygon of 2 points, not 3 or more"),
        (_shape("cat", SQUARE, "rectangle"), "shape 1 (cat) is a rectangle of 4 points, not 2"),
        (_shape("cat", [[1, 2], [3]]), "shape 1 (cat) has points that are not pairs of numbers"),
        (_shape("cat", None), "shape 1 (cat) has points that are not pairs of numbers"),
        (_shape("cat", SQUARE[:2], "mask"), "shape 1 (cat) is a mask without its picture"),
    ],
)
def test_a_wrong_shape_is_named(tmp_path: Path, shape: dict[str, Any], message: str) -> None:
    source = read_source(root=_one(tmp_path, shape), classes=["cat"])
    (problem,) = source.problems
    assert (problem.kind, problem.where) == ("annotation", "a.json")
    assert not missing(problem.what, *facts_of(message))
    assert source.samples == ()


def test_all_problems_are_named_at_once(tmp_path: Path) -> None:
    _one(tmp_path, _shape("cat"))
    _touch(tmp_path, "unlabelled.png", "._a.jpg")
    _write(tmp_path, "b.json", image="a.jpg")
    _write(tmp_path, "c.json")
    (tmp_path / "broken.json").write_text('{"shapes": [\n}')
    (tmp_path / "other.json").write_text('{"images": []}')
    source = read_source(root=tmp_path)
    assert [sample.sample_id for sample in source.samples] == ["a"]
    assert [(problem.kind, problem.where) for problem in source.problems] == [
        ("annotation", "broken.json:2"),
        ("annotation", "other.json"),
        ("name-twice", "b.json"),
        ("image-missing", "c.json"),
        ("mask-missing", "unlabelled.png"),
    ]


def test_points_outside_are_named_when_drawn(tmp_path: Path) -> None:
    (sample,) = read_source(root=_one(tmp_path, _shape("cat", [[1, 1], [80, 1], [1, 3]]))).samples
    (fault,) = sample.label.read((6, 8)).faults
    assert fault.what == "shape 1 (cat) lies far outside the image"


@pytest.mark.parametrize("text", ['{"shapes": {}}', "[]", '{"shapes": ["x"]}'])
def test_nothing_of_labelme_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(SourceError, match=r"holds.*LabelMe.*a\.json.*'shapes'"):
        read_source(root=tmp_path)


def test_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"holds.*LabelMe.*JSON"):
        read_source(root=tmp_path)


def test_a_label_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"option.*classes.*twice"):
        read_source(root=_one(tmp_path), classes=["cat", "cat"])
    (tmp_path / "labels.txt").write_text("cat\ndog\ncat\n")
    with pytest.raises(SourceError, match=r"labels\.txt: named twice: cat"):
        read_source(root=tmp_path)


def test_without_any_label_and_background_there_is_no_class(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="0 classes"):
        read_source(root=_one(tmp_path), background="void")


def test_labels_can_be_sent_to_a_worker_and_keep_their_key(tmp_path: Path) -> None:
    root = _one(tmp_path, _shape("cat"))
    (first,), (second,) = read_source(root=root).samples, read_source(root=root).samples
    assert pickle.loads(pickle.dumps(first)) == second
    assert first.label.key == second.label.key
    (other,) = read_source(root=root, classes=["dog", "cat"]).samples
    assert other.label.key != first.label.key
