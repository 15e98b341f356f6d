"""COCO's instance annotations, as COCO has them and as annotation tools export them.

    annotations/instances_{train,val}2017.json, {train,val}2017/ or images/{train,val}2017/     COCO
    {train,valid,test}/_annotations.coco.json, the images next to it                             Roboflow
    result.json, images/                                                                        Label Studio
    annotations/instances_SUBSET.json, images/ or images/SUBSET/                                CVAT

at the root or one or two folders below it. Objects are polygons or run lengths. Where they overlap, the one with fewer
pixels is on top (`segpipe.data.masks.drawing.RegionMask`). The file's name, or else its folder's, says the split.
An image that no file lists is ignored; one that is listed without an annotation is background as a whole.

If an object has several polygons, those of fewer than three corners are left out. A category that no annotation uses
and that is only the `supercategory` of others (Roboflow writes one first) is not a class.

Source: Lin et al., "Microsoft COCO: common objects in context", ECCV 2014; cocodataset.org/#format-data.
"""

from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from segpipe.classes import IGNORE_INDEX, MAX_NUM_CLASSES, ClassTable
from segpipe.data.masks.drawing import NUM_COORDINATES_OF_TRIANGLE, Polygons, RegionMask, RunLengths
from segpipe.data.sources.annotation_files import AnnotationFileError, ImageTree, check_below_root, read_json, split_of
from segpipe.data.sources.palette import spread_colors
from segpipe.data.sources.source import RawSample, Source, is_hidden, sorted_by_id
from segpipe.errors import Problem, SourceError
from segpipe.faults import shown

# The first that matches anything is taken: COCO's own folder holds captions and keypoints as well.
PATTERNS = ("annotations/instances_*.json", "*/_annotations.coco.json", "_annotations.coco.json", "result.json")
BACKGROUND = "background"
FIX_ENTRY = "Fix or remove it, or export again"


@dataclass(frozen=True, slots=True)
class _Annotation:
    """The parts of an annotation that are needed, made while the file is read.

    Args:
        drawing: rings of a polygon; or run lengths, whether they are packed, and their height and width.
        problem: why it cannot be drawn; '' if it can.
    """

    annotation_id: object
    image_id: object
    category_id: object
    is_crowd: bool
    drawing: tuple[bytes, ...] | tuple[bytes, bool, tuple[int, int]] = ()
    problem: str = ""


@dataclass(frozen=True)
class _Document:
    """The lists of a file; what their entries are is not known yet, but annotations are small objects already."""

    images: list[object]
    annotations: list[object]
    categories: list[object]
    licences: list[object]


@dataclass(frozen=True)
class _Image:
    """An entry of the list of images.

    Args:
        image_id: its id, or the id's text.
        file_name: as the file has it.
        size: height and width in pixels, or None.
    """

    image_id: int | str
    file_name: str
    size: tuple[int, int] | None


@dataclass
class _Findings:
    """What has been found so far in all files."""

    samples: list[RawSample] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    where_of_image: dict[Path, str] = field(default_factory=dict)


def _parse_annotation(entry: Mapping[str, object], boxes: str) -> object:
    """Makes a small object of an annotation; leaves every other object of the file as it is."""
    if "image_id" not in entry or "category_id" not in entry:
        return entry
    drawing, problem = _parse_segmentation(entry.get("segmentation"))
    if not drawing and not problem:
        problem = "has no polygon"
        if boxes == "draw" and (ring := _ring_of_box(entry.get("bbox"))):
            drawing, problem = (ring,), ""
    return _Annotation(
        entry.get("id"), entry["image_id"], entry["category_id"], entry.get("iscrowd") in (1, True), drawing, problem
    )


def _parse_segmentation(segmentation: object) -> tuple[Any, str]:
    """Gives what is to be drawn, or what is wrong with it."""
    if isinstance(segmentation, dict):
        return _parse_run_lengths(segmentation)
    if segmentation is None or segmentation == []:
        return (), ""
    if not isinstance(segmentation, list):
        return (), f"has a segmentation that is no list: {segmentation!r:.40}"
    rings = segmentation if isinstance(segmentation[0], list) else [segmentation]
    if odd_ones := [ring for ring in rings if not isinstance(ring, list)]:
        return (), f"has a polygon that is no list of numbers: {odd_ones[0]!r:.40}"
    try:
        packed = [array("d", ring) for ring in rings]
    except (TypeError, OverflowError):
        return (), "has a polygon with a value that is not a number"
    if odd := [len(ring) for ring in packed if len(ring) % 2]:
        return (), f"has a polygon with {odd[0]} coordinates, an odd number"
    return tuple(ring.tobytes() for ring in packed if len(ring) >= NUM_COORDINATES_OF_TRIANGLE), ""


