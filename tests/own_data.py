"""Draws small sets of the kinds that people bring; `python tests/own_data.py FOLDER` draws all (docs/first-hour.md).

berries/       40 photos and masks of 0 and 255
fields/        colour masks, and a label map as text
cvat/          CVAT's export "Segmentation mask 1.1"
coco/          a COCO export of polygons
microscopy/    grey images, and a table with the patient of each
"""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

HEIGHT, WIDTH, NUM_IMAGES = 96, 128, 40
GROUND, DISK, BOX = 0, 1, 2
COLORS = ((60, 140, 70), (200, 40, 60), (220, 200, 60))

Pixels = npt.NDArray[np.uint8]


def draw(number: int, num_classes: int = 3) -> tuple[Pixels, Pixels, list[tuple[int, npt.NDArray[np.int32]]]]:
    """Draws an image, its mask of class indices, and the polygons of its objects."""
    rng = np.random.default_rng(number)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    polygons = []
    for place in range(4):
        kind = DISK if num_classes == 2 or place % 2 else BOX
        center, half = rng.integers((16, 16), (WIDTH - 16, HEIGHT - 16)), int(rng.integers(7, 15))
        points = 20 if kind == DISK else 4
        angles = 2 * np.pi * (np.arange(points) / points) + np.pi / 4
        ring = np.stack([center[0] + half * np.cos(angles), center[1] + half * np.sin(angles)], 1).astype(np.int32)
        cv2.fillPoly(mask, [ring], kind)
        polygons.append((kind, ring))
    image = np.array(COLORS, np.float64)[mask] + rng.normal(0, 18, (HEIGHT, WIDTH, 1)) + rng.normal(0, 6, 3)
    return np.clip(image, 0, 255).astype(np.uint8), mask, polygons


def _save(path: Path, pixels: Pixels) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def draw_berries(folder: Path) -> None:
    """Photos, and masks of 0 and 255."""
    for number in range(NUM_IMAGES):
        image, mask, _ = draw(number, num_classes=2)
        _save(folder / f"images/berry_{number:02d}.jpg", image)
        _save(folder / f"masks/berry_{number:02d}.png", mask * 255)


def draw_fields(folder: Path) -> None:
    """Colour masks, and the colours' names in a text file."""
    table = np.array([(0, 0, 0), (230, 25, 75), (255, 225, 25)], np.uint8)
    for number in range(NUM_IMAGES):
        image, mask, _ = draw(number)
        _save(folder / f"images/{number:02d}.png", image)
        _save(folder / f"masks/{number:02d}.png", table[mask])
    names = ("soil", "weed", "crop")
    lines = [f"{r} {g} {b} {name}\n" for (r, g, b), name in zip(table.tolist(), names, strict=True)]
    (folder / "label_map.txt").write_text("".join(lines), encoding="utf-8")


def draw_cvat(folder: Path) -> None:
    """The folders of CVAT's export, with its list of all images."""
    labels = {"background": (0, 0, 0), "disk": (250, 50, 83), "box": (51, 221, 255)}
    for number in range(NUM_IMAGES):
        image, mask, _ = draw(number)
        _save(folder / f"JPEGImages/frame_{number:06d}.jpg", image)
        _save(folder / f"SegmentationClass/frame_{number:06d}.png", np.array(list(labels.values()), np.uint8)[mask])
    lines = [f"{name}:{','.join(map(str, color))}::\n" for name, color in labels.items()]
    (folder / "labelmap.txt").write_text("# label:color_rgb:parts:actions\n" + "".join(lines), encoding="utf-8")
    lists = folder / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    names = [f"frame_{number:06d}\n" for number in range(NUM_IMAGES)]
    (lists / "default.txt").write_text("".join(names), encoding="utf-8")


def draw_coco(folder: Path) -> None:
    """Polygons in one JSON, as CVAT and other tools export them."""
    document: dict[str, list[Any]] = {"images": [], "annotations": [], "categories": []}
    document["categories"] = [{"id": 1, "name": "disk"}, {"id": 2, "name": "box"}]
    for number in range(NUM_IMAGES):
        image, _, polygons = draw(number)
        name = f"{number:06d}.jpg"
        _save(folder / "images" / name, image)
        document["images"].append({"id": number + 1, "file_name": name, "height": HEIGHT, "width": WIDTH})
        for kind, ring in polygons:
            entry = {"id": len(document["annotations"]) + 1, "image_id": number + 1, "category_id": kind, "iscrowd": 0}
            document["annotations"].append({**entry, "segmentation": [ring.astype(float).ravel().tolist()]})
    path = folder / "annotations/instances_default.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(document), encoding="utf-8")


def draw_microscopy(folder: Path) -> None:
    """Grey images of eight patients, and the patient of each in samples.csv."""
    lines = ["sample_id,patient\n"]
    for number in range(NUM_IMAGES):
        image, mask, _ = draw(number, num_classes=2)
        _save(folder / f"images/slide{number:03d}.png", image[..., 0])
        _save(folder / f"masks/slide{number:03d}.png", mask)
        lines.append(f"slide{number:03d},patient{number // 5}\n")
    (folder / "samples.csv").write_text("".join(lines), encoding="utf-8")


SETS: dict[str, Callable[[Path], None]] = {
    "berries": draw_berries,
    "fields": draw_fields,
    "cvat": draw_cvat,
    "coco": draw_coco,
    "microscopy": draw_microscopy,
}


def draw_set(name: str, folder: Path) -> Path:
    """Draws a set into `folder/NAME`, in place of what is there."""
    shutil.rmtree(folder / name, ignore_errors=True)
    (folder / name).mkdir(parents=True)
    SETS[name](folder / name)
    return folder / name


if __name__ == "__main__":
    for name_of_set in SETS:
        print(draw_set(name_of_set, Path(sys.argv[1])))
