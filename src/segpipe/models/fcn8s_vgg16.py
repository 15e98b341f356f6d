"""FCN-8s on VGG16: the scores at 1/32, those of pool4 and those of pool3, enlarged together from 1/8 (section 4.2).

Source and deviations: `parts/fcn.py`.
"""

from segpipe.models.parts.card import Card
from segpipe.models.parts.fcn import PAPER, SMALL, Scale, fcn_builder

CARD = Card("segpipe", PAPER, published=(21, 134.5e6), small=SMALL)


def skip_scales(*, pool4_scale: Scale = 1.0, pool3_scale: Scale = 1.0) -> tuple[float, ...]:
    """Gives the scales of the skips.

    Args:
        pool4_scale: factor of the features that the scores of pool4 see.
        pool3_scale: factor of the features that the scores of pool3 see.
    """
    return pool4_scale, pool3_scale


build_model = fcn_builder("fcn8s_vgg16", skip_scales)
