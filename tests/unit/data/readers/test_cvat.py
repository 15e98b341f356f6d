"""CVAT's "Segmentation mask 1.1" in the layout of its export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from facts import facts_of, missing
from PIL import Image

from segpipe.choices import READERS
from segpipe.classes import IGNORE_INDEX
from segpipe.data.readers.cvat import read_source
from segpipe.errors import ConfigError, SourceError

LABEL_MAP = "# label:color_rgb:parts:actions\nbackground:0,0,0::\nhandle:61,245,61::\nhuman:140,120,240:hand,foot:run\n"
PIXELS = np.array([[[0, 0, 0], [61, 245, 61], [140, 120, 240]]], np.uint8)


def _write(
    root: Path,
    lists: dict[str, str],
    names: tuple[str, ...] = ("frame_000000", "frame_000001"),
    label_map: str = LABEL_MAP,
) -> None:
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "labelmap.txt").write_text(label_map, encoding="utf-8")
    for subset, text in lists.items():
        (root / "ImageSets/Segmentation" / f"{subset}.txt").write_text(text, encoding="utf-8")
    for folder, suffix in (("JPEGImages", ".jpg"), ("SegmentationClass", ".png"), ("SegmentationObject", ".png")):
        for name in names:
            path = root / folder / f"{name}{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(PIXELS).save(path)


@pytest.mark.parametrize("wrapping", ["", "task_7"])
def test_the_exports_layout(tmp_path: Path, wrapping: str) -> None:
    _write(tmp_path / wrapping, {"default": "frame_000000\nframe_000001\n"})
    source = read_source(root=tmp_path)
    assert source.problems == ()
    assert source.classes.names == ("background", "handle", "human")
    assert source.classes.colors[2] == (140, 120, 240)
    assert [sample.sample_id for sample in source.samples] == ["frame_000000", "frame_000001"]
    assert {sample.official_split for sample in source.samples} == {None}
    assert source.samples[0].image == tmp_path / wrapping / "JPEGImages/frame_000000.jpg"
    pixels = source.samples[0].label.read((1, 3)).pixels
    assert pixels is not None and pixels.tolist() == [[0, 1, 2]]


def test_one_of_several_exports_is_never_left_out_in_silence(tmp_path: Path) -> None:
    for task in ("task_7", "task_8"):
        _write(tmp_path / task, {})
    with pytest.raises(SourceError) as caught:
        read_source(root=tmp_path)
    assert not missing(str(caught.value), "task_7", "task_8", "download.join")


def test_masks_with_a_palette(tmp_path: Path) -> None:
    _write(tmp_path, {})
    mask = Image.fromarray(np.array([[0, 1, 2]], np.uint8)).convert("P")
    mask.putpalette([0, 0, 0, 140, 120, 240, 61, 245, 61])
    mask.save(tmp_path / "SegmentationClass/frame_000000.png")
    pixels = read_source(root=tmp_path).samples[0].label.read((1, 3)).pixels
    assert pixels is not None and pixels.tolist() == [[0, 2, 1]]


def test_subsets_are_splits(tmp_path: Path) -> None:
    lists = {"Train": "a\n", "validation": '"seq 1/b c"\n', "default": "a\nd\n"}
    _write(tmp_path, lists, ("a", "seq 1/b c", "d"))
    source = read_source(root=tmp_path)
    assert source.problems == ()
    assert {sample.sample_id: sample.official_split for sample in source.samples} == {
        "a": "train",
        "d": None,
        "seq 1/b c": "val",
    }


def test_background_may_be_void(tmp_path: Path) -> None:
    _write(tmp_path, {})
    source = READERS.call("cvat", {"void": ["background", "handle"]}, root=tmp_path)
    assert source.classes.names == ("human",)
    assert source.samples[0].label.read((1, 3)).pixels.tolist() == [[IGNORE_INDEX, IGNORE_INDEX, 0]]
    with pytest.raises(ConfigError, match=r"option.*void.*'backgroud'.*'background'"):
        read_source(root=tmp_path, void=["backgroud"])


def test_images_may_lie_elsewhere(tmp_path: Path) -> None:
    _write(tmp_path / "export", {})
    (tmp_path / "export/JPEGImages").rename(tmp_path / "photos")
    (problem,) = read_source(root=tmp_path).problems
    assert (problem.kind, problem.where) == ("folder-missing", "export/JPEGImages")
    assert "option images" in problem.fix
    source = read_source(root=tmp_path, images="photos")
    assert source.samples[0].image == tmp_path / "photos/frame_000000.jpg"


def test_hidden_lists_are_not_read(tmp_path: Path) -> None:
    _write(tmp_path, {"._default": "no\n"})
    assert read_source(root=tmp_path).problems == ()


def test_images_must_lie_within_the_source(tmp_path: Path) -> None:
    _write(tmp_path, {})
    with pytest.raises(ConfigError, match=r"images.*within.*\.\./photos"):
        read_source(root=tmp_path, images="../photos")


def test_problems_are_all_named(tmp_path: Path) -> None:
    _write(tmp_path, {"train": "a\nno\n", "val": "a\nb\n"}, ("a", "b", "c"))
    (tmp_path / "JPEGImages/b.jpg").unlink()
    (tmp_path / "SegmentationClass/c.png").unlink()
    source = read_source(root=tmp_path)
    assert [sample.sample_id for sample in source.samples] == ["a"]
    assert [(problem.kind, problem.where) for problem in source.problems] == [
        ("mask-missing", "JPEGImages/c.jpg"),
        ("image-missing", "SegmentationClass/b.png"),
        ("name-twice", "ImageSets/Segmentation/val.txt:1"),
        ("listed-missing", "ImageSets/Segmentation/train.txt:2"),
    ]


@pytest.mark.parametrize(
    ("label_map", "message"),
    [
        ("# label:color_rgb:parts:actions\n", "labelmap.txt: names no label"),
        ("a:1,2,3::\nb 4,5,6\n", "labelmap.txt:2: not label:red,green,blue:parts:actions: 'b 4,5,6'"),
        ("a:::\n", "labelmap.txt:1: not label:red,green,blue:parts:actions: 'a:::'"),
        ("a:1,2,256::\n", "labelmap.txt:1: not label:red,green,blue"),
        ("a:1,2,3::\nb:1,2,3::\n", "labelmap.txt:2: label 'b' or its colour 1,2,3 stands there twice"),
        ("a:1,2,3::\na:1,2,4::\n", "labelmap.txt:2: label 'a' or its colour 1,2,4 stands there twice"),
    ],
)
def test_a_wrong_label_map_is_named(tmp_path: Path, label_map: str, message: str) -> None:
    _write(tmp_path, {}, label_map=label_map)
    with pytest.raises(SourceError) as caught:
        read_source(root=tmp_path)
    assert not missing(str(caught.value), *facts_of(message))


def test_a_missing_label_map_is_named(tmp_path: Path) -> None:
    _write(tmp_path, {})
    (tmp_path / "labelmap.txt").unlink()
    with pytest.raises(SourceError, match=r"labelmap\.txt: no such file"):
        read_source(root=tmp_path)


def test_another_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"SegmentationClass.*mask 1\.1"):
        read_source(root=tmp_path)
