"""What a reader finds in a source: the class table and the pairs of image and label.

A reader is a file of `segpipe/data/readers` with a function `read_source(*, root, OPTION=DEFAULT, ...) -> Source`. It
reads only names and text files; `preprocess` reads and checks the pixels. The functions that readers share are here:
for folders that an archive wraps in others, files by their names, pairs, list files.
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NoReturn

from segpipe.classes import ClassTable
from segpipe.data.images import is_named_as_picture, is_picture_name, stem_of
from segpipe.data.masks.labels import Label
from segpipe.data.masks.mask_coding import MaskCoding
from segpipe.errors import Problem, SourceError

MAX_WRAPPING_FOLDERS = 2

# Usual names of the splits, and ours.
SPLIT_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class RawSample:
    """One labelled image as the source holds it.

    Args:
        sample_id: names the sample within the source.
        image: file of the image.
        label: which class each pixel is.
        official_split: 'train', 'val' or 'test', if the source itself says so.
        group: the sequence (patient, field) it belongs to, if the source itself says so.
        attributes: the other columns of the source's table, by name.
    """

    sample_id: str
    image: Path
    label: Label
    official_split: str | None = None
    group: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """What a reader found.

    Args:
        classes: the meaning of the class indices that its labels give.
        samples: the complete pairs, sorted by `sample_id`.
        problems: why files of the source are not samples.
        licence: the terms under which the source may be used.
        coding: what the masks' pixels mean, where the user writes it, so that a message can name the lines to write;
            None where the format itself says it.
    """

    classes: ClassTable
    samples: tuple[RawSample, ...]
    problems: tuple[Problem, ...]
    licence: str
    coding: MaskCoding | None = None


def is_hidden(name: str) -> bool:
    """Whether a file or folder is the system's: `.name`, `._name` and `__MACOSX` of archives made on a Mac."""
    return name.startswith(".") or name == "__MACOSX"


def in_one_form(name: str) -> str:
    """Gives a name in Unicode's form NFC: an archive made on a Mac may hold `ä` as `a` and two dots (NFD)."""
    return unicodedata.normalize("NFC", name)


def find_folder(root: Path, *inside: str) -> Path | None:
    """Finds the folder that an archive may have wrapped in others.

    Args:
        root: of the source.
        inside: relative paths of files or folders, of which the folder holds at least one.

    Returns:
        The root or the nearest such folder, at most two levels below it.
    """
    return next(iter(find_folders(root, *inside)), None)


def find_folders(root: Path, *inside: str) -> list[Path]:
    """Finds all folders that `find_folder` may mean: those that are equally near to the root, sorted by name."""
    level = [root]
    for depth in range(MAX_WRAPPING_FOLDERS + 1):
        if found := [folder for folder in level if any((folder / path).exists() for path in inside)]:
            return found
        if depth < MAX_WRAPPING_FOLDERS:
            level = [below for folder in level for below in _folders_in(folder)]
    return []


def _folders_in(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return sorted(folder / entry.name for entry in entries if entry.is_dir() and not is_hidden(entry.name))


def list_files(folder: Path) -> list[str]:
    """Lists all files below a folder by their paths within it (`a/b.png`), sorted, hidden ones left out.

    It is one pass over the folders and reads only names, which is fast for a hundred thousand files.

    Raises:
        SourceError: a folder cannot be listed; its files would be missing without a message.
    """
    if not folder.is_dir():
        return []
    found = []
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not is_hidden(name)]
        below = Path(parent).relative_to(folder).as_posix()
        lead = "" if below == "." else f"{below}/"
        found += [lead + name for name in names if not is_hidden(name)]
    return sorted(found)


def _refuse(error: OSError) -> NoReturn:
    raise SourceError(f"{error.filename}: cannot be listed: {error.strerror}; check its permissions") from error


