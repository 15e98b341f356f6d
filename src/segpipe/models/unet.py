"""U-Net, a network with skips from the contracting to the expanding path at each resolution.

Source: Ronneberger, Fischer, Brox, "U-Net: convolutional networks for biomedical image segmentation", MICCAI 2015.
The layers are those of figure 1; weights begin as in section 3, with a standard deviation of sqrt(2/N).
Deviations by default, each an option: convolutions are padded, where the paper's are not and its images are continued
by their mirror image (`padding: valid`); batch norm after each of them, without which training from scratch takes many
times as long (`batch_norm: false`); no dropout (`dropout: 0.5`, on the two last levels of the contracting path as in
the authors' network). No ReLU after up-sampling: the authors' network has one, figure 1 has none.
"""

from typing import Annotated

from pydantic import Field
from torch import nn

from segpipe.errors import ConfigError
from segpipe.models.parts.attention import check_attention
from segpipe.models.parts.card import Card
from segpipe.models.parts.unet import Padding, UNet, UpSampling

CARD = Card(
    "segpipe",
    "Ronneberger et al., U-Net: convolutional networks for biomedical image segmentation, MICCAI 2015",
    published=(2, 31.0e6),
    small={"width": 4, "depth": 3},
)


def build_model(
    *,
    num_classes: int,
    in_channels: int,
    width: Annotated[int, Field(ge=1)] = 64,
    depth: Annotated[int, Field(ge=1, le=6)] = 4,
    padding: Padding = "same",
    up_sampling: UpSampling = "transposed",
    batch_norm: bool = True,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0,
    attention: str | None = None,
    deep_supervision: bool = False,
) -> nn.Module:
    """Builds a `UNet`; the defaults are the paper's 31.0 million parameters.

    Args:
        num_classes: channels of the logits.
        in_channels: channels of the images.
        width: channels at full resolution; each halving doubles them.
        depth: number of halvings.
        padding: `same`, or `valid` as in the paper.
        up_sampling: `transposed` convolution, or `bilinear` or `nearest` resizing and a convolution.
        batch_norm: whether batch norm follows each convolution.
        dropout: probability, on the two last levels of the contracting path.
        attention: name of an attention block, at the places where it belongs.
        deep_supervision: whether the coarser levels of the expanding path give logits in training too.

    Raises:
        ConfigError: there is no such attention block, or `padding` does not go with `up_sampling`, or `depth` leaves no
            level for deep supervision.
    """
    check_attention("unet", attention, has_skips=True)
    if deep_supervision and depth == 1:
        raise ConfigError("model 'unet': option deep_supervision: there is no coarser level; set depth to 2 or more")
    if padding == "valid" and up_sampling != "transposed":
        raise ConfigError(
            f"model 'unet': option up_sampling: {up_sampling!r} needs values beyond the edge of a map, and padding "
            "'valid' has none; set up_sampling to 'transposed' or padding to 'same'"
        )
    return UNet(
        num_classes=num_classes,
        in_channels=in_channels,
        width=width,
        depth=depth,
        padding=padding,
        up_sampling=up_sampling,
        batch_norm=batch_norm,
        dropout=dropout,
        attention=attention,
        deep_supervision=deep_supervision,
    )
