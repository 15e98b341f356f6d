"""Proposed class tables: right where one meaning is possible, several with their cases where more are, else none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from facts import missing
from ruamel.yaml import YAML

from segpipe.classes import Color
from segpipe.data.masks.mask_coding import ClassEntry, MaskCoding
from segpipe.data.sources.proposed_table import describe_changes, format_coding, propose_changes, propose_table
from segpipe.data.sources.survey import Survey

BLACK, RED, GREEN, WHITE = (0, 0, 0), (200, 0, 0), (0, 200, 0), (255, 255, 255)


def of_values(*values: int, num_masks: int = 40, palette: Mapping[int, Color] = {}) -> Survey:
    return Survey(num_masks, num_masks, dict.fromkeys(values, num_masks), {}, palette)


def of_colors(*colors: Color, num_masks: int = 40) -> Survey:
    return Survey(num_masks, num_masks, {}, dict.fromkeys(colors, num_masks), {})


def coding(num_classes: int = 2, **keys: Any) -> MaskCoding:
    colors = (BLACK, RED, GREEN, WHITE)
    entries = [ClassEntry(name="abcd"[i], color=colors[i]) for i in range(num_classes)]
    return MaskCoding(entries, **keys, written_in="dataset.yaml")


def read(text: str) -> dict[str, Any]:
    document: dict[str, Any] = YAML(typ="safe", pure=True).load(text)
    return document


@pytest.mark.parametrize(
    ("values", "of_classes", "void"),
    [
        ((0, 1, 2), [0, 1, 2], None),
        ((0, 255), [0, 255], None),
        ((0, 1, 255), [0, 1], [255]),
        ((1, 2, 255), [1, 2], [255]),
        ((0, 127, 255), [0, 127, 255], None),
        ((10, 20), [10, 20], None),
    ],
)
def test_values_become_classes(values: tuple[int, ...], of_classes: list[int], void: list[int] | None) -> None:
    proposed = propose_table(of_values(*values), ["first"])
    assert proposed is not None
    assert (proposed.values, proposed.void) == (of_classes, void)
    assert [entry.name for entry in proposed.entries][:2] == ["first", "class_1"]
    assert proposed.find_contradictions() == []


def test_colours_become_classes_in_their_order() -> None:
    proposed = propose_table(of_colors(BLACK, RED))
    assert proposed is not None
    assert (proposed.masks_are, proposed.colors) == ("colors", [BLACK, RED])


def test_the_palettes_colours_are_the_classes() -> None:
    proposed = propose_table(of_values(0, 1, palette={0: BLACK, 1: RED}))
    assert proposed is not None and proposed.colors == [BLACK, RED]
    plain = propose_table(of_values(0, 1, palette={0: BLACK, 1: BLACK}))
    assert plain is not None and plain.colors == [(0, 0, 0), (128, 0, 0)]


@pytest.mark.parametrize("survey", [of_values(0), of_values(*range(300)), Survey(2, 2, {0: 1, 1: 1}, {RED: 1}, {})])
def test_what_is_no_class_table_gives_none(survey: Survey) -> None:
    assert propose_table(survey) is None


def test_the_lines_are_yaml_that_says_the_same() -> None:
    proposed = propose_table(of_values(0, 255), ["no: thing", "0016E5"])
    assert proposed is not None
    classes = read(format_coding(proposed))["classes"]
    assert classes == [
        {"name": "no: thing", "color": [0, 0, 0], "value": 0},
        {"name": "0016E5", "color": [128, 0, 0], "value": 255},
    ]


def test_in_masks_of_0_and_255_alone_255_is_the_second_class() -> None:
    (one,) = propose_changes(of_values(0, 255), coding())
    assert one.coding.values == [0, 255]
    assert read(format_coding(one.coding, coding()))["classes"][1] == {"name": "b", "color": [200, 0, 0], "value": 255}


def test_if_any_mask_holds_1_then_255_is_not_the_second_class() -> None:
    assert propose_changes(of_values(0, 1, 255), coding()) == []


def test_a_value_more_may_be_void_or_a_class() -> None:
    void, one = propose_changes(of_values(0, 1, 254), coding())
    assert void.coding.void == [254, 255]
    assert one.coding.values == [0, 1, 254]
    assert all(not proposal.coding.find_contradictions() for proposal in (void, one))


def test_as_many_values_as_classes_may_be_the_classes_in_order() -> None:
    in_order, void = propose_changes(of_values(0, 127, 254), coding(3))
    assert (in_order.coding.values, void.coding.void) == ([0, 127, 254], [127, 254, 255])


def test_a_stray_value_in_one_of_many_masks_is_no_class() -> None:
    assert propose_changes(Survey(40, 40, {0: 40, 1: 40, 77: 1}, {}, {}), coding()) == []


def test_masks_of_the_classes_colours_need_one_key() -> None:
    (one,) = propose_changes(of_colors(BLACK, RED), coding())
    assert read(format_coding(one.coding, coding())) == {"masks": "colors"}


def test_other_colours_are_named_and_known_ones_keep_their_class() -> None:
    (one,) = propose_changes(of_colors(RED, WHITE), coding())
    assert [(entry.name, entry.color) for entry in one.coding.entries] == [("b", RED), ("class_1", WHITE)]


def test_a_colour_more_may_be_void_or_a_class() -> None:
    before = coding(masks_are="colors")
    void, one = propose_changes(of_colors(BLACK, RED, WHITE), before)
    assert read(format_coding(void.coding, before)) == {"void_colors": [[255, 255, 255]]}
    assert one.coding.colors == [BLACK, RED, WHITE]


def test_masks_of_indices_where_colours_are_expected() -> None:
    before = coding(masks_are="colors", void_colors=[WHITE])
    assert not missing(describe_changes(of_values(0, 1, 255), before), "masks: indices", "without", "void_colors")
    assert propose_changes(of_values(0, 5), before) == []


def test_the_text_says_what_was_seen_where_to_write_and_what() -> None:
    text = describe_changes(of_values(0, 255), coding())
    assert not missing(text, "40 masks", "0, 255", "dataset.yaml", "value: 255}", "b")
    assert describe_changes(of_values(0, 1), coding()) == ""


def test_options_of_params_have_their_own_key() -> None:
    before = MaskCoding(coding().entries, written_in="download.options", masks_key="masks_are")
    assert "masks_are: colors" in describe_changes(of_colors(BLACK, RED), before)
