"""The predictor: from images to the probability of each class, as `evaluate.inference` says.

Validation, evaluation, overlays, `segpipe predict` and the served model predict by this code alone. It is composed of
four steps, each over the one before it: the network at several scales, mirrored, in windows that slide over the image,
refined by the CRF. The file with these settings lies next to the weights, so what was measured is what is served.
"""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from segpipe.config.evaluate import Inference
from segpipe.inference.crf import refine
from segpipe.inference.device import computes_bf16, device_of
from segpipe.inference.logits import most_likely, normalize
from segpipe.inference.tiles import LARGE_WINDOW_PX, is_huge, plan_spans

Region = tuple[slice, slice, torch.Tensor]  # rows, columns, and their (N, C, rows, columns) logits
PredictWindow = Callable[[npt.NDArray[np.uint8]], torch.Tensor]

LEFT_TO_RIGHT = 3  # the axis of columns in NCHW
AS_TRAINED = Inference()  # the network and nothing else


@dataclass(frozen=True)
class Piece:
    """The prediction of a part of a batch.

    Attributes:
        place: images, rows and columns of the part; `masks_NHW[place]` are its pixels.
        logits_NCHW: (images, num_classes, rows, columns) float32 on the network's device. Where several predictions are
            averaged or refined, they are the logarithms of probabilities.
    """

    place: tuple[slice, slice, slice]
    logits_NCHW: torch.Tensor

    @property
    def probabilities_NCHW(self) -> torch.Tensor:
        """(images, num_classes, rows, columns) float32, 0..1; the classes of a pixel add up to 1."""
        return self.logits_NCHW.softmax(dim=1)


