"""Adapts torchvision's networks to our contract: our names of the parts, tuples, N channels."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn

from segpipe.models.parts.attention import Refinement


class EncoderDecoder(nn.Module):
    """A segmentation network of torchvision, split into our parts; its weights and its logits do not change.

    Deviation: auxiliary logits are computed in training only, and not resized; the loss does that.

    Args:
        network: one of torchvision's segmentation networks.
        in_channels: channels of the images. Where they are not 3, the first convolution gets new, random weights.
        channels: by its name, the channels of each feature map that the decoder takes, shallow to deep.
        attention: name of an attention block on these maps, or None. The auxiliary head takes its map unrefined.

    Attributes:
        encoder: the classification network without its classifier; gives a dictionary of features.
        decoder: the head that serves the evaluation.
        auxiliary: the head that serves the training only, or None.
        refinement: the attention blocks between encoder and decoder, or None.
    """

    def __init__(
        self, network: nn.Module, in_channels: int, channels: Mapping[str, int], attention: str | None
    ) -> None:
        super().__init__()
        self.encoder = network.get_submodule("backbone")
        self.decoder = network.get_submodule("classifier")
        self.auxiliary: nn.Module | None = getattr(network, "aux_classifier", None)
        if in_channels != 3:
            _redraw_first_convolution(self.encoder, in_channels)
        self.levels = tuple(channels)
        # Built after the layers, so that their initial weights are the same with and without attention.
        self.refinement = None if attention is None else Refinement(attention, list(channels.values()))

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Gives logits (N, num_classes, H, W); in training a tuple with the auxiliary head's too, if there is one.

        Args:
            images_NCHW: (N, in_channels, H, W) float32, of any H and W.
        """
        features = self.encoder(images_NCHW)
        if self.refinement is not None:
            refined = self.refinement([features[level] for level in self.levels])
            features.update(zip(self.levels, refined, strict=True))
        # LRASPP's head reads two levels, none of which is called so.
        small_NCHW = self.decoder(features.get("out", features))
        logits_NCHW = F.interpolate(small_NCHW, images_NCHW.shape[-2:], mode="bilinear", align_corners=False)
        if not self.training or self.auxiliary is None:
            return logits_NCHW
        return logits_NCHW, self.auxiliary(features["aux"])


def set_batch_norm_momentum(module: nn.Module, momentum: float) -> None:
    """Sets the share of the newest batch in the running statistics of all batch norms.

    MobileNetV3 has 0.01 in torchvision, which needs thousands of steps until the statistics describe the network. In a
    short training they are still wrong, and so is the evaluation (CamVid, 12 minutes on a CPU: test mIoU 2, not 27).
    """
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = momentum


def _redraw_first_convolution(encoder: nn.Module, in_channels: int) -> None:
    """Gives the first convolution weights for other images, drawn as torchvision draws them."""
    first = next(layer for layer in encoder.modules() if isinstance(layer, nn.Conv2d))
    first.in_channels = in_channels
    first.weight = nn.Parameter(first.weight.new_empty(first.out_channels, in_channels, *first.kernel_size))
    nn.init.kaiming_normal_(first.weight, mode="fan_out", nonlinearity="relu")
