"""Captures a graph as a torch program with dynamic batch, height and width."""

import logging
import warnings
from pathlib import Path

import torch
from torch.export import ExportedProgram

from segpipe.errors import ExportError
from segpipe.export.graph import ExportGraph

# It warns where triton is not installed, which neither the exporter nor a program needs.
logging.getLogger("torch.utils.flop_counter").setLevel(logging.ERROR)

# Odd, and so is each half that is rounded up: where a model pads and cuts, the program does so for any size.
SAMPLE_SHAPE = (2, 97, 161, 3)


def capture(graph: ExportGraph) -> ExportedProgram:
    """Captures a graph.

    Args:
        graph: on the CPU.

    Raises:
        ExportError: it has a step that depends on values, or that holds for some sizes only.
    """
    any_size = torch.export.Dim.DYNAMIC
    images_NHWC = torch.zeros(SAMPLE_SHAPE, dtype=torch.uint8)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the exporter, about itself
            return torch.export.export(
                graph.eval(), (images_NHWC,), dynamic_shapes=({0: any_size, 1: any_size, 2: any_size},)
            )
    except Exception as error:  # the exporter raises whatever its passes raise
        raise ExportError(f"torch.export cannot capture the network: {reason_of(error)}") from error


def write_program(program: ExportedProgram, description: str, path: Path) -> None:
    """Writes a program that `torch.export.load` reads.

    Args:
        program: what `capture` gave.
        description: JSON, stored in the file as `metadata.json`.
        path: of the file to write, `*.pt2`.
    """
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths and lines of the machine that exports
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, path, extra_files={"metadata.json": description})


def reason_of(error: BaseException) -> str:
    """Gives the first line of what began an exporter's error; the lines around it are advice for its authors."""
    while error.__cause__ is not None:
        error = error.__cause__
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {line}"
