"""Proposes a class table from what the masks of a set hold, as the very lines to write.

Nothing here changes a label. Where one meaning alone is possible, one proposal is made; where several are, each says
in which case it holds, and the user chooses.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from segpipe.classes import IGNORE_INDEX, MAX_NUM_CLASSES, Color
from segpipe.data.masks.mask_coding import ClassEntry, MaskCoding
from segpipe.data.sources.palette import spread_colors
from segpipe.data.sources.survey import Survey
from segpipe.faults import shown

BINARY = [0, 255]
BLACK, WHITE = (0, 0, 0), (255, 255, 255)
MAX_UNKNOWN = 20
GREYS = {(0, 0, 0), (255, 255, 255)}


@dataclass(frozen=True)
class Proposal:
    """A class table that explains the masks.

    Args:
        when: the case in which it is right; continues a sentence that begins with what the masks hold.
        coding: the table.
    """

    when: str
    coding: MaskCoding


def format_coding(coding: MaskCoding, before: MaskCoding | None = None) -> str:
    """Gives a table as lines of YAML.

    Args:
        coding: the table.
        before: gives only the keys in which the table differs from this one.
    """
    has_values = any(entry.value is not None for entry in coding.entries)
    keys = CommentedMap()
    keys.fa.set_block_style()
    if before is None or _has_other_classes(coding, before):
        keys["classes"] = [_entry(entry, has_values) for entry in coding.entries]
    if coding.masks_are != ("indices" if before is None else before.masks_are):
        keys[coding.masks_key] = coding.masks_are
    if coding.void is not None and (before is None or coding.void != before.void):
        keys["void"] = list(coding.void)
    if coding.void_colors is not None and (before is None or coding.void_colors != before.void_colors):
        keys["void_colors"] = [list(color) for color in coding.void_colors]
    yaml, text = YAML(), io.StringIO()
    yaml.default_flow_style = None  # a list of numbers in one line
    yaml.width = 10_000
    yaml.dump(keys, text)
    return text.getvalue().rstrip("\n")


def _has_other_classes(coding: MaskCoding, before: MaskCoding) -> bool:
    return list(coding.entries) != list(before.entries)


def _entry(entry: ClassEntry, has_value: bool) -> CommentedMap:
    described = CommentedMap({"name": entry.name, "color": list(entry.color)})
    if has_value:
        described["value"] = entry.value
    described.fa.set_flow_style()
    return described


def propose_table(survey: Survey, names: Sequence[str] = ()) -> MaskCoding | None:
    """Makes a table for masks that have none.

    Args:
        survey: of the masks.
        names: of the classes, in the order of their values or colours; those that are lacking are class_0, class_1...

    Returns:
        The table; None if the masks are no masks of a class table, or hold fewer than two classes.
    """
    if survey.is_lossy:
        return None
    if survey.is_of_values:
        held = list(survey.values)
        void = _void_among(held)
        of_classes = [value for value in held if value not in void]
        colors = _display_colors(of_classes, survey)
        values = of_classes if of_classes != list(range(len(of_classes))) else [None] * len(of_classes)
        coding = MaskCoding(_entries(names, colors, values), void=void or None)
    elif survey.is_of_colors:
        coding = MaskCoding(_entries(names, list(survey.colors), [None] * len(survey.colors)), masks_are="colors")
    else:
        return None
    return coding if 2 <= len(coding.entries) <= MAX_NUM_CLASSES else None


def _void_among(values: Sequence[int]) -> list[int]:
    """255 is void, as in Pascal VOC and most sets since, where all other values are consecutive from 0 or 1."""
    others = [value for value in values if value != IGNORE_INDEX]
    is_counted = len(others) >= 2 and others == list(range(others[0], others[0] + len(others))) and others[0] <= 1
    return [IGNORE_INDEX] if IGNORE_INDEX in values and is_counted else []


def _display_colors(values: Sequence[int], survey: Survey) -> list[Color]:
    """The palette's colours, if they tell the classes apart."""
    of_palette = [survey.palette[value] for value in values if value in survey.palette]
    if len(set(of_palette)) == len(values) and not {*of_palette} <= GREYS:
        return of_palette
    return list(spread_colors(len(values)))


def _entries(names: Sequence[str], colors: Sequence[Color], values: Sequence[int | None]) -> list[ClassEntry]:
    called = [*names, *(f"class_{place}" for place in range(len(names), len(colors)))]
    return [
        ClassEntry(name=name, color=color, value=value)
        for name, color, value in zip(called, colors, values, strict=False)
    ]


def propose_changes(survey: Survey, coding: MaskCoding) -> list[Proposal]:
    """Proposes how a table may change so that it explains the masks; nothing where no change is likely to be right."""
    if survey.is_lossy:
        return []
    if coding.masks_are == "indices" and survey.is_of_values:
        return _for_unknown_values(survey, coding)
    if coding.masks_are == "indices" and survey.is_of_colors:
        return _for_colors(survey, coding)
    if coding.masks_are == "colors" and survey.is_of_colors:
        return _for_unknown_colors(survey, coding)
    if coding.masks_are == "colors" and survey.is_of_values:
        return _for_indices(survey, coding)
    return []


def describe_changes(survey: Survey, coding: MaskCoding) -> str:
    """Gives the proposals as text with the lines to write; '' where there are none."""
    proposals = propose_changes(survey, coding)
    if not proposals:
        return ""
    held = list(survey.values) if survey.is_of_values else [list(color) for color in survey.colors]
    noun = "values" if survey.is_of_values else "colours"
    lines = [f"All {noun} in {survey.extent}: {shown(held, MAX_UNKNOWN)}.", f"Write into {coding.written_in}"]
    for proposal in proposals:
        changed = format_coding(proposal.coding, coding).splitlines()
        lines += [f"{proposal.when}{_removed(proposal.coding, coding)}:", *(f"    {line}" for line in changed)]
    return "\n".join([lines[0], f"{lines[1]} {lines[2]}", *lines[3:]])


