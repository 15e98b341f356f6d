"""Exports of 8 bits: what is quantised, what is left in float, what is refused."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from facts import missing
from onnx import TensorProto, helper
from samples import Sample

from segpipe.data.store import Store
from segpipe.errors import ExportError, StoreError
from segpipe.export.document import ExportDescription
from segpipe.export.exported import ExportedModel, open_session, run_session
from segpipe.export.layers import Layer, choose_nodes, list_layers
from segpipe.export.make import export_model
from segpipe.export.quantize import FewerBits, choose_calibration, quantize, search

from .conftest import Exported, random_images

LAYERS = [Layer(name, (name,)) for name in "abcdefghij"]


@pytest.fixture(scope="module")
def quantized(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small network with 8 bits; it is untrained, and may lose what it likes."""
    output = tmp_path_factory.mktemp("quantized") / "output"
    export_model(exported.network, output, dataset=exported.dataset, fewer_bits=FewerBits(True, max_mean_iou_loss=100))
    return output


def test_it_loads_and_predicts_nearly_the_same(exported: Exported, quantized: Path) -> None:
    model, other = ExportedModel.load(quantized, num_threads=1), ExportedModel.load(exported.folder, num_threads=1)
    for shape in ((1, 40, 33), (2, 97, 131)):
        found, expected = model.predict(random_images(*shape, 3)), other.predict(random_images(*shape, 3))
        assert found.masks_NHW.shape == shape and found.masks_NHW.dtype == np.uint8
        assert np.mean(found.masks_NHW == expected.masks_NHW) > 0.8
        assert np.abs(found.confidences_NHW - expected.confidences_NHW).mean() < 0.1


def test_the_document_says_what_was_quantised(exported: Exported, quantized: Path) -> None:
    found = ExportDescription.read(quantized / "export.json", "")
    quantization = found.quantization
    assert quantization is not None
    graph = onnx.load(quantized / "model.onnx").graph
    assert quantization.num_layers == quantization.operations["Conv"]
    assert quantization.operations["Conv"] == Counter(node.op_type for node in graph.node)["Conv"]
    assert quantization.float_layers == []
    assert quantization.num_images == 2
    assert quantization.dataset_digest == Store.open(exported.dataset).of_split("train").digest
    assert found.parity.mean_iou is not None and found.parity.mean_iou_of_export is not None
    assert 1e-4 < found.parity.agreements[0].max_confidence_difference < 0.2
    assert exported.description.quantization is None


def test_weights_are_int8_and_what_is_around_the_network_is_float(exported: Exported, quantized: Path) -> None:
    model = onnx.load(quantized / "model.onnx")
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    makers = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        if node.op_type == "Conv":
            weights = makers[node.input[1]]
            assert weights.op_type == "DequantizeLinear" and types[weights.input[0]] == TensorProto.INT8
        if node.op_type in ("Sub", "Div", "ArgMax", "Exp"):
            assert not any(name in makers and makers[name].op_type == "DequantizeLinear" for name in node.input)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["weights_sha256"] == exported.description.lineage.weights_sha256
    assert "percentile" in metadata["quantization"]


def test_the_worst_layer_stays_in_float(exported: Exported, tmp_path: Path) -> None:
    source, target = Path(shutil.copy(exported.folder / "model.onnx", tmp_path)), tmp_path / "int8.onnx"
    losses = [3.0, 0.2]
    calibration = choose_calibration(Store.open(exported.dataset))
    found = quantize(source, target, calibration, lambda _: losses.pop(0), max_loss=0.5)
    graph = onnx.load(target).graph
    makers = {output: node for node in graph.node for output in node.output}
    in_float = [node.input[1] for node in graph.node if node.op_type == "Conv" and node.input[1] not in makers]
    assert in_float == [f"module.{name}.weight" for name in found.float_layers]
    assert len(in_float) == 1
    assert found.operations["Conv"] == found.num_layers - 1
    images = random_images(1, 40, 33, 3)
    assert run_session(open_session(target, 1), images).masks_NHW.shape == (1, 40, 33)


def test_a_loss_that_is_not_allowed_changes_nothing(exported: Exported, quantized: Path, tmp_path: Path) -> None:
    earlier = Path(shutil.copytree(quantized, tmp_path / "output"))
    before = {path.name: path.read_bytes() for path in earlier.iterdir()}
    impossible = FewerBits(int8=True, max_mean_iou_loss=-100)
    with pytest.raises(ExportError) as raised:
        export_model(exported.network, earlier, dataset=exported.dataset, fewer_bits=impossible)
    assert not missing(str(raised.value), "-100 points", "--max-miou-loss", "0 of ", "layers in float", "Nothing was")
    assert list(tmp_path.iterdir()) == [earlier]
    assert {path.name: path.read_bytes() for path in earlier.iterdir()} == before