def _parse_run_lengths(segmentation: Mapping[str, Any]) -> tuple[Any, str]:
    counts, size = segmentation.get("counts"), segmentation.get("size")
    if not (isinstance(size, list) and len(size) == 2 and all(type(length) is int and length > 0 for length in size)):
        return (), f"has run lengths without a size: {size!r:.40}"
    try:
        if isinstance(counts, str):
            return (counts.encode("ascii"), True, tuple(size)), ""
        return (array("q", counts).tobytes(), False, tuple(size)), ""  # type: ignore[arg-type]
    except (TypeError, OverflowError, UnicodeEncodeError):
        return (), f"has run lengths that cannot be understood: {counts!r:.40}"


def _ring_of_box(box: Any) -> bytes | None:
    try:
        x, y, width, height = box
        return array("d", [x, y, x + width, y, x + width, y + height, x, y + height]).tobytes()
    except (TypeError, ValueError):
        return None


def _find_files(root: Path, annotations: Sequence[str] | None) -> list[Path]:
    if annotations is not None:
        found = {path for pattern in annotations for path in root.glob(pattern)}
        files = sorted(path for path in found if path.suffix == ".json" and not is_hidden(path.name))
        if not files:
            raise SourceError(f"{root}: no JSON file matches the option annotations: {', '.join(annotations)}")
        return files
    for lead in ("", "*/", "*/*/"):
        for pattern in PATTERNS:
            if files := sorted(root.glob(lead + pattern)):
                return files
    fix = "name them in the option annotations"
    raise SourceError(f"{root}: no annotations: none of {', '.join(PATTERNS)} in it or up to two folders below; {fix}")


def _read_document(path: Path, boxes: str) -> _Document:
    document = read_json(path, lambda entry: _parse_annotation(entry, boxes))
    if isinstance(document, list) and any(isinstance(task, dict) and "annotations" in task for task in document[:1]):
        raise AnnotationFileError(path, "is Label Studio's own JSON; export the project as COCO")
    if not isinstance(document, dict):
        raise AnnotationFileError(path, "is not COCO's JSON: holds no object")
    for name in ("images", "annotations", "categories"):
        if not isinstance(document.get(name), list):
            raise AnnotationFileError(path, f"is not COCO's JSON: has no list {name!r}")
    licences = document.get("licenses")
    return _Document(
        document["images"],
        document["annotations"],
        document["categories"],
        licences if isinstance(licences, list) else [],
    )


def _read_categories(path: Path, document: _Document) -> dict[int, tuple[str, str]]:
    """Gives name and super-category by id."""
    categories: dict[int, tuple[str, str]] = {}
    for position, entry in enumerate(document.categories):
        if not isinstance(entry, dict) or type(entry.get("id")) is not int or not isinstance(entry.get("name"), str):
            raise AnnotationFileError(path, f"categories[{position}]: has no whole number id and text name: {entry!r}")
        if entry["id"] in categories:
            raise AnnotationFileError(path, f"categories[{position}]: id {entry['id']} is used twice")
        categories[entry["id"]] = entry["name"].strip(), str(entry.get("supercategory") or "")
    return categories


def _join_categories(documents: Mapping[Path, _Document]) -> dict[int, str]:
    """Gives the name of each category that is a class, by ids in ascending order.

    Raises:
        AnnotationFileError: two files differ, or two categories have one name.
    """
    all_categories = {path: _read_categories(path, document) for path, document in documents.items()}
    first, *others = documents
    for path in others:
        if all_categories[path] != all_categories[first]:
            raise AnnotationFileError(path, f"has other categories than {first.name} in {first.parent.name}")
    categories = all_categories[first]
    used = {_hashable(entry.category_id) for entry in _all_annotations(documents)}
    # COCO's own 'person' is its own super-category.
    parents = {parent for name, parent in categories.values() if parent != name}
    names = {i: name for i, (name, _) in sorted(categories.items()) if i in used or name not in parents}
    if twice := sorted({name for name in names.values() if list(names.values()).count(name) > 1}):
        raise AnnotationFileError(first, f"categories: named twice: {', '.join(twice)}")
    if not names:
        raise AnnotationFileError(first, "categories: the list has no class")
    return names


