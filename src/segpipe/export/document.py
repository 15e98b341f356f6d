"""The type of `export.json`: what was exported, from what, and how well the export agrees with the model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from segpipe.classes import ClassTable
from segpipe.documents import DECIDES_NOTHING, BuiltModel, Document, ImageMapping

ONNX_FILE, TORCH_FILE = "model.onnx", "model.pt2"
OPENVINO_FILE, OPENVINO_WEIGHTS = "model.xml", "model.bin"
TRITON_FILE, TRITON_CONFIG, TRITON_LABELS = f"1/{ONNX_FILE}", "config.pbtxt", "labels.txt"
# The files of each format, by their paths in the folder; a program is opened by the first.
FILES = {
    "onnx": (ONNX_FILE,),
    "openvino": (OPENVINO_FILE, OPENVINO_WEIGHTS),
    "torch": (TORCH_FILE,),
    "triton": (TRITON_FILE, TRITON_CONFIG, TRITON_LABELS),
}
INPUT = "images"
MASKS, CONFIDENCES, PROBABILITIES = "masks", "confidences", "probabilities"


@dataclass(frozen=True)
class Lineage:
    """Where the weights come from.

    Attributes:
        weights_sha256: of `weights.safetensors`.
        signature: sha256 of everything that decided the weights; None in models of other origin.
        dataset: name of the data set; None where it is not known.
        dataset_digest: of its content; None where it is not known.
        commit: of the code and parameters that trained it; None where it is not known.
        version: name and version of the registered model; None for a model of a folder.
    """

    weights_sha256: str
    signature: str | None = None
    dataset: str | None = None
    dataset_digest: str | None = None
    commit: str | None = None
    version: str | None = None


@dataclass(frozen=True)
class Agreement:
    """How well two predictions of a set of images agree.

    Attributes:
        images: what they are: the name of a split, or the size to which images were resized.
        num_images: how many.
        num_px: pixels of all of them.
        num_unequal_px: pixels whose classes differ. Ties are counted too: where two classes are nearly equally likely,
            the last bit of a sum decides, and so a large model has some unequal pixels in a million.
        max_confidence_difference: the largest difference of a pixel's confidence, 0..1.
        worst: the image with the most unequal pixels.
        worst_equal_share: its share of equal pixels, 0..1.
    """

    images: str
    num_images: int
    num_px: int
    num_unequal_px: int
    max_confidence_difference: float
    worst: str
    worst_equal_share: float

    @property
    def equal_share(self) -> float:
        """The share of pixels whose classes are equal, 0..1."""
        return 1 - self.num_unequal_px / self.num_px


@dataclass(frozen=True)
class Parity:
    """The comparison of an export with the model that it was made of.

    Attributes:
        images: the images that were compared: `validation` images of a data set, or `made up` where there was none.
        dataset_digest: of those validation images; None where there were none.
        agreements: on the images as they are, and at other sizes.
        mean_iou: of the model on the validation images, 0..1; None without them.
        mean_iou_of_export: the same of the export.
    """

    images: str
    dataset_digest: str | None
    agreements: Sequence[Agreement]
    mean_iou: float | None
    mean_iou_of_export: float | None


@dataclass(frozen=True)
class Quantization:
    """How the layers of a network became whole numbers of 8 bits.

    Attributes:
        calibration: the rule by which the range of each tensor was chosen.
        num_images: training images on which the tensors were seen.
        dataset_digest: of the training images of the data set.
        num_layers: layers with weights that can be quantised.
        float_layers: the names of those that were left in float, the worst first.
        operations: how many operations of each type are computed with 8 bits.
        max_mean_iou_loss: points of the mean IoU that may be lost.
    """

    calibration: str
    num_images: int
    dataset_digest: str
    num_layers: int
    float_layers: Sequence[str]
    operations: Mapping[str, int]
    max_mean_iou_loss: float


@dataclass(frozen=True, kw_only=True)
class ExportDescription(Document):
    """`export.json`.

    Attributes:
        format: `onnx`, `openvino`, `torch`, or `triton`: the ONNX file in the folders of a Triton server.
        model: the network.
        classes: the class table: value i of a mask is class i.
        image_mapping: how the files of images become RGB of 8 bits.
        inference: how it predicts: scales and mirroring, which are inside the graph.
        network_alone: whether windows and CRF of `evaluate.inference` were left out.
        outputs: names of the outputs, in their order.
        licence: of the images that it was trained on, as their source says; None where it is not known.
        lineage: where the weights come from.
        parity: the comparison with the model.
        versions: of the packages that wrote it.
        files: sha256 of each file, by its path in the folder.
        quantization: how it was made smaller; None where the weights are those of the network.
        bf16: whether it was compared, and is loaded, with sums of products of bfloat16 (OpenVINO alone).
    """

    format: str
    model: BuiltModel
    classes: ClassTable
    image_mapping: ImageMapping = DECIDES_NOTHING
    inference: Mapping[str, object]
    network_alone: bool
    outputs: Sequence[str]
    licence: str | None
    lineage: Lineage
    parity: Parity
    versions: Mapping[str, str]
    files: Mapping[str, str]
    quantization: Quantization | None = None
    bf16: bool = False