def _removed(coding: MaskCoding, before: MaskCoding) -> str:
    """Names the keys that have to go: those without a value, and that of a file whose classes are written out now."""
    keys = [key for key in ("void", "void_colors") if getattr(coding, key) is None is not getattr(before, key)]
    if before.file_key is not None and _has_other_classes(coding, before):
        keys.append(before.file_key)
    return f", without the key{'s' * (len(keys) > 1)} {' and '.join(keys)}" if keys else ""


def _for_unknown_values(survey: Survey, coding: MaskCoding) -> list[Proposal]:
    held, first, last = list(survey.values), coding.entries[0].name, coding.entries[-1].name
    if held == BINARY and coding.values == [0, 1]:
        by_color = {entry.color: place for place, entry in enumerate(coding.entries)}
        if by_color.get(WHITE) == 0 or by_color.get(BLACK) == 1:
            return [Proposal(f"if 255 is {first}, as its colour says", _with_values(coding, BINARY[::-1]))]
        when = f"(255 is {last})" if coding.void is None else f"if 255 is {last}"
        return [Proposal(when, _with_values(coding, BINARY))]
    unknown = [value for value in held if value not in coding.values and value not in coding.void_values]
    if not _is_meant(unknown, [survey.values[value] for value in unknown], survey):
        return []
    of_classes = [value for value in held if value not in coding.void_values]
    proposals = []
    if len(of_classes) == len(coding.entries) and coding.values == list(range(len(coding.entries))):
        when = f"if the classes have these values in their order, {first} the {of_classes[0]}"
        proposals.append(Proposal(when, _with_values(coding, of_classes)))
    void = sorted({*coding.void_values, *unknown})
    proposals.append(Proposal(f"if {shown(unknown)} means not labelled", replace(coding, void=void)))
    if not len(proposals) > 1:
        values = [*coding.values, *unknown]
        colors = [*coding.colors, *_other_colors(coding, len(unknown))]
        names = [entry.name for entry in coding.entries] + [f"class_{value}" for value in unknown]
        stated = values if values != list(range(len(values))) else [None] * len(values)
        added = replace(coding, entries=_entries(names, colors, stated))
        proposals.append(Proposal(f"if {shown(unknown)} is a class, with its name", added))
    return proposals


def _with_values(coding: MaskCoding, values: Sequence[int]) -> MaskCoding:
    entries = [entry.model_copy(update={"value": value}) for entry, value in zip(coding.entries, values, strict=True)]
    void = None if coding.void is None else [value for value in coding.void if value not in values]
    return replace(coding, entries=entries, void=void)


def _other_colors(coding: MaskCoding, num_colors: int) -> list[Color]:
    free = [color for color in spread_colors(MAX_NUM_CLASSES + 1) if color not in coding.colors]
    return free[:num_colors]


def _is_meant(unknown: Sequence[object], num_masks: Sequence[int], survey: Survey) -> bool:
    """Whether values or colours are meant: few, and not in one mask alone, as a slip of the pen would be."""
    return 0 < len(unknown) <= MAX_UNKNOWN and (min(num_masks) > 1 or survey.num_masks == 1)


def _for_colors(survey: Survey, coding: MaskCoding) -> list[Proposal]:
    named = {entry.color: entry.name for entry in coding.entries}
    if {*survey.colors} <= {*named}:
        return [Proposal("(they are the classes' colours)", replace(coding, masks_are="colors", void=None))]
    if not _is_meant(list(survey.colors), list(survey.colors.values()), survey):
        return []
    known = [entry for entry in coding.entries if entry.color in survey.colors]
    others = [color for color in survey.colors if color not in named]
    names = [f"class_{place}" for place in range(len(known), len(known) + len(others))]
    plain = [entry.model_copy(update={"value": None}) for entry in known]
    entries = [*plain, *_entries(names, others, [None] * len(others))]
    when = "each colour with the name of its class, and those that are not labelled as void_colors instead"
    return [Proposal(when, replace(coding, entries=entries, masks_are="colors", void=None))]


def _for_unknown_colors(survey: Survey, coding: MaskCoding) -> list[Proposal]:
    void = list(coding.void_colors or ())
    unknown = [color for color in survey.colors if color not in coding.colors and color not in void]
    if not _is_meant(unknown, [survey.colors[color] for color in unknown], survey):
        return []
    if all(color[::-1] in (*coding.colors, *void) for color in survey.colors):
        return []  # red and blue are exchanged: the masks are wrong, not the table
    text = shown([list(color) for color in unknown])
    names = [f"class_{place}" for place in range(len(coding.entries), len(coding.entries) + len(unknown))]
    added = [*coding.entries, *_entries(names, unknown, [None] * len(unknown))]
    return [
        Proposal(f"if {text} means not labelled", replace(coding, void_colors=[*void, *unknown])),
        Proposal(f"if {text} is a class, with its name", replace(coding, entries=added)),
    ]


def _for_indices(survey: Survey, coding: MaskCoding) -> list[Proposal]:
    indices = replace(coding, masks_are="indices", void_colors=None)
    if not survey.palette and {*survey.values} <= {*indices.values, *indices.void_values}:
        return [Proposal("if the masks hold the classes' places in the table", indices)]
    return []
