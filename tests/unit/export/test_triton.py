"""The folder of a Triton server: its configuration by protobuf's own parser, and the same ONNX file.

No server is started: the messages below are those fields of Triton's documented `ModelConfig` that we write.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from segpipe.errors import StoreError
from segpipe.export.document import ExportDescription
from segpipe.export.exported import ExportedModel
from segpipe.export.make import check_output, export_model
from segpipe.export.triton import describe

from .conftest import TABLE, Exported, random_images

PAGE = Path(__file__).parents[3] / "docs/export.md"
FIELD = descriptor_pb2.FieldDescriptorProto
# Name of the message: name, number and type of each field; "[]" repeats it. Of triton-inference-server/common,
# protobuf/model_config.proto.
MESSAGES = {
    "ModelInput": (("name", 1, "string"), ("data_type", 2, "DataType"), ("dims", 4, "int64[]")),
    "ModelOutput": (("name", 1, "string"), ("data_type", 2, "DataType"), ("dims", 3, "int64[]")),
    "ModelDynamicBatching": (("preferred_batch_size", 1, "int32[]"), ("max_queue_delay_microseconds", 2, "uint64")),
    "ModelConfig": (
        ("name", 1, "string"),
        ("platform", 2, "string"),
        ("backend", 17, "string"),
        ("max_batch_size", 4, "int32"),
        ("input", 5, "ModelInput[]"),
        ("output", 6, "ModelOutput[]"),
        ("dynamic_batching", 11, "ModelDynamicBatching"),
    ),
}
DATA_TYPES = {"TYPE_INVALID": 0, "TYPE_UINT8": 2, "TYPE_FP32": 11}
# Triton's name of each type of ONNX.
ONNX_TYPES = {onnx.TensorProto.UINT8: "TYPE_UINT8", onnx.TensorProto.FLOAT: "TYPE_FP32"}


def parse(text: str) -> Any:
    """Gives a `ModelConfig`; raises for an unknown field, a wrong type, or text that is none."""
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", package="inference", syntax="proto3")
    types = file.enum_type.add(name="DataType")
    for name, number in DATA_TYPES.items():
        types.value.add(name=name, number=number)
    for message, fields in MESSAGES.items():
        described = file.message_type.add(name=message)
        for name, number, kind in fields:
            field = described.field.add(name=name, number=number)
            field.label = FIELD.LABEL_REPEATED if kind.endswith("[]") else FIELD.LABEL_OPTIONAL
            kind = kind.removesuffix("[]")
            if kind in MESSAGES or kind == "DataType":
                field.type = FIELD.TYPE_MESSAGE if kind in MESSAGES else FIELD.TYPE_ENUM
                field.type_name = f".inference.{kind}"
            else:
                field.type = getattr(FIELD, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    config = message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))()
    return text_format.Parse(text, config)


def tensors(values: Any) -> dict[str, tuple[str, list[int]]]:
    names = {number: name for name, number in DATA_TYPES.items()}
    return {value.name: (names[value.data_type], list(value.dims)) for value in values}


def shapes(values: Any, num_without_batch: int = 1) -> dict[str, tuple[str, list[int]]]:
    """What an ONNX graph says of its tensors, in Triton's words: without the batch, -1 for any size."""
    return {
        value.name: (
            ONNX_TYPES[value.type.tensor_type.elem_type],
            [-1 if dim.dim_param else dim.dim_value for dim in value.type.tensor_type.shape.dim][num_without_batch:],
        )
        for value in values
    }


@pytest.fixture(scope="module")
def triton(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ExportDescription]:
    """The same network as `exported`, in the folder of a model of a repository."""
    output = tmp_path_factory.mktemp("models") / "streets"
    dataset, given = exported.dataset, {"version": "streets/3", "commit": "c" * 40}
    return output, export_model(exported.network, output, "triton", dataset=dataset, **given)


def test_the_parser_of_this_test_refuses_what_triton_does_not_know() -> None:
    for text in ('nam: "x"', "max_batch_size: many", 'input [ { name: "x" data_type: TYPE_UINT9 } ]', "input ["):
        with pytest.raises(text_format.ParseError):
            parse(text)


def test_the_configuration_says_what_the_graph_says(triton: tuple[Path, ExportDescription]) -> None:
    folder, _ = triton
    config = parse((folder / "config.pbtxt").read_text(encoding="utf-8"))
    graph = onnx.load(folder / "1/model.onnx").graph
    assert tensors(config.input) == shapes(graph.input) == {"images": ("TYPE_UINT8", [-1, -1, 3])}
    assert tensors(config.output) == shapes(graph.output)
    assert [value.name for value in config.output] == ["masks", "confidences"]
    assert (config.backend, config.name, config.max_batch_size) == ("onnxruntime", "", 8)
    assert config.HasField("dynamic_batching") and config.dynamic_batching.max_queue_delay_microseconds == 5000


def test_the_page_shows_the_configuration() -> None:
    assert describe(TABLE.num_classes, ("masks", "confidences")) in PAGE.read_text(encoding="utf-8")


def test_probabilities_have_an_axis_of_classes() -> None:
    config = parse(describe(11, ("masks", "confidences", "probabilities")))
    assert tensors(config.output)["probabilities"] == ("TYPE_FP32", [11, -1, -1])


def test_the_file_is_that_of_an_export_to_onnx_and_answers_as_it(
    triton: tuple[Path, ExportDescription], exported: Exported
) -> None:
    folder, description = triton
    assert (folder / "1/model.onnx").read_bytes() == (exported.folder / "model.onnx").read_bytes()
    assert (description.format, description.parity) == ("triton", exported.description.parity)
    images = random_images(2, 40, 33, 3)
    one, other = ExportedModel.load(folder, num_threads=1), ExportedModel.load(exported.folder, num_threads=1)
    found, expected = one.predict(images), other.predict(images)
    np.testing.assert_array_equal(found.masks_NHW, expected.masks_NHW)
    np.testing.assert_array_equal(found.confidences_NHW, expected.confidences_NHW)


def test_the_folder_holds_the_names_of_the_classes_and_can_be_replaced(
    triton: tuple[Path, ExportDescription], tmp_path: Path
) -> None:
    folder, description = triton
    assert (folder / "labels.txt").read_text(encoding="utf-8").splitlines() == list(TABLE.names)
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {"1/model.onnx", "config.pbtxt", "labels.txt", "export.json"}
    assert description.files.keys() == files - {"export.json"}
    check_output(folder)
    copied = shutil.copytree(folder, tmp_path / "copied")
    (copied / "config.pbtxt").write_text("", encoding="utf-8")  # for its user to change
    ExportedModel.load(copied)
    (copied / "1/model.onnx").write_bytes(b"")
    with pytest.raises(StoreError, match=r"1/model\.onnx"):
        ExportedModel.load(copied)
