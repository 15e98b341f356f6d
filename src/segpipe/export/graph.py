"""What is exported: from uint8 images of any size to masks, and all that a caller would have to know otherwise.

It computes what `segpipe.inference.predictor` computes, in a form that the exporters can capture: no step depends on
values, and each size is a formula of the image's height and width.
"""

from fractions import Fraction

import torch
from torch import nn
from torch.nn import functional as F

from segpipe.config.evaluate import Inference
from segpipe.errors import ExportError
from segpipe.export.document import CONFIDENCES, MASKS, PROBABILITIES
from segpipe.inference.logits import MEAN_RGB, STD_RGB
from segpipe.inference.predictor import LEFT_TO_RIGHT

MAX_DENOMINATOR = 1000  # of a scale: 0.75 is 3/4


class ExportGraph(nn.Module):
    """A network with everything around it.

    Args:
        module: the network in evaluation mode.
        inference: how it predicts; no windows and no CRF.
        has_probabilities: whether it gives the probabilities of all classes too.
    """

    mean_1C11: torch.Tensor
    std_1C11: torch.Tensor

    def __init__(self, module: nn.Module, inference: Inference, has_probabilities: bool = False) -> None:
        super().__init__()
        self.module = module
        self.scales = [Fraction(scale).limit_denominator(MAX_DENOMINATOR) for scale in inference.scales]
        self.flips = (False, True) if inference.flip else (False,)
        self.has_probabilities = has_probabilities
        self.register_buffer("mean_1C11", torch.tensor(MEAN_RGB).view(1, 3, 1, 1))
        self.register_buffer("std_1C11", torch.tensor(STD_RGB).view(1, 3, 1, 1))

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of what `forward` gives, in its order."""
        return (MASKS, CONFIDENCES, *([PROBABILITIES] if self.has_probabilities else []))

    def forward(self, images_NHWC: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Predicts.

        Args:
            images_NHWC: (N, H, W, 3) uint8 RGB, any H and W from 32 up.

        Returns:
            (N, H, W) uint8 class indices; (N, H, W) float32, their probabilities; where asked for (N, C, H, W) float32,
            the probabilities of all classes.
        """
        inputs_NCHW = (images_NHWC.permute(0, 3, 1, 2).float() - self.mean_1C11) / self.std_1C11
        if len(self.scales) * len(self.flips) == 1 and self.scales[0] == 1:
            return self._finish_logits(self.module(inputs_NCHW))
        return self._finish_probabilities(self._average(inputs_NCHW))

    def _average(self, inputs_NCHW: torch.Tensor) -> torch.Tensor:
        """Gives the mean probabilities over scales and mirroring."""
        height, width = inputs_NCHW.shape[2:]
        total_NCHW: torch.Tensor | None = None
        for scale in self.scales:
            scaled_NCHW = inputs_NCHW
            if scale != 1:
                scaled_NCHW = _resize(inputs_NCHW, scale_length(height, scale), scale_length(width, scale))
            for is_flipped in self.flips:
                seen_NCHW = scaled_NCHW.flip(LEFT_TO_RIGHT) if is_flipped else scaled_NCHW
                logits_NCHW = self.module(seen_NCHW)
                logits_NCHW = logits_NCHW.flip(LEFT_TO_RIGHT) if is_flipped else logits_NCHW
                if scale != 1:
                    logits_NCHW = _resize(logits_NCHW, height, width)
                one_NCHW = logits_NCHW.softmax(dim=1)
                total_NCHW = one_NCHW if total_NCHW is None else total_NCHW + one_NCHW
        assert total_NCHW is not None
        return total_NCHW / (len(self.scales) * len(self.flips))

    def _finish_logits(self, logits_NCHW: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if self.has_probabilities:
            probabilities_NCHW = logits_NCHW.softmax(dim=1)
            masks_NHW = logits_NCHW.argmax(dim=1).to(torch.uint8)
            return masks_NHW, probabilities_NCHW.amax(dim=1), probabilities_NCHW
        highest_NCHW = logits_NCHW.amax(dim=1, keepdim=True)
        masks_NHW = logits_NCHW.argmax(dim=1).to(torch.uint8)
        return masks_NHW, (logits_NCHW - highest_NCHW).exp().sum(dim=1).reciprocal()

    def _finish_probabilities(self, probabilities_NCHW: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = probabilities_NCHW.argmax(dim=1).to(torch.uint8), probabilities_NCHW.amax(dim=1)
        return (*outputs, probabilities_NCHW) if self.has_probabilities else outputs


def scale_length(length_px: int, scale: Fraction) -> int:
    """Gives `round(length_px * scale)` by whole numbers alone, which exporters take where the length is a symbol.

    Args:
        length_px: of a side.
        scale: of the image.

    Returns:
        The rounded length, halves to the even number as Python rounds.
    """
    p, q = scale.as_integer_ratio()
    twice = 2 * length_px * p + q
    rounded, rest = twice // (2 * q), twice % (2 * q)
    is_half = 1 - (rest + 2 * q - 1) // (2 * q)  # 1 where the rest is 0, else 0
    return rounded - (rounded % 2) * is_half


def _resize(values_NCHW: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return F.interpolate(values_NCHW, (height, width), mode="bilinear", align_corners=False, antialias=False)


def check_exportable(inference: Inference) -> None:
    """Checks that a graph can hold how a model predicts.

    Raises:
        ExportError: it predicts by windows or by a CRF, which are loops over the image and no graph.
    """
    if inference.loops:
        raise ExportError(
            f"the model predicts {' and '.join(inference.loops)} (evaluate.inference of params.yaml), which an export "
            "cannot hold; `--network-alone` exports the network without them, and compares it with the network without "
            "them"
        )
