"""Small sources with real pictures, each in the exact layout of its official archive."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

from segpipe.data.sources.palette import spread_colors

HEIGHT, WIDTH = 4, 6


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((HEIGHT, WIDTH, 3), 90, np.uint8)).save(path)


def write_indices(path: Path, *values: int, as_palette: bool = False) -> None:
    """Writes a mask whose first pixels are the values given, all others the last of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(fill(values))
    if as_palette:
        picture.putpalette([channel for color in spread_colors(256) for channel in color])
    picture.save(path)


def write_colors(path: Path, *colors: tuple[int, int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(colors, np.uint8)[fill(range(len(colors)))]).save(path)


def write_mat(path: Path, *values: int) -> None:
    """Writes a mask of SBD; `Boundaries` and `CategoriesPresent` stand in the real files too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {"Segmentation": fill(values), "CategoriesPresent": np.array([[15]], np.uint8)}
    savemat(path, {"GTcls": content}, do_compression=True)


def fill(values: Any) -> np.ndarray:
    """Gives (HEIGHT, WIDTH) uint8 that begins with the values and goes on with the last."""
    values = list(values)
    pixels = np.full(HEIGHT * WIDTH, values[-1], np.uint8)
    pixels[: len(values)] = values
    return pixels.reshape(HEIGHT, WIDTH)


def write_lines(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_json(path: Path, document: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")


def write_voc(root: Path) -> None:
    voc = root / "VOCdevkit/VOC2012"
    names = {"train": ["2007_000032", "2008_000008"], "val": ["2007_000033"]}
    for split, listed in names.items():
        write_lines(voc / f"ImageSets/Segmentation/{split}.txt", *listed)
        for name in listed:
            write_image(voc / f"JPEGImages/{name}.jpg")
            write_indices(voc / f"SegmentationClass/{name}.png", 0, 1, 20, 255, 15, as_palette=True)
    write_lines(voc / "ImageSets/Segmentation/trainval.txt", *names["train"], *names["val"])
    write_image(voc / "JPEGImages/2007_000027.jpg")  # most images of VOC have boxes only


def write_sbd(root: Path) -> None:
    """SBD's own split puts VOC's val image into train, and one of VOC's train images into val."""
    sbd = root / "benchmark_RELEASE/dataset"
    names = {"train": ["2007_000033", "2008_000002"], "val": ["2008_000008", "2008_000003"]}
    for split, listed in names.items():
        write_lines(sbd / f"{split}.txt", *listed)
        for name in listed:
            write_image(sbd / f"img/{name}.jpg")
            write_mat(sbd / f"cls/{name}.mat", 0, 20, 15)


def write_cityscapes(root: Path) -> None:
    frames = {
        "train": ["aachen_000000_000019", "aachen_000001_000019"],
        "val": ["frankfurt_000000_000294"],
        "test": ["berlin_000000_000019"],
    }
    for split, names in frames.items():
        for name in names:
            city = name.split("_")[0]
            write_image(root / f"leftImg8bit/{split}/{city}/{name}_leftImg8bit.png")
            fine = root / f"gtFine/{split}/{city}/{name}_gtFine"
            write_indices(Path(f"{fine}_labelIds.png"), 0, 3, 7, 33, 9, 26)
            write_indices(Path(f"{fine}_instanceIds.png"), 0)
            write_colors(Path(f"{fine}_color.png"), (0, 0, 0))
            write_lines(Path(f"{fine}_polygons.json"), "{}")


def write_ade20k(root: Path) -> None:
    for folder, name in (
        ("training", "ADE_train_00000001"),
        ("training", "ADE_train_00000002"),
        ("validation", "ADE_val_00000001"),
    ):
        write_image(root / f"ADEChallengeData2016/images/{folder}/{name}.jpg")
        write_indices(root / f"ADEChallengeData2016/annotations/{folder}/{name}.png", 0, 1, 150, 13)
    write_lines(root / "ADEChallengeData2016/objectInfo150.txt", "Idx\tRatio\tTrain\tVal\tName")


def write_oxford_pet(root: Path) -> None:
    lists = {"trainval": ["Abyssinian_100 1 1 1", "yorkshire_terrier_9 37 2 25"], "test": ["Egyptian_Mau_201 12 1 6"]}
    for stem, lines in lists.items():
        write_lines(root / f"annotations/{stem}.txt", *lines)
        for line in lines:
            name = line.split()[0]
            write_image(root / f"images/{name}.jpg")
            write_indices(root / f"annotations/trimaps/{name}.png", 1, 3, 2)
            write_lines(root / f"annotations/trimaps/._{name}.png", "a Mac's")
    write_image(root / "images/beagle_116.jpg")  # some images stand in no list
    write_lines(root / "annotations/list.txt", "#Image CLASS-ID SPECIES BREED ID")


def write_camvid(root: Path) -> None:
    layout = root / "CamVid"
    names = {"train": ["0001TP_006690", "0001TP_006720"], "val": ["0016E5_07959"], "test": ["Seq05VD_f00000"]}
    for split, listed in names.items():
        lines = []
        for name in listed:
            write_image(layout / split / f"{name}.png")
            write_indices(layout / f"{split}annot" / f"{name}.png", 0, 10, 11, 3)
            lines.append(f"/SegNet/CamVid/{split}/{name}.png /SegNet/CamVid/{split}annot/{name}.png")
        write_lines(layout / f"{split}.txt", *lines)


def write_camvid32(root: Path) -> None:
    for name in ("0001TP_006690", "0006R0_f00930", "Seq05VD_f00000"):
        write_image(root / f"701_StillsRaw_full/{name}.png")
        write_colors(root / f"LabeledApproved_full/{name}_L.png", (0, 0, 0), (64, 128, 64), (64, 192, 0))
    write_lines(root / "label_colors.txt", "64 128 64\tAnimal", "192 0 128\t\tArchway")


def write_folder(root: Path) -> None:
    write_lines(root / "dataset.yaml", "classes: [{name: a, color: [1, 2, 3]}, {name: b, color: [4, 5, 6]}]")
    for name in ("a_0", "b_0"):
        write_image(root / f"images/{name}.jpg")
        write_indices(root / f"masks/{name}.png", 0, 1, 255)


def write_patterns(root: Path) -> None:
    """With the default patterns; the class table is given as an option."""
    for name in ("a_0", "b_0"):
        write_image(root / f"images/{name}.jpg")
        write_indices(root / f"masks/{name}.png", 0, 1, 255)


def write_coco(root: Path) -> None:
    images = [{"id": number, "file_name": f"{number:012d}.jpg", "width": WIDTH, "height": HEIGHT} for number in (9, 25)]
    box = {"id": 1, "image_id": 9, "category_id": 3, "iscrowd": 0, "area": 4.0, "bbox": [1, 1, 2, 2]}
    document = {
        "images": images,
        "annotations": [box | {"segmentation": [[1, 1, 3, 1, 3, 3, 1, 3]]}],
        "categories": [{"id": 1, "name": "person"}, {"id": 3, "name": "car"}],
    }
    write_json(root / "annotations/instances_train2017.json", document)
    for image in images:
        write_image(root / f"train2017/{image['file_name']}")


def write_coco_panoptic(root: Path) -> None:
    categories = [{"id": 1, "name": "person", "isthing": 1, "color": [220, 20, 60]}]
    categories += [{"id": 187, "name": "sky-other-merged", "isthing": 0, "color": [70, 130, 180]}]
    images, annotations = [], []
    for number in (9, 25):
        name = f"{number:012d}"
        images.append({"id": number, "file_name": f"{name}.jpg", "width": WIDTH, "height": HEIGHT})
        segments = [{"id": 7, "category_id": 1, "iscrowd": 0}, {"id": 256, "category_id": 187, "iscrowd": 0}]
        annotations.append({"image_id": number, "file_name": f"{name}.png", "segments_info": segments})
        write_image(root / f"train2017/{name}.jpg")
        write_colors(root / f"annotations/panoptic_train2017/{name}.png", (0, 0, 0), (7, 0, 0), (0, 1, 0))
    document = {"images": images, "annotations": annotations, "categories": categories}
    write_json(root / "annotations/panoptic_train2017.json", document)


def write_coco_stuff(root: Path) -> None:
    for folder, name in (("train2017", "000000000009"), ("val2017", "000000000139")):
        write_image(root / f"images/{folder}/{name}.jpg")
        write_indices(root / f"stuffthingmaps/{folder}/{name}.png", 0, 181, 255)


def write_cvat(root: Path) -> None:
    labels = ["# label:color_rgb:parts:actions", "background:0,0,0::", "car:10,20,30::"]
    write_lines(root / "labelmap.txt", *labels)
    write_lines(root / "ImageSets/Segmentation/default.txt", "a_0", "b_0")
    for name in ("a_0", "b_0"):
        write_image(root / f"JPEGImages/{name}.jpg")
        write_colors(root / f"SegmentationClass/{name}.png", (0, 0, 0), (10, 20, 30))


def write_labelme(root: Path) -> None:
    shape = {"label": "car", "points": [[1, 1], [4, 1], [4, 3]], "group_id": None, "shape_type": "polygon", "flags": {}}
    for name in ("a_0", "b_0"):
        write_image(root / f"{name}.jpg")
        document = {"version": "5.5.0", "flags": {}, "shapes": [shape], "imagePath": f"{name}.jpg", "imageData": None}
        write_json(root / f"{name}.json", document | {"imageHeight": HEIGHT, "imageWidth": WIDTH})


def write_roboflow(root: Path) -> None:
    for folder in ("train", "valid"):
        write_lines(root / folder / "_classes.csv", "Pixel Value, Class", "0, background", "1, car")
        write_image(root / folder / f"{folder}_jpg.rf.0123.jpg")
        write_indices(root / folder / f"{folder}_jpg.rf.0123_mask.png", 0, 1)


PATTERNS_OPTIONS = {"classes": [{"name": "a", "color": [1, 2, 3]}, {"name": "b", "color": [4, 5, 6]}]}

# Writer and options of each format.
LAYOUTS: dict[str, tuple[Callable[[Path], None], dict[str, Any]]] = {
    "ade20k": (write_ade20k, {}),
    "camvid": (write_camvid, {}),
    "camvid32": (write_camvid32, {}),
    "cityscapes": (write_cityscapes, {}),
    "coco": (write_coco, {}),
    "coco_panoptic": (write_coco_panoptic, {}),
    "coco_stuff": (write_coco_stuff, {}),
    "cvat": (write_cvat, {}),
    "folder": (write_folder, {}),
    "labelme": (write_labelme, {}),
    "oxford_pet": (write_oxford_pet, {"breeds": True}),
    "patterns": (write_patterns, PATTERNS_OPTIONS),
    "roboflow": (write_roboflow, {}),
    "voc": (write_voc, {}),
}
