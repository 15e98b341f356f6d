"""CamVid as its authors published it: 701 frames of 960x720 in 32 colours.

    701_StillsRaw_full/NAME.png, LabeledApproved_full/NAME_L.png

The folders may have other names: `NAME_L.png` is the mask of `NAME.png`. If the folders of the images are called train,
val and test, as in a copy on Kaggle, they are the official split. Another copy, fast.ai's, has indices instead of
colours: `labels/NAME_P.png`, whose meaning `codes.txt` gives; its `valid.txt` lists the validation images.

Void is no class: 31 are left. The sequence, the part of NAME before the underscore, is the group. SegNet's eleven
classes are a merge of these; to make a merge, write it into `preprocess.classes`.

Source: Brostow, Fauqueur, Cipolla, "Semantic object classes in video", Pattern Recognition Letters 30(2), 2009.
"""

from pathlib import Path

from segpipe.classes import IGNORE_INDEX, ClassTable, Color
from segpipe.data.masks.labels import ColorMask, IndexMask
from segpipe.data.sources.source import SPLIT_WORDS, RawSample, Source, find_folder, list_files, pair_files, read_lines
from segpipe.errors import Problem, SourceError

LICENCE = "CC BY-NC 4.0"
COLORS_END, INDICES_END, IMAGE_END = "_L.png", "_P.png", ".png"

CLASSES: dict[str, Color] = {
    "Animal": (64, 128, 64),
    "Archway": (192, 0, 128),
    "Bicyclist": (0, 128, 192),
    "Bridge": (0, 128, 64),
    "Building": (128, 0, 0),
    "Car": (64, 0, 128),
    "CartLuggagePram": (64, 0, 192),
    "Child": (192, 128, 64),
    "Column_Pole": (192, 192, 128),
    "Fence": (64, 64, 128),
    "LaneMkgsDriv": (128, 0, 192),
    "LaneMkgsNonDriv": (192, 0, 64),
    "Misc_Text": (128, 128, 64),
    "MotorcycleScooter": (192, 0, 192),
    "OtherMoving": (128, 64, 64),
    "ParkingBlock": (64, 192, 128),
    "Pedestrian": (64, 64, 0),
    "Road": (128, 64, 128),
    "RoadShoulder": (128, 128, 192),
    "Sidewalk": (0, 0, 192),
    "SignSymbol": (192, 128, 128),
    "Sky": (128, 128, 128),
    "SUVPickupTruck": (64, 128, 192),
    "TrafficCone": (0, 0, 64),
    "TrafficLight": (0, 64, 64),
    "Train": (192, 64, 128),
    "Tree": (128, 128, 0),
    "Truck_Bus": (192, 128, 192),
    "Tunnel": (64, 0, 64),
    "VegetationMisc": (192, 192, 0),
    "Wall": (64, 192, 0),
}
VOID, VOID_COLOR = "Void", (0, 0, 0)
INDEX_OF_COLOR = {color: index for index, color in enumerate(CLASSES.values())} | {VOID_COLOR: IGNORE_INDEX}


def _by_name(files: list[str], end: str, root: Path) -> tuple[dict[str, Path], list[Problem]]:
    """Gives the files with this end by the name of their frame."""
    found: dict[str, Path] = {}
    problems = []
    for file in files:
        if not file.endswith(end):
            continue
        name = file.rpartition("/")[2].removesuffix(end)
        if name in found:
            what = f"has the same name as {found[name].relative_to(root).as_posix()}"
            problems.append(Problem("name-twice", file, what, "Remove one of them"))
        found[name] = root / file
    return found, problems


def _read_codes(root: Path) -> dict[int, int]:
    """Reads what the indices of fast.ai's masks mean."""
    folder = find_folder(root, "codes.txt")
    if folder is None:
        raise SourceError(f"{root}: holds masks *{INDICES_END} and no codes.txt, which says what their indices mean")
    names = list(CLASSES)
    indices = {}
    for value, (where, name) in enumerate(read_lines(folder / "codes.txt", root)):
        if name != VOID and name not in CLASSES:
            raise SourceError(f"{where}: {name!r} is no class of CamVid; known: {', '.join([*names, VOID])}")
        indices[value] = IGNORE_INDEX if name == VOID else names.index(name)
    return indices


def _read_validation_names(root: Path) -> set[str]:
    folder = find_folder(root, "valid.txt")
    lines = read_lines(folder / "valid.txt", root) if folder else []
    return {line.removesuffix(IMAGE_END) for _, line in lines}


def read_source(*, root: Path) -> Source:
    """Reads the layouts above.

    Args:
        root: a folder below which all files lie.

    Raises:
        SourceError: there is no mask, or there are masks of indices without a usable codes.txt.
    """
    files = list_files(root)
    mask_end = next((end for end in (COLORS_END, INDICES_END) if any(file.endswith(end) for file in files)), None)
    if mask_end is None:
        raise SourceError(f"{root}: is not CamVid in 32 colours: no mask *{COLORS_END} in it")
    masks, problems = _by_name(files, mask_end, root)
    pictures = [file for file in files if not file.endswith((COLORS_END, INDICES_END))]
    images, wrong = _by_name(pictures, IMAGE_END, root)
    names, unpaired = pair_files(images, masks, root, f"{{}}{IMAGE_END}".format, f"{{}}{mask_end}".format)
    meaning = _read_codes(root) if mask_end == INDICES_END else {}
    validates = _read_validation_names(root)
    samples = []
    for name in names:
        label = IndexMask(masks[name], meaning) if meaning else ColorMask(masks[name], INDEX_OF_COLOR)
        split = SPLIT_WORDS.get(images[name].parent.name)
        if split is None and validates:
            split = "val" if name in validates else "train"
        samples.append(RawSample(name, images[name], label, official_split=split, group=name.split("_")[0]))
    classes = ClassTable(tuple(CLASSES), tuple(CLASSES.values()))
    return Source(classes, tuple(samples), (*problems, *wrong, *unpaired), LICENCE)
