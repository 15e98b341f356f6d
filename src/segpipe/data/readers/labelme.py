"""LabelMe's JSON files, one next to each image.

    NAME.json, and the image that its `imagePath` names: most often NAME.jpg next to it
    labels.txt   optional, at the root: one label a line, as for LabelMe's own --labels

in any folders below the root. Shapes are drawn as LabelMe's own converter labelme2voc draws them, a later one over an
earlier one (`segpipe.data.masks.drawing.ShapeMask`). The label `__ignore__` is void; `_background_`, the first class,
is all that no shape covers. The other classes are those of the option `classes`, or of labels.txt, or all labels found,
in alphabetical order. Give one of the first two: otherwise a new label changes the indices of the classes after it.

Source: github.com/wkentaro/labelme, examples/semantic_segmentation.
"""

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from segpipe.choices import nearest
from segpipe.classes import IGNORE_INDEX, MAX_NUM_CLASSES, ClassTable
from segpipe.data.images import IMAGE_SUFFIXES, UNREAD_SUFFIXES
from segpipe.data.masks.drawing import NUM_POINTS_OF_KIND, Shape, ShapeKind, ShapeMask
from segpipe.data.sources.annotation_files import AnnotationFileError, ImageTree, read_json, read_text
from segpipe.data.sources.palette import spread_colors
from segpipe.data.sources.source import RawSample, Source, list_files, sorted_by_id
from segpipe.errors import ConfigError, Problem, SourceError

LABEL_FILE = "labels.txt"
BACKGROUND = "_background_"
IGNORED = "__ignore__"
FIX_SHAPE = "Fix it in LabelMe"
NUM_BYTES_OF_POINT = 16  # two float64
EXTRACT = (
    'The image is inside the JSON as imageData; write it to a file: python -c "import base64, json, sys; d = '
    "json.load(open(sys.argv[1])); open(sys.argv[2], 'wb').write(base64.b64decode(d['imageData']))\" {json} {image}"
)
SHAPE_KINDS: dict[str, ShapeKind] = {kind: kind for kind in get_args(ShapeKind)}


@dataclass(frozen=True)
class _Annotated:
    """The content of a JSON file.

    Args:
        path: of the file.
        listed_image: its imagePath.
        has_data: whether it contains the image itself.
        size_hw: of the image in px, if the file says it.
        shapes: their entries.
    """

    path: Path
    listed_image: str
    has_data: bool
    size_hw: tuple[int, int] | None
    shapes: tuple[Mapping[str, Any], ...]


def _shorten(entry: dict[str, Any]) -> dict[str, Any]:
    """Leaves images out and packs points as soon as they are read: thousands of files would fill the memory."""
    if entry.get("imageData"):
        entry["imageData"] = True
    if "points" in entry:
        entry["points"] = _pack_points(entry["points"])
    return entry


def _pack_points(points: Any) -> bytes | None:
    try:
        return array("d", [coordinate for x, y in points for coordinate in (x, y)]).tobytes()
    except (TypeError, ValueError, OverflowError):
        return None


def _read_files(root: Path) -> tuple[list[_Annotated], list[Problem]]:
    """Reads all JSON files below the root.

    Raises:
        SourceError: there is none that is LabelMe's.
    """
    annotated: list[_Annotated] = []
    problems: list[Problem] = []
    for name in list_files(root):
        if not name.lower().endswith(".json"):
            continue
        try:
            annotated.append(_read_file(root / name))
        except AnnotationFileError as error:
            where = name if error.line is None else f"{name}:{error.line}"
            problems.append(Problem("annotation", where, error.what, "Fix it, or move it out of the source"))
    if not annotated:
        what = "\n".join(str(problem) for problem in problems[:8]) or "there is no JSON file"
        raise SourceError(f"{root}: holds no file of LabelMe: {what}")
    return annotated, problems


def _read_file(path: Path) -> _Annotated:
    document = read_json(path, _shorten)
    shapes = document.get("shapes") if isinstance(document, dict) else None
    if not isinstance(shapes, list) or not all(isinstance(shape, dict) for shape in shapes):
        raise AnnotationFileError(path, "is not LabelMe's: has no list 'shapes'")
    height, width = document.get("imageHeight"), document.get("imageWidth")
    has_size = type(height) is int and type(width) is int and height > 0 and width > 0
    image = document.get("imagePath")
    return _Annotated(
        path,
        image if isinstance(image, str) else "",
        document.get("imageData") is True,
        (height, width) if has_size else None,
        tuple(shapes),
    )


def _read_labels(root: Path, classes: list[str] | None, annotated: Iterable[_Annotated]) -> tuple[str, ...]:
    """Gives the labels that are classes, in order, `_background_` and `__ignore__` left out.

    Raises:
        ConfigError: the option names one twice.
        AnnotationFileError: labels.txt does.
    """
    if classes is not None:
        if twice := _twice(classes):
            raise ConfigError(f"option classes: named twice: {', '.join(twice)}")
        labels: Iterable[str] = classes
    elif (root / LABEL_FILE).is_file():
        labels = [line.strip() for line in read_text(root / LABEL_FILE).splitlines() if line.strip()]
        if twice := _twice(labels):
            raise AnnotationFileError(root / LABEL_FILE, f"named twice: {', '.join(twice)}")
    else:
        found = (shape.get("label") for file in annotated for shape in file.shapes)
        labels = sorted({label for label in found if isinstance(label, str) and label})
    return tuple(label for label in labels if label not in {BACKGROUND, IGNORED})


