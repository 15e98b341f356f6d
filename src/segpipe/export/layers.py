"""Which operations of an ONNX graph are computed with 8 bits: the network's layers and what lies between them.

What is around the network stays in float by rule: the normalisation comes before the first layer, and the resizing of
the logits, arg-max and softmax after the last one.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

# With weights. ONNX Runtime has no transposed convolution of 8 bits, and a product of two computed tensors (attention)
# has no weights whose scale could be chosen for each channel.
LAYERS = ("Conv", "Gemm", "MatMul")
ACTIVATIONS = ("Relu", "Clip")  # become a part of the layer before them
PASSING = ("Add", "Concat", "MaxPool", "Resize")  # from layers to layers; in float they would cost two conversions
OPERATIONS = (*LAYERS, *ACTIVATIONS, *PASSING)
MODULE = "module."  # of ExportGraph


@dataclass(frozen=True)
class Layer:
    """A layer with weights.

    Attributes:
        name: of its weights.
        nodes: that compute with these weights: one for each scale and mirroring.
    """

    name: str
    nodes: tuple[str, ...]


def list_layers(graph: "onnx.GraphProto") -> list[Layer]:
    """Lists the layers of a graph that can be quantised, in their order."""
    constants = {tensor.name for tensor in graph.initializer}
    nodes: dict[str, list[str]] = {}
    for node in graph.node:
        if node.op_type in LAYERS and node.input[1] in constants:
            nodes.setdefault(node.input[1], []).append(node.name)
    return [Layer(weights.removeprefix(MODULE).removesuffix(".weight"), tuple(of)) for weights, of in nodes.items()]


def choose_nodes(graph: "onnx.GraphProto", layers: Iterable[Layer]) -> list[str]:
    """Chooses the nodes to quantise: of some layers, their activations, and what passes values between these layers.

    Args:
        graph: in topological order.
        layers: to quantise.
    """
    chosen = {name for layer in layers for name in layer.nodes}
    needed = _feed(graph, chosen)
    made: set[str] = set()  # tensors of 8 bits
    names = []
    for node in graph.node:
        inputs = node.input if node.op_type in ("Add", "Concat") else node.input[:1]
        is_between = all(name in made for name in inputs) and (
            node.op_type in ACTIVATIONS or (node.op_type in PASSING and not needed.isdisjoint(node.output))
        )
        if node.name in chosen or is_between:
            names.append(node.name)
            made.update(node.output)
    return names


def _feed(graph: "onnx.GraphProto", chosen: Collection[str]) -> set[str]:
    """Gives the tensors on which an input of a chosen node depends."""
    needed: set[str] = set()
    for node in reversed(graph.node):
        if node.name in chosen or not needed.isdisjoint(node.output):
            needed.update(node.input)
    return needed
