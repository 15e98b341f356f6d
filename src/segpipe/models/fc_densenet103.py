"""FC-DenseNet103: dense blocks of 4 to 15 layers with 16 new channels each (section 4.1, tables 2 and 3).

Source and deviations: `parts/fc_densenet.py`.
"""

from segpipe.models.parts.card import Card
from segpipe.models.parts.fc_densenet import PAPER, SMALL, fc_densenet_builder

# The paper counts the running statistics too, as the sum in the authors' code does.
CARD = Card("segpipe", PAPER, published=(11, 9.4e6), small=SMALL)

build_model = fc_densenet_builder("fc_densenet103", (4, 5, 7, 10, 12, 15), growth=16)