def _twice(labels: list[str]) -> list[str]:
    return sorted({label for label in labels if labels.count(label) > 1})


def _parse_shape(entry: Mapping[str, Any], index_of_label: Mapping[str, int], name: str) -> Shape | str:
    """Gives a shape, or what is wrong with it."""
    label, points = entry.get("label"), entry.get("points")
    if not isinstance(label, str) or label not in index_of_label:
        return f"has the label {label!r}; {nearest(str(label), list(index_of_label))}"
    kind = SHAPE_KINDS.get(str(entry.get("shape_type") or "polygon"))
    if kind is None:
        return f"is a {entry['shape_type']!r}; possible: {', '.join(sorted(SHAPE_KINDS))}"
    if not isinstance(points, bytes):
        return "has points that are not pairs of numbers"
    least, most = NUM_POINTS_OF_KIND[kind]
    num_points = len(points) // NUM_BYTES_OF_POINT
    if num_points < least or (most is not None and num_points > most):
        return f"is a {kind} of {num_points} points, not {least}{' or more' if most is None else ''}"
    patch = entry.get("mask") if kind == "mask" else ""
    if not isinstance(patch, str) or (kind == "mask" and not patch):
        return "is a mask without its picture"
    return Shape(index_of_label[label], kind, points, name, patch.encode())


def _find_image(file: _Annotated, tree: ImageTree) -> Path | Problem:
    where = file.path.relative_to(tree.root)
    folder, *above = ["" if folder == Path() else folder.as_posix() for folder in where.parents]
    # `../images/NAME.jpg` is in a folder above; a path of the machine where it was labelled is not found.
    found = tree.find(file.listed_image, [folder, *above], folder)
    if isinstance(found, Path):
        return found
    for suffix in sorted(IMAGE_SUFFIXES) + sorted(UNREAD_SUFFIXES):
        if isinstance(neighbour := tree.find(where.stem + suffix, [folder], folder), Path):
            return neighbour
    target = file.path.with_name(Path(file.listed_image.replace("\\", "/")).name or f"{where.stem}.jpg")
    as_embedded = EXTRACT.format(json=where.as_posix(), image=target.relative_to(tree.root).as_posix())
    fix = as_embedded if file.has_data else "Put the image next to it, or remove the file"
    return Problem("image-missing", where.as_posix(), found, fix)


def _read_samples(
    annotated: list[_Annotated], tree: ImageTree, index_of_label: Mapping[str, int], background: int
) -> tuple[list[RawSample], list[Problem]]:
    samples: list[RawSample] = []
    problems: list[Problem] = []
    where_of_image: dict[Path, str] = {}
    for file in annotated:
        where = file.path.relative_to(tree.root).as_posix()
        shapes: list[Shape] = []
        wrong: list[Problem] = []
        for number, entry in enumerate(file.shapes, start=1):
            name = f"shape {number} ({entry.get('label')})"
            shape = _parse_shape(entry, index_of_label, name)
            if isinstance(shape, str):
                wrong.append(Problem("annotation", where, f"{name} {shape}", FIX_SHAPE))
            else:
                shapes.append(shape)
        image = _find_image(file, tree)
        if isinstance(image, Problem):
            wrong.append(image)
        elif image in where_of_image:
            what = f"labels {image.name}, as {where_of_image[image]} does"
            wrong.append(Problem("name-twice", where, what, "Remove one of them"))
        else:
            where_of_image[image] = where
        problems += wrong
        if not wrong and isinstance(image, Path):
            label = ShapeMask(file.path, tuple(shapes), background, file.size_hw)
            samples.append(RawSample(where.removesuffix(".json"), image, label))
    labelled = {image.relative_to(tree.root).as_posix() for image in where_of_image}
    for path in sorted(tree.paths - labelled):
        problems.append(Problem("mask-missing", path, "no JSON file labels it", "Label it, or remove it"))
    return samples, problems


def read_source(
    *, root: Path, classes: list[str] | None = None, background: Literal["class", "void"] = "class"
) -> Source:
    """Reads the layout above.

    Args:
        root: the folder below which the JSON files lie.
        classes: the labels in the order of their classes, `_background_` and `__ignore__` need not be among them; null
            takes those of labels.txt, or all that are found.
        background: pixels that no shape covers are the class `_background_`, or void.

    Raises:
        SourceError: there is no JSON file of LabelMe, or labels.txt is wrong.
        ConfigError: `classes` names a label twice.
    """
    annotated, problems = _read_files(root)
    names = list(_read_labels(root, classes, annotated))
    fill = IGNORE_INDEX
    if background == "class":
        names.insert(0, BACKGROUND)
        fill = 0
    if not 0 < len(names) <= MAX_NUM_CLASSES:
        raise SourceError(f"{root}: {len(names)} classes; there must be 1..{MAX_NUM_CLASSES}")
    index_of_label = {name: index for index, name in enumerate(names)} | {BACKGROUND: fill, IGNORED: IGNORE_INDEX}
    samples, wrong = _read_samples(annotated, ImageTree.of_folder(root), index_of_label, fill)
    table = ClassTable(tuple(names), spread_colors(len(names)))
    return Source(table, sorted_by_id(samples), (*problems, *wrong), "not stated")
