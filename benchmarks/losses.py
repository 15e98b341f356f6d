"""Our losses against those of torch and segmentation_models.pytorch (smp): time of a forward and a backward pass.

The peers are the losses that a user would use instead. smp's losses get the same logits and `ignore_index`, although
some compute another function (docs/decisions/0016). All run in one process, in turn; the figures are medians.
"""

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from segmentation_models_pytorch import losses as peers

from segpipe.choices import LOSSES
from segpipe.classes import IGNORE_INDEX
from segpipe.losses.parts.weighted_sum import Loss

BATCH, NUM_CLASSES, HEIGHT, WIDTH = 8, 11, 360, 480
NUM_THREADS, NUM_ROUNDS = 1, 5
Mean = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def _ohem(logits_NCHW: torch.Tensor, target_NHW: torch.Tensor) -> torch.Tensor:
    """The rule of mmsegmentation's sampler, on the same share of pixels."""
    cost = F.cross_entropy(logits_NCHW, target_NHW, ignore_index=IGNORE_INDEX, reduction="none")
    labelled = target_NHW != IGNORE_INDEX
    truth = target_NHW.where(labelled, 0).unsqueeze(1)
    probability = logits_NCHW.softmax(dim=1).gather(1, truth).squeeze(1)[labelled].detach()
    num_kept = max(1, probability.numel() // 16)
    threshold = max(float(probability.sort().values[num_kept - 1]), 0.7)
    return cost[labelled][probability < threshold].mean()


PEERS: dict[str, Mean] = {
    "cross_entropy": lambda x, y: F.cross_entropy(x, y, weight=torch.ones(NUM_CLASSES), ignore_index=IGNORE_INDEX),
    "ohem_cross_entropy": _ohem,
    "focal": peers.FocalLoss("multiclass", ignore_index=IGNORE_INDEX),
    "dice": peers.DiceLoss("multiclass", ignore_index=IGNORE_INDEX, smooth=1.0),
    "tversky": peers.TverskyLoss("multiclass", ignore_index=IGNORE_INDEX, alpha=0.3, beta=0.7, smooth=1.0),
    "lovasz_softmax": peers.LovaszLoss("multiclass", ignore_index=IGNORE_INDEX),
}


def _mean_of(loss: Loss) -> Mean:
    return lambda logits_NCHW, target_NHW: loss(logits_NCHW, target_NHW).mean()


def measure(loss: Mean, logits: torch.Tensor, target: torch.Tensor) -> float:
    """Gives the milliseconds of a forward and a backward pass."""
    logits = logits.detach().requires_grad_()
    started = time.perf_counter()
    loss(logits, target).backward()  # type: ignore[no-untyped-call]
    return 1000 * (time.perf_counter() - started)


def main() -> None:
    """Prints a row a loss."""
    torch.set_num_threads(NUM_THREADS)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(BATCH, NUM_CLASSES, HEIGHT, WIDTH, generator=generator)
    logits = logits.to(memory_format=torch.channels_last)
    target = torch.randint(0, NUM_CLASSES, (BATCH, HEIGHT, WIDTH), generator=generator)
    target[:, :20] = IGNORE_INDEX
    print(f"{BATCH}x{NUM_CLASSES}x{HEIGHT}x{WIDTH}, channels-last, {NUM_THREADS} thread, medians of {NUM_ROUNDS}")
    for name, peer in PEERS.items():
        ours = _mean_of(LOSSES.call(name, class_weights=torch.ones(NUM_CLASSES)))
        pairs = [(measure(ours, logits, target), measure(peer, logits, target)) for _ in range(NUM_ROUNDS)]
        our_ms, peer_ms = (statistics.median(times) for times in zip(*pairs, strict=True))
        print(
            f"{name:20s} ours {our_ms:7.0f} ms   peer {peer_ms:7.0f} ms   peer / ours {peer_ms / our_ms:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
