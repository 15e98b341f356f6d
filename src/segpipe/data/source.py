"""What a reader finds in a source: the class table and the pairs of image and mask.

A reader is a file of `segpipe/data/readers` with a function `read_source(*, root) -> Source`. It only looks at names
and small text files; pixels are read and checked by `preprocess`.
"""

from dataclasses import dataclass
from pathlib import Path

from segpipe.classes import ClassTable
from segpipe.errors import Problem

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True)
class RawSample:
    """One labelled image as the source holds it.

    Args:
        sample_id: names the sample within the source; its group is found in it.
        image: file of the image.
        mask: file of the mask.
        official_split: 'train', 'val' or 'test' where the source itself says so.
    """

    sample_id: str
    image: Path
    mask: Path
    official_split: str | None = None


@dataclass(frozen=True)
class Source:
    """What a reader found.

    Args:
        classes: the meaning of the masks' values.
        samples: the complete pairs, sorted by `sample_id`.
        problems: what keeps files of the source from being samples.
        licence: the terms under which the source may be used.
    """

    classes: ClassTable
    samples: tuple[RawSample, ...]
    problems: tuple[Problem, ...]
    licence: str


def files_by_stem(folder: Path, root: Path) -> tuple[dict[str, Path], list[Problem]]:
    """Lists the image files below a folder by their path within it, suffix removed.

    Returns:
        The files, and a problem for each name that two files share and each missing folder.
    """
    if not folder.is_dir():
        where = folder.relative_to(root).as_posix()
        return {}, [Problem("folder-missing", where, "no such folder in the source", "Add it, or name another source")]
    files: dict[str, Path] = {}
    problems = []
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in IMAGE_SUFFIXES or not path.is_file():
            continue
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in files:
            what = f"stands beside {files[stem].name}: one name, two files"
            problems.append(Problem("name-twice", path.relative_to(root).as_posix(), what, "Remove one of them"))
        files[stem] = path
    return files, problems
