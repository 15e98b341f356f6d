"""FC-DenseNet56: eleven dense blocks of 4 layers with 12 new channels each (section 4.1, table 3).

Source and deviations: `parts/fc_densenet.py`.
The paper states 1.5 M parameters, but the network that it describes has 1.38 M, or 1.40 M with the running statistics
of batch norm. The authors' code counts these statistics, and with them the figures of the larger networks are right.
"""

from segpipe.models.parts.card import Card
from segpipe.models.parts.fc_densenet import PAPER, SMALL, fc_densenet_builder

CARD = Card("segpipe", PAPER, small=SMALL)

build_model = fc_densenet_builder("fc_densenet56", (4, 4, 4, 4, 4, 4), growth=12)
