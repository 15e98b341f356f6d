"""The convolutions of VGG16, with torchvision's weights from ImageNet, for the networks that are built on them.

Source: Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", ICLR 2015, column
D of table 1; torchvision's layers and weights, with or without batch norm.
Deviations: poolings keep the last row and column of odd sizes (`ceil_mode`), which are the same for even ones. Random
weights are drawn as in He et al., "Delving deep into rectifiers", ICCV 2015, equation 10 (by inputs); torchvision draws
by outputs, which lets the features shrink wherever a layer is wider than the one before.
"""

import logging
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models import VGG16_BN_Weights, VGG16_Weights
from torchvision.models.vgg import make_layers

from segpipe.errors import ConfigError

WIDTH = 64  # channels of the published network's first stage
FC_WIDTH = 4096  # and of its fully connected layers

_logger = logging.getLogger(__name__)


def list_stage_widths(width: int) -> list[int]:
    """Gives the channels of the five stages, where the first has `width`."""
    return [width, 2 * width, 4 * width, 8 * width, 8 * width]


def initialise_relu_layers(module: nn.Module) -> None:
    """Draws the weights of all convolutions in a module by He et al., equation 10, for layers that a ReLU follows."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def check_width_is_published(width: int, *, pretrained: bool) -> None:
    """Refuses weights from ImageNet for a network of another width.

    Raises:
        ConfigError: `pretrained` with another width than VGG16's.
    """
    if pretrained and width != WIDTH:
        raise ConfigError(
            f"option width: VGG16's weights from ImageNet are for width {WIDTH} (got {width}); "
            f"take width {WIDTH}, or train.model.weights: none"
        )


def build_stages(in_channels: int, width: int, *, batch_norm: bool) -> nn.ModuleList:
    """Gives VGG16's 13 convolutions, each with its ReLU, as five stages without the poolings between them.

    Args:
        in_channels: channels of the images.
        width: channels of the first stage; 2, 4, 8 and 8 times as many in the others.
        batch_norm: whether each convolution is followed by a batch norm.

    Returns:
        Five modules, (N, C, h, w) -> (N, C', h, w) with C' as `list_stage_widths` says.
    """
    stages = nn.ModuleList()
    for index, channels in enumerate(list_stage_widths(width)):
        layers = make_layers([channels] * (2 if index < 2 else 3), batch_norm=batch_norm)
        narrower = list_stage_widths(width)[index - 1] if index else in_channels
        # torchvision's layers begin with 3 channels; each stage of ours begins with those of the stage before.
        layers[0] = nn.Conv2d(narrower, channels, 3, padding=1)
        stages.append(layers)
    initialise_relu_layers(stages)
    return stages


def fetch_imagenet_weights(*, batch_norm: bool) -> Mapping[str, torch.Tensor]:
    """Gives torchvision's VGG16, classifier and all, from its cache or from the network."""
    weights = VGG16_BN_Weights.IMAGENET1K_V1 if batch_norm else VGG16_Weights.IMAGENET1K_V1
    state: Mapping[str, torch.Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    return state


def rename_stages(stages: nn.ModuleList, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Gives the tensors of torchvision's `features` by the names that they have in a `stages` of `build_stages`.

    Args:
        stages: of which the layers count.
        state: torchvision's VGG16; its names count layers and poolings alike.

    Returns:
        Empty if the state is not that of a VGG16, or one with batch norms is needed and it has none, or vice versa.
    """
    renamed: dict[str, torch.Tensor] = {}
    index = 0
    for number, stage in enumerate(stages):
        assert isinstance(stage, nn.Sequential)
        for place in range(len(stage)):
            prefix = f"features.{index}."
            of_layer = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            renamed |= {f"stages.{number}.{place}.{key}": value for key, value in of_layer.items()}
            index += 1
        index += 1  # the pooling
    wanted = {f"stages.{name}" for name in stages.state_dict()}
    return renamed if renamed.keys() == wanted else {}


class FullyConvolutionalVGG16(nn.Module):
    """VGG16 with its first two fully connected layers as convolutions, which slide over images of any size.

    Source: Long, Shelhamer and Darrell, "Fully convolutional networks for semantic segmentation", CVPR 2015,
    sections 3.1 and 4.1. With fewer poolings the later layers are dilated, so that they see as much of the image as
    before: Yu and Koltun, "Multi-scale context aggregation by dilated convolutions", ICLR 2016, section 4.
    Deviation: fc6 pads its input by zeros to keep the map's size, so images of any size from 1 px up have a result and
    each cell lies where the pooled map has it. Both papers widen the image instead (by 100 px of zeros on each side, or
    by reflection): at 360x480 that is 2.2 times the work.

    Args:
        in_channels: channels of the images.
        width: channels of the first stage, as in `build_stages`.
        fc_width: channels of fc6 and fc7.
        batch_norm: whether the stages have batch norms; fc6 and fc7 have none.
        dropout: share of fc6's and fc7's values that each training step leaves out.
        num_poolings: the first so many stages end with a pooling; 5 for the published network.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        width: int = WIDTH,
        fc_width: int = FC_WIDTH,
        batch_norm: bool = False,
        dropout: float = 0.5,
        num_poolings: int = 5,
    ) -> None:
        super().__init__()
        self.num_poolings = num_poolings
        self.has_batch_norm = batch_norm
        self.stages = build_stages(in_channels, width, batch_norm=batch_norm)
        num_missing = len(self.stages) - num_poolings
        for index in range(num_poolings + 1, len(self.stages)):
            _dilate(self.stages[index], 2 ** (index - num_poolings))
        dilation = 2**num_missing
        self.fc6 = nn.Conv2d(list_stage_widths(width)[-1], fc_width, 7, padding=3 * dilation, dilation=dilation)
        self.fc7 = nn.Conv2d(fc_width, fc_width, 1)
        initialise_relu_layers(self.fc6)
        initialise_relu_layers(self.fc7)
        self.dropout = nn.Dropout(dropout)

    def forward(self, images_NCHW: torch.Tensor) -> list[torch.Tensor]:
        """Gives the five stages' maps, pooled where they pool, and then fc7's.

        Args:
            images_NCHW: (N, in_channels, H, W) float.

        Returns:
            Six maps (N, C, ceil(H / s), ceil(W / s)), with s = 2, 4, 8, 16, 32, 32 where all stages pool.
        """
        maps = []
        features_NCHW = images_NCHW
        for index, stage in enumerate(self.stages):
            features_NCHW = stage(features_NCHW)
            if index < self.num_poolings:
                features_NCHW = F.max_pool2d(features_NCHW, 2, ceil_mode=True)
            maps.append(features_NCHW)
        features_NCHW = self.dropout(F.relu(self.fc6(features_NCHW)))
        maps.append(self.dropout(F.relu(self.fc7(features_NCHW))))
        return maps

    def load_imagenet(self) -> None:
        """Takes torchvision's weights, for fc6 and fc7 those of its classifier."""
        self.load_state_dict(self.rename_classifier(fetch_imagenet_weights(batch_norm=self.has_batch_norm)))

    def rename_classifier(self, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Gives torchvision's VGG16 by the names of this encoder; fc6 and fc7 come from its classifier.

        With another width than the classifier's 4096, fc6 and fc7 keep their own weights.

        Args:
            state: torchvision's VGG16, with batch norms or without.

        Returns:
            Empty if the state is not that of a VGG16.
        """
        renamed = rename_stages(self.stages, state)
        if not renamed:
            return {}
        if self.fc7.out_channels != FC_WIDTH:
            _logger.info(
                "fc6 and fc7 begin random: VGG16 has %d channels there, not %d", FC_WIDTH, self.fc7.out_channels
            )
        for name, layer, index in (("fc6", self.fc6, 0), ("fc7", self.fc7, 3)):
            own = layer.state_dict()
            for key, like in own.items():
                published = state.get(f"classifier.{index}.{key}")
                if published is None or published.numel() != like.numel():
                    published = like
                renamed[f"{name}.{key}"] = published.view_as(like)
        return renamed


def _dilate(stage: nn.Module, dilation: int) -> None:
    for layer in stage.modules():
        if isinstance(layer, nn.Conv2d):
            layer.dilation = layer.padding = (dilation, dilation)
