"""FCN-32s on VGG16: class scores at 1/32, enlarged in one step (section 4.1).

Source and deviations: `parts/fcn.py`.
"""

from segpipe.models.parts.card import Card
from segpipe.models.parts.fcn import PAPER, SMALL, fcn_builder

CARD = Card("segpipe", PAPER, published=(21, 134e6), small=SMALL)


def skip_scales() -> tuple[float, ...]:
    """There are no skips."""
    return ()


build_model = fcn_builder("fcn32s_vgg16", skip_scales)
