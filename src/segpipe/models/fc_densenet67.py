"""FC-DenseNet67: eleven dense blocks of 5 layers with 16 new channels each (section 4.1, table 3).

Source and deviations: `parts/fc_densenet.py`.
"""

from segpipe.models.parts.card import Card
from segpipe.models.parts.fc_densenet import PAPER, SMALL, fc_densenet_builder

# The paper counts the running statistics too, as the sum in the authors' code does.
CARD = Card("segpipe", PAPER, published=(11, 3.5e6), small=SMALL)

build_model = fc_densenet_builder("fc_densenet67", (5, 5, 5, 5, 5, 5), growth=16)
