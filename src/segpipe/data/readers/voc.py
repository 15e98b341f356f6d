"""Pascal VOC with segmentation masks, alone or with the masks of SBD.

    VOCdevkit/VOC2012/{JPEGImages,SegmentationClass}, VOCdevkit/VOC2012/ImageSets/Segmentation/{train,val}.txt
    benchmark_RELEASE/dataset/{img,cls}, benchmark_RELEASE/dataset/{train,val}.txt        (SBD)

each at the root or one or two folders below it. Masks hold 0..20 and 255 = void as a palette's indices; SBD's are
MATLAB files. SBD's own split differs from VOC's. SBD adds its train and val without all images that VOC itself lists,
so that VOC's val stays out of training and VOC's finer masks are used (10,582 training images, `train_aug`).

Source: Everingham et al., "The Pascal Visual Object Classes challenge: a retrospective", IJCV 111(1), 2015; SBD:
Hariharan et al., "Semantic contours from inverse detectors", ICCV 2011.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from segpipe.classes import ClassTable
from segpipe.data.masks.labels import IndexMask, plain_indices
from segpipe.data.masks.mat_labels import MatMask
from segpipe.data.sources.palette import spread_colors
from segpipe.data.sources.source import (
    RawSample,
    Source,
    find_folder,
    find_listed,
    is_plain_name,
    read_lines,
    sorted_by_id,
)
from segpipe.errors import Problem, SourceError

LICENCE = "images: Flickr's terms of use; masks: not stated"

CLASSES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
INDICES = plain_indices(len(CLASSES))
SPLITS = ("train", "val", "test")
SBD = "benchmark_RELEASE/dataset"


def _find_voc(root: Path, year: int) -> Path:
    lists = f"VOC{year}/ImageSets/Segmentation"
    if folder := find_folder(root, lists):
        return folder / f"VOC{year}"
    fix = "give the folder that holds VOCdevkit, or the option year"
    raise SourceError(f"{root}: is not Pascal VOC: no {lists} in it or up to two folders below; {fix}")


def _read_names(list_file: Path, root: Path) -> tuple[dict[str, str], list[Problem]]:
    """Gives the place of each name of a list, and its problems."""
    if not list_file.is_file():
        where = list_file.relative_to(root).as_posix()
        return {}, [Problem("list-missing", where, "no such list file", "Take the complete archive")]
    names: dict[str, str] = {}
    problems = []
    for where, line in read_lines(list_file, root):
        if not is_plain_name(line):
            problems.append(Problem("list-line", where, f"not the name of an image: {line!r}", "Fix the line"))
        elif line in names:
            problems.append(Problem("name-twice", where, f"{line} is in {names[line]} too", "Remove one line"))
        else:
            names[line] = where
    return names, problems


def _read_voc(voc: Path, root: Path) -> tuple[list[RawSample], dict[str, dict[str, str]], list[Problem]]:
    """Gives the samples, the names that each split lists, and the problems."""
    samples: list[RawSample] = []
    listed: dict[str, dict[str, str]] = {}
    problems: list[Problem] = []
    for split in SPLITS:
        list_file = voc / "ImageSets/Segmentation" / f"{split}.txt"
        if split == "test" and not list_file.is_file():
            continue  # only 2007 has it in public
        listed[split], wrong = _read_names(list_file, root)
        problems += wrong
        for name, where in listed[split].items():
            image, mask = voc / "JPEGImages" / f"{name}.jpg", voc / "SegmentationClass" / f"{name}.png"
            missing = find_listed(where, (image, mask), root)
            problems += missing
            if not missing:
                samples.append(RawSample(name, image, IndexMask(mask, INDICES), official_split=split))
    return samples, listed, problems


def _read_sbd(sbd: Path, root: Path, of_voc: Mapping[str, Mapping[str, str]]) -> tuple[list[RawSample], list[Problem]]:
    """Gives what SBD adds to the training split."""
    if not of_voc["val"]:
        # Without the list, SBD's images that are in VOC's val cannot be left out.
        return [], []
    taken = set().union(*of_voc.values())
    samples: list[RawSample] = []
    problems: list[Problem] = []
    for split in ("train", "val"):
        names, wrong = _read_names(sbd / f"{split}.txt", root)
        problems += wrong
        for name in sorted(names.keys() - taken):
            image, mask = sbd / "img" / f"{name}.jpg", sbd / "cls" / f"{name}.mat"
            missing = find_listed(names[name], (image, mask), root)
            problems += missing
            if not missing:
                samples.append(RawSample(name, image, MatMask(mask, INDICES), official_split="train"))
        taken |= names.keys()
    return samples, problems


def read_source(*, root: Path, year: Annotated[int, Field(ge=2007, le=2012)] = 2012, sbd: bool | None = None) -> Source:
    """Reads the layout above.

    Args:
        root: the folder in which, or up to two folders below which, `VOC2012` lies.
        year: of the challenge; names the folder.
        sbd: whether SBD's masks are added; null adds them if they are there.

    Raises:
        SourceError: there is no such layout, or no SBD although `sbd` is true.
    """
    samples, listed, problems = _read_voc(_find_voc(root, year), root)
    benchmark = None if sbd is False else find_folder(root, f"{SBD}/cls")
    if sbd and benchmark is None:
        raise SourceError(f"{root}: holds no SBD: no {SBD}/cls in it or up to two folders below; or set sbd: false")
    if benchmark is not None:
        added, wrong = _read_sbd(benchmark / SBD, root, listed)
        samples += added
        problems += wrong
    classes = ClassTable(CLASSES, spread_colors(len(CLASSES)))
    return Source(classes, sorted_by_id(samples), tuple(problems), LICENCE)