def files_by_stem(folder: Path, root: Path) -> tuple[dict[str, Path], list[Problem]]:
    """Lists the image files below a folder by their path within it, suffix removed, letters in one form.

    A picture of a format that is not read is listed too, so that its sample names the reason; but not next to one of
    the same name that is read.

    Returns:
        The files, and a problem for each name that two files share and each missing folder.
    """
    if not folder.is_dir():
        return {}, [missing_folder(folder, root)]
    files: dict[str, Path] = {}
    problems = []
    names = [name for name in list_files(folder) if is_named_as_picture(name)]
    for name in sorted(names, key=lambda name: not is_picture_name(name)):
        path, stem = folder / name, in_one_form(stem_of(name))
        if stem in files and not is_picture_name(name):
            continue
        if stem in files:
            what = f"has the same name as {files[stem].name}, except for the suffix or the form of its letters"
            problems.append(Problem("name-twice", path.relative_to(root).as_posix(), what, "Remove one of them"))
        files[stem] = path
    return files, problems


def holds_no_image(root: Path, fix: str) -> Problem:
    """Says that a source holds no image, and which files lie there instead."""
    others = Counter(PurePosixPath(name).suffix or name for name in list_files(root))
    found = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common(8))
    what = f"holds no image; there are: {found}" if found else "holds no image"
    return Problem("empty", str(root), what, fix)


def missing_folder(folder: Path, root: Path) -> Problem:
    """Says that a folder, which the format asks for, is not there."""
    where = folder.relative_to(root).as_posix()
    return Problem("folder-missing", where, "no such folder in the source", "Add it, or name another source")


def pair_files(
    images: Mapping[str, Path],
    masks: Mapping[str, Path],
    root: Path,
    expected_image: Callable[[str], str],
    expected_mask: Callable[[str], str],
) -> tuple[list[str], list[Problem]]:
    """Finds the names that have both an image and a mask.

    Args:
        images: by name.
        masks: by name.
        root: of the source; messages name files by their paths below it.
        expected_image: gives the place where the image of a name is looked for, for messages.
        expected_mask: the same for the mask.

    Returns:
        The complete names, sorted, and a problem for each that is not.
    """
    problems = []
    masks_alone = masks.keys() - images.keys()
    mask_in_small = {name.lower(): name for name in sorted(masks_alone)}
    for name in sorted(images.keys() - masks.keys()):
        what, fix = f"no {expected_mask(name)}", "Add the mask or remove the image"
        if alike := mask_in_small.pop(name.lower(), None):
            masks_alone.remove(alike)
            what, fix = f"{what}, only one whose name differs in capitals", "Rename one of the two"
        problems.append(Problem("mask-missing", images[name].relative_to(root).as_posix(), what, fix))
    for name in sorted(masks_alone):
        what = f"no image {expected_image(name)}"
        where = masks[name].relative_to(root).as_posix()
        problems.append(Problem("image-missing", where, what, "Add it or remove the mask"))
    return sorted(images.keys() & masks.keys()), problems


def read_lines(path: Path, root: Path) -> list[tuple[str, str]]:
    """Reads the lines of a list file that are not empty, each after its place (`lists/train.txt:3`) for messages.

    Raises:
        SourceError: it is not UTF-8.
    """
    where = path.relative_to(root).as_posix()
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"{where}: is not UTF-8: {error}; save it as UTF-8") from error
    lines = enumerate(text.splitlines(), start=1)
    return [(f"{where}:{number}", line.strip()) for number, line in lines if line.strip()]


def find_listed(where: str, paths: Sequence[Path], root: Path) -> list[Problem]:
    """Gives a problem for each missing file that a line of a list file names.

    Args:
        where: place of the line.
        paths: the files.
        root: of the source.
    """
    fix = "Add it or remove the line"
    return [
        Problem("listed-missing", where, f"names {path.relative_to(root).as_posix()}, no such file", fix)
        for path in paths
        if not path.is_file()
    ]


def is_plain_name(name: str) -> bool:
    """Whether a name from a list file is a single name: a list must not lead out of its folder."""
    return not set(name) & set("/\\\0 \t") and name not in {".", ".."}


def sorted_by_id(samples: Iterable[RawSample]) -> tuple[RawSample, ...]:
    """Sorts samples as `Source` needs them."""
    return tuple(sorted(samples, key=lambda sample: sample.sample_id))
