"""Oxford-IIIT Pet's trimaps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from unit.data.readers.layouts import HEIGHT, WIDTH, fill, write_lines, write_oxford_pet

from segpipe.choices import READERS
from segpipe.data.readers.oxford_pet import BREEDS, read_source
from segpipe.errors import ConfigError, SourceError

SIZE = (HEIGHT, WIDTH)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_oxford_pet(tmp_path)
    return tmp_path


def test_listed_images_are_samples(root: Path) -> None:
    source = read_source(root=root)
    assert source.problems == ()
    assert [(sample.sample_id, sample.official_split, sample.attributes["breed"]) for sample in source.samples] == [
        ("Abyssinian_100", "train", "Abyssinian"),
        ("Egyptian_Mau_201", "test", "Egyptian_Mau"),
        ("yorkshire_terrier_9", "train", "yorkshire_terrier"),
    ]


@pytest.mark.parametrize(
    ("options", "names", "pixels"),
    [
        ({}, ("background", "pet"), [1, 255, 0]),
        ({"border": "class"}, ("background", "pet", "border"), [1, 2, 0]),
        ({"breeds": True}, ("background", *BREEDS), [12, 255, 0]),
        ({"breeds": True, "border": "class"}, ("background", *BREEDS, "border"), [12, 38, 0]),
    ],
)
def test_what_a_trimap_means(root: Path, options: dict[str, object], names: tuple[str, ...], pixels: list[int]) -> None:
    source = READERS.call("oxford_pet", options, root=root)
    assert source.classes.names == names
    label = source.samples[1].label  # Egyptian_Mau is class 12 of the lists
    np.testing.assert_array_equal(label.read(SIZE).pixels, fill(pixels))


def test_the_breeds_stand_in_the_order_of_their_ids(root: Path) -> None:
    assert len(BREEDS) == 37
    assert list(BREEDS) == sorted(BREEDS, key=str.lower)


def test_each_archive_may_have_a_folder_of_its_own(root: Path) -> None:
    for kind in ("images", "annotations"):
        (root / kind).rename(root / "moved")
        (root / f"{kind}.tar").mkdir()
        (root / "moved").rename(root / f"{kind}.tar" / kind)
    assert len(read_source(root=root).samples) == 3


def test_all_that_is_wrong_in_lists_is_named(root: Path) -> None:
    lines = [
        "# a note",
        "Abyssinian_100 1 1",
        "wolf_1 38 2 26",
        "pug_1 26 2 18",
        "pug_1/../../x 26 2 18",
        "Abyssinian_100 1 1 1",
    ]
    write_lines(root / "annotations/trainval.txt", *lines)
    (root / "annotations/test.txt").unlink()
    source = read_source(root=root)
    assert [(problem.kind, problem.where) for problem in source.problems] == [
        ("list-line", "annotations/trainval.txt:2"),
        ("list-line", "annotations/trainval.txt:3"),
        ("listed-missing", "annotations/trainval.txt:4"),
        ("listed-missing", "annotations/trainval.txt:4"),
        ("list-line", "annotations/trainval.txt:5"),
        ("list-missing", "annotations/test.txt"),
    ]
    assert [sample.sample_id for sample in source.samples] == ["Abyssinian_100"]


def test_another_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no annotations/trimaps in it"):
        read_source(root=tmp_path)
    (tmp_path / "annotations/trimaps").mkdir(parents=True)
    with pytest.raises(SourceError, match="no images in it"):
        read_source(root=tmp_path)


@pytest.mark.parametrize("options", [{"border": "ignore"}, {"breeds": 1}])
def test_wrong_options_are_refused(root: Path, options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"data format 'oxford_pet': option {next(iter(options))}"):
        READERS.call("oxford_pet", options, root=root)
