"""Compares two ways to predict the same images: a network and its export, or an export and a smaller one."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from segpipe.data.store import VAL, Store, evenly_spread
from segpipe.errors import ExportError
from segpipe.export.document import Agreement, Parity
from segpipe.export.exported import Prediction
from segpipe.inference.tiles import LARGE_WINDOW_PX
from segpipe.metrics import mean_iou
from segpipe.metrics.evidence.confusion import confusion_matrix
from segpipe.metrics.parts.counts import confusions_of

Images = npt.NDArray[np.uint8]
Predict = Callable[[Images], Prediction]

ODD_SIZES = ((97, 131), (225, 301), (363, 479))  # height and width, pixels
NUM_RESIZED = 4  # images of each such size, two at once; and made-up images
MADE_UP_SIZE = (240, 320)
VALIDATION, MADE_UP = "validation", "made up"
PERCENT = 100


@dataclass(frozen=True)
class Limits:
    """What an export may differ by.

    Attributes:
        min_equal_share: of pixels, on the images as they are and at each other size, 0..1.
        max_mean_iou_difference: in points: hundredths of the mean IoU.
        may_gain: whether a better mean IoU is no difference, as for exports that compute with fewer bits.
    """

    min_equal_share: float
    max_mean_iou_difference: float
    may_gain: bool = False


FP32 = Limits(min_equal_share=0.9999, max_mean_iou_difference=0.1)


@dataclass(frozen=True)
class Batch:
    """Images of one size.

    Attributes:
        names: of the images, for messages.
        images_NHWC: (N, H, W, 3) uint8 RGB.
        masks_NHW: (N, H, W) uint8 class indices, void = 255; None without labels.
    """

    names: tuple[str, ...]
    images_NHWC: Images
    masks_NHW: Images | None = None


@dataclass(frozen=True)
class Comparison:
    """Two predictions of a set of images.

    Attributes:
        agreement: of the two.
        mean_iou: of the first, 0..1; None without labels.
        mean_iou_of_other: the same of the second.
    """

    agreement: Agreement
    mean_iou: float | None = None
    mean_iou_of_other: float | None = None


def compare(predict: Predict, other: Predict, images: str, batches: Iterable[Batch], num_classes: int) -> Comparison:
    """Compares two predictions of a set of images.

    Args:
        predict: the reference.
        other: what is compared with it.
        images: what the images are, for the report.
        batches: the images; at least one.
        num_classes: of both.
    """
    compared: list[Agreement] = []
    matrices: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = []
    for batch in batches:
        one, two = predict(batch.images_NHWC), other(batch.images_NHWC)
        for index, name in enumerate(batch.names):
            compared.append(_compare_image(name, one, two, index))
            if batch.masks_NHW is not None:
                first, second = (
                    confusion_matrix(prediction.masks_NHW[index], batch.masks_NHW[index], num_classes)
                    for prediction in (one, two)
                )
                matrices.append((first, second))
    agreement = _join(images, compared)
    if not matrices:
        return Comparison(agreement)
    scores = [mean_iou.compute(confusions_of(np.stack(side))) for side in zip(*matrices, strict=True)]
    return Comparison(agreement, *scores)


def _compare_image(name: str, one: Prediction, other: Prediction, index: int) -> Agreement:
    """Compares two predictions of the image at an index of a batch."""
    unequal_HW = one.masks_NHW[index] != other.masks_NHW[index]
    return Agreement(
        images=name,
        num_images=1,
        num_px=unequal_HW.size,
        num_unequal_px=int(np.count_nonzero(unequal_HW)),
        max_confidence_difference=float(np.abs(one.confidences_NHW[index] - other.confidences_NHW[index]).max()),
        worst=name,
        worst_equal_share=1 - float(unequal_HW.mean()),
    )


def _join(images: str, agreements: Sequence[Agreement]) -> Agreement:
    """Joins the comparisons of single images."""
    worst = min(agreements, key=lambda one: (one.equal_share, -one.max_confidence_difference))
    return Agreement(
        images=images,
        num_images=len(agreements),
        num_px=sum(one.num_px for one in agreements),
        num_unequal_px=sum(one.num_unequal_px for one in agreements),
        max_confidence_difference=max(one.max_confidence_difference for one in agreements),
        worst=worst.images,
        worst_equal_share=worst.equal_share,
    )


def compare_on(store: Store | None, predict: Predict, other: Predict, num_classes: int) -> Parity:
    """Compares two predictions on the validation images of a store and at three other sizes, or on made-up images.

    Args:
        store: with a validation split; None for made-up images, which have no labels.
        predict: the reference.
        other: what is compared with it.
        num_classes: of both.
    """
    split = store.of_split(VAL) if store else None
    batches: Iterable[Batch] = _batches_of(split) if split else make_up_batches()
    images = VALIDATION if split else MADE_UP
    whole = compare(predict, other, images, batches, num_classes)
    some = _take_some(split) if split else make_up_batches()
    agreements = [whole.agreement]
    for size in ODD_SIZES:
        name = f"{images}, resized to {size[0]}x{size[1]}"
        agreements.append(compare(predict, other, name, _resize(some, size), num_classes).agreement)
    digest = split.digest if split else None
    return Parity(images, digest, agreements, whole.mean_iou, whole.mean_iou_of_other)


def _batches_of(split: Store) -> Iterator[Batch]:
    """Gives each image alone; of a huge one, which a model predicts by windows, the middle."""
    for index, name in enumerate(split.manifest["sample_id"].tolist()):
        image, mask = split.read(index)
        rows, columns = (_middle(length) for length in mask.shape)
        yield Batch((str(name),), image[None, rows, columns], mask[None, rows, columns])


def _middle(length_px: int) -> slice:
    start = max(0, (length_px - LARGE_WINDOW_PX) // 2)
    return slice(start, start + LARGE_WINDOW_PX)


def _take_some(split: Store) -> list[Batch]:
    chosen = evenly_spread(len(split), NUM_RESIZED)
    names = split.manifest["sample_id"].tolist()
    return [Batch((str(names[index]),), split.read(index)[0][None]) for index in chosen]


def make_up_batches() -> list[Batch]:
    """Gives images of coloured blots, always the same, for models without a data set."""
    generator = np.random.default_rng(0)
    height, width = MADE_UP_SIZE
    batches = []
    for index in range(NUM_RESIZED):
        coarse_HWC = generator.integers(0, 256, (3 << index, 4 << index, 3), dtype=np.uint8)
        image_HWC = np.asarray(cv2.resize(coarse_HWC, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
        batches.append(Batch((f"blots of {height // (3 << index)} px",), image_HWC[None]))
    return batches


def _resize(batches: Sequence[Batch], size: tuple[int, int]) -> Iterator[Batch]:
    """Gives images of another size, two at once."""
    height, width = size
    for pair in (batches[begin : begin + 2] for begin in range(0, len(batches), 2)):
        images = [cv2.resize(batch.images_NHWC[0], (width, height), interpolation=cv2.INTER_AREA) for batch in pair]
        yield Batch(tuple(batch.names[0] for batch in pair), np.asarray(np.stack(images), np.uint8))


def points_lost(parity: Parity) -> float:
    """Gives the points of the mean IoU that the export loses, less than 0 where it gains; both must be known."""
    assert parity.mean_iou is not None and parity.mean_iou_of_export is not None
    return PERCENT * (parity.mean_iou - parity.mean_iou_of_export)


def check_parity(parity: Parity, limits: Limits) -> None:
    """Checks that an export predicts what its model predicts.

    Raises:
        ExportError: it does not; names images and sizes.
    """
    wrong = [_describe(one) for one in parity.agreements if one.equal_share < limits.min_equal_share]
    if parity.mean_iou is not None and parity.mean_iou_of_export is not None:
        loss = points_lost(parity)
        if not (loss if limits.may_gain else abs(loss)) <= limits.max_mean_iou_difference:
            wrong.append(
                f"mIoU {PERCENT * parity.mean_iou_of_export:.2f} instead of {PERCENT * parity.mean_iou:.2f}: at most "
                f"{limits.max_mean_iou_difference} points are allowed"
            )
    if wrong:
        least = f" (at least {PERCENT * limits.min_equal_share:g}% of the pixels must be equal)"
        head = f"the export does not predict what the model predicts{least if limits.min_equal_share else ''}:"
        raise ExportError("\n".join([head, *(f"  {line}" for line in wrong), "Nothing was written"]))


def _describe(one: Agreement) -> str:
    return (
        f"{one.images} ({one.num_images} images): {PERCENT * one.equal_share:.4f}% equal pixels; the worst is "
        f"{one.worst} with {PERCENT * one.worst_equal_share:.4f}%; confidences differ by up to "
        f"{one.max_confidence_difference:.2g}"
    )
