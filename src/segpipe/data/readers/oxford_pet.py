"""Oxford-IIIT Pet: cats and dogs of 37 breeds, cut out.

    images/NAME.jpg, annotations/trimaps/NAME.png, annotations/{trainval,test}.txt

at the root or one or two folders below it. A trimap holds 1 = pet, 2 = background, 3 = border. A line of a list is
`NAME CLASS-ID SPECIES BREED-ID`; NAME begins with the breed. Only listed images are samples; `trainval` is `train`.
The archive's `._NAME` files are written by a Mac and are not masks.

Source: Parkhi, Vedaldi, Zisserman, Jawahar, "Cats and dogs", CVPR 2012.
"""

from pathlib import Path
from typing import Literal

from segpipe.classes import IGNORE_INDEX, ClassTable
from segpipe.data.masks.labels import IndexMask
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

LICENCE = "CC BY-SA 4.0"
SPLIT_OF_LIST = {"trainval": "train", "test": "test"}
NUM_COLUMNS = 4
PET, BACKGROUND, BORDER = 1, 2, 3

# In the order of the class ids, 1..37.
BREEDS = (
    "Abyssinian",
    "american_bulldog",
    "american_pit_bull_terrier",
    "basset_hound",
    "beagle",
    "Bengal",
    "Birman",
    "Bombay",
    "boxer",
    "British_Shorthair",
    "chihuahua",
    "Egyptian_Mau",
    "english_cocker_spaniel",
    "english_setter",
    "german_shorthaired",
    "great_pyrenees",
    "havanese",
    "japanese_chin",
    "keeshond",
    "leonberger",
    "Maine_Coon",
    "miniature_pinscher",
    "newfoundland",
    "Persian",
    "pomeranian",
    "pug",
    "Ragdoll",
    "Russian_Blue",
    "saint_bernard",
    "samoyed",
    "scottish_terrier",
    "shiba_inu",
    "Siamese",
    "Sphynx",
    "staffordshire_bull_terrier",
    "wheaten_terrier",
    "yorkshire_terrier",
)


def _read_list(
    list_file: Path, images: Path, root: Path, indices: dict[str, dict[int, int]]
) -> tuple[list[RawSample], list[Problem]]:
    """Reads one list; `indices` gives the meaning of a trimap by the breed shown."""
    if not list_file.is_file():
        where = list_file.relative_to(root).as_posix()
        return [], [Problem("list-missing", where, "no such list file", "Take the complete archive")]
    samples, problems = [], []
    for where, line in read_lines(list_file, root):
        if line.startswith("#"):
            continue
        name, *numbers = line.split()
        breed = name.rpartition("_")[0]
        if len(numbers) != NUM_COLUMNS - 1 or breed not in indices or not is_plain_name(name):
            what = f"not `NAME CLASS-ID SPECIES BREED-ID` with a known breed: {line!r}"
            problems.append(Problem("list-line", where, what, "Fix the line"))
            continue
        image, mask = images / f"{name}.jpg", list_file.parent / "trimaps" / f"{name}.png"
        missing = find_listed(where, (image, mask), root)
        problems += missing
        if not missing:
            label = IndexMask(mask, indices[breed])
            split = SPLIT_OF_LIST[list_file.stem]
            samples.append(RawSample(name, image, label, official_split=split, attributes={"breed": breed}))
    return samples, problems


def read_source(*, root: Path, border: Literal["void", "class"] = "void", breeds: bool = False) -> Source:
    """Reads the layout above. Class 0 is the background.

    Args:
        root: the folder in which, or up to two folders below which, `images` and `annotations` lie.
        border: what the pixels between pet and background are; as a class it is the last one.
        breeds: whether each breed is a class; otherwise all are the class pet.

    Raises:
        SourceError: there is no such layout.
    """
    annotations, images = find_folder(root, "annotations/trimaps"), find_folder(root, "images")
    if annotations is None or images is None:
        lacking = "annotations/trimaps" if annotations is None else "images"
        raise SourceError(f"{root}: is not Oxford-IIIT Pet: no {lacking} in it or up to two folders below")
    names = ("background", *(BREEDS if breeds else ("pet",)), *(("border",) if border == "class" else ()))
    border_index = len(names) - 1 if border == "class" else IGNORE_INDEX
    indices = {
        breed: {PET: number if breeds else 1, BACKGROUND: 0, BORDER: border_index}
        for number, breed in enumerate(BREEDS, start=1)
    }
    samples: list[RawSample] = []
    problems: list[Problem] = []
    for stem in SPLIT_OF_LIST:
        found, wrong = _read_list(annotations / "annotations" / f"{stem}.txt", images / "images", root, indices)
        samples += found
        problems += wrong
    return Source(ClassTable(names, spread_colors(len(names))), sorted_by_id(samples), tuple(problems), LICENCE)