def _all_annotations(documents: Mapping[Path, _Document]) -> Iterator[_Annotation]:
    for document in documents.values():
        yield from (entry for entry in document.annotations if isinstance(entry, _Annotation))


def _region_of(entry: _Annotation, index: int, name: str) -> Polygons | RunLengths:
    match entry.drawing:
        case (bytes() as counts, bool() as is_packed, (int() as height, int() as width)):
            return RunLengths(index, counts, is_packed, (height, width), name)
        case rings:
            return Polygons(index, tuple(ring for ring in rings if isinstance(ring, bytes)), name)


def _group_annotations(
    where: str, document: _Document, index_of_category: dict[int, int], crowd: str
) -> tuple[dict[int | str, list[Polygons | RunLengths]], dict[int | str | None, list[Problem]]]:
    """Gives what is to be drawn on each image, and what is wrong with its annotations, by the image's id."""
    regions: dict[int | str, list[Polygons | RunLengths]] = defaultdict(list)
    problems: dict[int | str | None, list[Problem]] = defaultdict(list)
    for position, entry in enumerate(document.annotations):
        if not isinstance(entry, _Annotation):
            what = f"annotations[{position}] has no image_id and category_id"
            problems[None].append(Problem("annotation", where, what, FIX_ENTRY))
            continue
        name = f"annotation {entry.annotation_id}"
        image_id = _hashable(entry.image_id)
        what = entry.problem
        category = _hashable(entry.category_id)
        index = index_of_category.get(category) if isinstance(category, int) else None
        if index is None:
            known = shown(sorted(index_of_category), 12)
            what = f"is of category {entry.category_id}, which is not listed; known: {known}"
        if what or index is None:
            fix = "Draw its outline, or set the option boxes: draw" if what == "has no polygon" else FIX_ENTRY
            problems[image_id].append(Problem("annotation", where, f"{name} {what}", fix))
            continue
        is_void = entry.is_crowd and crowd == "void"
        region = _region_of(entry, IGNORE_INDEX if is_void else index, f"{name} of {where}")
        regions[image_id].append(region)
    return regions, problems


def _hashable(identifier: object) -> int | str:
    return identifier if isinstance(identifier, int | str) else repr(identifier)


def _parse_image(entry: object) -> _Image | None:
    """Gives an entry of the list of images; None if it has no id and file name."""
    if not isinstance(entry, dict) or not isinstance(entry.get("file_name"), str) or "id" not in entry:
        return None
    height, width = entry.get("height"), entry.get("width")
    size = (height, width) if type(height) is int and type(width) is int and height > 0 and width > 0 else None
    return _Image(_hashable(entry["id"]), entry["file_name"], size)


def _folders_to_look_in(path: Path, root: Path, images: str | None) -> tuple[list[str], str]:
    """Gives where a file's images may lie, and the folder below which they must: paths within the root."""
    if images is not None:
        return [images.strip("/")], images.strip("/")
    base = path.parent.parent if path.parent.name == "annotations" and path.parent != root else path.parent
    subset = path.stem.removeprefix("instances_").removeprefix("panoptic_")
    inside = [base, base / "images", base / "images" / subset, base / subset, path.parent]
    return [_within(folder, root) for folder in inside], _within(base, root)


def _within(path: Path, root: Path) -> str:
    name = path.relative_to(root).as_posix()
    return "" if name == "." else name


def _find_images(
    path: Path, document: _Document, tree: ImageTree, images: str | None, found: _Findings
) -> dict[int | str, tuple[Path, _Image]]:
    """Gives the file and the entry of each image's id."""
    where = _within(path, tree.root)
    folders, within = _folders_to_look_in(path, tree.root, images)
    images_of_id: dict[int | str, tuple[Path, _Image]] = {}
    listed = set()
    for position, value in enumerate(document.images):
        entry = _parse_image(value)
        if entry is None:
            what = f"images[{position}] has no id and file_name"
            found.problems.append(Problem("annotation", where, what, FIX_ENTRY))
            continue
        image_id = entry.image_id
        image = tree.find(entry.file_name, folders, within)
        if image_id in listed:
            what = f"lists the image id {image_id} twice"
            found.problems.append(Problem("name-twice", where, what, FIX_ENTRY))
        elif isinstance(image, str):
            fix = "Put it there, or give the folder of the images in the option images"
            found.problems.append(Problem("listed-missing", where, image, fix))
        elif image in found.where_of_image:
            what = f"lists {_within(image, tree.root)}, which {found.where_of_image[image]} has listed already"
            found.problems.append(Problem("name-twice", where, what, FIX_ENTRY))
            images_of_id.pop(image_id, None)
        else:
            found.where_of_image[image] = where
            images_of_id[image_id] = image, entry
        listed.add(image_id)
    return images_of_id


