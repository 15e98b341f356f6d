"""A box of another sample covers a part of this one."""

import math
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from segpipe.data.loading.transform import Partners, Transform


def build_transform(*, alpha: Annotated[float, Field(gt=0)] = 1.0) -> Transform:
    """Pastes a box of a second training sample, with its labels.

    Source: Yun, Han, Oh, Chun, Choe, Yoo, "CutMix", ICCV 2019, arXiv:1905.04899, equations 1 and 2: the kept share is
    Beta(alpha, alpha), the box has the crop's proportions and its centre is uniform in the crop; parts of the box
    outside the crop are cut off. Labels belong to pixels here, so they are pasted too and none is blended.

    Args:
        alpha: 1 makes every share equally likely; below 1, boxes are mostly very small or very large.
    """

    def cutmix(
        image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8], rng: np.random.Generator, partners: Partners
    ) -> None:
        side = math.sqrt(1 - rng.beta(alpha, alpha))
        centre_yx = rng.random(2)
        other_image, other_mask = partners.draw(rng)
        box = tuple(
            slice(round(max(0.0, (centre - side / 2) * size)), round(min(1.0, centre + side / 2) * size))
            for centre, size in zip(centre_yx.tolist(), mask.shape, strict=True)
        )
        image[box], mask[box] = other_image[box], other_mask[box]

    return cutmix
