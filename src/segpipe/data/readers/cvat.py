"""CVAT's export "Segmentation mask 1.1", and others with a label map (CVAT's "PASCAL VOC 1.1", Datumaro's VOC).

    labelmap.txt                        # label:color_rgb:parts:actions, then background:0,0,0:: and so on
    SegmentationClass/NAME.png          the labels' colours, as RGB or as a palette's
    ImageSets/Segmentation/SUBSET.txt   names without suffix; default.txt, or train.txt, val.txt, test.txt
    JPEGImages/NAME.jpg                 only if the images were exported too

at the root or one or two folders below it. Every mask is a sample; the lists say its split. CVAT's COCO export is the
format `coco`.
"""

from pathlib import Path

from segpipe.choices import nearest
from segpipe.classes import IGNORE_INDEX, MAX_NUM_CLASSES, ClassTable, Color
from segpipe.data.masks.labels import ColorMask
from segpipe.data.sources.annotation_files import AnnotationFileError, check_below_root, read_text, split_of
from segpipe.data.sources.source import (
    RawSample,
    Source,
    files_by_stem,
    find_folders,
    in_one_form,
    is_hidden,
    pair_files,
    read_lines,
    sorted_by_id,
)
from segpipe.errors import ConfigError, Problem, SourceError
from segpipe.faults import shown

LABEL_MAP = "labelmap.txt"
MASKS = "SegmentationClass"
IMAGES = "JPEGImages"
LISTS = "ImageSets/Segmentation"
NUM_FIELDS = 4


def _read_label_map(path: Path) -> dict[str, Color]:
    """Gives the colour of each label, in the file's order.

    Raises:
        AnnotationFileError: a line cannot be understood, or a label or a colour is used twice.
    """
    colors: dict[str, Color] = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, *rest = line.strip().rsplit(":", NUM_FIELDS - 1)
        color = _parse_color(rest[0]) if len(rest) == NUM_FIELDS - 1 else None
        if not name or color is None:
            what = f"not label:red,green,blue:parts:actions: {line.strip()!r}"
            raise AnnotationFileError(path, what, number)
        if name in colors or color in colors.values():
            what = f"label {name!r} or its colour {rest[0]} is used twice"
            fix = "; with Datumaro, convert to coco_instances instead (docs/data.md, Other formats)"
            raise AnnotationFileError(path, what + fix, number)
        colors[name] = color
    if not colors:
        raise AnnotationFileError(path, "names no label")
    return colors


def _parse_color(text: str) -> Color | None:
    channels = [channel.strip() for channel in text.split(",")]
    if len(channels) != 3 or not all(c.isascii() and c.isdigit() and int(c) <= 255 for c in channels):
        return None
    red, green, blue = map(int, channels)
    return red, green, blue


def _read_lists(base: Path, root: Path) -> tuple[dict[str, str | None], dict[str, str], list[Problem]]:
    """Gives the split and the place of each listed name; a list of another name, such as `default`, gives no split."""
    splits: dict[str, str | None] = {}
    places: dict[str, str] = {}
    problems = []
    for path in sorted(path for path in (base / LISTS).glob("*.txt") if not is_hidden(path.name)):
        split = split_of(path.stem)
        for where, line in read_lines(path, root):
            name = in_one_form(line.strip('"'))  # a name with a space is written in quotes
            if splits.get(name) not in (None, split) and split is not None:
                what = f"{name} is in {places[name]} too, of another split"
                problems.append(Problem("name-twice", where, what, "Remove one line"))
                continue
            splits[name] = split or splits.get(name)
            places.setdefault(name, where)
    return splits, places, problems


def _read_samples(
    base: Path, root: Path, images: str | None, indices: dict[Color, int]
) -> tuple[list[RawSample], list[Problem]]:
    image_folder = base / IMAGES if images is None else root / images
    if not image_folder.is_dir():
        where = image_folder.relative_to(root).as_posix()
        fix = "Export with 'Save images', or give their folder in the option images"
        return [], [Problem("folder-missing", where, "no such folder: the export holds no images", fix)]
    found_images, image_problems = files_by_stem(image_folder, root)
    masks, mask_problems = files_by_stem(base / MASKS, root)
    images_in = image_folder.relative_to(root).as_posix()
    complete, unpaired = pair_files(
        found_images, masks, root, lambda name: f"{images_in}/{name}.*", lambda name: f"{MASKS}/{name}.png"
    )
    splits, places, list_problems = _read_lists(base, root)
    for name in sorted(splits.keys() - found_images.keys() - masks.keys()):
        what = f"names {name}, which has neither image nor mask"
        list_problems.append(Problem("listed-missing", places[name], what, "Add them or remove the line"))
    samples = [
        RawSample(name, found_images[name], ColorMask(masks[name], indices), official_split=splits.get(name))
        for name in complete
    ]
    return samples, image_problems + mask_problems + unpaired + list_problems


def read_source(*, root: Path, images: str | None = None, void: list[str] | None = None) -> Source:
    """Reads the layout above.

    Args:
        root: the folder in which, or up to two folders below which, `labelmap.txt` lies.
        images: the folder of the images as a path within the root, if they were exported without JPEGImages.
        void: the labels whose pixels are not labelled; `background` may be one of them.

    Raises:
        SourceError: there is no such layout or several, or the label map is wrong.
        ConfigError: `void` names an unknown label, or `images` leaves the root.
    """
    check_below_root("images", [images] if images else [])
    found = find_folders(root, MASKS)
    if not found:
        raise SourceError(f"{root}: no {MASKS} in it or up to two folders below; export as Segmentation mask 1.1")
    if len(found) > 1:
        exports = shown([folder.relative_to(root).as_posix() for folder in found])
        raise SourceError(f"{root}: holds several exports: {exports}; name one, and add the others by download.join")
    (base,) = found
    colors = _read_label_map(base / LABEL_MAP)
    void = void or []
    if unknown := [name for name in void if name not in colors]:
        known = list(colors)
        raise ConfigError("\n".join(f"option void: no label {name!r}; {nearest(name, known)}" for name in unknown))
    names = [name for name in colors if name not in void]
    if not 0 < len(names) <= MAX_NUM_CLASSES:
        raise SourceError(f"{base / LABEL_MAP}: {len(names)} classes; there must be 1..{MAX_NUM_CLASSES}")
    indices = {color: IGNORE_INDEX if name in void else names.index(name) for name, color in colors.items()}
    samples, problems = _read_samples(base, root, images, indices)
    classes = ClassTable(tuple(names), tuple(colors[name] for name in names))
    return Source(classes, sorted_by_id(samples), tuple(problems), "not stated")
