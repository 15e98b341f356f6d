"""Objects of rare classes are pasted from another sample."""

from typing import Annotated

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field

from segpipe.classes import IGNORE_INDEX
from segpipe.data.loading.transform import Partners, Transform, draw_weighted, rarity


def build_transform(
    *, num_classes: Annotated[int, Field(ge=1)] = 1, power: Annotated[float, Field(ge=0, le=2)] = 1.0
) -> Transform:
    """Pastes all pixels of a few classes of a second training sample, with their labels, at the same place.

    Source: Olsson, Tranheden, Pinto, Svensson, "ClassMix", WACV 2021, arXiv:2007.07936, section 3.1. Three deviations:
    both samples are labelled, none by a network; the first class is drawn from all classes by its rarity, and the
    partner from the samples that hold it, with a crop on it; and `num_classes` are pasted instead of half of
    the partner's, the others drawn by rarity from those in the partner's crop, of which one is always left out.

    Args:
        num_classes: how many classes are pasted at most.
        power: 1 draws classes by their inverse frequency, 0 draws all equally often.
    """

    def classmix(
        image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8], rng: np.random.Generator, partners: Partners
    ) -> None:
        weights = rarity(partners.px_of_class, power)
        chosen = draw_weighted(rng, weights)
        other_image, other_mask = partners.draw(rng, of_class=chosen)
        is_pasted = np.zeros(IGNORE_INDEX + 1, np.uint8)
        is_pasted[chosen] = 1
        others = _weights_of_others(weights, other_mask, chosen)
        for _ in range(min(num_classes, int(np.count_nonzero(others))) - 1):
            index = draw_weighted(rng, others)
            is_pasted[index], others[index] = 1, 0.0
        selected = cv2.LUT(other_mask, is_pasted)
        cv2.copyTo(other_image, selected, image)
        cv2.copyTo(other_mask, selected, mask)

    return classmix


def _weights_of_others(
    weights: npt.NDArray[np.float64], mask: npt.NDArray[np.uint8], chosen: int
) -> npt.NDArray[np.float64]:
    is_shown = cv2.calcHist([mask], [0], None, [IGNORE_INDEX + 1], [0, IGNORE_INDEX + 1]).ravel()[: len(weights)] > 0
    is_shown[chosen] = False
    return np.where(is_shown, weights, 0.0)
