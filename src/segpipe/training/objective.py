"""What a training minimises: a weighted sum of losses, at the main output and at the auxiliary ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from segpipe.choices import LOSSES
from segpipe.config.train import LossTerm
from segpipe.errors import ConfigError
from segpipe.inference.evaluate import Loss


@dataclass(frozen=True)
class Objective:
    """L = sum_t w_t L_t at the network's output, and a share of the same at each auxiliary output.

    Sources: auxiliary heads as in Zhao et al., "Pyramid scene parsing network", CVPR 2017, section 3.3 (0.4 there);
    deep supervision as in Lee et al., "Deeply-supervised nets", AISTATS 2015, equation 3, with one weight for all.

    Args:
        terms: factor and loss of each term.
        auxiliary_weight: the share at each auxiliary output.
    """

    terms: tuple[tuple[float, Loss], ...]
    auxiliary_weight: float

    def __call__(self, logits_NCHW: torch.Tensor, target_NHW: torch.Tensor) -> torch.Tensor:
        """Gives the loss at the main output, a scalar.

        Args:
            logits_NCHW: float, of the targets' height and width.
            target_NHW: int64 class indices, void = 255.
        """
        return torch.stack([weight * loss(logits_NCHW, target_NHW) for weight, loss in self.terms]).sum()

    def of_outputs(
        self, outputs: torch.Tensor | tuple[torch.Tensor, ...], target_NHW: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Gives the loss of all that a network in training mode gives.

        Args:
            outputs: logits, or these and further logits of any height and width, which are resized bilinearly.
            target_NHW: int64 class indices, void = 255.

        Returns:
            The loss, a scalar, and the main logits.
        """
        if isinstance(outputs, torch.Tensor):
            return self(outputs, target_NHW), outputs
        main_NCHW, *others = outputs
        loss = self(main_NCHW, target_NHW)
        for other_NCHW in others:
            resized_NCHW = F.interpolate(other_NCHW, target_NHW.shape[-2:], mode="bilinear", align_corners=False)
            loss = loss + self.auxiliary_weight * self(resized_NCHW, target_NHW)
        return loss, main_NCHW


def make_objective(terms: Sequence[LossTerm], auxiliary_weight: float, class_weights: torch.Tensor) -> Objective:
    """Builds the losses that `train.loss` names.

    Args:
        terms: names, options and weights.
        auxiliary_weight: of the loss at each auxiliary output.
        class_weights: (num_classes,) float32, on the device of the logits.

    Raises:
        ConfigError: an option is unknown or wrong; those of all terms in one message.
    """
    built, problems = [], []
    for term in terms:
        try:
            built.append((term.weight, LOSSES.call(term.name, term.options, class_weights=class_weights)))
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    return Objective(tuple(built), auxiliary_weight)
