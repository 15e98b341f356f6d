"""`segpipe export`: a model for other software, proven to predict what the model predicts."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from segpipe.cli.arguments import guide
from segpipe.cli.model_address import add_registry_option
from segpipe.errors import ExportError
from segpipe.export.document import FILES
from segpipe.places import DATASET
from segpipe.registry.addresses import MODELS_TAKEN, FoundModel, find_model

if TYPE_CHECKING:
    from segpipe.export.document import ExportDescription

PERCENT = 100


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Adds `export`."""
    export = commands.add_parser(
        "export", help="write a model for other software: ONNX, OpenVINO, Triton, or a torch program"
    )
    export.add_argument("model", metavar="MODEL", help=MODELS_TAKEN)
    export.add_argument(
        "--format",
        choices=tuple(FILES),
        default="onnx",
        metavar="FORMAT",
        help="onnx (default), openvino, torch, or triton: ONNX in the folders of a Triton server",
    )
    export.add_argument(
        "--output", type=Path, required=True, metavar="FOLDER", help="folder for the model's file and export.json"
    )
    export.add_argument(
        "--dataset",
        type=Path,
        default=DATASET,
        metavar="FOLDER",
        help=f"data set with the validation images for the comparison (default {DATASET})",
    )
    export.add_argument(
        "--made-up-images", action="store_true", help="compare on made-up images, where there is no data set"
    )
    export.add_argument(
        "--network-alone", action="store_true", help="leave out the windows and the CRF of evaluate.inference"
    )
    export.add_argument("--probabilities", action="store_true", help="also give the probabilities of all classes")
    export.add_argument("--int8", action="store_true", help="compute with 8 bits: faster; needs the training images")
    export.add_argument("--bf16", action="store_true", help="compute with bfloat16 what is not int8 (openvino alone)")
    export.add_argument(
        "--max-miou-loss",
        type=float,
        default=0.5,
        metavar="POINTS",
        help="of the mean IoU, that --int8 and --bf16 may lose on the validation images (default 0.5)",
    )
    add_registry_option(export)
    guide(export, "export champion --format onnx --output exported", "docs/export.md")
    export.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> None:
    from segpipe.export.make import check_bits, check_output, export_model
    from segpipe.export.quantize import FewerBits

    dataset = None if options.made_up_images else options.dataset
    is_smaller = options.int8 or options.bf16
    fewer_bits = FewerBits(options.int8, options.bf16, options.max_miou_loss) if is_smaller else None
    # Told before a model is downloaded.
    check_output(options.output)
    check_bits(options.format, fewer_bits, dataset)
    if not options.made_up_images and not options.dataset.exists():
        raise ExportError(
            f"{options.dataset}: there is no data set, whose validation images show that the export predicts what the "
            "model predicts; name one by --dataset FOLDER, or compare on made-up images by --made-up-images"
        )
    with find_model(options.model, options.registry) as model:
        description = export_model(
            model.folder,
            options.output,
            options.format,
            dataset=dataset,
            network_alone=options.network_alone,
            has_probabilities=options.probabilities,
            fewer_bits=fewer_bits,
            version=f"{model.name}/{model.version}" if model.name else None,
            commit=_read_commit(model),
        )
    print("\n".join([*_describe(description), f"written to {options.output}: {', '.join(description.files)}"]))


def _read_commit(model: FoundModel) -> str | None:
    if model.name is None or model.version is None:
        return None
    from segpipe.tracking.registered import read_commit

    return read_commit(model.name, model.version)


def _describe(description: "ExportDescription") -> list[str]:
    parity = description.parity
    lines = [
        f"{one.images}: {PERCENT * one.equal_share:.4f}% of {one.num_px} pixels equal, confidences within "
        f"{one.max_confidence_difference:.1g}"
        for one in parity.agreements
    ]
    if parity.mean_iou is not None and parity.mean_iou_of_export is not None:
        lines.append(f"mIoU: {PERCENT * parity.mean_iou:.2f}, export {PERCENT * parity.mean_iou_of_export:.2f}")
    if (quantization := description.quantization) is not None:
        floats = quantization.float_layers
        lines.append(
            f"int8: {quantization.num_layers - len(floats)} of {quantization.num_layers} layers; in float: "
            f"{', '.join(floats) or 'none'}"
        )
    return lines
