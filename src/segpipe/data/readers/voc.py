"""Pascal VOC with segmentation masks, alone or with the masks of SBD; and other sets in its layout.

    VOCdevkit/VOC2012/{JPEGImages,SegmentationClass}, VOCdevkit/VOC2012/ImageSets/Segmentation/{train,val}.txt
    benchmark_RELEASE/dataset/{img,cls}, benchmark_RELEASE/dataset/{train,val}.txt        (SBD)

each at the root or one or two folders below it. Other sets name their folders and classes in the options:

    what labelme2voc writes    {folder: ., masks: SegmentationClassPNG, lists: null, class_file: class_names.txt}
                               (SegmentationClass for the masks of newer versions)
    Pascal Context             {year: 2010, masks: SegmentationClassContext, lists: ImageSets/SegmentationContext,
                               class_file: FILE}, for masks that hold class indices, as mmsegmentation makes them

Exports with a labelmap.txt, as CVAT and Datumaro write them, have masks of colours: they are the format `cvat`.

Masks hold 0..20, or 0 to one less than the classes, and 255 = void as a palette's indices; SBD's are MATLAB files.
SBD's own split differs from VOC's. SBD adds its train and val without all images that VOC itself lists, so that VOC's
val stays out of training and VOC's finer masks are used (10,582 training images, `train_aug`).

Source: Everingham et al., "The Pascal Visual Object Classes challenge: a retrospective", IJCV 111(1), 2015; SBD:
Hariharan et al., "Semantic contours from inverse detectors", ICCV 2011.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import Field

from segpipe.classes import MAX_NUM_CLASSES, ClassTable
from segpipe.data.masks.labels import IndexMask, plain_indices
from segpipe.data.masks.mat_labels import MatMask
from segpipe.data.sources.annotation_files import AnnotationFileError, check_below_root, read_text
from segpipe.data.sources.palette import spread_colors
from segpipe.data.sources.source import (
    RawSample,
    Source,
    files_by_stem,
    find_folder,
    find_listed,
    in_one_form,
    is_plain_name,
    pair_files,
    read_lines,
    sorted_by_id,
)
from segpipe.errors import ConfigError, Problem, SourceError

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
SPLITS = ("train", "val", "test")
SBD = "benchmark_RELEASE/dataset"
LABEL_MAP = "labelmap.txt"


@dataclass(frozen=True)
class _Layout:
    """Where the parts of a set lie, as paths below its folder.

    Args:
        base: the folder.
        images: folder.
        masks: folder.
        lists: folder of the split's lists; None where every mask is a sample.
        indices: the meaning of the masks' values.
    """

    base: Path
    images: str
    masks: str
    lists: str | None
    indices: Mapping[int, int]


def _find_base(root: Path, folder: str, inside: str) -> Path:
    wanted = (PurePosixPath(folder) / inside).as_posix()
    if found := find_folder(root, wanted):
        return found / folder
    if find_folder(root, LABEL_MAP):
        raise SourceError(f"{root}: holds {LABEL_MAP}: set format: cvat, which reads it")
    fix = "give the folder that holds VOCdevkit, or the option year or folder (`segpipe data formats voc`)"
    raise SourceError(f"{root}: is not Pascal VOC: no {wanted} in it or up to two folders below; {fix}")


def _read_classes(path: Path) -> tuple[str, ...]:
    """Reads one name a line."""
    names = tuple(line.strip() for line in read_text(path).splitlines() if line.strip())
    if not 0 < len(names) <= MAX_NUM_CLASSES or len(set(names)) < len(names):
        raise AnnotationFileError(
            path, f"must hold 1..{MAX_NUM_CLASSES} different names, one a line (got {len(names)})"
        )
    return names


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


def _read_voc(layout: _Layout, root: Path) -> tuple[list[RawSample], dict[str, dict[str, str]], list[Problem]]:
    """Gives the samples, the names that each split lists, and the problems."""
    images, problems = files_by_stem(layout.base / layout.images, root)
    if layout.lists is None:
        masks, wrong = files_by_stem(layout.base / layout.masks, root)
        names, unpaired = pair_files(
            images, masks, root, f"{layout.images}/{{}}.*".format, f"{layout.masks}/{{}}.png".format
        )
        samples = [RawSample(name, images[name], IndexMask(masks[name], layout.indices)) for name in names]
        return samples, {}, [*problems, *wrong, *unpaired]
    samples, problems = [], []  # only listed images count
    listed: dict[str, dict[str, str]] = {}
    for split in SPLITS:
        list_file = layout.base / layout.lists / f"{split}.txt"
        if split == "test" and not list_file.is_file():
            continue  # only 2007 has it in public
        listed[split], wrong = _read_names(list_file, root)
        problems += wrong
        for name, where in listed[split].items():
            image = images.get(in_one_form(name), layout.base / layout.images / f"{name}.jpg")
            mask = layout.base / layout.masks / f"{name}.png"
            missing = find_listed(where, (image, mask), root)
            problems += missing
            if not missing:
                samples.append(RawSample(name, image, IndexMask(mask, layout.indices), official_split=split))
    return samples, listed, problems


def _read_sbd(sbd: Path, root: Path, of_voc: Mapping[str, Mapping[str, str]]) -> tuple[list[RawSample], list[Problem]]:
    """Gives what SBD adds to the training split."""
    if not of_voc["val"]:
        # Without the list, SBD's images that are in VOC's val cannot be left out.
        return [], []
    taken = set().union(*of_voc.values())
    indices = plain_indices(len(CLASSES))
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
                samples.append(RawSample(name, image, MatMask(mask, indices), official_split="train"))
        taken |= names.keys()
    return samples, problems


def read_source(
    *,
    root: Path,
    year: Annotated[int, Field(ge=2007, le=2012)] = 2012,
    sbd: bool | None = None,
    folder: str | None = None,
    images: str = "JPEGImages",
    masks: str = "SegmentationClass",
    lists: str | None = "ImageSets/Segmentation",
    class_file: str | None = None,
) -> Source:
    """Reads the layout above.

    Args:
        root: the folder in which, or up to two folders below which, `VOC2012` lies.
        year: of the challenge; names the folder.
        sbd: whether SBD's masks are added; null adds them if they are there, and the classes are VOC's.
        folder: that holds the others, in place of VOC2012; `.` for none.
        images: the folder of the images in it.
        masks: the folder of the masks in it.
        lists: the folder of train.txt, val.txt and, if there is one, test.txt in it; null takes every mask, without
            a split.
        class_file: a file in it with the name of a class in each line, in place of VOC's 21.

    Raises:
        SourceError: there is no such layout, or no SBD although `sbd` is true.
        ConfigError: an option's path leaves the root, or `sbd` is true for other classes.
    """
    for option, path in (("folder", folder), ("images", images), ("masks", masks), ("lists", lists)):
        check_below_root(option, [path] if path else [])
    check_below_root("class_file", [class_file] if class_file else [])
    if sbd and class_file is not None:
        raise ConfigError("option sbd: its masks have VOC's classes; leave out class_file")
    base = _find_base(root, f"VOC{year}" if folder is None else folder, masks if lists is None else lists)
    names = CLASSES if class_file is None else _read_classes(base / class_file)
    layout = _Layout(base, images, masks, lists, plain_indices(len(names)))
    samples, listed, problems = _read_voc(layout, root)
    benchmark = None if sbd is False or class_file is not None else find_folder(root, f"{SBD}/cls")
    if sbd and benchmark is None:
        raise SourceError(f"{root}: holds no SBD: no {SBD}/cls in it or up to two folders below; or set sbd: false")
    if benchmark is not None and listed:
        added, wrong = _read_sbd(benchmark / SBD, root, listed)
        samples += added
        problems += wrong
    classes = ClassTable(names, spread_colors(len(names)))
    licence = LICENCE if class_file is None else "not stated"
    return Source(classes, sorted_by_id(samples), tuple(problems), licence)
