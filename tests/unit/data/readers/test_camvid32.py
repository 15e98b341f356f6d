"""CamVid in its original 32 colours, and in the copies that people have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from unit.data.readers.layouts import HEIGHT, WIDTH, fill, write_camvid32, write_image, write_indices, write_lines

from segpipe.data.readers.camvid32 import CLASSES, read_source
from segpipe.errors import SourceError

SIZE = (HEIGHT, WIDTH)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_camvid32(tmp_path)
    return tmp_path


def _write_fastai(root: Path) -> None:
    for name in ("0001TP_006690", "0016E5_07959"):
        write_image(root / f"camvid/images/{name}.png")
        write_indices(root / f"camvid/labels/{name}_P.png", 0, 30, 31, 4)
    codes = sorted([*CLASSES, "Void"], key=str.lower)
    write_lines(root / "camvid/codes.txt", *codes)
    write_lines(root / "camvid/valid.txt", "0016E5_07959.png")


def test_frames_and_sequences(root: Path) -> None:
    source = read_source(root=root)
    assert source.problems == ()
    assert [(sample.sample_id, sample.official_split, sample.group) for sample in source.samples] == [
        ("0001TP_006690", None, "0001TP"),
        ("0006R0_f00930", None, "0006R0"),
        ("Seq05VD_f00000", None, "Seq05VD"),
    ]


def test_colours_become_classes_and_void_is_none(root: Path) -> None:
    source = read_source(root=root)
    assert source.classes.num_classes == 31
    assert len(set(source.classes.colors)) == 31
    np.testing.assert_array_equal(source.samples[0].label.read(SIZE).pixels, fill([255, 0, 30]))


def test_the_masks_may_lie_loose(root: Path) -> None:
    for path in (root / "LabeledApproved_full").iterdir():
        path.rename(root / path.name)
    assert len(read_source(root=root).samples) == 3


def test_a_copy_in_split_folders_gives_the_official_split(tmp_path: Path) -> None:
    for split, name in (("train", "0001TP_006690"), ("val", "0016E5_07959"), ("test", "Seq05VD_f00000")):
        write_image(tmp_path / f"CamVid/{split}/{name}.png")
        write_indices(tmp_path / f"CamVid/{split}_labels/{name}_L.png", 0)
    assert [sample.official_split for sample in read_source(root=tmp_path).samples] == ["train", "val", "test"]


def test_the_copy_with_indices_is_read_by_its_codes(tmp_path: Path) -> None:
    _write_fastai(tmp_path)
    source = read_source(root=tmp_path)
    assert source.problems == ()
    assert [(sample.sample_id, sample.official_split) for sample in source.samples] == [
        ("0001TP_006690", "train"),
        ("0016E5_07959", "val"),
    ]
    pixels = source.samples[0].label.read(SIZE).pixels
    assert [source.classes.names[index] for index in pixels[0, [0, 2, 3]]] == ["Animal", "Wall", "Building"]
    assert pixels[0, 1] == 255


def test_wrong_or_missing_codes_are_refused(tmp_path: Path) -> None:
    _write_fastai(tmp_path)
    write_lines(tmp_path / "camvid/codes.txt", "Animal", "Archways")
    with pytest.raises(SourceError, match=r"camvid/codes\.txt:2.*'Archways'.*CamVid"):
        read_source(root=tmp_path)
    (tmp_path / "camvid/codes.txt").unlink()
    with pytest.raises(SourceError, match=r"and no codes\.txt"):
        read_source(root=tmp_path)


def test_an_unpaired_file_is_a_problem(root: Path) -> None:
    (root / "LabeledApproved_full/0001TP_006690_L.png").unlink()
    (root / "701_StillsRaw_full/0006R0_f00930.png").unlink()
    write_image(root / "again/Seq05VD_f00000.png")
    found = [(problem.kind, problem.where) for problem in read_source(root=root).problems]
    assert found == [
        ("name-twice", "again/Seq05VD_f00000.png"),
        ("mask-missing", "701_StillsRaw_full/0001TP_006690.png"),
        ("image-missing", "LabeledApproved_full/0006R0_f00930_L.png"),
    ]


def test_no_mask_at_all(tmp_path: Path) -> None:
    write_image(tmp_path / "701_StillsRaw_full/0001TP_006690.png")
    with pytest.raises(SourceError, match=r"mask.*\*_L\.png"):
        read_source(root=tmp_path)
