"""Sources joined into one, with one class table."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from ruamel.yaml import YAML

from segpipe.classes import ClassTable
from segpipe.data.sources.joining import MappedLabel, join_sources
from segpipe.data.sources.source import RawSample, Source
from segpipe.errors import ConfigError, Problem
from segpipe.faults import Fault, Reading


@dataclass(frozen=True)
class _Label:
    """Gives these pixels."""

    pixels: tuple[int, ...] | None
    faults: tuple[Fault, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        return (Path("mask.png"), Path("more.json"))

    @property
    def key(self) -> str:
        return "key"

    def read(self, size_hw: tuple[int, int]) -> Reading:
        pixels = None if self.pixels is None else np.array([self.pixels], np.uint8)
        return Reading(pixels, self.faults)


def _source(*names: str, licence: str = "CC0", group: str | None = None) -> Source:
    classes = ClassTable(names, tuple((10 * index, 0, len(name)) for index, name in enumerate(names)))
    label = _Label((*range(len(names)), 255))
    samples = (
        RawSample("a", Path("/r/a.jpg"), label, "val", group, {"weather": "rain"}),
        RawSample("b", Path("/r/b.jpg"), label),
    )
    return Source(classes, samples, (Problem("mask-missing", "images/c.jpg", "no mask", "Add it"),), licence)


def _pixels(source: Source) -> list[list[int]]:
    return [sample.label.read((1, 1)).pixels[0].tolist() for sample in source.samples]


def _join(classes: dict[str, list[str]] | None = None, ignore: tuple[str, ...] = (), **sources: Source) -> Source:
    return join_sources(
        {name.strip("_"): (Path("/raw") / name, source) for name, source in sources.items()}, classes, ignore
    )


OURS, CITY = _source("road", "car", "sky"), _source("car", "road", "sky", "van", licence="city's", group="seq1")
MAP = {"vehicle": ["city/van", "car", "city/car"], "road": ["road", "city/road"]}
IGNORED = ("sky", "city/sky")


def test_equal_classes_are_joined_without_a_map() -> None:
    joined = _join(_=OURS, other=_source("road", "car", "sky", licence="other's", group="seq1"))
    assert joined.classes == OURS.classes
    assert [sample.sample_id for sample in joined.samples] == ["a", "b", "other/a", "other/b"]
    assert [sample.group for sample in joined.samples] == [None, None, "other/seq1", None]
    assert [sample.official_split for sample in joined.samples] == ["val", None, "val", None]
    assert joined.samples[2].attributes == {"weather": "rain"}
    assert [problem.where for problem in joined.problems] == ["images/c.jpg", "other/images/c.jpg"]
    assert all(isinstance(sample.label, _Label) for sample in joined.samples)


def test_the_licences_stand_in_one_text() -> None:
    joined = join_sources({"": (Path("/raw/data"), OURS), "city": (Path("/raw/x"), CITY)}, MAP, IGNORED)
    assert joined.licence == "data: CC0; city: city's"
    assert _join(_=OURS).licence == "CC0"


def test_a_map_merges_renames_reorders_and_ignores() -> None:
    joined = _join(MAP, IGNORED, _=OURS, city=CITY)
    assert joined.classes.names == ("vehicle", "road")
    # The colour of the first class that is named.
    assert joined.classes.colors == (CITY.classes.colors[3], OURS.classes.colors[0])
    ours, city = [1, 0, 255, 255], [0, 1, 255, 0, 255]
    assert _pixels(joined) == [ours, ours, city, city]


def test_a_single_source_may_be_mapped() -> None:
    joined = _join({"sky": ["sky"], "ground": ["road", "car"]}, _=OURS)
    assert [sample.sample_id for sample in joined.samples] == ["a", "b"]
    assert _pixels(joined)[0] == [1, 1, 0, 255]


def test_a_map_that_changes_nothing_leaves_the_labels_alone() -> None:
    joined = _join({"street": ["road"], "car": ["car"], "sky": ["sky"]}, _=OURS)
    assert joined.classes.names == ("street", "car", "sky")
    assert [sample.label for sample in joined.samples] == [sample.label for sample in OURS.samples]


def test_samples_are_sorted() -> None:
    joined = _join(b=OURS, a=OURS)
    assert [sample.sample_id for sample in joined.samples] == ["a/a", "a/b", "b/a", "b/b"]


def _lines_of_error(classes: dict[str, list[str]] | None, ignore: tuple[str, ...], **sources: Source) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        _join(classes, ignore, **sources)
    return str(caught.value).splitlines()


def test_all_that_is_wrong_with_a_map_is_named_at_once() -> None:
    classes = {"vehicle": ["car", "city/vann", "car"], "road": ["road", "city/road", "elephant"]}
    assert _lines_of_error(classes, ("sky", "road", "city/skies"), _=OURS, city=CITY) == [
        "preprocess.classes: vehicle: unknown class 'city/vann'; did you mean 'city/van'?",
        "preprocess.classes: road: unknown class 'elephant'",
        "preprocess.ignore: unknown class 'city/skies'; did you mean 'city/sky'?",
        "preprocess.classes: 'car' is named 2 times: in vehicle and vehicle",
        "preprocess.classes: 'road' is named 2 times: in road and preprocess.ignore",
        "preprocess.classes: not named: city/car, city/sky, city/van; put each into a class, or into preprocess.ignore",
    ]


@pytest.mark.parametrize("other", [("car", "road", "sky"), ("road", "car"), ("road", "car", "Sky")])
def test_other_classes_or_another_order_need_a_map(other: tuple[str, ...]) -> None:
    lines = _lines_of_error(None, (), _=OURS, city=_source(*other))
    assert lines[0] == "preprocess.classes: the sources' classes or their order differ:"
    assert lines[2] == f"  city: {', '.join(other)}"


def test_the_map_that_is_offered_can_be_used_as_it_is() -> None:
    ours = _source("road", "yes: no", "null")
    lines = _lines_of_error(None, (), _=ours, city=CITY)
    offered = YAML(typ="safe").load("\n".join(lines[4:]))["classes"]
    assert offered["road"] == ["road", "city/road"]
    assert list(offered) == ["road", "yes: no", "null", "car", "sky", "van"]
    assert _join(offered, _=ours, city=CITY).classes.num_classes == 6


def test_a_class_that_is_called_as_one_of_a_joined_source_is_refused() -> None:
    main = _source("road", "city/car")
    lines = _lines_of_error({"a": ["road", "city/road"], "b": ["city/car"]}, (), _=main, city=_source("road", "car"))
    assert lines == [
        "preprocess.classes: a class of the main source has the name of a joined source's class; rename that join"
    ]


def test_more_classes_than_a_mask_can_tell_apart() -> None:
    a, b = (_source(*(f"{letter}{index}" for index in range(200))) for letter in "ab")
    classes = {name: [name] for name in a.classes.names} | {name: [f"b/{name}"] for name in b.classes.names}
    assert _lines_of_error(classes, (), _=a, b=b) == ["preprocess.classes: 400 classes; a mask can hold at most 255"]


def test_a_mapped_label_passes_files_and_faults_on() -> None:
    fault = Fault("mask-void", "is void", "Label it")
    label = MappedLabel(_Label((0, 1, 255), (fault,)), (7, 255))
    assert label.files == (Path("mask.png"), Path("more.json"))
    reading = pickle.loads(pickle.dumps(label)).read((1, 3))
    assert reading.pixels.tolist() == [[7, 255, 255]]
    assert reading.pixels.dtype == np.uint8
    assert reading.faults == (fault,)
    assert MappedLabel(_Label(None, (fault,)), (7, 255)).read((1, 3)) == Reading(None, (fault,))


def test_the_key_of_a_mapped_label_tells_maps_apart() -> None:
    label = _Label((0,))
    assert MappedLabel(label, (1, 0)).key == MappedLabel(label, (1, 0)).key
    assert len({label.key, MappedLabel(label, (1, 0)).key, MappedLabel(label, (0, 1)).key}) == 3
