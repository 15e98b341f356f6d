"""What the processes of a shared training compute in tests: steps of a network, and a validation."""

from dataclasses import dataclass
from pathlib import Path

import torch
from timm.layers import BatchNormAct2d
from torch import nn

from segpipe.data.store import Store
from segpipe.losses.cross_entropy import build_loss
from segpipe.training.objective import Objective
from segpipe.training.prefetch import DeviceBatch
from segpipe.training.processes.ranks import Ranks
from segpipe.training.processes.synchronised import synchronise
from segpipe.training.state import TrainState
from segpipe.training.step import add_gradients, take_step
from segpipe.training.validation import validate

NUM_CLASSES = 3


class Small(nn.Module):
    """A network with both kinds of batch norm; bf16 where the caller's autocast says so."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), BatchNormAct2d(6, momentum=None))
        self.head = nn.Conv2d(6, NUM_CLASSES, 1)

    def forward(self, images_NCHW: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.second(self.first(images_NCHW)))
        return logits


@dataclass(frozen=True)
class Steps:
    """Three steps, each of two batches of five samples with void, and after each a vote: the number of the process.

    Gives the network's state, the losses, and the results of the votes.

    Args:
        num_parts: in which each process divides its part of a batch; then each part has its own batch norm.
    """

    num_parts: int = 1

    def __call__(self, ranks: Ranks) -> tuple[dict[str, torch.Tensor], list[float], list[int]]:
        torch.manual_seed(3)
        module: nn.Module = Small().train()
        if ranks.number > 1:
            module = synchronise(module, torch.device("cpu"))
        optimizer = torch.optim.SGD(module.parameters(), lr=0.2)
        schedule = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
        state = TrainState(module, optimizer, schedule, ranks=ranks)
        objective = Objective(((1.0, build_loss(class_weights=torch.tensor([1.0, 2.0, 0.5]))),), 0.4)
        losses, votes = [], []
        for _ in range(3):
            images = torch.randint(0, 256, (10, 12, 14, 3), dtype=torch.uint8)
            masks = torch.randint(0, NUM_CLASSES, (10, 12, 14), dtype=torch.uint8)
            masks[0] = 255  # a whole sample of void: the parts have other weights
            halves = [(images[:5], masks[:5]), (images[5:], masks[5:])]
            batches = [DeviceBatch(image[ranks.part], mask[ranks.part]) for image, mask in halves]
            parts = [part for batch in batches for part in batch.split(self.num_parts)]
            loss = add_gradients(state, objective, parts, False, lambda logits, target: None)
            losses.append(float(ranks.add_up(loss)))
            take_step(state, max_gradient_norm=0.5)
            votes.append(ranks.highest(ranks.rank))
        return module.state_dict(), losses, votes


@dataclass(frozen=True)
class Validation:
    """The mean IoU and the loss of a network on the validation split of a store."""

    folder: Path

    def __call__(self, ranks: Ranks) -> tuple[float, float]:
        torch.manual_seed(3)
        module = Small().eval()
        terms = ((1.0, build_loss(class_weights=torch.ones(NUM_CLASSES))),)
        return validate(module, Store.open(self.folder).of_split("val"), terms, ranks)
