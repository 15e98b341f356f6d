"""DPT, a Vision Transformer whose tokens become maps of four resolutions, by segmentation_models.pytorch (smp).

Source: Ranftl, Bochkovskiy, Koltun, "Vision transformers for dense prediction", ICCV 2021, section 3 and figure 1;
tokens are taken after each quarter of the blocks, and the class token is joined to each of them (`readout: cat`).
Deviations: the widths of the four maps are the paper's for ViT-Large; the weights by default are those of DeiT, whose
ViT-B/16 saw images normalised as they are here. Those of `parts/smp.py`.
Images of another size than the encoder's resize its position embedding; on CUDA that has no deterministic gradient.
"""

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal

import segmentation_models_pytorch as smp
from pydantic import Field
from torch import nn

from segpipe.models.parts.card import Card
from segpipe.models.parts.smp import Architecture, build_segmentation

CARD = Card(
    "smp",
    "Ranftl et al., Vision transformers for dense prediction, ICCV 2021",
    small={"encoder": "test_vit", "decoder_channels": 16, "map_channels": (16, 16, 16, 16)},
)

_MapChannels = Annotated[Sequence[Annotated[int, Field(ge=1)]], Field(min_length=4, max_length=4)]

_ARCHITECTURE = Architecture(
    "dpt",
    # All maps of a ViT have one stride, its patch's side; the decoder halves and doubles them.
    tuple(dict.fromkeys(range(4), patch_px) for patch_px in (8, 16, 32)),
    "a Vision Transformer of timm with patches of 8, 16 or 32 px, such as deit_base_patch16_384, vit_base_patch16_224 "
    "or vit_base_patch16_dinov3",
    ways=({"dynamic_img_size": True}, {}),
    is_timm_only=True,
)


def build_model(
    *,
    num_classes: int,
    in_channels: int,
    pretrained: bool,
    encoder: str = "deit_base_patch16_384",
    map_channels: _MapChannels = (256, 512, 1024, 1024),
    decoder_channels: Annotated[int, Field(ge=1)] = 256,
    readout: Literal["cat", "add", "ignore"] = "cat",
    attention: str | None = None,
    auxiliary: bool = False,
) -> nn.Module:
    """Builds the network; the defaults are 121 million parameters.

    Args:
        num_classes: channels of the logits.
        in_channels: channels of the images.
        pretrained: whether the encoder begins with weights from ImageNet.
        encoder: name of a Vision Transformer of timm.
        map_channels: of the four maps made of tokens, from the finest to the coarsest.
        decoder_channels: of the decoder that joins them.
        readout: what becomes of the class token, where the encoder has one: `cat` and `add` bring it into all others.
        attention: name of an attention block on the encoder's feature maps, where it belongs.
        auxiliary: whether an FCN head on the second deepest map gives logits in training too.

    Raises:
        ConfigError: there is no such encoder or attention block, or it does not fit, or has no weights from ImageNet.
    """
    network = partial(
        _build_network,
        decoder_intermediate_channels=tuple(map_channels),
        decoder_fusion_channels=decoder_channels,
        decoder_readout=readout,
    )
    return build_segmentation(
        _ARCHITECTURE,
        network,
        encoder=encoder,
        num_classes=num_classes,
        in_channels=in_channels,
        pretrained=pretrained,
        attention=attention,
        auxiliary=auxiliary,
    )


def _build_network(**options: Any) -> nn.Module:
    with warnings.catch_warnings():
        # Without a class token `cat` is one more linear layer; smp warns of that, and of encoders that do not fit.
        warnings.filterwarnings("ignore", message="Encoder does not have prefix tokens")
        return smp.DPT(**options)
