"""COCO's panoptic annotations: 80 kinds of things and 53 of stuff, a segment for every pixel.

    annotations/panoptic_{train,val}2017.json, annotations/panoptic_{train,val}2017/NAME.png or
    panoptic_{train,val}2017/NAME.png, {train,val}2017/NAME.jpg or images/{train,val}2017/NAME.jpg      COCO
    annotations/panoptic_SUBSET.json, annotations/panoptic_SUBSET/NAME.png, images/SUBSET/NAME.jpg      Datumaro

at the root or one or two folders below it; other names are options. The name of a JSON file says the split. A pixel of
a PNG is the number of its segment, R + 256 G + 65536 B; 0 is not labelled. The JSON says the category of each segment.
A crowd is labelled as its category, as COCO's own converter to semantic masks does.

Source: Kirillov et al., "Panoptic segmentation", CVPR 2019; github.com/cocodataset/panopticapi.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from segpipe.classes import IGNORE_INDEX, MAX_NUM_CLASSES, ClassTable, Color
from segpipe.data.images.decoding import BITS_OF_CHANNEL, ImageFileError, decode
from segpipe.data.masks.labels import digest_of
from segpipe.data.sources.annotation_files import (
    AnnotationFileError,
    ImageTree,
    check_below_root,
    read_json,
    split_of,
)
from segpipe.data.sources.palette import spread_colors
from segpipe.data.sources.source import RawSample, Source, list_files, sorted_by_id
from segpipe.errors import Problem, SourceError
from segpipe.faults import Fault, Reading, shown

LICENCE = "annotations: CC BY 4.0; images: terms of Flickr"
FOLDER = "annotations"
PREFIX = "panoptic_"
CATEGORIES_ALONE = "categories"  # panoptic_coco_categories.json may lie next to the annotations
UNLABELLED = 0
FIX_ENTRY = "Take the complete archive, or fix the entry"

Segments = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class PanopticMask:
    """A picture whose colours are numbers of segments.

    Args:
        path: of the picture.
        segments: number and class index of each segment; 0, not labelled, need not be among them.
    """

    path: Path
    segments: Segments

    @property
    def files(self) -> tuple[Path, ...]:
        """The picture."""
        return (self.path,)

    @property
    def key(self) -> str:
        """The classes of the segments."""
        return digest_of("panoptic", sorted(self.segments))

    def read(self, size_hw: tuple[int, int]) -> Reading:
        """Maps each segment to its class."""
        try:
            picture, bits = decode(self.path)
        except ImageFileError as error:
            return Reading(None, (error.fault,))
        if picture.mode != "RGB" or bits > BITS_OF_CHANNEL:
            what = f"holds pixels of mode {picture.mode}, {bits} bits a channel, not numbers of segments as RGB"
            return Reading(None, (Fault("mask-mode", what, "Replace it by the archive's file"),))
        channels = np.asarray(picture).astype(np.uint32)
        numbers = channels[..., 0] | channels[..., 1] << 8 | channels[..., 2] << 16
        known = np.array(sorted({**dict(self.segments), UNLABELLED: IGNORE_INDEX}.items()), np.uint32)
        position = np.minimum(np.searchsorted(known[:, 0], numbers), len(known) - 1)
        is_unknown = known[position, 0] != numbers
        if is_unknown.any():
            return Reading(None, (_name_unknown(numbers, is_unknown),))
        return Reading(known[:, 1].astype(np.uint8)[position])


def _name_unknown(numbers: npt.NDArray[Any], is_unknown: npt.NDArray[np.bool_]) -> Fault:
    listed = shown(np.unique(numbers[is_unknown]).tolist())
    what = f"holds segments that its annotation does not list: {listed} ({int(is_unknown.sum())} px)"
    return Fault("mask-values", what, "Take PNG and JSON of one release; a resized copy blends numbers", is_unknown)


@dataclass(frozen=True)
class _Document:
    """The lists of a file; what their entries are is not known yet."""

    images: list[object]
    annotations: list[object]
    categories: list[object]


def _keep_segment(entry: Mapping[str, object]) -> object:
    """Keeps id and category of a segment, and every other object of the file as it is."""
    if "category_id" in entry and "segments_info" not in entry:
        return entry.get("id"), entry["category_id"]
    return entry


def _read_document(path: Path) -> _Document:
    document = read_json(path, _keep_segment)
    for name in ("images", "annotations", "categories"):
        if not isinstance(document, dict) or not isinstance(document.get(name), list):
            raise AnnotationFileError(path, f"is not COCO's panoptic JSON: has no list {name!r}")
    return _Document(document["images"], document["annotations"], document["categories"])


def _read_categories(path: Path, document: _Document) -> dict[int, tuple[str, Color | None]]:
    """Gives name and colour by id, in ascending order of the ids."""
    categories: dict[int, tuple[str, Color | None]] = {}
    for position, entry in enumerate(document.categories):
        if not isinstance(entry, dict) or type(entry.get("id")) is not int or not isinstance(entry.get("name"), str):
            raise AnnotationFileError(path, f"categories[{position}]: has no whole number id and text name: {entry!r}")
        color = entry.get("color")
        is_color = isinstance(color, list) and len(color) == 3 and all(c in range(256) for c in color)
        names = [name for name, _ in categories.values()]
        if entry["id"] in categories or entry["name"] in names:
            raise AnnotationFileError(path, f"categories[{position}]: {entry['name']!r} or its id is used twice")
        categories[entry["id"]] = entry["name"], tuple(color) if is_color and color is not None else None
    if not 0 < len(categories) <= MAX_NUM_CLASSES:
        raise AnnotationFileError(path, f"categories: {len(categories)}; there must be 1..{MAX_NUM_CLASSES}")
    return dict(sorted(categories.items()))


def _parse_segments(entries: object, index_of_category: Mapping[int, int]) -> tuple[Segments, str]:
    """Gives the segments, or what is wrong with them."""
    if not isinstance(entries, list) or not all(isinstance(entry, tuple) for entry in entries):
        return (), "has no list segments_info of segments with id and category_id"
    if wrong := [entry for entry in entries if type(entry[0]) is not int or not 0 < entry[0] < 1 << 24]:
        return (), f"has segments with ids outside 1..16777215: {shown([entry[0] for entry in wrong])}"
    unknown = [entry[1] for entry in entries if type(entry[1]) is not int or entry[1] not in index_of_category]
    if unknown:
        return (), f"has segments of categories that are not listed: {shown(unknown)}"
    category_of = dict(entries)
    if twice := sorted({number for number, category in entries if category != category_of[number]}):
        return (), f"has segments that are listed twice, with other categories: {shown(twice)}"
    return tuple((number, index_of_category[category]) for number, category in entries), ""


@dataclass(frozen=True)
class _Folders:
    """Where the files of a JSON file lie.

    Args:
        images: in which images are looked for, as paths within the root.
        masks: of the PNG files.
        within: below which an image is looked for by its name alone; a path within the root.
    """

    images: Sequence[str]
    masks: Path
    within: str


def _find_folders(path: Path, root: Path, images: str | None, masks: str | None) -> _Folders:
    base = path.parent if path.parent == root or path.parent.name != FOLDER else path.parent.parent
    lead = "" if base == root else f"{base.relative_to(root).as_posix()}/"
    subset = path.stem.removeprefix(PREFIX)
    beside = path.with_suffix("")
    if masks is not None:
        beside = root / masks
    elif not beside.is_dir() and (base / path.stem).is_dir():
        beside = base / path.stem
    if images is not None:
        return _Folders([images], beside, images)
    return _Folders(
        [f"{lead}{subset}", f"{lead}images/{subset}", f"{lead}images", lead.rstrip("/")], beside, f"{lead}{subset}"
    )


def _collect(
    path: Path, document: _Document, tree: ImageTree, folders: _Folders, index_of_category: Mapping[int, int]
) -> tuple[list[RawSample], list[Problem]]:
    """Gives the samples of one file."""
    where = path.relative_to(tree.root).as_posix()
    subset = path.stem.removeprefix(PREFIX)
    masks = set(list_files(folders.masks))
    entries = {
        entry["id"]: entry for entry in document.images if isinstance(entry, dict) and type(entry.get("id")) is int
    }
    samples: list[RawSample] = []
    problems: list[Problem] = []
    seen: set[Path] = set()
    for position, annotation in enumerate(document.annotations):
        name = annotation.get("file_name") if isinstance(annotation, dict) else None
        if not isinstance(name, str) or not _is_of_image(annotation, entries):
            what = f"annotations[{position}] has no file_name, or an image_id that is not listed"
            problems.append(Problem("annotation", where, what, FIX_ENTRY))
            continue
        image = tree.find(str(entries[annotation["image_id"]].get("file_name")), folders.images, folders.within)
        segments, wrong = _parse_segments(annotation.get("segments_info"), index_of_category)
        if wrong:
            problems.append(Problem("annotation", where, f"annotation of {name} {wrong}", FIX_ENTRY))
        if isinstance(image, str):
            problems.append(
                Problem(
                    "listed-missing", where, image, f"Unpack {subset}.zip next to {FOLDER}, or give the option images"
                )
            )
        if name not in masks:
            fix = f"Unpack {path.stem}.zip, which lies inside the archive, in {FOLDER}, or give the option masks"
            problems.append(Problem("mask-missing", where, f"names {folders.masks.name}/{name}, no such file", fix))
        if image in seen:
            problems.append(Problem("name-twice", where, f"has two annotations of {name}", FIX_ENTRY))
        elif isinstance(image, Path) and name in masks and not wrong:
            seen.add(image)
            label = PanopticMask(folders.masks / name, segments)
            samples.append(RawSample(f"{subset}/{image.stem}", image, label, official_split=split_of(subset)))
    annotated = {entry["image_id"] for entry in document.annotations if _is_of_image(entry, entries)}
    for image_id in sorted(entries.keys() - annotated):
        what = f"has no annotation of {entries[image_id].get('file_name')}"
        problems.append(Problem("mask-missing", where, what, FIX_ENTRY))
    return samples, problems


def _is_of_image(annotation: object, entries: Mapping[int, object]) -> TypeGuard[dict[str, object]]:
    """Whether an annotation is of an image that is listed."""
    image_id = annotation.get("image_id") if isinstance(annotation, dict) else None
    return type(image_id) is int and image_id in entries


def _find_files(root: Path, annotations: list[str] | None) -> list[Path]:
    """Finds the JSON files: those of the option, or all of the layout."""
    if annotations is None:
        levels = [sorted(root.glob(f"{below}{FOLDER}/{PREFIX}*.json")) for below in ("", "*/", "*/*/")]
        nearest = next((level for level in levels if level), [])
        found = [path for path in nearest if path.parent == nearest[0].parent]
        wanted = [f"{FOLDER}/{PREFIX}*.json"]
    else:
        found = sorted({path for pattern in annotations for path in root.glob(pattern)})
        wanted = annotations
    files = [path for path in found if CATEGORIES_ALONE not in path.stem]
    if not files:
        what = f"no {' or '.join(wanted)} in it" + (" or up to two folders below" if annotations is None else "")
        raise SourceError(f"{root}: is not COCO's panoptic set: {what}; or give the option annotations")
    return files


def read_source(
    *, root: Path, annotations: list[str] | None = None, images: str | None = None, masks: str | None = None
) -> Source:
    """Reads the layout above.

    Args:
        root: the folder in which, or up to two folders below which, `annotations` lies.
        annotations: the JSON files as paths within the root, with `*` for any name; null finds those above.
        images: the folder of the images as a path within the root; null finds them.
        masks: the folder of the PNG files as a path within the root; null takes the folder with the JSON file's name.

    Raises:
        SourceError: there is no such layout, or a file is not COCO's panoptic JSON.
        ConfigError: an option's path leaves the root.
    """
    check_below_root("annotations", annotations or [])
    for option, folder in (("images", images), ("masks", masks)):
        check_below_root(option, [folder] if folder else [])
        if folder is not None and not (root / folder).is_dir():
            raise SourceError(f"{root}: has no folder {folder}, which the option {option} names")
    documents = {path: _read_document(path) for path in _find_files(root, annotations)}
    tables = {path: _read_categories(path, document) for path, document in documents.items()}
    first, *others = tables
    for path in others:
        if tables[path] != tables[first]:
            raise AnnotationFileError(path, f"has other categories than {first.name}")
    index_of_category = {category: index for index, category in enumerate(tables[first])}
    tree = ImageTree.of_folder(root)
    samples: list[RawSample] = []
    problems: list[Problem] = []
    for path, document in documents.items():
        found, wrong = _collect(path, document, tree, _find_folders(path, root, images, masks), index_of_category)
        samples += found
        problems += wrong
    names = tuple(name for name, _ in tables[first].values())
    spread = spread_colors(len(names))
    colors = tuple(color or spread[index] for index, (_, color) in enumerate(tables[first].values()))
    return Source(ClassTable(names, colors), sorted_by_id(samples), tuple(problems), LICENCE)
