"""FCN-16s on VGG16: the scores at 1/32 and those of pool4, enlarged together from 1/16 (section 4.2).

Source and deviations: `parts/fcn.py`.
"""

from segpipe.models.parts.card import Card
from segpipe.models.parts.fcn import PAPER, SMALL, Scale, fcn_builder

CARD = Card("segpipe", PAPER, published=(21, 134e6), small=SMALL)


def skip_scales(*, pool4_scale: Scale = 1.0) -> tuple[float, ...]:
    """Gives the scale of the skip.

    Args:
        pool4_scale: factor of the features that the scores of pool4 see.
    """
    return (pool4_scale,)


build_model = fcn_builder("fcn16s_vgg16", skip_scales)
