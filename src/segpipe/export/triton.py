"""Describes an ONNX export for NVIDIA's Triton Inference Server: `config.pbtxt` and the names of the classes.

The format is Triton's `ModelConfig` as protobuf text (triton-inference-server/common, protobuf/model_config.proto). The
folder of the export is the folder of one model in a repository, and Triton takes the model's name from it.
"""

from collections.abc import Sequence
from pathlib import Path

from segpipe.classes import ClassTable
from segpipe.export.document import CONFIDENCES, INPUT, MASKS, PROBABILITIES, TRITON_CONFIG, TRITON_LABELS

# As `segpipe serve` does it by default.
MAX_BATCH_SIZE = 8
MAX_DELAY_MICROSECONDS = 5000
ANY = -1


def write_triton_files(folder: Path, classes: ClassTable, output_names: Sequence[str]) -> None:
    """Writes what Triton needs next to the version's folder.

    Args:
        folder: of the export.
        classes: of the masks; line i + 1 of the labels is class i.
        output_names: of the graph.
    """
    (folder / TRITON_CONFIG).write_text(describe(classes.num_classes, output_names), encoding="utf-8")
    (folder / TRITON_LABELS).write_text("".join(f"{name}\n" for name in classes.names), encoding="utf-8")


def describe(num_classes: int, output_names: Sequence[str]) -> str:
    """Gives the text of `config.pbtxt`; the axis of the batch is not among the dimensions there.

    Args:
        num_classes: of the masks.
        output_names: of the graph.
    """
    outputs = {
        MASKS: ("TYPE_UINT8", [ANY, ANY]),
        CONFIDENCES: ("TYPE_FP32", [ANY, ANY]),
        PROBABILITIES: ("TYPE_FP32", [num_classes, ANY, ANY]),
    }
    return "\n".join(
        [
            'backend: "onnxruntime"',
            f"max_batch_size: {MAX_BATCH_SIZE}",
            "input [",
            _describe_tensor(INPUT, "TYPE_UINT8", [ANY, ANY, 3]),
            "]",
            "output [",
            ",\n".join(_describe_tensor(name, *outputs[name]) for name in output_names),
            "]",
            f"dynamic_batching {{ max_queue_delay_microseconds: {MAX_DELAY_MICROSECONDS} }}",
            "",
        ]
    )


def _describe_tensor(name: str, data_type: str, dims: Sequence[int]) -> str:
    return f'  {{ name: "{name}" data_type: {data_type} dims: [ {", ".join(map(str, dims))} ] }}'
