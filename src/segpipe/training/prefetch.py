"""Batches on their way to the device: on CUDA the next one is copied while the network computes with this one."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from segpipe.data.loading.loader import Batch


@dataclass(frozen=True)
class DeviceBatch:
    """A batch on the device.

    Args:
        images_NHWC: (N, H, W, 3) uint8 RGB.
        masks_NHW: (N, H, W) uint8 class indices, void = 255.
    """

    images_NHWC: torch.Tensor
    masks_NHW: torch.Tensor


def send_ahead(batches: Iterable[Batch], device: torch.device) -> Iterator[DeviceBatch]:
    """Hands batches over as uint8.

    On CUDA a copy runs on a stream of its own, from pinned memory, while the kernels of the step before run. Elsewhere
    nothing is copied that need not be, and no batch is asked for before its turn.

    Args:
        batches: of the loader; their arrays must stay as they are.
        device: where the network is.
    """
    if device.type != "cuda":
        for images, masks in batches:
            yield DeviceBatch(torch.from_numpy(images).to(device), torch.from_numpy(masks).to(device))
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    under_way: tuple[DeviceBatch, torch.cuda.Event] | None = None
    for batch in batches:
        arriving, under_way = under_way, _send(batch, device, stream)
        if arriving is not None:
            yield _receive(*arriving, device)
    if under_way is not None:
        yield _receive(*under_way, device)


def _send(batch: Batch, device: torch.device, stream: torch.cuda.Stream) -> tuple[DeviceBatch, torch.cuda.Event]:
    with torch.cuda.stream(stream):
        # torch keeps pinned memory until the copy out of it is done, and then uses it again.
        images, masks = (torch.from_numpy(array).pin_memory().to(device, non_blocking=True) for array in batch)
        return DeviceBatch(images, masks), stream.record_event()


def _receive(batch: DeviceBatch, copied: torch.cuda.Event, device: torch.device) -> DeviceBatch:
    current = torch.cuda.current_stream(device)
    current.wait_event(copied)
    for tensor in (batch.images_NHWC, batch.masks_NHW):
        # Else its memory could be given to the next copy while kernels of this stream still read it.
        tensor.record_stream(current)
    return batch
