"""A team's own folder: `images/`, `masks/` and `dataset.yaml`.

images/NAME.jpg      any common format, 8 bits a channel
masks/NAME.png       one channel (or a palette's indices): class indices and the void values; or colours
samples.csv          optional: columns sample_id (NAME), and if known split, group and others
dataset.yaml         classes: [{name: road, color: [128, 64, 128]}, ...]
masks: indices         # optional; or colors: a mask has the classes' colours
void: [255]            # optional: values that are not labelled, in masks of indices
void_colors: []        # optional: the same in masks of colours
licence: our own       # optional

A class may have a `value`: that of its pixels in masks of indices, if it is not the class's place in the list. The four
may lie in the root or one or two folders below it, as in an archive.
"""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from segpipe.choices import describe_validation_error, nearest
from segpipe.data.masks.mask_coding import Byte, ClassEntries, ClassEntry, MaskCoding, MasksAre, Rgb
from segpipe.data.sources.source import (
    SPLIT_WORDS,
    RawSample,
    Source,
    files_by_stem,
    find_folder,
    holds_no_image,
    pair_files,
)
from segpipe.errors import Problem, SourceError

DOCUMENT, TABLE = "dataset.yaml", "samples.csv"


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
        document = _Document.model_validate(YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8-sig")))
    except FileNotFoundError as error:
        raise SourceError(f"{path}: no such file; it must hold the class table (README: your own images)") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: is not YAML: {error}") from error
    except ValidationError as error:
        lines = describe_validation_error(error, _keys_at)
        raise SourceError("\n".join(f"{path}: {line}" for line in lines)) from error
    except ValueError as error:  # a text that looks like a date or a number, such as 2024-13-45
        fix = "put a text that looks like a date or a number in quotes"
        raise SourceError(f"{path}: holds a value that cannot be read: {error}; {fix}") from error
    coding = MaskCoding(document.classes, document.masks, document.void, document.void_colors)
    if wrong := coding.find_contradictions():
        raise SourceError("\n".join(f"{path}: {line}" for line in wrong))
    return coding, document.licence


def _keys_at(data_path: list[str]) -> list[str]:
    return sorted((ClassEntry if data_path else _Document).model_fields)


@dataclass(frozen=True)
class _Row:
    """What `samples.csv` says of a sample, and the line."""

    where: str = ""
    split: str | None = None
    group: str | None = None
    attributes: tuple[tuple[str, str], ...] = ()


def _read_table(path: Path, root: Path) -> tuple[dict[str, _Row], list[Problem]]:
    if not path.is_file():
        return {}, []
    where = path.relative_to(root).as_posix()
    try:
        reader = csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig")), skipinitialspace=True)
        lines = [(f"{where}:{reader.line_num}", cells) for cells in reader if any(cells)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{where}: is not a table in UTF-8: {error}") from error
    header = [name.strip() for name in lines[0][1]] if lines else []
    if "sample_id" not in header or len(set(header)) < len(header):
        raise SourceError(f"{where}: the first line must name each column once, sample_id among them (got {header})")
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
    name = cells.get("sample_id", "")
    what = None
    if num_lacking:
        what = f"has {abs(num_lacking)} columns too {'few' if num_lacking > 0 else 'many'}"
    elif not name:
        what = "names no sample"
    elif word and word not in SPLIT_WORDS:
        what = f"unknown split {word!r}; {nearest(word, list(SPLIT_WORDS))}"
    if what:
        return name, Problem("list-line", where, what, "Fix the line")
    known = {"sample_id", "split", "group"}
    attributes = tuple((column, value) for column, value in cells.items() if column not in known and value)
    return name, _Row(where, SPLIT_WORDS.get(word), cells.get("group") or None, attributes)


def _find_unknown(rows: dict[str, _Row], names: set[str]) -> list[Problem]:
    """Finds lines about samples that are not there."""
    return [
        Problem("listed-missing", row.where, f"names {name}, which has no image", "Fix or remove the line")
        for name, row in rows.items()
        if name not in names
    ]


def read_source(*, root: Path) -> Source:
    """Reads the layout above.

    Args:
        root: the folder in which, or up to two folders below which, `dataset.yaml` lies.

    Raises:
        SourceError: the class table is missing or wrong, or `samples.csv` is not a table of samples.
    """
    folder = find_folder(root, DOCUMENT) or root
    coding, licence = _read_document(folder / DOCUMENT)
    images, problems = files_by_stem(folder / "images", root)
    masks, mask_problems = files_by_stem(folder / "masks", root)
    names, unpaired = pair_files(images, masks, root, "images/{}.*".format, "masks/{}.png".format)
    rows, wrong_rows = _read_table(folder / TABLE, root)
    problems += [*mask_problems, *unpaired, *wrong_rows, *_find_unknown(rows, images.keys() | masks.keys())]
    label_of = coding.label_type()
    samples = []
    for name in names:
        row = rows.get(name, _Row())
        label = label_of(masks[name])
        samples.append(RawSample(name, images[name], label, row.split, row.group, dict(row.attributes)))
    if not samples and not problems:
        problems.append(holds_no_image(root, "Put images into images/ and masks/"))
    return Source(coding.classes, tuple(samples), tuple(problems), licence)
