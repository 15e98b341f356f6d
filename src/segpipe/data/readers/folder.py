"""A team's own folder: `images/`, `masks/` and `dataset.yaml`.

    images/NAME.jpg      any common format
    masks/NAME.png       one channel (or a palette's indices) of class indices; or colours
    dataset.yaml         the meaning of the masks, see below
    samples.csv          optional: columns sample_id (NAME), and if known split, group and any others

in the root or one or two folders below it, as in an archive. dataset.yaml:

    classes:                                                    # 2 to 255, in order
    - {name: background, color: [0, 0, 0], value: 0}            # value: of its pixels in the masks, if it is not
    - {name: cell, color: [128, 0, 0], value: 255}              #        the class's place in the list (0, 1, 2, ...)
    masks: indices                                              # optional; or colors: masks hold the classes' colours
    void: [254]                                                 # optional: values that are not labelled; else 255
    void_colors: []                                             # optional: the same in masks of colours
    licence: our own                                            # optional

samples.csv, with commas:

    sample_id,split,group,microscope                            # the first line; only sample_id is needed
    p1_0001,train,p1,A                                          # NAME without suffix; train, val or test; never divided
"""

import csv
import io
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from segpipe.choices import describe_validation_error, nearest
from segpipe.data.images import is_named_as_picture, stem_of
from segpipe.data.masks.mask_coding import Byte, ClassEntries, ClassEntry, MaskCoding, MasksAre, Rgb
from segpipe.data.sources.proposed_table import format_coding, propose_table
from segpipe.data.sources.source import (
    SPLIT_WORDS,
    RawSample,
    Source,
    files_by_stem,
    find_folders,
    holds_no_image,
    in_one_form,
    pair_files,
)
from segpipe.data.sources.survey import survey_masks
from segpipe.errors import Problem, SourceError
from segpipe.faults import shown

DOCUMENT, TABLE = "dataset.yaml", "samples.csv"
KNOWN_COLUMNS = ("sample_id", "split", "group")
SAVE_AS_UTF_8 = "is not UTF-8 text; save it as UTF-8"


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")
    classes: ClassEntries
    masks: MasksAre = "indices"
    void: list[Byte] | None = None
    void_colors: list[Rgb] | None = None
    licence: str = "not stated"


def _read_document(path: Path) -> tuple[MaskCoding, str]:
    """Gives the meaning of the masks, and the licence."""
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8-sig"))
        if content is None:
            raise SourceError(_describe_missing(path, "is empty"))
        document = _Document.model_validate(content)
    except FileNotFoundError as error:
        raise SourceError(_describe_missing(path, "no such file")) from error
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: {SAVE_AS_UTF_8}") from error
    except YAMLError as error:
        fix = "a name with one of : , # [ ] { } must be in quotes"
        raise SourceError(f"{path}: is not YAML: {error}\n{fix}") from error
    except ValidationError as error:
        lines = describe_validation_error(error, _keys_at)
        raise SourceError("\n".join(f"{path}: {line}" for line in lines)) from error
    except ValueError as error:  # a text that looks like a date or a number, such as 2024-13-45
        fix = "put a text that looks like a date or a number in quotes"
        raise SourceError(f"{path}: holds a value that cannot be read: {error}; {fix}") from error
    coding = MaskCoding(document.classes, document.masks, document.void, document.void_colors, DOCUMENT)
    if wrong := coding.find_contradictions():
        raise SourceError("\n".join(f"{path}: {line}" for line in wrong))
    return coding, document.licence


def _describe_missing(path: Path, why: str) -> str:
    """Says what to write into the file that is missing or empty, from what the masks hold."""
    what = f"{path}: {why}; it must hold the class table (`segpipe data formats folder`)"
    masks, _ = files_by_stem(path.parent / "masks", path.parent)
    survey = survey_masks([masks[name] for name in sorted(masks)])
    proposed = propose_table(survey)
    if proposed is None:
        return f"{what}. Is it another format? `segpipe data formats` lists them"
    return (
        f"{what}. By what {survey.extent} hold, write into it, with the names of the classes:\n"
        f"{format_coding(proposed)}\n"
        "or let `segpipe init` do so"
    )


def _keys_at(data_path: list[str]) -> list[str]:
    return sorted((ClassEntry if data_path else _Document).model_fields)


@dataclass(frozen=True)
class _Row:
    """What `samples.csv` says of a sample, and the line."""

    where: str = ""
    split: str | None = None
    group: str | None = None
    attributes: tuple[tuple[str, str], ...] = ()


def _describe_header(where: str, header: list[str], lines: list[tuple[str, list[str]]], names: Set[str]) -> str:
    """Says what is wrong with the first line of the table, and how it must read."""
    what = f"{where}: the first line must name each column once, sample_id among them (got {header})"
    if len(header) == 1 and (mark := next((mark for mark in ";\t" if mark in header[0]), None)):
        what = f"{what}; put commas between the columns in place of {mark!r}"
        header = header[0].split(mark)
        lines = [(place, cells[0].split(mark)) for place, cells in lines]
    columns = zip(*(cells for _, cells in lines if len(cells) == len(header)), strict=False)
    fitting = [n for n, cells in enumerate(columns) if all(_find_meant(cell.strip(), names) for cell in cells)]
    if "sample_id" in header or len(fitting) != 1:
        return what
    header = _in_small_letters(header)
    header[fitting[0]] = "sample_id"
    return f"{what}; write as the first line:\n{','.join(header)}"


def _in_small_letters(header: list[str]) -> list[str]:
    return [name.lower() if name.lower() in KNOWN_COLUMNS else name for name in header]