@pytest.mark.parametrize(
    ("form", "fewer_bits", "facts"),
    [
        ("torch", FewerBits(int8=True), ("torch", "--format onnx")),
        ("onnx", FewerBits(bf16=True), ("--bf16", "--format openvino")),
        ("onnx", FewerBits(int8=True), ("validation images", "--dataset FOLDER")),
    ],
)
def test_what_cannot_be_made_is_said_at_once(
    form: str, fewer_bits: FewerBits, facts: Sequence[str], tmp_path: Path
) -> None:
    with pytest.raises(ExportError) as raised:
        export_model(tmp_path / "none", tmp_path / "output", form, fewer_bits=fewer_bits)  # type: ignore[arg-type]
    assert not missing(str(raised.value), *facts)


def test_a_data_set_without_training_images_is_refused(
    make_store: Callable[..., Store], make_sample: Callable[..., Sample]
) -> None:
    store = make_store([make_sample("a_0", "val")])
    with pytest.raises(StoreError) as raised:
        choose_calibration(store)
    assert not missing(str(raised.value), str(store.folder), "training images")


def test_ranges_are_seen_on_training_images_alone(
    make_store: Callable[..., Store], make_sample: Callable[..., Sample]
) -> None:
    store = make_store([make_sample("a_0", "train"), make_sample("b_0", "val"), make_sample("c_0", "test")])
    found = choose_calibration(store)
    (image,) = found.images
    np.testing.assert_array_equal(image, store.of_split("train").read(0)[0])
    assert found.dataset_digest == store.of_split("train").digest


def test_no_layer_is_freed_where_none_needs_it() -> None:
    def rank() -> list[Layer]:
        raise AssertionError("the order was not needed")

    assert search(LAYERS, rank, lambda float_layers: 0.2, max_loss=0.5) == []


def test_the_worst_layers_are_freed_until_it_passes() -> None:
    tried: list[int] = []

    def attempt(float_layers: Sequence[Layer]) -> float:
        tried.append(len(float_layers))
        return 0.1 if LAYERS[7] in float_layers else 3

    order = [LAYERS[2], LAYERS[5], LAYERS[7], *LAYERS[:2], *LAYERS[3:5], LAYERS[6], *LAYERS[8:]]
    assert search(LAYERS, lambda: order, attempt, max_loss=0.5) == order[:4]
    assert tried == [0, 1, 2, 4]


@pytest.mark.parametrize("loss", [0.6, float("nan")])
def test_at_most_half_of_the_layers_are_freed(loss: float) -> None:
    tried: list[int] = []

    def attempt(float_layers: Sequence[Layer]) -> float:
        tried.append(len(float_layers))
        return loss

    with pytest.raises(ExportError) as raised:
        search(LAYERS, lambda: LAYERS[::-1], attempt, max_loss=0.5)
    assert tried == [0, 1, 2, 4, 5]
    assert not missing(str(raised.value), "5 of 10 layers", f"{loss:.2f}", "j, i, h")


def _make_graph() -> onnx.GraphProto:
    """Two layers, an activation, an addition between them, one of a constant, and a resizing after the last layer."""

    def node(op_type: str, inputs: str, output: str) -> onnx.NodeProto:
        return helper.make_node(op_type, inputs.split(), [output], name=output)

    weights = [helper.make_tensor(name, TensorProto.FLOAT, [1], [1.0]) for name in ("module.a.weight", "w", "b")]
    nodes = [
        node("Sub", "images b", "normal"),
        node("Conv", "normal module.a.weight", "one"),
        node("Relu", "one", "active"),
        node("Add", "active one", "sum"),
        node("Add", "sum b", "biased"),
        node("MatMul", "sum biased", "attention"),
        node("Conv", "sum w", "two"),
        node("Resize", "two", "logits"),
    ]
    value = helper.make_tensor_value_info
    return helper.make_graph(
        nodes, "g", [value("images", TensorProto.FLOAT, None)], [value("logits", TensorProto.FLOAT, None)], weights
    )


def test_layers_have_weights() -> None:
    assert list_layers(_make_graph()) == [Layer("a", ("one",)), Layer("w", ("two",))]


def test_what_lies_between_layers_is_quantised_with_them() -> None:
    graph = _make_graph()
    first, last = list_layers(graph)
    assert choose_nodes(graph, [first, last]) == ["one", "active", "sum", "two"]
    assert choose_nodes(graph, [first]) == ["one", "active"]
    assert choose_nodes(graph, [last]) == ["two"]
