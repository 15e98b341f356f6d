"""The context module: convolutions of growing dilation enlarge the receptive field at constant resolution.

Source: Yu and Koltun, "Multi-scale context aggregation by dilated convolutions", ICLR 2016, section 3 and table 1.
Deviation: each convolution pads its input by zeros to keep the map's size; the paper's code widens the image before.
"""

from itertools import pairwise
from typing import Literal

import torch
from torch import nn

DILATIONS = (1, 1, 2, 4, 8, 16, 1)  # of the 3x3 convolutions in table 1; each cell then sees 67x67 cells
WIDENINGS = {"basic": (1, 1, 1, 1, 1, 1, 1, 1), "large": (2, 2, 4, 8, 16, 32, 32, 1)}  # table 1: channels / C
_NOISE = 1e-3  # of 1 / widening


def build_context(form: Literal["basic", "large"], channels: int) -> nn.Sequential:
    """Gives table 1's eight convolutions, which begin as identity: seven of 3x3, each with its ReLU, and one of 1x1.

    For maps without negative values the module begins as the identity; the ReLUs cut negative values off.

    Args:
        form: `basic`: `channels` everywhere (equation 4); `large`: up to 32 times as many in between (equation 5).
        channels: of input and output, C in the paper.

    Returns:
        (N, channels, h, w) -> (N, channels, h, w).
    """
    widths = [channels, *(widening * channels for widening in WIDENINGS[form])]
    layers: list[nn.Module] = []
    for (narrow, wide), dilation in zip(pairwise(widths[:-1]), DILATIONS, strict=True):
        conv = nn.Conv2d(narrow, wide, 3, padding=dilation, dilation=dilation)
        layers += [initialise_identity(conv, channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, initialise_identity(nn.Conv2d(widths[-2], widths[-1], 1), channels))


def initialise_identity(conv: nn.Conv2d, channels: int) -> nn.Conv2d:
    """Makes a convolution pass on its input, by equation 4 where the number of channels stays and 5 where it changes.

    Input a and output b belong together if they lie in the same of C groups, floor(a C / c_in) = floor(b C / c_out);
    they are joined at the kernel's centre by C / c_out. The rest begins as noise, far smaller, so that the copies of a
    channel can become different ones. Equation 4 is the case c_in = c_out = C, where there are no copies and no noise.

    Args:
        conv: with numbers of channels divisible by `channels` and an odd kernel; changed in place.
        channels: C in the paper.

    Returns:
        `conv`.
    """
    num_out, num_in, kernel_px, _ = conv.weight.shape
    device = conv.weight.device
    group_out = torch.arange(num_out, device=device) * channels // num_out
    group_in = torch.arange(num_in, device=device) * channels // num_in
    identity = (group_out[:, None] == group_in).to(conv.weight.dtype) * (channels / num_out)
    with torch.no_grad():
        if num_in == num_out == channels:
            nn.init.zeros_(conv.weight)
        else:
            nn.init.normal_(conv.weight, std=_NOISE * channels / num_out)
        centre = conv.weight[:, :, kernel_px // 2, kernel_px // 2]
        centre.copy_(torch.where(identity > 0, identity, centre))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
