"""Makes an ONNX file compute with whole numbers of 8 bits, and leaves in float the layers that do not bear it.

ONNX Runtime's static quantisation: weights int8 with a scale for each channel, tensors uint8 with a scale for each
tensor, whose range was seen on training images. If that loses too much, the layers are ordered by the pixels that
change where one alone is quantised, and the worst are left in float: 1, 2, 4, ... until it passes, at most half.
"""

import contextlib
import io
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segpipe.data.store import TRAIN, Store, evenly_spread
from segpipe.errors import ExportError, StoreError
from segpipe.export.document import INPUT, Quantization
from segpipe.export.exported import INSTALL, open_session, run_session
from segpipe.export.layers import OPERATIONS, Layer, choose_nodes, list_layers
from segpipe.export.parity import Images, Limits

log = logging.getLogger(__name__)

PERCENTILE = 99.999  # of a tensor's values lie in its range; docs/export.md has the comparison with the entropy
NUM_CALIBRATION_IMAGES = 64
MAX_SIDE_PX = 512  # of a calibration image: the histograms see all values of all tensors
NUM_RANKING_IMAGES = 4


@dataclass(frozen=True)
class FewerBits:
    """An export that computes with fewer bits than the network: faster, and not equal.

    Attributes:
        int8: whether layers are quantised.
        bf16: whether the rest, or without `int8` all, computes with bfloat16; OpenVINO alone.
        max_mean_iou_loss: points of the mean IoU that may be lost on the validation images.
    """

    int8: bool = False
    bf16: bool = False
    max_mean_iou_loss: float = 0.5

    @property
    def limits(self) -> Limits:
        """What the export may differ by."""
        return Limits(min_equal_share=0, max_mean_iou_difference=self.max_mean_iou_loss, may_gain=True)


@dataclass(frozen=True)
class Calibration:
    """The images on which ranges are chosen.

    Attributes:
        images: (H, W, 3) uint8 RGB each.
        dataset_digest: of the training images that they were taken from.
    """

    images: Sequence[Images]
    dataset_digest: str


def choose_calibration(store: Store) -> Calibration:
    """Chooses training images, evenly spread and always the same; of a large one the middle.

    Raises:
        StoreError: there are none.
    """
    split = store.of_split(TRAIN)
    if not len(split):
        raise StoreError(f"{store.folder}: has no training images, on which int8 is calibrated; name another")
    images = [split.read(index)[0] for index in evenly_spread(len(split), NUM_CALIBRATION_IMAGES)]
    return Calibration([_cut(image) for image in images], split.digest)


