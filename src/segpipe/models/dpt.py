"""DPT, a Vision Transformer whose tokens become maps of four resolutions, by segmentation_models.pytorch (smp).

Source: Ranftl, Bochkovskiy, Koltun, "Vision transformers for dense prediction", ICCV 2021, section 3 and figure 1;
tokens are taken after each quarter of the blocks, and the class token is joined to each of them (`readout: cat`).
Deviations: the widths of the four maps are the paper's for ViT-Large; the weights by default are those of DeiT, whose
ViT-B/16 saw images normalised as they are here. Those of `parts/smp`.
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
from segpipe.models.parts.smp import smp_builder
from segpipe.models.parts.smp.architecture import Architecture

CARD = Card(
    "smp",
    "Ranftl et al., Vision transformers for dense prediction, ICCV 2021",
    small={"encoder": "test_vit", "decoder_channels": 16, "map_channels": (16, 16, 16, 16)},
    earlier={"align_corners": True},
)

_MapChannels = Annotated[Sequence[Annotated[int, Field(ge=1)]], Field(min_length=4, max_length=4)]

_FITTING = (
    "a Vision Transformer of timm with patches of 8, 16 or 32 px, such as deit_base_patch16_384, vit_base_patch16_224 "
    "or vit_base_patch16_dinov3"
)


def describe(
    *,
    map_channels: _MapChannels = (256, 512, 1024, 1024),
    decoder_channels: Annotated[int, Field(ge=1)] = 256,
    readout: Literal["cat", "add", "ignore"] = "cat",
    align_corners: bool = False,
) -> Architecture:
    """Describes the network; the defaults are 121 million parameters.

    Args:
        map_channels: of the four maps made of tokens, from the finest to the coarsest.
        decoder_channels: of the decoder that joins them.
        readout: use of the class token, if the encoder has one: `cat` and `add` combine it with all other tokens.
        align_corners: how maps are resized; see `parts/smp`.
    """
    network = partial(
        _build_network,
        decoder_intermediate_channels=tuple(map_channels),
        decoder_fusion_channels=decoder_channels,
        decoder_readout=readout,
    )
    return Architecture(
        "dpt",
        network,
        # All maps of a ViT have one stride, its patch's side; the decoder halves and doubles them.
        tuple(dict.fromkeys(range(4), patch_px) for patch_px in (8, 16, 32)),
        _FITTING,
        ways=({"dynamic_img_size": True}, {}),
        is_timm_only=True,
        align_corners=align_corners,
    )


def _build_network(**options: Any) -> nn.Module:
    with warnings.catch_warnings():
        # Without a class token `cat` is one more linear layer; smp warns of that, and of encoders that do not fit.
        warnings.filterwarnings("ignore", message="Encoder does not have prefix tokens")
        return smp.DPT(**options)


build_model = smp_builder(describe, encoder="deit_base_patch16_384")
