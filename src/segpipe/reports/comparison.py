"""The page of `segpipe registry compare`: two versions on the same images, and whether they differ beyond chance."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from segpipe.metrics.parts.bootstrap import FEW_UNITS
from segpipe.reports.documents.comparison import ComparedImages, ComparedPicture, ScoreDifference, VersionComparison
from segpipe.reports.drawing.thumbnails import embed, shrink_mask, shrink_photo
from segpipe.reports.figures import give_percent, give_points
from segpipe.reports.page import write_page
from segpipe.reports.samples import Layer, ShownSample

AXES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
NUM_DRAWINGS = 3  # of a picture next to the page, after the image: truth and two predictions
UNITS = {"group": ("group", "groups"), "block": ("block of consecutive images", "blocks of consecutive images")}


def write_comparison_page(folder: Path, document: VersionComparison) -> Path:
    """Writes `index.html` next to the pictures.

    Args:
        folder: the folder of the document's pictures.
        document: the comparison.

    Returns:
        The page.
    """
    first, second = document.versions
    path = folder / "index.html"
    write_page(
        path,
        "comparison.html.j2",
        title=f"{document.model_name}: version {first.version} and version {second.version}",
        lead=_say_verdict(document),
        few_units=_warn_of_few_units(document.set),
        measured_on=_name_set(document.set),
        notes=document.notes,
        first=first,
        second=second,
        versions=document.versions,
        mean_iou=document.mean_iou,
        classes=document.classes,
        limit=_axis_limit([document.mean_iou, *document.classes]),
        data=document.data,
        params=document.params,
        environment=document.environment,
        pictures=[(picture, _show(folder, picture, document)) for picture in document.pictures],
    )
    return path


def _say_verdict(document: VersionComparison) -> str:
    first, second = (f"version {version.version}" for version in document.versions)
    row = document.mean_iou
    if row.difference is None or row.first is None or row.second is None:
        return f"No pixel of these images is labelled, so V{first[1:]} and {second} cannot be compared."
    if round(row.difference, 4) == 0:
        return f"V{first[1:]} and {second} have the same mIoU to 0.01 points, {give_percent(row.first)}."
    difference = f"a difference of {give_points(row.difference)} points"
    figures = f"mIoU {give_percent(row.second)} against {give_percent(row.first)}, {difference}"
    higher = "higher" if row.difference > 0 else "lower"
    if row.low is None or row.high is None or row.probability is None:
        start = f"V{second[1:]} scores {higher} than {first}: {figures}."
        return f"{start} There is no interval, so this may be chance."
    interval = f"95% interval {give_points(row.low)} to {give_points(row.high)} points"
    if row.direction:
        verdict = (
            f"V{second[1:]} is {row.direction} than {first}, beyond chance: {figures} ({interval}, which excludes "
            "zero)."
        )
    else:
        start = f"V{second[1:]} scores {higher} than {first}, but that may be chance"
        verdict = f"{start}: {figures} ({interval}, which contains zero)."
    return f"{verdict} The probability that {second} is better is {_percent(row.probability)}."


def _percent(probability: float) -> str:
    """Writes a probability without ever claiming certainty."""
    if probability > 0.999:
        return "over 99.9%"
    return "under 0.1%" if probability < 0.001 else f"{100 * probability:.1f}%"


def _count_units(images: ComparedImages) -> str:
    one, many = UNITS[images.kind]
    return f"{images.num_units} {one if images.num_units == 1 else many}"


def _name_set(images: ComparedImages) -> str:
    digest = images.evaluation_digest[:12]
    return f"{images.num_images} images in {_count_units(images)}; evaluation {digest}."


def _warn_of_few_units(images: ComparedImages) -> str:
    if images.num_units >= FEW_UNITS:
        return ""
    return (
        f"The validation split has only {_count_units(images)}: the difference may not hold on other scenes. "
        f"Label validation images of {FEW_UNITS} or more sequences."
    )


def _axis_limit(rows: Sequence[ScoreDifference]) -> float:
    """Gives the end of the axis on both sides: the smallest round number above every difference and interval.

    Some interval methods have no bounds. If an interval ends beyond 1, the axis ends there too.
    """
    extents = [abs(end) for row in rows for end in (row.difference, row.low, row.high) if end is not None]
    largest = max(extents, default=0.0)
    return next((limit for limit in AXES if limit >= largest), largest)


def _show(folder: Path, picture: ComparedPicture, document: VersionComparison) -> ShownSample | None:
    """Shows one of the pictures that lie next to the page: image, truth and both predictions in one row.

    Returns:
        None where the file is not there.
    """
    file = folder / picture.file
    stored = cv2.imread(str(file), cv2.IMREAD_COLOR_RGB) if file.is_file() else None
    if stored is None:
        return None
    image, *drawings = np.split(np.asarray(stored, np.uint8), 1 + NUM_DRAWINGS, axis=1)
    drawings = [shrink_mask(drawing) for drawing in drawings]
    names = ("truth", *(f"version {version.version}" for version in document.versions))
    layers = [Layer(name, embed(drawing, "drawing")) for name, drawing in zip(names, drawings, strict=True)]
    scores = ("none" if score is None else give_percent(score) for score in (picture.first, picture.second))
    caption = f"{picture.sample_id} of group {picture.group}: mIoU {' and '.join(scores)}"
    colors = np.unique(np.concatenate(drawings).reshape(-1, 3), axis=0).tolist()
    legend = [(row.name, row.color) for row in document.classes if list(row.color) in colors]
    height, width = drawings[0].shape[:2]
    photo = embed(shrink_photo(image), "photo")
    return ShownSample("", caption, height, width, photo, tuple(layers), tuple(legend), picture.file)
