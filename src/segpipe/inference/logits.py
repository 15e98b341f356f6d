"""What surrounds a network's forward pass: images become its input, logits become classes."""

import numpy as np
import numpy.typing as npt
import torch

# ImageNet's statistics, as is usual; RGB, for values 0..255.
MEAN_RGB = (123.675, 116.28, 103.53)
STD_RGB = (58.395, 57.12, 57.375)


def most_likely(logits_NCHW: torch.Tensor) -> torch.Tensor:
    """Gives (N, H, W) int64: the class of the highest logit."""
    # max instead of argmax: the same result, ten times as fast on the CPU.
    return logits_NCHW.max(dim=1).indices


def to_input(images_NHWC: npt.NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """Copies images to the device as uint8 and normalises them there.

    Args:
        images_NHWC: (N, H, W, 3) uint8 RGB.
        device: the network's device.

    Returns:
        (N, 3, H, W) float32 in channels-last layout, which the images already have in memory.
    """
    return normalize(torch.tensor(images_NHWC).to(device, non_blocking=True))


def normalize(images_NHWC: torch.Tensor) -> torch.Tensor:
    """Normalises images on their device.

    Args:
        images_NHWC: (N, H, W, 3) uint8 RGB; not changed.

    Returns:
        (N, 3, H, W) float32 in channels-last layout.
    """
    num_images, height, width, num_channels = images_NHWC.shape
    # One vector for a whole row: to broadcast three numbers along the innermost axis takes ten times as long on a CPU.
    mean, std = (torch.tensor(values, device=images_NHWC.device).repeat(width) for values in (MEAN_RGB, STD_RGB))
    rows = images_NHWC.reshape(num_images * height, width * num_channels).float().sub_(mean).div_(std)
    return rows.view(images_NHWC.shape).permute(0, 3, 1, 2)
