"""Exports a network: writes its files, and proves that they predict what the network predicts."""

import importlib.metadata
import json
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from segpipe.data.store import DATASET_FILE, VAL, Store
from segpipe.documents import BuiltModel, ModelDescription, NetworkDescription
from segpipe.errors import ExportError, StoreError
from segpipe.export.document import (
    FILES,
    ONNX_FILE,
    ExportDescription,
    Lineage,
    Parity,
    Quantization,
)
from segpipe.export.exported import BACKENDS, Prediction, open_export
from segpipe.export.graph import ExportGraph, check_exportable
from segpipe.export.in_torch import predict_in_torch
from segpipe.export.onnx_file import describe_onnx, write_onnx
from segpipe.export.openvino_file import check_bf16, write_openvino
from segpipe.export.packages import PACKAGES, Format, check_packages
from segpipe.export.parity import FP32, Images, Limits, Predict, check_parity, compare_on, points_lost
from segpipe.export.program import capture, write_program
from segpipe.export.quantize import FewerBits, choose_calibration, quantize
from segpipe.export.triton import write_triton_files
from segpipe.files import sha256_of_file, whole_folder, write_json
from segpipe.inference.network import Network
from segpipe.models import read_card
from segpipe.places import EXPORT_FILE, MODEL_FILE

Quantize = Callable[[Path, Path], Quantization]  # from an ONNX file to one that computes with 8 bits


def export_model(
    network_folder: Path,
    output: Path,
    form: Format = "onnx",
    *,
    dataset: Path | None = None,
    network_alone: bool = False,
    has_probabilities: bool = False,
    limits: Limits = FP32,
    fewer_bits: FewerBits | None = None,
    version: str | None = None,
    commit: str | None = None,
) -> ExportDescription:
    """Writes a model's file and `export.json`, if the export predicts what the network predicts.

    Args:
        network_folder: holds `model.json` and `weights.safetensors`.
        output: folder to write; new, empty, or an earlier export, which is replaced.
        form: of the export.
        dataset: a store with validation images; None compares on made-up images.
        network_alone: leaves out windows and the CRF of the model's inference.
        has_probabilities: adds the probabilities of all classes.
        limits: how much export and network may differ.
        fewer_bits: computes with fewer bits than the network, and has limits of its own; needs a data set.
        version: name and version of the registered model, for the lineage.
        commit: that trained the model, for the lineage.

    Returns:
        What `export.json` says.

    Raises:
        StoreError: model or data set cannot be used.
        ExportError: the model cannot be exported, or its export predicts something else; then nothing is written.
    """
    check_packages([form])
    check_output(output)
    check_bits(form, fewer_bits, dataset)
    network, model = _load(network_folder, form, network_alone)
    store = _open_store(dataset, network) if dataset else None
    graph = ExportGraph(network.module, network.inference, has_probabilities)
    description = ExportDescription(
        format=form,
        model=model,
        classes=network.classes,
        image_mapping=network.image_mapping,
        inference={"scales": network.inference.scales, "flip": network.inference.flip},
        network_alone=network_alone,
        outputs=graph.output_names,
        licence=_read_licence(dataset, network_folder),
        lineage=_trace(network_folder, network.weights_sha256, version, commit),
        parity=Parity("none yet", None, [], None, None),
        versions={name: importlib.metadata.version(name) for name in PACKAGES[form]},
        files={},
        bf16=bool(fewer_bits and fewer_bits.bf16),
    )
    return _write_proven(graph, network, store, description, output, fewer_bits, limits)


def _write_proven(
    graph: ExportGraph,
    network: Network,
    store: Store | None,
    description: ExportDescription,
    output: Path,
    fewer_bits: FewerBits | None,
    limits: Limits,
) -> ExportDescription:
    """Writes all files of an export, or none where it differs from the network; arguments as for `export_model`."""
    compare_with = partial(_compare, network, store, description)
    with whole_folder(output) as folder:
        path = folder / FILES[description.format][0]
        path.parent.mkdir(exist_ok=True)
        if description.format == "triton":
            write_triton_files(folder, network.classes, graph.output_names)
        description = _write(graph, description, path, _quantizer(store, compare_with, fewer_bits))
        parity = compare_with(path)
        check_parity(parity, fewer_bits.limits if fewer_bits else limits)
        files = {name: sha256_of_file(folder / name) for name in FILES[description.format]}
        finished = replace(description, parity=parity, files=files)
        write_json(folder / EXPORT_FILE, finished.to_json())
    return finished


def _load(network_folder: Path, form: Format, network_alone: bool) -> tuple[Network, BuiltModel]:
    """Gives the network as it is exported, and what it was built by.

    Raises:
        StoreError: the folder holds no usable model.
        ExportError: the network, or how it predicts, has no such form.
    """
    network = Network.load(network_folder, torch.device("cpu"))
    model = NetworkDescription.read(network_folder / MODEL_FILE, "run `dvc repro train`").model
    card = read_card(model.name)
    if form != "torch" and card.no_onnx:
        raise ExportError(f"{model.name} cannot be exported to ONNX: {card.no_onnx}; take `--format torch`")
    inference = network.inference.in_float32  # as the export computes, which is compared with it
    if network_alone:
        inference = inference.model_copy(update={"window_px": None, "crf": None})
    check_exportable(inference)
    network = replace(network, inference=inference)
    return network, model


def _compare(network: Network, store: Store | None, description: ExportDescription, path: Path) -> Parity:
    """Compares a file with the network."""
    reference = partial(predict_in_torch, network.predictor)
    return compare_on(store, reference, _open(path, description), network.classes.num_classes)


