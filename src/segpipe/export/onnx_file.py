"""Writes a captured program as an ONNX file with its metadata."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch.export import ExportedProgram

from segpipe.errors import ExportError
from segpipe.export.document import INPUT
from segpipe.export.exported import INSTALL

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
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ExportError(f"an export to ONNX {INSTALL}") from error
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter, about itself
            written = torch.onnx.export(
                program, (), dynamo=True, verbose=False, input_names=[INPUT], output_names=list(output_names)
            )
    except Exception as error:  # the exporter raises whatever its passes raise
        raise ExportError(f"torch.onnx cannot write the network: {str(error).splitlines()[0]}") from error
    assert written is not None
    model = written.model_proto
    _name_axes(model.graph)
    _remove_traces(model)
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _name_axes(graph: "onnx.GraphProto") -> None:  # type: ignore[name-defined]  # noqa: F821
    """Names the axes of inputs and outputs, instead of by symbols; ONNX Runtime finds the shapes in between itself."""
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