def _collect(
    path: Path,
    document: _Document,
    tree: ImageTree,
    index_of_category: dict[int, int],
    options: tuple[str | None, int, str],
    found: _Findings,
) -> None:
    """Adds a file's samples and problems to what has been found."""
    images, background, crowd = options
    where = _within(path, tree.root)
    images_of_id = _find_images(path, document, tree, images, found)
    regions, problems = _group_annotations(where, document, index_of_category, crowd)
    listed = {_hashable(entry["id"]) for entry in document.images if isinstance(entry, dict) and "id" in entry}
    for image_id in regions.keys() - listed:
        what = f"does not list image {image_id!r}, but has annotations of it: {len(regions[image_id])}"
        problems[image_id].append(Problem("annotation", where, what, FIX_ENTRY))
    for of_image in problems.values():
        found.problems += of_image
    split = split_of(path.stem, path.parent.name)
    for image_id, (image, entry) in images_of_id.items():
        if image_id in problems:
            continue
        label = RegionMask(image, tuple(regions.get(image_id, ())), background, entry.size)
        sample_id = image.relative_to(tree.root).with_suffix("").as_posix()
        found.samples.append(RawSample(sample_id, image, label, official_split=split))


def _name_licence(documents: Mapping[Path, _Document]) -> str:
    entries = [entry for document in documents.values() for entry in document.licences]
    names = dict.fromkeys(str(entry["name"]) for entry in entries if isinstance(entry, dict) and entry.get("name"))
    return "; ".join(names) or "not stated"


def _are_all_crowds(documents: Mapping[Path, _Document]) -> bool:
    marks = {
        entry.is_crowd
        for document in documents.values()
        for entry in document.annotations
        if isinstance(entry, _Annotation)
    }
    return marks == {True}


def read_source(
    *,
    root: Path,
    annotations: list[str] | None = None,
    images: str | None = None,
    background: Literal["class", "void"] = "class",
    crowd: Literal["void", "class"] = "void",
    boxes: Literal["refuse", "draw"] = "refuse",
) -> Source:
    """Reads one of the layouts above.

    Args:
        root: the folder in which, or up to two folders below which, the JSON files lie.
        annotations: the JSON files as paths within the root, with `*` for any name; null finds those above.
        images: the folder of the images as a path within the root; null finds them. An image that is not where the file
            says is looked for by its name alone, also without the prefix that an upload to Label Studio puts before it.
        background: pixels of no object are the first class, called background (or a category of that name, if there is
            one); or void.
        crowd: regions of many objects (`iscrowd`) are void, or their class.
        boxes: an annotation with a box and no outline is refused, or its box is drawn.

    Raises:
        SourceError: no annotations are found, a file is not COCO's JSON, its categories cannot be understood, or all
            annotations would be void.
        ConfigError: an option's path leaves the root.
    """
    check_below_root("annotations", annotations or [])
    check_below_root("images", [images] if images else [])
    if images is not None and not (root / images).is_dir():
        raise SourceError(f"{root}: has no folder {images}, which the option images names")
    documents = {path: _read_document(path, boxes) for path in _find_files(root, annotations)}
    if crowd == "void" and _are_all_crowds(documents):
        raise SourceError(
            f"{root}: every annotation is a region of many objects (iscrowd), as Datumaro writes masks, and so void. "
            "Write the option crowd: class (`--option crowd=class`)"
        )
    name_of_category = _join_categories(documents)
    names = list(name_of_category.values())
    index_of_category = {category: index for index, category in enumerate(name_of_category)}
    fill = IGNORE_INDEX
    if background == "class" and BACKGROUND in names:
        fill = names.index(BACKGROUND)
    elif background == "class":
        names.insert(0, BACKGROUND)
        fill = 0
        index_of_category = {category: index + 1 for category, index in index_of_category.items()}
    if len(names) > MAX_NUM_CLASSES:
        raise SourceError(f"{root}: {len(names)} classes; at most {MAX_NUM_CLASSES} are possible")
    tree = ImageTree.of_folder(root)
    found = _Findings()
    for path, document in documents.items():
        _collect(path, document, tree, index_of_category, (images, fill, crowd), found)
    classes = ClassTable(tuple(names), spread_colors(len(names)))
    return Source(classes, sorted_by_id(found.samples), tuple(found.problems), _name_licence(documents))
