"""The loss of a training: a weighted sum of losses, at the main output and at the auxiliary outputs."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from segpipe.config.train import LossTerm
from segpipe.losses.parts.terms import build_terms
from segpipe.losses.parts.weighted_sum import Loss, WeightedSum
from segpipe.training.prefetch import Maps
from segpipe.training.processes.ranks import ALONE, Ranks


@dataclass(frozen=True)
class Objective:
    """The loss L of a step, over its micro batches m, its terms t and the network's outputs o.

    L = sum_t f_t sum_o a_o (sum_m S_tom / sum_m W_tm)

    S and W are sum and weight of loss t (see `segpipe.losses`), f is its factor in the parameters; a is 1 at the main
    output and `auxiliary_weight` at each auxiliary output. So each term is divided by its own weight over the whole
    step. Weights depend on the target alone: they are the same at each output, and known before the first forward
    pass. L is a sum over micro batches, so their gradients can be added one after another.

    Sources: auxiliary heads as in Zhao et al., "Pyramid scene parsing network", CVPR 2017, section 3.3 (0.4 there);
    deep supervision as in Lee et al., "Deeply-supervised nets", AISTATS 2015, equation 3, with one weight for all.

    Args:
        terms: factor and loss of each term.
        auxiliary_weight: the factor a at each auxiliary output.
    """

    terms: tuple[tuple[float, Loss], ...]
    auxiliary_weight: float

    @property
    def draws_ahead(self) -> bool:
        """Whether a term has maps to draw."""
        return any(loss.ahead is not None for _, loss in self.terms)

    def draw(self, masks_NHW: torch.Tensor) -> Maps:
        """Gives the maps of masks; `shares_of` needs them, or draws them itself.

        Args:
            masks_NHW: (N, H, W) class indices as the network sees them, any integer type, on the CPU.
        """
        return tuple(None if loss.ahead is None else loss.ahead.draw(masks_NHW) for _, loss in self.terms)

    def shares_of(
        self, targets: Sequence[torch.Tensor], ranks: Ranks = ALONE, maps: Sequence[Maps] | None = None
    ) -> list["Share"]:
        """Gives the part of L that each micro batch of a step adds.

        Args:
            targets: of each micro batch, (N, H, W) int64 class indices, void = 255.
            ranks: the processes that compute parts of the step.
            maps: of each micro batch, where they were drawn ahead.
        """
        weights = [self._weigh(*pair) for pair in zip(targets, maps or [()] * len(targets), strict=True)]
        here = [torch.stack([part.sum() for part in parts]).sum() for parts in zip(*weights, strict=True)]
        totals = tuple(ranks.add_up(torch.stack(here)).unbind())
        return [Share(self, target, parts, totals) for target, parts in zip(targets, weights, strict=True)]

    def _weigh(self, target_NHW: torch.Tensor, maps: Maps) -> tuple[torch.Tensor, ...]:
        return tuple(
            loss.weigh(target_NHW) if drawn is None or loss.ahead is None else loss.ahead.weigh(target_NHW, drawn)
            for (_, loss), drawn in zip(self.terms, maps or [None] * len(self.terms), strict=True)
        )


@dataclass(frozen=True)
class Share:
    """The part that one micro batch adds to the objective of its step.

    Args:
        objective: the training's objective.
        target_NHW: the micro batch's target.
        weights: for each term, the weights of its costs in this micro batch.
        totals: for each term, the sum of the weights over the whole step, a scalar.
    """

    objective: Objective
    target_NHW: torch.Tensor
    weights: tuple[torch.Tensor, ...]
    totals: tuple[torch.Tensor, ...]

    def of_logits(self, logits_NCHW: torch.Tensor) -> torch.Tensor:
        """Gives the share at one output, a scalar.

        Args:
            logits_NCHW: float, of the target's height and width.
        """
        values = []
        for (factor, loss), weights, total in zip(self.objective.terms, self.weights, self.totals, strict=True):
            sum_of_costs = loss.add_up(logits_NCHW, self.target_NHW, weights)
            values.append(factor * WeightedSum(sum_of_costs, total.to(sum_of_costs)).mean())
        return torch.stack(values).sum()

    def of_outputs(self, outputs: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, torch.Tensor]:
        """Gives the share at all outputs of a network in training mode.

        Args:
            outputs: logits, or a tuple of main logits and auxiliary logits of any height and width, which are resized
                bilinearly.

        Returns:
            The share, a scalar, and the main logits.
        """
        if isinstance(outputs, torch.Tensor):
            return self.of_logits(outputs), outputs
        main_NCHW, *others = outputs
        value = self.of_logits(main_NCHW)
        for other_NCHW in others:
            resized_NCHW = F.interpolate(other_NCHW, self.target_NHW.shape[-2:], mode="bilinear", align_corners=False)
            value = value + self.objective.auxiliary_weight * self.of_logits(resized_NCHW)
        return value, main_NCHW


def make_objective(terms: Sequence[LossTerm], auxiliary_weight: float, class_weights: torch.Tensor) -> Objective:
    """Builds the losses that `train.loss` names.

    Args:
        terms: names, options and weights.
        auxiliary_weight: factor of the loss at each auxiliary output.
        class_weights: (num_classes,) float32, on the device of the logits.

    Raises:
        ConfigError: options are unknown or wrong; one message for all terms.
    """
    return Objective(build_terms(terms, class_weights), auxiliary_weight)
