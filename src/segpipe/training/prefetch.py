"""Copies batches to the device: on CUDA the next batch is copied while the network computes on the current one."""

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

    def split(self, number: int) -> list["DeviceBatch"]:
        """Gives so many parts of nearly equal size."""
        parts = zip(self.images_NHWC.tensor_split(number), self.masks_NHW.tensor_split(number), strict=True)
        return [DeviceBatch(images, masks) for images, masks in parts]


def send_ahead(batches: Iterable[Batch], device: torch.device) -> Iterator[DeviceBatch]:
    """Gives batches on the device, as uint8.

    On CUDA a copy runs on its own stream, from pinned memory, while the kernels of the previous step run. On other
    devices there are no extra copies, and no batch is loaded before its turn.

    Args:
        batches: batches of the loader; their arrays must not change later.
        device: the network's device.
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
        # torch does not reuse pinned memory before the copy from it is done.
        images, masks = (torch.from_numpy(array).pin_memory().to(device, non_blocking=True) for array in batch)
        return DeviceBatch(images, masks), stream.record_event()


def _receive(batch: DeviceBatch, copied: torch.cuda.Event, device: torch.device) -> DeviceBatch:
    current = torch.cuda.current_stream(device)
    current.wait_event(copied)
    for tensor in (batch.images_NHWC, batch.masks_NHW):
        # Without this, the next copy could get its memory while kernels of this stream still read it.
        tensor.record_stream(current)
    return batch
