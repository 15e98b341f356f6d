"""Writes a captured program as an ONNX file with its metadata."""

import operator
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.export import ExportedProgram

from segpipe.errors import ExportError
from segpipe.export.document import INPUT
from segpipe.export.exported import INSTALL
from segpipe.export.program import reason_of

AXES = ("batch", "height", "width")


def write_onnx(
    program: ExportedProgram, output_names: tuple[str, ...], metadata: Mapping[str, str], path: Path
) -> None:
    """Writes an ONNX file.

    Args:
        program: what `capture` gave.
        output_names: of the graph.
        metadata: becomes the file's `metadata_props`.
        path: of the file to write.

    Raises:
        ExportError: an operation has no form in ONNX, or the packages are not installed.
    """
    try:
        import onnx

        translations = _translate_whole_numbers()
    except ImportError as error:
        raise ExportError(f"an export to ONNX {INSTALL}") from error
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter, about itself
            written = torch.onnx.export(
                program,
                (),
                dynamo=True,
                verbose=False,
                input_names=[INPUT],
                output_names=list(output_names),
                custom_translation_table=translations,
            )
    except Exception as error:  # the exporter raises whatever its passes raise
        raise ExportError(f"torch.onnx cannot write the network: {reason_of(error)}") from error
    assert written is not None
    model = written.model_proto
    _name_axes(model.graph)
    _remove_traces(model)
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    onnx.save(model, path)


def describe_onnx(source: Path, metadata: Mapping[str, str], path: Path) -> None:
    """Writes an ONNX file with other metadata.

    Args:
        source: the file as it is.
        metadata: takes the place of the file's `metadata_props`.
        path: of the file to write.
    """
    import onnx

    model = onnx.load(source)
    del model.metadata_props[:]
    del model.graph.value_info[:]
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _translate_whole_numbers() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Gives ONNX's form of divisions by symbols: that of the exporter rounds towards zero, or knows no such divisor."""
    from onnxscript import opset20

    def divide(self: Any, other: Any) -> Any:
        return opset20.Div(opset20.Sub(self, opset20.Mod(self, other)), other)

    def remain(self: Any, other: Any) -> Any:
        return opset20.Mod(self, opset20.CastLike(other, self))

    return {operator.floordiv: divide, torch.ops.aten.remainder.Scalar: remain}


def _name_axes(graph: "onnx.GraphProto") -> None:  # type: ignore[name-defined]  # noqa: F821
    """Names the axes of inputs and outputs, and removes the shapes in between, which ONNX Runtime finds itself.

    The exporter's can be wrong: by those of PAN it gave two tensors of different sizes one buffer.
    """
    del graph.value_info[:]
    symbols = [dim.dim_param for dim in graph.input[0].type.tensor_type.shape.dim[: len(AXES)]]
    names = dict(zip(symbols, AXES, strict=True))
    for value in [*graph.input, *graph.output]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = names.get(dim.dim_param, dim.dim_param)


def _remove_traces(model: "onnx.ModelProto") -> None:  # type: ignore[name-defined]  # noqa: F821
    """Removes stack traces: paths and lines of the machine that exported."""
    del model.graph.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
