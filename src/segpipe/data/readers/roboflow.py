"""Roboflow's export "Semantic Segmentation Masks".

    {train,valid,test}/NAME.jpg, {train,valid,test}/NAME_mask.png, {train,valid,test}/_classes.csv

at the root or one or two folders below it. `_classes.csv` holds `Pixel Value, Class`, one line a class, beginning with
`0, background`. Roboflow's COCO export is the format `coco`.
"""

import csv
from pathlib import Path

from segpipe.choices import nearest
from segpipe.classes import IGNORE_INDEX, MAX_NUM_CLASSES, ClassTable
from segpipe.data.masks.labels import IndexMask
from segpipe.data.sources.annotation_files import AnnotationFileError, read_text
from segpipe.data.sources.palette import spread_colors
from segpipe.data.sources.source import (
    SPLIT_WORDS,
    RawSample,
    Source,
    files_by_stem,
    find_folder,
    holds_no_image,
    pair_files,
    sorted_by_id,
)
from segpipe.errors import ConfigError, Problem, SourceError

FOLDERS = ("train", "valid", "test")
CLASS_FILE = "_classes.csv"
COCO_FILE = "_annotations.coco.json"
MASK_SUFFIX = "_mask"
MAX_INDEX = 255


def _find_layout(root: Path) -> Path:
    base = find_folder(root, *(f"{folder}/{CLASS_FILE}" for folder in FOLDERS))
    if base is not None:
        return base
    fix = "export the project as Semantic Segmentation Masks"
    if find_folder(root, *(f"{folder}/{COCO_FILE}" for folder in FOLDERS)):
        fix = "it holds COCO's annotations: set format: coco"
    raise SourceError(f"{root}: no {CLASS_FILE} in train/, valid/ or test/ of it or up to two folders below; {fix}")


def _read_classes(path: Path) -> dict[int, str]:
    """Gives the class of each pixel value, by ascending value.

    Raises:
        AnnotationFileError: a line cannot be understood, or a value or a name is used twice.
    """
    names: dict[int, str] = {}
    reader = csv.reader(read_text(path).splitlines(), skipinitialspace=True)
    for row in reader:
        if reader.line_num == 1 or not any(row):
            continue
        value, name = (row[0].strip(), row[1].strip()) if len(row) == 2 else ("", "")
        if not (value.isascii() and value.isdigit() and int(value) <= MAX_INDEX and name):
            what = f"not a pixel value of 0..{MAX_INDEX} and a class: {', '.join(row)!r}"
            raise AnnotationFileError(path, what, reader.line_num)
        if int(value) in names or name in names.values():
            raise AnnotationFileError(path, f"value {value} or class {name!r} is used twice", reader.line_num)
        names[int(value)] = name
    if not names:
        raise AnnotationFileError(path, "names no class")
    return dict(sorted(names.items()))


def _read_table(folders: list[Path]) -> dict[int, str]:
    """Reads the tables of all splits, which must be equal."""
    first = _read_classes(folders[0] / CLASS_FILE)
    for folder in folders[1:]:
        if _read_classes(folder / CLASS_FILE) != first:
            raise AnnotationFileError(folder / CLASS_FILE, f"has other classes than that of {folders[0].name}")
    return first


def read_source(*, root: Path, void: list[str] | None = None) -> Source:
    """Reads the layout above.

    Args:
        root: the folder in which, or up to two folders below which, `train` and so on lie.
        void: the classes whose pixels are not labelled.

    Raises:
        SourceError: there is no such layout, or a class file is wrong.
        ConfigError: `void` names an unknown class.
    """
    base = _find_layout(root)
    folders = [base / name for name in FOLDERS if (base / name / CLASS_FILE).is_file()]
    class_of_value = _read_table(folders)
    void = void or []
    if unknown := [name for name in void if name not in class_of_value.values()]:
        known = list(class_of_value.values())
        raise ConfigError("\n".join(f"option void: no class {name!r}; {nearest(name, known)}" for name in unknown))
    names = [name for name in class_of_value.values() if name not in void]
    if not 0 < len(names) <= MAX_NUM_CLASSES:
        raise SourceError(f"{folders[0] / CLASS_FILE}: {len(names)} classes; there must be 1..{MAX_NUM_CLASSES}")
    indices = {value: IGNORE_INDEX if name in void else names.index(name) for value, name in class_of_value.items()}
    samples: list[RawSample] = []
    problems: list[Problem] = []
    for folder in folders:
        found, wrong = _read_folder(folder, root, indices)
        samples += found
        problems += wrong
    if not samples and not problems:
        problems.append(holds_no_image(root, "Export the project with its images"))
    classes = ClassTable(tuple(names), spread_colors(len(names)))
    return Source(classes, sorted_by_id(samples), tuple(problems), "not stated")


def _read_folder(folder: Path, root: Path, indices: dict[int, int]) -> tuple[list[RawSample], list[Problem]]:
    files, problems = files_by_stem(folder, root)
    masks = {stem.removesuffix(MASK_SUFFIX): path for stem, path in files.items() if stem.endswith(MASK_SUFFIX)}
    images = {stem: path for stem, path in files.items() if not stem.endswith(MASK_SUFFIX)}
    complete, unpaired = pair_files(
        images, masks, root, lambda stem: f"{folder.name}/{stem}.*", lambda stem: f"{folder.name}/{stem}_mask.png"
    )
    samples = [
        RawSample(
            f"{folder.name}/{stem}",
            images[stem],
            IndexMask(masks[stem], indices),
            official_split=SPLIT_WORDS[folder.name],
        )
        for stem in complete
    ]
    return samples, problems + unpaired