def _quantizer(
    store: Store | None, compare_with: Callable[[Path], Parity], fewer_bits: FewerBits | None
) -> Quantize | None:
    """Gives what makes an ONNX file compute with 8 bits; None if that is not wanted."""
    if fewer_bits is None or not fewer_bits.int8:
        return None
    assert store is not None  # of `check_bits`
    calibration, max_loss = choose_calibration(store), fewer_bits.max_mean_iou_loss

    def lose(path: Path) -> float:
        return points_lost(compare_with(path))

    return lambda source, target: quantize(source, target, calibration, lose, max_loss)


def check_output(output: Path) -> None:
    """Checks that a folder may be replaced.

    Raises:
        ExportError: it holds something else than an earlier export.
    """
    if not output.exists():
        return
    if not output.is_dir():
        raise ExportError(f"{output}: is a file; name a folder for the export")
    known = {EXPORT_FILE, *chain.from_iterable(FILES.values())}
    files = (path for path in output.rglob("*") if path.is_symlink() or not path.is_dir())
    others = sorted(name for path in files if (name := path.relative_to(output).as_posix()) not in known)
    if others:
        raise ExportError(f"{output}: holds {others[0]}, which is no part of an export; name a new folder")


def _open_store(dataset: Path, network: Network) -> Store:
    store = Store.open(dataset)
    if store.classes.names != network.classes.names:
        raise StoreError(
            f"the classes of the model differ from those of {dataset}; name its own data set by --dataset FOLDER, or "
            "compare without one by --made-up-images"
        )
    if not (store.manifest["split"] == VAL).any():
        raise StoreError(f"{dataset}: has no validation images; name another, or take --made-up-images")
    return store


def _read_licence(dataset: Path | None, network_folder: Path) -> str | None:
    """Gives the licence of the data set at hand, if the model was trained on it."""
    if dataset is None:
        return None
    try:
        content = json.loads((dataset / DATASET_FILE).read_text(encoding="utf-8"))
        model = ModelDescription.read(network_folder / MODEL_FILE, "")
    except (OSError, ValueError, StoreError):
        return None
    return str(content["licence"]) if content["digest"] == model.dataset.digest else None


def _trace(network_folder: Path, weights_sha256: str, version: str | None, commit: str | None) -> Lineage:
    try:
        model = ModelDescription.read(network_folder / MODEL_FILE, "")
    except StoreError:  # a model of other origin has less
        return Lineage(weights_sha256, version=version, commit=commit)
    return Lineage(weights_sha256, model.signature, model.dataset.name, model.dataset.digest, commit, version)


def check_bits(form: Format, fewer_bits: FewerBits | None, dataset: Path | None) -> None:
    """Checks that an export can compute with fewer bits; arguments as for `export_model`.

    Raises:
        ExportError: its form cannot, or what is lost cannot be measured here.
    """
    if fewer_bits is None:
        return
    if fewer_bits.int8 and form == "torch":
        raise ExportError("a torch program has no int8; take `--int8` with `--format onnx` or `--format openvino`")
    if fewer_bits.bf16 and form != "openvino":
        raise ExportError(f"`--bf16` needs `--format openvino`: an export to {form} computes as the network does")
    if dataset is None:
        raise ExportError(
            "with fewer bits an export is not equal, and only labelled validation images show what it loses; name "
            "a data set by --dataset FOLDER instead of --made-up-images"
        )
    if fewer_bits.bf16:
        check_bf16()


def _write(
    graph: ExportGraph, description: ExportDescription, path: Path, quantize_it: Quantize | None
) -> ExportDescription:
    """Writes a file, and says what was quantised."""
    program = capture(graph)
    if description.format == "torch":
        write_program(program, json.dumps(_list_metadata(description)), path)
        return description
    with tempfile.TemporaryDirectory(prefix="segpipe-export-") as scratch:
        source, quantized = Path(scratch) / ONNX_FILE, Path(scratch) / "int8.onnx"
        write_onnx(program, graph.output_names, {}, source)
        if quantize_it is not None:
            description = replace(description, quantization=quantize_it(source, quantized))
            source = quantized
        write = write_openvino if description.format == "openvino" else describe_onnx
        write(source, _list_metadata(description), path)
    return description


def _open(path: Path, description: ExportDescription) -> Predict:
    """Reads a file that was written, and gives the function that predicts by it."""
    if description.format == "torch":
        return _open_program(path)
    return open_export(path, BACKENDS[description.format], bf16=description.bf16)


def _list_metadata(description: ExportDescription) -> dict[str, str]:
    """Gives what a file says of itself: texts, lists and tables as JSON; unknown things are left out."""
    known = {**description.to_json(), **asdict(description.lineage)}
    if description.format == "triton":
        known["format"] = "onnx"  # the file is that of an export to ONNX, to the last byte
    for of_the_folder in ("lineage", "parity", "files"):
        del known[of_the_folder]
    return {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in known.items() if value is not None
    }


def _open_program(path: Path) -> Predict:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # The guards refuse sizes that the program can compute: of the sample's strides, of maps of one pixel.
        module = torch.export.load(path).module(check_guards=False)

    @torch.inference_mode()
    def predict(images_NHWC: Images) -> Prediction:
        masks_NHW, confidences_NHW, *_ = module(torch.tensor(np.asarray(images_NHWC)))
        return Prediction(masks_NHW.numpy(), confidences_NHW.numpy())

    return predict
