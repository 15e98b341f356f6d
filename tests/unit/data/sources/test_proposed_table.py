"""Proposed class tables: right where one meaning is possible, several with their cases where more are, else none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from facts import missing
from PIL import Image
from ruamel.yaml import YAML

from segpipe.classes import Color
from segpipe.data.masks.mask_coding import ClassEntry, MaskCoding
from segpipe.data.readers import folder, patterns
from segpipe.data.sources.proposed_table import describe_changes, format_coding, propose_changes, propose_table
from segpipe.data.sources.source import Source
from segpipe.data.sources.survey import Survey, survey_masks

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


@pytest.mark.parametrize("colors", [(WHITE, RED), (RED, BLACK), (WHITE, BLACK)])
def test_a_class_that_is_listed_first_and_white_is_255(colors: tuple[Color, Color]) -> None:
    before = MaskCoding([ClassEntry(name=name, color=color) for name, color in zip("ab", colors, strict=True)])
    (one,) = propose_changes(of_values(0, 255), before)
    assert one.coding.values == [255, 0]
    assert not missing(one.when, "255", "a", "colour")


def test_a_void_value_that_is_stated_stays_unless_it_becomes_a_class() -> None:
    (one,) = propose_changes(of_values(0, 255), coding(void=[7, 255]))
    assert (one.coding.values, one.coding.void) == ([0, 255], [7])
    assert one.when.startswith("if ")  # the table says another thing, so the user decides
    void, added = propose_changes(of_values(0, 1, 7, 254), coding(void=[7]))
    assert (void.coding.void, added.coding.void) == ([7, 254], [7])
    assert read(format_coding(void.coding, coding(void=[7]))) == {"void": [7, 254]}


def test_the_indices_of_palette_images_may_be_void_or_a_class() -> None:
    palette = {0: BLACK, 1: RED, 2: GREEN}
    void, one = propose_changes(of_values(0, 1, 2, palette=palette), coding())
    assert (void.coding.void, one.coding.values) == ([2, 255], [0, 1, 2])
    # Whether a palette's colours or its indices are meant is not known where a table says colours.
    assert propose_changes(of_values(0, 1, palette=palette), coding(masks_are="colors")) == []


@pytest.mark.parametrize("masks_are", ["indices", "colors"])
@pytest.mark.parametrize("survey", [of_values(0, 1, 254), of_values(0, 255), of_colors(BLACK, RED, WHITE)])
def test_nothing_is_proposed_for_masks_that_were_compressed_with_loss(survey: Survey, masks_are: str) -> None:
    lossy = replace(survey, is_lossy=True)
    assert propose_table(lossy) is None
    assert describe_changes(lossy, coding(masks_are=masks_are)) == ""


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


def test_masks_with_red_and_blue_exchanged_are_no_reason_to_change_the_table() -> None:
    before, blue = coding(masks_are="colors"), RED[::-1]
    assert propose_changes(of_colors(BLACK, blue), before) == []
    assert len(propose_changes(of_colors(BLACK, RED, blue), before)) == 2


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


def _draw(root: Path, *values: int) -> None:
    for name in ("images", "masks"):
        (root / name).mkdir()
    for number in range(2):
        Image.new("RGB", (len(values), 1)).save(root / f"images/{number}.png")
        Image.fromarray(np.array([values], np.uint8)).save(root / f"masks/{number}.png")


def _survey(source: Source) -> Survey:
    return survey_masks([sample.label.files[0] for sample in source.samples])


def _indices(source: Source, num_px: int) -> list[int]:
    """The class indices of the first mask."""
    pixels = source.samples[0].label.read((1, num_px)).pixels
    assert pixels is not None
    values: list[int] = pixels[0].tolist()
    return values


def test_the_key_of_a_class_file_goes_where_the_classes_are_written_out(tmp_path: Path) -> None:
    _draw(tmp_path, 0, 255)
    (tmp_path / "classes.csv").write_text("name,r,g,b\na,0,0,0\nb,200,0,0\n")
    of_file = patterns.read_source(root=tmp_path, class_file="classes.csv")
    assert of_file.coding is not None
    text = describe_changes(_survey(of_file), of_file.coding)
    assert not missing(text, "download.options of params.yaml", "without the key class_file:", "classes:")
    # Both keys are refused, so the advice works only as a whole.
    options = read("\n".join(line for line in text.splitlines() if line.startswith("    ")))
    assert _indices(patterns.read_source(root=tmp_path, **options), 2) == [0, 1]
    written_out = patterns.read_source(root=tmp_path, classes=[{"name": n, "color": [0, 0, 0]} for n in "ab"]).coding
    assert written_out is not None
    assert "class_file" not in describe_changes(of_values(0, 255), written_out)


def test_the_key_of_a_class_file_stays_where_the_classes_do() -> None:
    before = MaskCoding(coding().entries, void=[7], masks_key="masks_are", file_key="class_file")
    assert not missing(describe_changes(of_colors(BLACK, RED), before), "masks_are: colors", "without the key void:")
    void, one = describe_changes(of_values(0, 1, 254), before).split("is a class")
    assert "class_file" not in void and "class_file" in one
    both = describe_changes(of_colors(RED, WHITE), before)
    assert "without the keys void and class_file:" in both


def test_the_lines_replace_keys_that_stand_as_yaml_blocks(tmp_path: Path) -> None:
    _draw(tmp_path, 0, 1, 254)
    entries = [f"- name: {name}\n  color:\n  - 0\n  - 0\n  - {place}\n" for place, name in enumerate("ab")]
    text = f"classes:\n{''.join(entries)}void:\n- 255\n- 7\n"
    document = tmp_path / "dataset.yaml"
    found = []
    document.write_text(text)
    before = folder.read_source(root=tmp_path)
    assert before.coding is not None
    for proposal in propose_changes(_survey(before), before.coding):
        document.write_text(json.dumps(read(text) | read(format_coding(proposal.coding, before.coding))))
        found.append(_indices(folder.read_source(root=tmp_path), 3))
    assert found == [[0, 1, 255], [0, 1, 2]]