@dataclass(frozen=True)
class Predictor:
    """A network, and how it predicts.

    Attributes:
        module: in evaluation mode, on its device.
        inference: scales, mirroring, refinement, windows, number format.
    """

    module: nn.Module
    inference: Inference = AS_TRAINED

    def predicts_whole(self, height_px: int, width_px: int) -> bool:
        """Whether images of this size are predicted at once, and not by windows."""
        window_px = self.inference.window_px
        if window_px is None:
            return not is_huge(height_px, width_px)
        return height_px <= window_px and width_px <= window_px

    @torch.inference_mode()
    def predict(self, images_NHWC: npt.NDArray[np.uint8]) -> Iterator[Piece]:
        """Predicts a batch: in one piece, or image by image and piece by piece where windows slide.

        The memory for an image with windows is that of one row of windows: rows of a window times the image's width, 4
        bytes for each class. With a CRF it is that of the whole image, of a huge one that of a row of large windows.

        Args:
            images_NHWC: (N, H, W, 3) uint8 RGB, any H and W; a memory map of a huge image is read one window at a time.

        Yields:
            Pieces that cover each pixel exactly once. With windows, the logits of a piece are valid until the next.
        """
        num_images, height, width = images_NHWC.shape[:3]
        if self.predicts_whole(height, width):
            whole = slice(0, num_images), slice(0, height), slice(0, width)
            yield Piece(whole, self._predict_refined(images_NHWC))
            return
        for index in range(num_images):
            image = slice(index, index + 1)
            for rows, columns, logits_NCHW in self._predict_in_windows(images_NHWC[image]):
                yield Piece((image, rows, columns), logits_NCHW)

    def predict_masks(self, images_NHWC: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Predicts masks.

        Args:
            images_NHWC: (N, H, W, 3) uint8 RGB, any H and W.

        Returns:
            (N, H, W) uint8 class indices.
        """
        masks_NHW = np.empty(images_NHWC.shape[:3], np.uint8)
        for piece in self.predict(images_NHWC):
            masks_NHW[piece.place] = most_likely(piece.logits_NCHW).to(torch.uint8).cpu().numpy()
        return masks_NHW

    def _predict_in_windows(self, images_NHWC: npt.NDArray[np.uint8]) -> Iterator[Region]:
        """Gives the parts of an image that is not predicted at once.

        The CRF refines the blended image: in small windows it would see little of it, and pixels that windows share
        would be refined several times. A huge image is refined in large windows, which are blended too.
        """
        height, width = images_NHWC.shape[1:3]
        window_px = self.inference.window_px or LARGE_WINDOW_PX
        if self.inference.crf is None:
            yield from self._slide(images_NHWC, window_px, self._predict_network)
        elif is_huge(height, width):
            yield from self._slide(images_NHWC, max(window_px, LARGE_WINDOW_PX), self._predict_refined)
        else:
            yield slice(0, height), slice(0, width), self._predict_refined(images_NHWC)

    def _slide(self, images_NHWC: npt.NDArray[np.uint8], window_px: int, predict: PredictWindow) -> Iterator[Region]:
        """Gives the blended logits of windows.

        One row of windows after another is added up. Its upper part, which the next row does not reach, is complete.
        """
        height, width = images_NHWC.shape[1:3]
        rows, columns = (plan_spans(length, window_px, self.inference.overlap) for length in (height, width))
        num_rows = max(row.weights.numel() for row in rows)
        band_NCHW: torch.Tensor | None = None
        for row, end in zip(rows, [*(span.place.start for span in rows[1:]), height], strict=True):
            for column in columns:
                logits_NCHW = predict(images_NHWC[:, row.place, column.place])
                if band_NCHW is None:  # the only one, the largest part of the memory
                    band_NCHW = logits_NCHW.new_zeros(*logits_NCHW.shape[:2], num_rows, width)
                weights_HW = (row.weights[:, None] * column.weights).to(logits_NCHW.device)
                band_NCHW[:, :, : len(weights_HW), column.place].addcmul_(logits_NCHW, weights_HW)
            assert band_NCHW is not None
            top, num_kept = row.place.start, row.place.stop - end
            for left, right in pairwise([*(span.place.start for span in columns), width]):
                yield slice(top, end), slice(left, right), band_NCHW[:, :, : end - top, left:right]
            _move_up(band_NCHW, end - top, num_kept)

    def _predict_refined(self, images_NHWC: npt.NDArray[np.uint8]) -> torch.Tensor:
        """Gives (N, C, H, W) float32 logits of images, or of a window of them, that are refined at once."""
        height, width = images_NHWC.shape[1:3]
        if self.predicts_whole(height, width):
            logits_NCHW = self._predict_network(images_NHWC)
        else:
            assert self.inference.window_px is not None
            logits_NCHW = _put_together(
                self._slide(images_NHWC, self.inference.window_px, self._predict_network), height, width
            )
        if (crf := self.inference.crf) is None:
            return logits_NCHW
        refined_NCHW = refine(
            logits_NCHW.softmax(dim=1),
            torch.tensor(images_NHWC).to(logits_NCHW.device),
            num_iterations=crf.iterations,
            appearance_weight=crf.appearance_weight,
            appearance_px=crf.appearance_px,
            appearance_color=crf.appearance_color,
            smoothness_weight=crf.smoothness_weight,
            smoothness_px=crf.smoothness_px,
        )
        return _to_logits(refined_NCHW)

    def _predict_network(self, images_NHWC: npt.NDArray[np.uint8]) -> torch.Tensor:
        """Gives (N, C, H, W) float32 logits of what the network sees at once."""
        return self._average(normalize(torch.tensor(images_NHWC).to(device_of(self.module), non_blocking=True)))

    def _average(self, inputs_NCHW: torch.Tensor) -> torch.Tensor:
        """Gives the network's logits, or the logarithms of the mean probabilities over scales and mirroring."""
        scales, flips = self.inference.scales, (False, True) if self.inference.flip else (False,)
        if scales == [1.0] and len(flips) == 1:
            return self._forward(inputs_NCHW)
        total_NCHW: torch.Tensor | None = None
        for scale in scales:
            scaled_NCHW = _resize(inputs_NCHW, [max(1, round(side * scale)) for side in inputs_NCHW.shape[2:]])
            for is_flipped in flips:
                seen_NCHW = scaled_NCHW.flip(LEFT_TO_RIGHT) if is_flipped else scaled_NCHW
                logits_NCHW = self._forward(seen_NCHW)
                logits_NCHW = logits_NCHW.flip(LEFT_TO_RIGHT) if is_flipped else logits_NCHW
                one_NCHW = _resize(logits_NCHW, list(inputs_NCHW.shape[2:])).softmax(dim=1)
                total_NCHW = one_NCHW if total_NCHW is None else total_NCHW.add_(one_NCHW)
        assert total_NCHW is not None
        return _to_logits(total_NCHW.div_(len(scales) * len(flips)))

    def _forward(self, inputs_NCHW: torch.Tensor) -> torch.Tensor:
        device = inputs_NCHW.device
        is_bf16 = self.inference.precision == "bf16" and computes_bf16(device)
        with torch.autocast(device.type, torch.bfloat16) if is_bf16 else nullcontext():
            logits_NCHW: torch.Tensor = self.module(inputs_NCHW)
        return logits_NCHW.float()


def _put_together(regions: Iterator[Region], height: int, width: int) -> torch.Tensor:
    """Gives (N, C, height, width) of regions that cover an image."""
    whole_NCHW: torch.Tensor | None = None
    for rows, columns, logits_NCHW in regions:
        if whole_NCHW is None:
            whole_NCHW = logits_NCHW.new_empty(*logits_NCHW.shape[:2], height, width)
        whole_NCHW[:, :, rows, columns] = logits_NCHW
    assert whole_NCHW is not None
    return whole_NCHW


def _move_up(band_NCHW: torch.Tensor, num_done: int, num_kept: int) -> None:
    """Moves rows that lie below the complete ones to the top, and sets the others to 0, without a copy of them all."""
    for start in range(0, num_kept, num_done):
        stop = min(start + num_done, num_kept)
        band_NCHW[:, :, start:stop] = band_NCHW[:, :, num_done + start : num_done + stop]
    band_NCHW[:, :, num_kept:] = 0


def _resize(values_NCHW: torch.Tensor, size: list[int]) -> torch.Tensor:
    if list(values_NCHW.shape[2:]) == size:
        return values_NCHW
    return F.interpolate(values_NCHW, size, mode="bilinear", align_corners=False, antialias=False)


def _to_logits(probabilities_NCHW: torch.Tensor) -> torch.Tensor:
    """Gives logarithms; a probability of zero becomes the smallest positive number first."""
    return probabilities_NCHW.clamp_min(torch.finfo(torch.float32).tiny).log()
