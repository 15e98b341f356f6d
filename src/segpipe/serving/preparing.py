"""`python -m segpipe.serving.preparing FOLDER OUTPUT`: exports a network, and predicts the samples by torch.

The service and the registration start it as a process of its own: torch is loaded there alone, and its memory is free
again afterwards.
"""

import argparse
import sys
from pathlib import Path
from typing import get_args

from segpipe.config.register import ExportFormat
from segpipe.errors import SegpipeError
from segpipe.export.packages import check_packages
from segpipe.serving.samples import Expected, make_samples


def prepare(
    folder: Path,
    output: Path,
    form: ExportFormat = "onnx",
    dataset: Path | None = None,
    commit: str | None = None,
) -> None:
    """Writes the export of a network, and next to it what torch predicts on the samples.

    Args:
        folder: of a trained network.
        output: a new folder.
        form: of the export.
        dataset: whose validation images are compared; None compares on made-up images.
        commit: that trained the network, for the lineage.

    Raises:
        SegpipeError: the network cannot be used or exported, or a package is missing.
    """
    check_packages([form])
    import torch

    from segpipe.export.make import export_model
    from segpipe.inference.network import Network
    from segpipe.inference.predictor import Predictor

    export_model(folder, output, form, dataset=dataset, commit=commit)
    network = Network.load(folder, torch.device("cpu"))
    predictor = Predictor(network.module, network.inference.in_float32)
    Expected(tuple(predictor.predict_masks(sample) for sample in make_samples())).write(output)


def main() -> None:
    """Reads the arguments; an error that a user can fix is one message."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--format", choices=get_args(ExportFormat), default="onnx")
    parser.add_argument("--dataset", type=Path)
    parser.add_argument("--commit")
    given = parser.parse_args()
    try:
        prepare(given.folder, given.output, given.format, given.dataset, given.commit)
    except SegpipeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
