"""`python -m segpipe.serving.preparing FOLDER OUTPUT`: exports a network, and predicts the samples by torch.

The service starts it as a process of its own: torch is loaded there alone, and its memory is free again afterwards.
"""

import sys
from pathlib import Path

from segpipe.errors import SegpipeError
from segpipe.serving.samples import Expected, make_samples


def prepare(folder: Path, output: Path) -> None:
    """Writes the export of a network, and next to it what torch predicts on the samples.

    Args:
        folder: of a trained network.
        output: a new folder.

    Raises:
        SegpipeError: the network cannot be used or exported.
    """
    import torch

    from segpipe.export.make import export_model
    from segpipe.inference.network import Network

    export_model(folder, output)
    network = Network.load(folder, torch.device("cpu"))
    Expected(tuple(network.predict(sample) for sample in make_samples())).write(output)


if __name__ == "__main__":
    try:
        prepare(Path(sys.argv[1]), Path(sys.argv[2]))
    except SegpipeError as error:
        sys.exit(str(error))
