"""Cityscapes: fine labels of street scenes, 19 classes.

    leftImg8bit/{train,val}/CITY/CITY_SEQUENCE_FRAME_leftImg8bit.png
    gtFine/{train,val}/CITY/CITY_SEQUENCE_FRAME_gtFine_labelIds.png

in one folder, or each archive in a folder of its own. Where an image has no labelIds, labelTrainIds are taken. The ids
that the benchmark does not score are void. The labels of the test split are not public (the archive's are dummies
without a class), so its images are not samples.

Source: Cordts et al., "The Cityscapes dataset for semantic urban scene understanding", CVPR 2016.
"""

from pathlib import Path

from segpipe.classes import IGNORE_INDEX, ClassTable, Color
from segpipe.data.masks.labels import IndexMask, Label, plain_indices
from segpipe.data.sources.source import (
    RawSample,
    Source,
    find_folder,
    list_files,
    missing_folder,
    pair_files,
    sorted_by_id,
)
from segpipe.errors import Problem, SourceError

LICENCE = "Cityscapes: non-commercial use, no redistribution (https://www.cityscapes-dataset.com/license/)"
SPLITS = ("train", "val")
IMAGES, LABELS = "leftImg8bit", "gtFine"
IMAGE_END, ID_END, TRAIN_ID_END = "_leftImg8bit.png", "_gtFine_labelIds.png", "_gtFine_labelTrainIds.png"
NUM_IDS = 34

# In the order of the train ids: name, label id, colour.
CLASSES: tuple[tuple[str, int, Color], ...] = (
    ("road", 7, (128, 64, 128)),
    ("sidewalk", 8, (244, 35, 232)),
    ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)),
    ("fence", 13, (190, 153, 153)),
    ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)),
    ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)),
    ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)),
    ("truck", 27, (0, 0, 70)),
    ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)),
    ("motorcycle", 32, (0, 0, 230)),
    ("bicycle", 33, (119, 11, 32)),
)
INDICES_OF_IDS = dict.fromkeys(range(NUM_IDS), IGNORE_INDEX) | {entry[1]: index for index, entry in enumerate(CLASSES)}
INDICES_OF_TRAIN_IDS = plain_indices(len(CLASSES))


def _find_split_folders(root: Path, kind: str, archive: str) -> Path:
    if folder := find_folder(root, *(f"{kind}/{split}" for split in SPLITS)):
        return folder / kind
    where = "https://www.cityscapes-dataset.com/downloads/ (after registration)"
    raise SourceError(f"{root}: holds no {kind}/train; unpack {archive} into it, which you get at {where}")


def _by_name(folder: Path, end: str) -> dict[str, Path]:
    """Gives the files with this end by `CITY/CITY_SEQUENCE_FRAME`."""
    return {name.removesuffix(end): folder / name for name in list_files(folder) if name.endswith(end)}


def _read_split(images_root: Path, labels_root: Path, split: str, root: Path) -> tuple[list[RawSample], list[Problem]]:
    image_folder, label_folder = images_root / split, labels_root / split
    if absent := [folder for folder in (image_folder, label_folder) if not folder.is_dir()]:
        return [], [missing_folder(folder, root) for folder in absent]
    images = _by_name(image_folder, IMAGE_END)
    train_ids = _by_name(label_folder, TRAIN_ID_END)
    ids = _by_name(label_folder, ID_END)
    expected_image = f"{IMAGES}/{split}/{{}}{IMAGE_END}"
    expected_mask = f"{LABELS}/{split}/{{}}{ID_END}"
    names, problems = pair_files(images, train_ids | ids, root, expected_image.format, expected_mask.format)
    samples = []
    for name in names:
        frame = name.rpartition("/")[2]
        label: Label = (
            IndexMask(ids[name], INDICES_OF_IDS) if name in ids else IndexMask(train_ids[name], INDICES_OF_TRAIN_IDS)
        )
        group = frame.rpartition("_")[0]
        samples.append(RawSample(frame, images[name], label, official_split=split, group=group))
    return samples, problems


def read_source(*, root: Path) -> Source:
    """Reads the layout above. A sample's group is its city and sequence.

    Args:
        root: the folder in which, or up to two folders below which, `leftImg8bit` and `gtFine` lie.

    Raises:
        SourceError: one of them is missing; the message says which archive to get, and where.
    """
    images_root = _find_split_folders(root, IMAGES, "leftImg8bit_trainvaltest.zip")
    labels_root = _find_split_folders(root, LABELS, "gtFine_trainvaltest.zip")
    samples: list[RawSample] = []
    problems: list[Problem] = []
    for split in SPLITS:
        found, wrong = _read_split(images_root, labels_root, split, root)
        samples += found
        problems += wrong
    classes = ClassTable(tuple(name for name, _, _ in CLASSES), tuple(color for _, _, color in CLASSES))
    return Source(classes, sorted_by_id(samples), tuple(problems), LICENCE)
