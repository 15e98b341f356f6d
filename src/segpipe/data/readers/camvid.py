"""CamVid in the layout of the SegNet tutorial.

    {train,val,test}/NAME.png, {train,val,test}annot/NAME.png, {train,val,test}.txt

at the root or one or two folders below it. Masks hold 0..10 and 11 = void. A line of a list file names an image and its
mask below `/SegNet/CamVid/`, a folder of the authors' machine.

Source: Brostow, Fauqueur, Cipolla, "Semantic object classes in video", Pattern Recognition Letters 30(2), 2009; the
eleven classes: Badrinarayanan, Kendall, Cipolla, "SegNet", TPAMI 39(12), 2017. Licence: CC BY-NC 4.0.
"""

from pathlib import Path, PurePosixPath

from segpipe.classes import ClassTable, Color
from segpipe.data.masks.labels import IndexMask, plain_indices
from segpipe.data.sources.source import RawSample, Source, find_folder, find_listed, read_lines, sorted_by_id
from segpipe.errors import Problem, SourceError

LICENCE = "CC BY-NC 4.0"
SPLITS = ("train", "val", "test")
LISTED_BELOW = PurePosixPath("/SegNet/CamVid")

CLASSES: dict[str, Color] = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (0, 0, 192),
    "tree": (128, 128, 0),
    "sign_symbol": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}
VOID_VALUE = 11
INDICES = plain_indices(len(CLASSES), [VOID_VALUE])


def _find_layout(root: Path) -> Path:
    if layout := find_folder(root, "train.txt"):
        return layout
    raise SourceError(f"{root}: is not CamVid in SegNet's layout: no train.txt in it or up to two folders below")


def _read_list(layout: Path, split: str) -> tuple[list[RawSample], list[Problem]]:
    list_file = layout / f"{split}.txt"
    if not list_file.is_file():
        return [], [Problem("list-missing", list_file.name, "no such list file", "Take the complete archive")]
    samples, problems = [], []
    for where, line in read_lines(list_file, layout):
        if len(parts := line.split()) != 2:
            problems.append(Problem("list-line", where, f"not an image and a mask: {line!r}", "Fix the line"))
            continue
        image, mask = (layout / _below_layout(part) for part in parts)
        missing = find_listed(where, (image, mask), layout)
        problems += missing
        if not missing:
            samples.append(RawSample(image.stem, image, IndexMask(mask, INDICES), official_split=split))
    return samples, problems


def _below_layout(listed: str) -> PurePosixPath:
    path = PurePosixPath(listed)
    below = path.relative_to(LISTED_BELOW) if path.is_relative_to(LISTED_BELOW) else path
    # A list file must not lead out of the source.
    return PurePosixPath(*[part for part in below.parts if part not in {"/", ".."}])


def read_source(*, root: Path) -> Source:
    """Reads the layout above.

    Args:
        root: the folder in which, or up to two folders below which, `train.txt` lies.

    Raises:
        SourceError: there is no such layout.
    """
    layout = _find_layout(root)
    samples: list[RawSample] = []
    problems: list[Problem] = []
    for split in SPLITS:
        found, wrong = _read_list(layout, split)
        samples += found
        problems += wrong
    classes = ClassTable(tuple(CLASSES), tuple(CLASSES.values()))
    return Source(classes, sorted_by_id(samples), tuple(problems), LICENCE)
