"""Pascal VOC, alone and with SBD."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from unit.data.readers.layouts import HEIGHT, WIDTH, fill, write_image, write_indices, write_lines, write_sbd, write_voc

from segpipe.choices import READERS
from segpipe.data.masks.mat_labels import MatMask
from segpipe.data.readers.voc import read_source
from segpipe.errors import ConfigError, SourceError

LISTS = "VOCdevkit/VOC2012/ImageSets/Segmentation"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_voc(tmp_path)
    return tmp_path


def test_what_the_lists_name_is_read(root: Path) -> None:
    source = read_source(root=root)
    assert source.problems == ()
    found = [(sample.sample_id, sample.official_split) for sample in source.samples]
    assert found == [("2007_000032", "train"), ("2007_000033", "val"), ("2008_000008", "train")]
    assert source.classes.num_classes == 21
    assert source.classes.names[::5] == ("background", "bottle", "cow", "person", "tvmonitor")
    assert source.classes.colors[15] == (192, 128, 128)
    np.testing.assert_array_equal(source.samples[0].label.read((HEIGHT, WIDTH)).pixels, fill([0, 1, 20, 255, 15]))


@pytest.mark.parametrize("below", ["TrainVal", "a/b"])
def test_the_folder_is_found_below_others(tmp_path: Path, below: str) -> None:
    write_voc(tmp_path / below)
    if below == "a/b":
        with pytest.raises(SourceError, match=r"VOC2012/ImageSets/Segmentation.*folders"):
            read_source(root=tmp_path)
    else:
        assert len(read_source(root=tmp_path).samples) == 3


def test_another_year_has_a_test_list(root: Path) -> None:
    (root / "VOCdevkit/VOC2012").rename(root / "VOCdevkit/VOC2007")
    lists = root / "VOCdevkit/VOC2007/ImageSets/Segmentation"
    (lists / "val.txt").rename(lists / "test.txt")
    write_lines(lists / "val.txt")
    source = read_source(root=root, year=2007)
    assert [sample.official_split for sample in source.samples] == ["train", "test", "train"]
    with pytest.raises(SourceError, match="or the option year"):
        read_source(root=root)


def test_all_that_is_wrong_in_lists_is_named(root: Path) -> None:
    write_lines(root / LISTS / "train.txt", "2007_000032", "", "none", "../secret", "2007_000032", "2008_000008 -1")
    (root / LISTS / "val.txt").unlink()
    source = read_source(root=root)
    assert [(problem.kind, problem.where) for problem in source.problems] == [
        ("list-line", f"{LISTS}/train.txt:4"),
        ("name-twice", f"{LISTS}/train.txt:5"),
        ("list-line", f"{LISTS}/train.txt:6"),
        ("listed-missing", f"{LISTS}/train.txt:3"),
        ("listed-missing", f"{LISTS}/train.txt:3"),
        ("list-missing", f"{LISTS}/val.txt"),
    ]
    assert source.problems[3].what == "names VOCdevkit/VOC2012/JPEGImages/none.jpg, no such file"
    assert [sample.sample_id for sample in source.samples] == ["2007_000032"]


def test_sbd_adds_to_training_what_voc_does_not_list(root: Path) -> None:
    write_sbd(root)
    source = read_source(root=root)
    assert source.problems == ()
    found = {sample.sample_id: (sample.official_split, type(sample.label)) for sample in source.samples}
    assert found["2008_000002"] == ("train", MatMask)
    assert found["2008_000003"] == ("train", MatMask)
    # Both stand in SBD's lists; VOC's own masks and split count.
    assert found["2007_000033"][0] == "val"
    assert MatMask not in {found["2007_000033"][1], found["2008_000008"][1]}
    assert len(found) == 5


def test_sbd_is_left_out_on_request_and_required_on_request(root: Path) -> None:
    with pytest.raises(SourceError, match=r"SBD.*benchmark_RELEASE/dataset/cls"):
        read_source(root=root, sbd=True)
    write_sbd(root)
    assert len(read_source(root=root, sbd=False).samples) == 3
    assert len(read_source(root=root, sbd=True).samples) == 5


def test_without_vocs_val_list_nothing_of_sbd_is_taken(root: Path) -> None:
    write_sbd(root)
    (root / LISTS / "val.txt").unlink()
    source = read_source(root=root)
    assert [problem.kind for problem in source.problems] == ["list-missing"]
    assert not any(isinstance(sample.label, MatMask) for sample in source.samples)


def test_an_image_that_sbd_lists_twice_is_taken_once(root: Path) -> None:
    write_sbd(root)
    write_lines(root / "benchmark_RELEASE/dataset/val.txt", "2008_000002", "2008_000003")
    ids = [sample.sample_id for sample in read_source(root=root).samples]
    assert len(ids) == len(set(ids)) == 5


def test_a_missing_mask_of_sbd_is_a_problem(root: Path) -> None:
    write_sbd(root)
    (root / "benchmark_RELEASE/dataset/cls/2008_000002.mat").unlink()
    (problem,) = read_source(root=root).problems
    assert (problem.kind, problem.where) == ("listed-missing", "benchmark_RELEASE/dataset/train.txt:2")


@pytest.mark.parametrize("options", [{"year": 2013}, {"year": "2012"}, {"sbd": "yes"}, {"years": 2012}])
def test_wrong_options_are_refused(root: Path, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"data format 'voc': option {next(iter(options))}"):
        READERS.call("voc", options, root=root)


def _write_of_labelme(root: Path) -> None:
    """What labelme2voc writes."""
    for name in ("a_0", "b_0"):
        write_image(root / f"JPEGImages/{name}.jpg")
        write_indices(root / f"SegmentationClassPNG/{name}.png", 0, 2, 255, as_palette=True)
        (root / "SegmentationClass").mkdir(exist_ok=True)
        np.save(root / f"SegmentationClass/{name}.npy", np.zeros((2, 2), np.int32))
    write_lines(root / "class_names.txt", "_background_", "aeroplane", "car")


OPTIONS_OF_LABELME = {"folder": ".", "masks": "SegmentationClassPNG", "lists": None, "class_file": "class_names.txt"}


@pytest.mark.parametrize("below", [".", "data_dataset_voc"])
def test_what_labelme2voc_writes_is_read(tmp_path: Path, below: str) -> None:
    _write_of_labelme(tmp_path / below)
    source = READERS.call("voc", OPTIONS_OF_LABELME, root=tmp_path)
    assert source.problems == ()
    assert source.classes.names == ("_background_", "aeroplane", "car")
    assert [(sample.sample_id, sample.official_split) for sample in source.samples] == [("a_0", None), ("b_0", None)]
    np.testing.assert_array_equal(source.samples[0].label.read((HEIGHT, WIDTH)).pixels, fill([0, 2, 255]))


def test_pascal_context_has_folders_and_lists_of_its_own(tmp_path: Path) -> None:
    base = tmp_path / "VOCdevkit/VOC2010"
    for split, name in (("train", "2008_000002"), ("val", "2008_000003")):
        write_lines(base / f"ImageSets/SegmentationContext/{split}.txt", name)
        write_image(base / f"JPEGImages/{name}.jpg")
        write_indices(base / f"SegmentationClassContext/{name}.png", 0, 1)
    write_lines(base / "names.txt", "background", "aeroplane")
    lists, masks = "ImageSets/SegmentationContext", "SegmentationClassContext"
    source = read_source(root=tmp_path, year=2010, lists=lists, masks=masks, class_file="names.txt")
    assert source.problems == ()
    assert [sample.official_split for sample in source.samples] == ["train", "val"]


def test_images_may_have_another_suffix(root: Path) -> None:
    image = root / "VOCdevkit/VOC2012/JPEGImages/2007_000032.jpg"
    image.rename(image.with_suffix(".png"))
    assert read_source(root=root).samples[0].image == image.with_suffix(".png")


def test_an_export_with_a_label_map_is_told_its_format(tmp_path: Path) -> None:
    write_lines(tmp_path / "labelmap.txt", "background:0,0,0::")
    with pytest.raises(SourceError, match="format: cvat"):
        read_source(root=tmp_path)


@pytest.mark.parametrize("names", [(), ("a", "a")])
def test_a_class_file_without_different_names_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    _write_of_labelme(tmp_path)
    write_lines(tmp_path / "class_names.txt", *names)
    with pytest.raises(SourceError, match=r"class_names\.txt.*names"):
        READERS.call("voc", OPTIONS_OF_LABELME, root=tmp_path)


@pytest.mark.parametrize("options", [{"masks": "../a"}, {"class_file": "/a"}, {"sbd": True, "class_file": "a"}])
def test_options_that_cannot_be_are_refused(root: Path, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        READERS.call("voc", options, root=root)
