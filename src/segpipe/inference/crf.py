"""A dense conditional random field: probabilities that follow the edges of the image.

Source: Kraehenbuehl, Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NIPS 2011.
The energy of a labelling is the sum of -log p of each pixel and, for each pair of pixels with different classes, of the
kernel of equation 3, with positions p in px and colours I in 0..255:

    appearance_weight * exp(-|p_i - p_j|^2 / (2 appearance_px^2) - |I_i - I_j|^2 / (2 appearance_color^2))
    + smoothness_weight * exp(-|p_i - p_j|^2 / (2 smoothness_px^2))

Algorithm 1 (mean field) finds probabilities Q of each pixel by itself: Q_i(c) is proportional to
p_i(c) * exp(sum over the kernels of weight * sum_j k_ij Q_j(c)), for a number of rounds, beginning with Q = p.

As in the authors' program (densecrf) and in pydensecrf:

- k_ij is divided by sqrt(sum_j k_ij * sum_j k_ji), so a weight has one meaning for every width of the kernel.
- the sum over j includes i itself, which the paper leaves out.
- the compatibility is Potts' model: all pairs of different classes cost the same.

The smoothness is summed by a separable convolution. The appearance is summed exactly in an image of up to
`MAX_EXACT_PX` px (a matrix of all pairs), and on the permutohedral lattice in a larger one. The lattice approximates:
on a test's scene the probabilities differ from the exact ones by 3% of what the CRF changes, and 1.5% of the pixels get
another class.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch

from segpipe.inference.lattice import build_lattice

# The matrix of all pairs of the largest such image takes 64 MiB.
MAX_EXACT_PX = 4096

# Classes whose sums are computed together: with 8 it takes 60 bytes a pixel more and is not faster.
CLASSES_AT_ONCE = 4

# Pixels of one softmax: a result in place of its input needs a copy.
PIXELS_AT_ONCE = 1 << 18

# Where `embedding_bag` is known to work. What lies on another device (mps) is computed on the CPU.
DEVICES = ("cpu", "cuda")

# The convolution ends here; the rest of a Gaussian is 6e-7.
RADIUS_IN_DEVIATIONS = 5

# Sums over all pixels, (C, P) from (C, P).
Filter = Callable[[torch.Tensor], torch.Tensor]


@torch.no_grad()
def refine(
    probabilities_NCHW: torch.Tensor,
    images_NHWC: torch.Tensor,
    *,
    num_iterations: int = 5,
    appearance_weight: float = 4.0,
    appearance_px: float = 67.0,
    appearance_color: float = 3.0,
    smoothness_weight: float = 3.0,
    smoothness_px: float = 1.0,
) -> torch.Tensor:
    """Refines the probabilities of each image by itself.

    The result of a part of an image is not the part of the result. The bits are the same in every run on a CPU with the
    same number of threads; with another number torch's logarithm and softmax may differ in the last bit.

    Memory on top of the arguments, measured with 19 classes of 1536x1536 px, the result included: 280 bytes a pixel for
    a photograph (0.66 GB), 560 for pure noise (1.3 GB). Images of a batch are refined one after the other.

    Args:
        probabilities_NCHW: (N, C, H, W) floating-point, 0..1, their sum over C is 1; on any device. A probability of 0
            stays 0.
        images_NHWC: (N, H, W, 3) or (N, H, W, 1) uint8 on the same device; a grey image gives the same as its copy of
            three equal channels.
        num_iterations: rounds of algorithm 1; 0 changes nothing.
        appearance_weight: of the kernel of position and colour, 0 or more.
        appearance_px: its standard deviation in position, above 0.
        appearance_color: its standard deviation in colour, above 0, for channels of 0..255.
        smoothness_weight: of the kernel of position alone, 0 or more.
        smoothness_px: its standard deviation, above 0.

    Returns:
        (N, C, H, W) float32, contiguous, on the same device.

    Raises:
        ConfigError: the standard deviations are too small for an image of this size.
    """
    device = probabilities_NCHW.device
    if device.type not in DEVICES:
        probabilities_NCHW, images_NHWC = probabilities_NCHW.cpu(), images_NHWC.cpu()
    refined_NCHW = probabilities_NCHW.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    for probabilities_CHW, image_HWC, refined_CHW in zip(probabilities_NCHW, images_NHWC, refined_NCHW, strict=True):
        height, width = image_HWC.shape[:2]
        kernels = [
            (appearance_weight, partial(_filter_by_appearance, image_HWC, appearance_px, appearance_color)),
            (smoothness_weight, partial(_filter_by_position, height, width, smoothness_px)),
        ]
        _infer(refined_CHW.flatten(1), probabilities_CHW, num_iterations, kernels)
    return refined_NCHW.to(device)


def _infer(
    refined_CP: torch.Tensor,
    probabilities_CHW: torch.Tensor,
    num_iterations: int,
    kernels: Sequence[tuple[float, Callable[[], Filter]]],
) -> None:
    """Does all rounds of algorithm 1 on one image, in place; the memory of its filters ends with it."""
    filters = [_normalize(build(), refined_CP, weight) for weight, build in kernels if weight > 0]
    for _ in range(num_iterations):
        _iterate(refined_CP, probabilities_CHW, filters)


def _iterate(refined_CP: torch.Tensor, probabilities_CHW: torch.Tensor, filters: list[Filter]) -> None:
    """Does one round of algorithm 1, in place: the sums of a class depend on no other class."""
    for first in range(0, len(refined_CP), CLASSES_AT_ONCE):
        classes = slice(first, first + CLASSES_AT_ONCE)
        given_CP = probabilities_CHW[classes].flatten(1)
        scores_CP = given_CP.to(torch.float32, copy=True).log_()
        for weighted_sums in filters:
            scores_CP.add_(weighted_sums(refined_CP[classes]))
        refined_CP[classes] = scores_CP
    for part_CP in torch.split(refined_CP, PIXELS_AT_ONCE, dim=1):
        part_CP.copy_(part_CP.softmax(dim=0))


def _normalize(sums: Filter, refined_CP: torch.Tensor, weight: float) -> Filter:
    """Divides a kernel by the square root of its sums at both ends, and multiplies it by its weight."""
    scales_1P = sums(torch.ones_like(refined_CP[:1])).rsqrt_()
    return lambda values_CP: sums(values_CP * scales_1P).mul_(scales_1P).mul_(weight)


def _filter_by_appearance(image_HWC: torch.Tensor, position_px: float, color: float) -> Filter:
    """Sums over all pixels by the closeness of position and colour."""
    features_PD = _measure_features(image_HWC, position_px, color)
    if len(features_PD) > MAX_EXACT_PX:
        return build_lattice(features_PD).filter
    distances_PP = features_PD.new_zeros(len(features_PD), len(features_PD))
    for feature_P in features_PD.T:
        differences_PP = feature_P[:, None] - feature_P
        distances_PP.addcmul_(differences_PP, differences_PP)
    kernel_PP = distances_PP.mul_(-0.5).exp_()
    return lambda values_CP: values_CP @ kernel_PP


def _measure_features(image_HWC: torch.Tensor, position_px: float, color: float) -> torch.Tensor:
    """Gives (P, 2 + channels) float32: row, column and colour of each pixel, in standard deviations."""
    height, width, num_channels = image_HWC.shape
    features_HWD = torch.empty(height, width, 2 + num_channels, device=image_HWC.device)
    features_HWD[..., 0] = torch.arange(height, device=image_HWC.device)[:, None] / position_px
    features_HWD[..., 1] = torch.arange(width, device=image_HWC.device) / position_px
    # The difference of two greys counts three times, as it does in three equal channels.
    torch.mul(image_HWC, (3 / num_channels) ** 0.5 / color, out=features_HWD[..., 2:])
    return features_HWD.flatten(0, 1)


def _filter_by_position(height: int, width: int, position_px: float) -> Filter:
    """Sums over all pixels by the closeness of position alone: first along the columns, then along the rows."""
    columns, rows = _sample_gaussian(position_px, height), _sample_gaussian(position_px, width)

    def sums(values_CP: torch.Tensor) -> torch.Tensor:
        # One class at a time stays in the cache, and needs no kernel that a library blocks for 16 channels.
        return torch.stack(
            [_convolve(_convolve(values_P.view(height, width), columns).T, rows).T.flatten() for values_P in values_CP]
        )

    return sums


def _sample_gaussian(position_px: float, length_px: int) -> list[float]:
    """Gives the weights at distances of 0, 1, ... px, no more than a side of the image needs."""
    radius = min(math.ceil(RADIUS_IN_DEVIATIONS * position_px), length_px - 1)
    return [math.exp(-0.5 * (distance / position_px) ** 2) for distance in range(radius + 1)]


def _convolve(values_HW: torch.Tensor, weights: list[float]) -> torch.Tensor:
    """Convolves along the columns with a symmetric kernel; outside is 0."""
    sums_HW = values_HW * weights[0]
    for distance, weight in enumerate(weights[1:], start=1):
        sums_HW[distance:].add_(values_HW[:-distance], alpha=weight)
        sums_HW[:-distance].add_(values_HW[distance:], alpha=weight)
    return sums_HW