def _cut(image_HWC: Images) -> Images:
    top, left = (max(0, (length - MAX_SIDE_PX) // 2) for length in image_HWC.shape[:2])
    return image_HWC[top : top + MAX_SIDE_PX, left : left + MAX_SIDE_PX]


def quantize(
    source: Path, target: Path, calibration: Calibration, lose: Callable[[Path], float], max_loss: float
) -> Quantization:
    """Writes an ONNX file that computes with 8 bits.

    Args:
        source: an ONNX file in float; files are written beside it.
        target: of the file to write.
        calibration: the images on which ranges are chosen.
        lose: measures a file: the points of the mean IoU that it loses.
        max_loss: that is allowed.

    Raises:
        ExportError: even with half of the layers in float it loses more, or a package is not installed.
    """
    quantizer = Quantizer.make(source, calibration)
    if not quantizer.layers:
        raise ExportError("the network has no layer that int8 could compute; export it without --int8")

    def attempt(float_layers: Sequence[Layer]) -> float:
        quantizer.write(target, [layer for layer in quantizer.layers if layer not in float_layers])
        loss = lose(target)
        log.info("int8 with %d of %d layers in float loses %.3f points", len(float_layers), len(quantizer.layers), loss)
        return loss

    float_layers = search(quantizer.layers, quantizer.rank, attempt, max_loss)
    written = choose_nodes(quantizer.graph, [layer for layer in quantizer.layers if layer not in float_layers])
    types = {node.name: node.op_type for node in quantizer.graph.node}
    return Quantization(
        calibration=f"percentile {PERCENTILE}",
        num_images=len(calibration.images),
        dataset_digest=calibration.dataset_digest,
        num_layers=len(quantizer.layers),
        float_layers=[layer.name for layer in float_layers],
        operations=dict(sorted(Counter(types[name] for name in written).items())),
        max_mean_iou_loss=max_loss,
    )


def search(
    layers: Sequence[Layer],
    rank: Callable[[], list[Layer]],
    attempt: Callable[[Sequence[Layer]], float],
    max_loss: float,
) -> Sequence[Layer]:
    """Finds layers to leave in float: none, or the worst 1, 2, 4, ... up to half.

    Args:
        layers: all of them.
        rank: gives them in the order of their error, the largest first; is asked only where it is needed.
        attempt: leaves some in float, and gives the points that are lost.
        max_loss: that is allowed.

    Raises:
        ExportError: half of them in float is not enough.
    """
    figures = []
    order: list[Layer] = []
    for count in _counts(len(layers)):
        order = order if order or not count else rank()
        loss = attempt(order[:count])
        if loss <= max_loss:  # false for a loss that is not a number
            return order[:count]
        figures.append(f"  {count} of {len(layers)} layers in float: {loss:.2f} points of mIoU lost")
    head = f"int8 loses more than {max_loss:g} points of mIoU (--max-miou-loss) on the validation images:"
    tail = "Nothing was written; export without --int8, or allow a larger loss"
    worst = f"  worst layers: {', '.join(layer.name for layer in order[:3])}"
    raise ExportError("\n".join([head, *figures, *([worst] if order else []), tail]))


def _counts(num_layers: int) -> Iterator[int]:
    """Gives 0, 1, 2, 4, ... and last the half."""
    half = num_layers // 2
    yield 0
    count = 1
    while count < half:
        yield count
        count *= 2
    if half:
        yield half


@dataclass(frozen=True)
class Quantizer:
    """Quantises some layers of a file by ranges that were chosen once.

    Attributes:
        source: the file in float, prepared by ONNX Runtime.
        ranges: a file with the range of each tensor.
        graph: of the file in float.
        layers: of the file that can be quantised.
        images: for the order of the layers, (H, W, 3) uint8 RGB each.
    """

    source: Path
    ranges: Path
    graph: Any
    layers: Sequence[Layer]
    images: Sequence[Images]

    @staticmethod
    def make(source: Path, calibration: Calibration) -> "Quantizer":
        """Chooses the ranges of all tensors of a file."""
        try:
            import onnx
            from onnxruntime.quantization import shape_inference
        except ImportError as error:
            raise ExportError(f"int8 {INSTALL}") from error
        prepared, ranges = source.with_suffix(".prepared.onnx"), source.with_suffix(".ranges.json")
        # Torch's exporter has folded constants and batch norms already; what is left is to infer the types of tensors.
        shape_inference.quant_pre_process(source, prepared, skip_optimization=True, skip_symbolic_shape=True)
        _calibrate(prepared, ranges, calibration.images)
        graph = onnx.load(prepared).graph
        few = [calibration.images[index] for index in evenly_spread(len(calibration.images), NUM_RANKING_IMAGES)]
        return Quantizer(prepared, ranges, graph, list_layers(graph), few)

    def write(self, path: Path, layers: Iterable[Layer]) -> None:
        """Writes a file in which some layers compute with 8 bits."""
        from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

        quantize_static(
            self.source,
            path,
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(OPERATIONS),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_quantize=choose_nodes(self.graph, layers),
            calibrate_method=CalibrationMethod.Percentile,
            calibration_cache_path=self.ranges,
        )

    def rank(self) -> list[Layer]:
        """Gives the layers in the order of the pixels that change where one alone is quantised, the most first."""
        session = open_session(self.source)
        expected = [run_session(session, image[None]) for image in self.images]
        alone = self.source.with_suffix(".alone.onnx")

        def change(layer: Layer) -> tuple[float, float]:
            self.write(alone, [layer])
            session = open_session(alone)
            pairs = [(one, run_session(session, image[None])) for one, image in zip(expected, self.images, strict=True)]
            # The confidences decide among layers that change no class.
            return (
                float(np.mean([np.mean(one.masks_NHW != two.masks_NHW) for one, two in pairs])),
                float(np.mean([np.mean(np.abs(one.confidences_NHW - two.confidences_NHW)) for one, two in pairs])),
            )

        changes = {layer: change(layer) for layer in self.layers}
        return sorted(self.layers, key=lambda layer: changes[layer], reverse=True)


def _calibrate(source: Path, ranges: Path, images: Sequence[Images]) -> None:
    """Writes the range of each tensor; one image at a time, because ONNX Runtime keeps all tensors of a collection."""
    from onnxruntime.quantization import CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator, save_tensors_data

    with contextlib.redirect_stdout(io.StringIO()):  # it prints its steps
        calibrator = create_calibrator(
            source,
            OPERATIONS,
            augmented_model_path=str(source.with_suffix(".augmented.onnx")),
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"symmetric": False, "percentile": PERCENTILE},
        )
        for image in images:
            calibrator.collect_data(OneImage(image))
        save_tensors_data(calibrator.compute_data(), ranges)


class OneImage:
    """Gives one image, and then nothing, as ONNX Runtime's `CalibrationDataReader` does.

    Args:
        image_HWC: (H, W, 3) uint8 RGB.
    """

    def __init__(self, image_HWC: Images) -> None:
        self.left = [{INPUT: image_HWC[None]}]

    def get_next(self) -> dict[str, Images] | None:
        """Gives the inputs of the graph."""
        return self.left.pop() if self.left else None
