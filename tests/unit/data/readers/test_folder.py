"""The folder format: pairs by name, and a class table that is checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from facts import facts_of, missing

from segpipe.classes import ClassTable
from segpipe.data.readers.folder import read_source
from segpipe.errors import SourceError

PIXELS = np.zeros((2, 2), np.uint8)
TABLE = "classes: [{name: a, color: [1, 2, 3]}, {name: b, color: [4, 5, 6]}]\n"


def test_pairs_are_found_by_name(make_folder_source: Callable[..., Path], classes: ClassTable) -> None:
    root = make_folder_source({"b_0": (PIXELS, PIXELS), "a_0": (PIXELS, PIXELS)})
    source = read_source(root=root)
    assert source.classes == classes
    assert source.problems == ()
    assert source.licence == "not stated"
    assert [sample.sample_id for sample in source.samples] == ["a_0", "b_0"]
    assert source.samples[0].image == root / "images" / "a_0.png"
    assert source.samples[0].label.files == (root / "masks" / "a_0.png",)
    assert source.samples[0].official_split is None


def test_folders_below_are_part_of_the_name(make_folder_source: Callable[..., Path]) -> None:
    root = make_folder_source({"a_0": (PIXELS, PIXELS)})
    for folder in ("images", "masks"):
        (root / folder / "seq1").mkdir()
        (root / folder / "a_0.png").rename(root / folder / "seq1" / "0.png")
    assert [sample.sample_id for sample in read_source(root=root).samples] == ["seq1/0"]


def test_a_source_without_images_says_what_lies_there(make_folder_source: Callable[..., Path]) -> None:
    root = make_folder_source({"a": (PIXELS, PIXELS)})
    for folder in ("images", "masks"):
        (root / folder / "a.png").rename(root / folder / "a.xyz")
    (problem,) = read_source(root=root).problems
    assert problem.kind == "empty" and "2 .xyz" in problem.what


def test_void_and_licence_may_be_given(make_folder_source: Callable[..., Path]) -> None:
    root = make_folder_source({"a": (PIXELS, PIXELS)}, TABLE + "void: [0x64, 255]\nlicence: CC0\n")
    source = read_source(root=root)
    assert source.samples[0].label.indices == {0: 0, 1: 1, 100: 255, 255: 255}
    assert source.licence == "CC0"


def test_the_folder_may_be_wrapped_in_others(make_folder_source: Callable[..., Path], tmp_path: Path) -> None:
    make_folder_source({"a": (PIXELS, PIXELS)}, name="source/ours-main/data")
    source = read_source(root=tmp_path / "source")
    assert source.problems == ()
    assert source.samples[0].image == tmp_path / "source/ours-main/data/images/a.png"


@pytest.mark.parametrize(("names", "lead"), [(("train", "valid"), "{split}"), (("day_1", "day_2"), "{group}")])
@pytest.mark.parametrize("with_table", [0, 1, 2])
def test_one_of_several_sets_is_never_left_out_in_silence(
    tmp_path: Path, names: tuple[str, ...], lead: str, with_table: int
) -> None:
    for number, name in enumerate(names):
        for folder in ("images", "masks"):
            (tmp_path / "set" / name / folder).mkdir(parents=True)
        if number < with_table:
            (tmp_path / "set" / name / "dataset.yaml").write_text(TABLE, encoding="utf-8")
    with pytest.raises(SourceError) as caught:
        read_source(root=tmp_path)
    assert not missing(str(caught.value), *names, f"images: '*/{lead}/images/{{id}}.*'")


def test_a_folder_of_masks_alone_is_no_other_set(make_folder_source: Callable[..., Path], tmp_path: Path) -> None:
    make_folder_source({"a": (PIXELS, PIXELS)}, name="ours")
    (tmp_path / "old/masks").mkdir(parents=True)
    assert len(read_source(root=tmp_path).samples) == 1


def test_masks_may_hold_colours(make_folder_source: Callable[..., Path]) -> None:
    colors = np.array([[[1, 2, 3], [4, 5, 6], [0, 0, 0]]], np.uint8)
    root = make_folder_source({"a": (PIXELS, colors)}, TABLE + "masks: colors\nvoid_colors: [[0, 0, 0]]\n")
    (sample,) = read_source(root=root).samples
    np.testing.assert_array_equal(sample.label.read((1, 3)).pixels, [[0, 1, 255]])


def test_classes_may_have_values_of_their_own(make_folder_source: Callable[..., Path]) -> None:
    table = "classes: [{name: a, color: [1, 2, 3], value: 0}, {name: b, color: [4, 5, 6], value: 255}]\n"
    mask = np.array([[0, 255]], np.uint8)
    (sample,) = read_source(root=make_folder_source({"a": (PIXELS, mask)}, table)).samples
    np.testing.assert_array_equal(sample.label.read((1, 2)).pixels, [[0, 1]])


def test_the_table_of_samples_says_split_group_and_more(make_folder_source: Callable[..., Path]) -> None:
    root = make_folder_source(dict.fromkeys(("a", "b", "c", "d"), (PIXELS, PIXELS)))
    lines = ["sample_id, split,group,weather", "a,train,s1,rain", 'b,Validation,,"dry, warm"', "", "c,,s2,"]
    (root / "samples.csv").write_text("\ufeff" + "\n".join(lines) + "\n", encoding="utf-8")
    source = read_source(root=root)
    assert source.problems == ()
    found = [(sample.official_split, sample.group, dict(sample.attributes)) for sample in source.samples]
    assert found == [
        ("train", "s1", {"weather": "rain"}),
        ("val", None, {"weather": "dry, warm"}),
        (None, "s2", {}),
        (None, None, {}),
    ]


def test_files_from_a_mac_and_a_table_from_elsewhere_belong_together(make_folder_source: Callable[..., Path]) -> None:
    root = make_folder_source({"Fla\u0308che": (PIXELS, PIXELS)})
    (root / "masks/Fla\u0308che.png").rename(root / "masks/Fl\u00e4che.png")
    (root / "samples.csv").write_text("sample_id,group\nFl\u00e4che,A\n", encoding="utf-8")
    source = read_source(root=root)
    assert source.problems == ()
    assert [(sample.sample_id, sample.group) for sample in source.samples] == [("Fl\u00e4che", "A")]


def test_all_wrong_lines_of_the_table_are_named(make_folder_source: Callable[..., Path]) -> None:
    root = make_folder_source({"a": (PIXELS, PIXELS)})
    lines = ["sample_id,split", "a,trian", "a", "a,train,x", ",val", "a,train", "a,val", "b,val"]
    (root / "samples.csv").write_text("\n".join(lines), encoding="utf-8")
    source = read_source(root=root)
    assert [(problem.kind, problem.where) for problem in source.problems] == [
        ("list-line", "samples.csv:2"),
        ("list-line", "samples.csv:3"),
        ("list-line", "samples.csv:4"),
        ("list-line", "samples.csv:5"),
        ("list-line", "samples.csv:7"),
        ("listed-missing", "samples.csv:8"),
    ]
    assert [problem.what for problem in source.problems[:5]] == [
        "unknown split 'trian'; did you mean 'train' or 'training' or 'testing'? "
        "known: train, training, val, valid, validation, test, testing",
        "has 1 columns too few",
        "has 1 columns too many",
        "names no sample",
        "a is in samples.csv:6 too",
    ]
    assert source.samples[0].official_split == "train"


@pytest.mark.parametrize("text", ["", "id,split\na,val\n", "sample_id,sample_id\n"])
def test_a_table_without_the_column_of_samples_is_refused(make_folder_source: Callable[..., Path], text: str) -> None:
    root = make_folder_source({"a": (PIXELS, PIXELS)})
    (root / "samples.csv").write_text(text, encoding="utf-8")
    with pytest.raises(SourceError, match=r"samples\.csv.*column.*sample_id"):
        read_source(root=root)


def test_a_table_in_another_encoding_is_refused(make_folder_source: Callable[..., Path]) -> None:
    root = make_folder_source({"a": (PIXELS, PIXELS)})
    (root / "samples.csv").write_bytes(b"sample_id\n\xff\n")
    with pytest.raises(SourceError, match=r"samples\.csv: .*save it as UTF-8"):
        read_source(root=root)
    (root / "dataset.yaml").write_bytes(TABLE.replace("name: a", "name: Fl\u00e4che").encode("latin-1"))
    with pytest.raises(SourceError, match=r"dataset\.yaml: .*save it as UTF-8"):
        read_source(root=root)


def test_an_unpaired_file_is_a_problem(make_folder_source: Callable[..., Path]) -> None:
    root = make_folder_source(dict.fromkeys(("a", "b", "c"), (PIXELS, PIXELS)))
    (root / "masks" / "a.png").unlink()
    (root / "images" / "b.png").unlink()
    source = read_source(root=root)
    assert [sample.sample_id for sample in source.samples] == ["c"]
    found = [(problem.kind, problem.where) for problem in source.problems]
    assert found == [("mask-missing", "images/a.png"), ("image-missing", "masks/b.png")]


def test_a_name_twice_is_a_problem(make_folder_source: Callable[..., Path]) -> None:
    root = make_folder_source({"a": (PIXELS, PIXELS)})
    (root / "images" / "a.jpg").write_bytes(b"x")
    (problem,) = read_source(root=root).problems
    assert (problem.kind, problem.where) == ("name-twice", "images/a.png")


def test_missing_folders_are_problems(tmp_path: Path) -> None:
    (tmp_path / "dataset.yaml").write_text(TABLE)
    assert [problem.where for problem in read_source(root=tmp_path).problems] == ["images", "masks"]


def test_no_images_is_a_problem(make_folder_source: Callable[..., Path]) -> None:
    assert [problem.kind for problem in read_source(root=make_folder_source({})).problems] == ["empty"]


def test_no_class_table(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"dataset\.yaml.*class"):
        read_source(root=tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: [", "dataset.yaml: is not YAML: "),
        (TABLE.replace("name: b", "name: b: c"), "dataset.yaml: is not YAML: in quotes"),
        (TABLE + "licence: 2024-13-45", "dataset.yaml: holds a value that cannot be read: month must be in 1..12"),
        ("", "dataset.yaml: "),
        ("void: [1]", "dataset.yaml: classes: is missing"),
        ("classes: []", "dataset.yaml: classes: "),
        (TABLE + "voidd: [7]", "dataset.yaml: voidd: unknown key; did you mean 'void'"),
        (TABLE + "void: [1]", "dataset.yaml: void: [1] are values of classes"),
        (TABLE + "void_colors: [[0, 0, 0]]", "dataset.yaml: void_colors: is only for masks of colors"),
        (TABLE + "masks: colors\nvoid: [7]", "dataset.yaml: void: is only for masks of indices"),
        (TABLE + "masks: colours", "dataset.yaml: masks: must be 'indices' or 'colors' (got 'colours')"),
        (TABLE + "void: [256]", "dataset.yaml: void.0: must be less than or equal to 255 (got 256)"),
        (TABLE.replace("name: b", "name: a"), "dataset.yaml: classes: named twice: a"),
        (
            TABLE.replace("color: [1,", "colour: [1,"),
            "dataset.yaml: classes.0.colour: unknown key; did you mean 'color'",
        ),
        (TABLE.replace("[1, 2, 3]", "[1, 2]"), "dataset.yaml: classes.0.color.2: is missing"),
        (
            TABLE.replace("[1, 2, 3]", "[1, 2, 300]"),
            "dataset.yaml: classes.0.color.2: must be less than or equal to 255",
        ),
    ],
)
def test_a_wrong_class_table_is_named(make_folder_source: Callable[..., Path], text: str, message: str) -> None:
    with pytest.raises(SourceError) as caught:
        read_source(root=make_folder_source({}, text))
    assert not missing(str(caught.value), *facts_of(message))


def test_more_classes_than_a_mask_can_hold(make_folder_source: Callable[..., Path]) -> None:
    rows = [f"  - {{name: c{i}, color: [0, 0, 0]}}\n" for i in range(256)]
    assert read_source(root=make_folder_source({}, "classes:\n" + "".join(rows[:255]))).classes.num_classes == 255
    with pytest.raises(SourceError, match=r"classes: .* at most 255"):
        read_source(root=make_folder_source({}, "classes:\n" + "".join(rows), name="other"))


def test_without_a_class_table_the_message_has_its_lines(make_folder_source: Callable[..., Path]) -> None:
    binary = np.array([[0, 255], [255, 0]], np.uint8)
    root = make_folder_source({f"a_{i}": (PIXELS, binary) for i in range(2)})
    (root / "dataset.yaml").unlink()
    with pytest.raises(SourceError) as caught:
        read_source(root=root)
    (root / "dataset.yaml").touch()
    with pytest.raises(SourceError, match=r"(?s)is empty.*value: 255"):
        read_source(root=root)
    assert not missing(str(caught.value), "dataset.yaml", "2 masks", "value: 0}", "value: 255}", "segpipe init")
    for mask in (root / "masks").iterdir():
        mask.unlink()
    with pytest.raises(SourceError, match="segpipe data formats"):
        read_source(root=root)


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ("file,patient\na.png,7\nb.png,8\n", "\nsample_id,patient"),
        ("file,patient\na,a\nb,b\n", "sample_id"),  # either column may be meant
        ("sample_id;patient\na;7\n", "';'"),
        ("file;patient\na.png;7\nb.png;8\n", "\nsample_id,patient"),
        ("Sample_ID,Group\na,7\nb,8\n", "\nsample_id,group"),
        ("sample_id,SPLIT,Group,Site\na,val,7,A\n", "\nsample_id,split,group,Site"),
    ],
)
def test_a_table_with_another_first_line_is_told_how_it_must_read(
    make_folder_source: Callable[..., Path], table: str, line: str
) -> None:
    root = make_folder_source(dict.fromkeys("ab", (PIXELS, PIXELS)))
    (root / "samples.csv").write_text(table, encoding="utf-8")
    with pytest.raises(SourceError) as caught:
        read_source(root=root)
    assert not missing(str(caught.value), "samples.csv", "sample_id", line)


@pytest.mark.parametrize("listed", ["a.png", "images/a.png", r"C:\photos\images\a.png", "/home/me/a"])
def test_a_table_that_names_files_is_told_the_name_to_write(
    make_folder_source: Callable[..., Path], listed: str
) -> None:
    root = make_folder_source({"a": (PIXELS, PIXELS)})
    (root / "samples.csv").write_text(f"sample_id\n{listed}\nz.png\n", encoding="utf-8")
    of_file, unknown = read_source(root=root).problems
    assert of_file.fix.startswith("Write a: ") and not unknown.fix.startswith("Write")
