"""What a folder of labelled images is: its format, and the class table that its masks need."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from segpipe.choices import READERS
from segpipe.data.images import is_named_as_picture
from segpipe.data.masks.mask_coding import MaskCoding, read_class_file
from segpipe.data.readers.folder import DOCUMENT, find_base
from segpipe.data.sources.proposed_table import propose_table
from segpipe.data.sources.source import Source, find_folder, list_files
from segpipe.data.sources.survey import Survey, survey_masks
from segpipe.errors import ConfigError, SegpipeError, SourceError
from segpipe.faults import shown

OWN_FOLDER, BY_PATTERNS = "folder", "patterns"  # the formats whose class table the user writes
MAX_UNNAMED = 20  # classes that `segpipe init` names class_0, class_1, ...; more values are rarely meant


def find_formats(folder: Path) -> list[str]:
    """Finds the formats that a folder may have: those that read samples from it without options.

    If there are none, those that at least find their layout, so that their problems say what is missing.
    """
    if find_folder(folder, DOCUMENT):
        return [OWN_FOLDER]
    found: dict[str, int] = {}
    for name in READERS.names():
        with contextlib.suppress(SegpipeError):
            source: Source = READERS.call(name, {}, root=folder)
            found[name] = len(source.samples)
    if with_samples := [name for name, num_samples in found.items() if num_samples]:
        return with_samples
    return [OWN_FOLDER] if _lacks_table(folder) else list(found)


def _lacks_table(folder: Path) -> bool:
    """Whether a folder is of our own format but for the class table."""
    base = find_base(folder)
    return (base / "masks").is_dir() and (base / "images").is_dir() and not (base / DOCUMENT).is_file()


def survey_folder(folder: Path, format_name: str, options: Mapping[str, Any]) -> Survey | None:
    """Looks at the masks of a folder whose class table has to be written; None where it is there or the format has it.

    Raises:
        SegpipeError: the options are wrong.
    """
    if format_name == OWN_FOLDER and _lacks_table(folder):
        masks = find_base(folder) / "masks"
        return survey_masks([masks / name for name in list_files(masks) if is_named_as_picture(name)])
    if format_name == BY_PATTERNS and not {"classes", "class_file"} & options.keys():
        # Any table will do to find the masks.
        classes = [{"name": name, "color": [0, 0, 0]} for name in "ab"]
        source: Source = READERS.call(format_name, {**options, "classes": classes}, root=folder)
        return survey_masks([sample.label.files[0] for sample in source.samples])
    return None


def name_classes(survey: Survey, classes: Sequence[str], where: str) -> MaskCoding:
    """Makes the class table of masks.

    Args:
        survey: of the masks.
        classes: as in `Plan`.
        where: the folder, for messages.

    Raises:
        SourceError: no table explains the masks.
        ConfigError: there are more or fewer names than classes, or one is empty.
    """
    if not all(classes):
        raise ConfigError("--classes: a name is empty; write NAME,NAME,... without a comma at the end")
    proposed = propose_table(survey)
    if len(classes) == 1 and Path(classes[0]).is_file():
        file = Path(classes[0])
        entries = read_class_file(file, file.parent)
        of_map, shown_as = {entry.color for entry in entries}, {*survey.palette.values()}
        has_values = any(entry.value is not None for entry in entries)
        if survey.is_of_colors or (shown_as and shown_as <= of_map and not has_values):
            return MaskCoding(entries, "colors", written_in=DOCUMENT)
        greys = {(value,) * 3 for value in survey.values}
        if not has_values and greys <= of_map and all(len({*color}) == 1 for color in of_map):
            entries = [entry.model_copy(update={"value": entry.color[0]}) for entry in entries]
        return MaskCoding(entries, "indices", written_in=DOCUMENT)
    if proposed is None and not survey.num_masks:
        raise SourceError(f"{where}: no mask can be read: {survey.unread or 'there is none'}")
    if proposed is None and len(survey.values) + len(survey.colors) == 1:
        raise SourceError(f"{where}: {survey.extent} hold one value or colour alone; a class table has two or more")
    if proposed is None:
        held = f"{len(survey.values)} values and {len(survey.colors)} colours"
        fix = "export PNG masks with one value or colour for each class: JPEG and resizing add others"
        raise SourceError(f"{where}: {survey.extent} hold {held}, which are no class table; {fix}")
    held_by = proposed.values if survey.is_of_values else [list(color) for color in proposed.colors]
    if classes and len(classes) != len(proposed.entries):
        raise ConfigError(
            f"--classes: {len(classes)} names, but {survey.extent} hold {len(held_by)} classes: {shown(held_by, 20)}; "
            "give a name for each, in this order"
        )
    if not classes and len(held_by) > MAX_UNNAMED:
        raise ConfigError(
            f"{where}: {survey.extent} hold {len(held_by)} values or colours, some perhaps by smoothing or resizing: "
            f"{shown(held_by, 20)}. Export the masks without, or give --classes with a name for each"
        )
    named = propose_table(survey, classes)
    assert named is not None
    return replace(named, written_in=DOCUMENT)


def as_options(coding: MaskCoding) -> dict[str, Any]:
    """The options of `patterns` that say a class table."""
    entries = [entry.model_dump(mode="json", exclude_none=True) for entry in coding.entries]
    options = {"classes": entries, "masks_are": coding.masks_are, "void": coding.void}
    return {key: value for key, value in options.items() if value is not None}