def _find_meant(listed: str, names: Set[str]) -> str | None:
    """Finds the sample that is meant by a file's name or path, of this machine or another; None if there is none."""
    parts = in_one_form(listed).replace("\\", "/").split("/")
    paths = ["/".join(parts[start:]) for start in range(len(parts))]
    stems = [stem_of(path) if is_named_as_picture(path) else path for path in paths]
    return next((name for name in (*paths, *stems) if name in names), None)


def _read_table(path: Path, root: Path, names: Set[str]) -> tuple[dict[str, _Row], list[Problem]]:
    if not path.is_file():
        return {}, []
    where = path.relative_to(root).as_posix()
    try:
        reader = csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig")), skipinitialspace=True)
        lines = [(f"{where}:{reader.line_num}", cells) for cells in reader if any(cells)]
    except UnicodeDecodeError as error:
        raise SourceError(f"{where}: {SAVE_AS_UTF_8} (in a spreadsheet: CSV UTF-8)") from error
    except csv.Error as error:
        raise SourceError(f"{where}: is not a table with commas: {error}") from error
    header = [name.strip() for name in lines[0][1]] if lines else []
    if "sample_id" not in header or len(set(header)) < len(header):
        raise SourceError(_describe_header(where, header, lines[1:], names))
    meant = _in_small_letters(header)
    if meant != header and len(set(meant)) == len(meant):
        what = f"{where}: the columns {', '.join(KNOWN_COLUMNS)} are written in small letters (got {header})"
        raise SourceError(f"{what}; write as the first line:\n{','.join(meant)}")
    rows: dict[str, _Row] = {}
    problems = []
    for place, cells in lines[1:]:
        name, row = _read_row(place, dict(zip(header, map(str.strip, cells), strict=False)), len(header) - len(cells))
        if isinstance(row, Problem):
            problems.append(row)
        elif name in rows:
            problems.append(Problem("list-line", place, f"{name} is in {rows[name].where} too", "Remove one line"))
        else:
            rows[name] = row
    return rows, problems


def _read_row(where: str, cells: dict[str, str], num_lacking: int) -> tuple[str, _Row | Problem]:
    """Gives the sample's name and what the line says, or what is wrong with the line."""
    word = cells.get("split", "").lower()
    name = in_one_form(cells.get("sample_id", ""))
    what = None
    if num_lacking:
        what = f"has {abs(num_lacking)} columns too {'few' if num_lacking > 0 else 'many'}"
    elif not name:
        what = "names no sample"
    elif word and word not in SPLIT_WORDS:
        what = f"unknown split {word!r}; {nearest(word, list(SPLIT_WORDS))}"
    if what:
        return name, Problem("list-line", where, what, "Fix the line")
    attributes = tuple((column, value) for column, value in cells.items() if column not in KNOWN_COLUMNS and value)
    return name, _Row(where, SPLIT_WORDS.get(word), cells.get("group") or None, attributes)


def _find_unknown(rows: dict[str, _Row], names: Set[str]) -> list[Problem]:
    """Finds lines about samples that are not there."""
    problems = []
    for name, row in rows.items():
        if name not in names:
            meant = _find_meant(name, names)
            fix = f"Write {meant}: its path below images/ without the suffix" if meant else "Fix or remove the line"
            problems.append(Problem("listed-missing", row.where, f"names {name}, which has no image", fix))
    return problems


def find_base(root: Path) -> Path:
    """Finds the folder that holds `images/` and `masks/`.

    Args:
        root: of the source.

    Returns:
        The root or the nearest such folder below it; the root if there is none.

    Raises:
        SourceError: there are several, of which the others would be left out without a message.
    """
    with_table, with_masks = find_folders(root, DOCUMENT), find_folders(root, "masks")
    found = with_table or with_masks or [root]
    equally_near = {*found, *(folder for folder in with_masks if len(folder.parts) == len(found[0].parts))}
    complete = sorted(folder for folder in equally_near if (folder / "images").is_dir())
    if len(complete) < 2:
        return (complete or found)[0]
    names = [folder.relative_to(root).as_posix() for folder in complete]
    are_splits = {folder.name.lower() for folder in complete} <= SPLIT_WORDS.keys()
    lead = "*/" * names[0].count("/") + ("{split}/" if are_splits else "{group}/")
    raise SourceError(
        f"{root}: holds several sets: {shown(names)}; put their files together into one images/ and one masks/, or "
        f"read all of them by `format: patterns` with the options `images: '{lead}images/{{id}}.*'` and "
        f"`masks: '{lead}masks/{{id}}.png'` (`segpipe data formats patterns`)"
    )


def read_source(*, root: Path) -> Source:
    """Reads the layout above.

    Args:
        root: the folder in which, or up to two folders below which, `dataset.yaml` lies.

    Raises:
        SourceError: the class table is missing or wrong, there are several such folders, or `samples.csv` is not a
            table of samples.
    """
    folder = find_base(root)
    coding, licence = _read_document(folder / DOCUMENT)
    images, problems = files_by_stem(folder / "images", root)
    masks, mask_problems = files_by_stem(folder / "masks", root)
    names, unpaired = pair_files(images, masks, root, "images/{}.*".format, "masks/{}.png".format)
    known = images.keys() | masks.keys()
    rows, wrong_rows = _read_table(folder / TABLE, root, known)
    problems += [*mask_problems, *unpaired, *wrong_rows, *_find_unknown(rows, known)]
    label_of = coding.label_type()
    samples = []
    for name in names:
        row = rows.get(name, _Row())
        label = label_of(masks[name])
        samples.append(RawSample(name, images[name], label, row.split, row.group, dict(row.attributes)))
    if not samples and not problems:
        problems.append(holds_no_image(root, "Put images into images/ and masks/"))
    return Source(coding.classes, tuple(samples), tuple(problems), licence, coding)
