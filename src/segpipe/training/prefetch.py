"""Copies batches to the device: on CUDA the next batch is copied while the network computes on the current one.

What losses draw on the CPU for a batch's masks is drawn at that time too, by a thread, on every device.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:  # `segpipe check` needs no loader, which loads pandas
    from segpipe.data.loading.loader import Batch

# One for each term of the loss; None where the term draws nothing. Empty: nothing was drawn ahead.
Maps = tuple[torch.Tensor | None, ...]
Draw = Callable[[torch.Tensor], Maps]


@dataclass(frozen=True)
class DeviceBatch:
    """A batch on the device.

    Args:
        images_NHWC: (N, H, W, 3) uint8 RGB.
        masks_NHW: (N, H, W) uint8 class indices, void = 255.
        maps: that the losses have drawn for these masks.
    """

    images_NHWC: torch.Tensor
    masks_NHW: torch.Tensor
    maps: Maps = ()

    def split(self, number: int) -> list["DeviceBatch"]:
        """Gives so many parts of nearly equal size."""
        nothing = [None] * number
        maps = [nothing if one is None else one.tensor_split(number) for one in self.maps]
        columns = (self.images_NHWC.tensor_split(number), self.masks_NHW.tensor_split(number), *maps)
        return [DeviceBatch(images, masks, tuple(drawn)) for images, masks, *drawn in zip(*columns, strict=True)]


def send_ahead(batches: "Iterable[Batch]", device: torch.device, draw: Draw | None = None) -> Iterator[DeviceBatch]:
    """Gives batches on the device, as uint8.

    On CUDA a copy runs on its own stream, from pinned memory, while the kernels of the previous step run. On other
    devices there are no extra copies. No batch is loaded before its turn, except the one whose maps are drawn ahead.

    Args:
        batches: batches of the loader; their arrays must not change later.
        device: the network's device.
        draw: gives the maps of masks (N, H, W) uint8 on the CPU; None to draw nothing ahead.
    """
    loaded = (DeviceBatch(torch.from_numpy(images), torch.from_numpy(masks)) for images, masks in batches)
    drawn = _draw_ahead(loaded, draw)
    if device.type != "cuda":
        for batch in drawn:
            yield _copy(batch, lambda tensor: tensor.to(device))
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    under_way: tuple[DeviceBatch, torch.cuda.Event] | None = None
    for batch in drawn:
        arriving, under_way = under_way, _send(batch, device, stream)
        if arriving is not None:
            yield _receive(*arriving, device)
    if under_way is not None:
        yield _receive(*under_way, device)


def _draw_ahead(batches: Iterable[DeviceBatch], draw: Draw | None) -> Iterator[DeviceBatch]:
    """Gives batches with their maps; a thread draws those of the next batch meanwhile."""
    if draw is None:
        yield from batches
        return
    under_way: tuple[DeviceBatch, Future[Maps]] | None = None
    with ThreadPoolExecutor(1, "maps") as pool:
        for batch in batches:
            arriving, under_way = under_way, (batch, pool.submit(draw, batch.masks_NHW))
            if arriving is not None:
                yield replace(arriving[0], maps=arriving[1].result())
        if under_way is not None:
            yield replace(under_way[0], maps=under_way[1].result())


def _copy(batch: DeviceBatch, send: Callable[[torch.Tensor], torch.Tensor]) -> DeviceBatch:
    maps = tuple(None if one is None else send(one) for one in batch.maps)
    return DeviceBatch(send(batch.images_NHWC), send(batch.masks_NHW), maps)


def _send(batch: DeviceBatch, device: torch.device, stream: torch.cuda.Stream) -> tuple[DeviceBatch, torch.cuda.Event]:
    with torch.cuda.stream(stream):
        # torch does not reuse pinned memory before the copy from it is done.
        sent = _copy(batch, lambda tensor: tensor.pin_memory().to(device, non_blocking=True))
        return sent, stream.record_event()


def _receive(batch: DeviceBatch, copied: torch.cuda.Event, device: torch.device) -> DeviceBatch:
    current = torch.cuda.current_stream(device)
    current.wait_event(copied)
    for tensor in (batch.images_NHWC, batch.masks_NHW, *batch.maps):
        if tensor is not None:
            # Without this, the next copy could get its memory while kernels of this stream still read it.
            tensor.record_stream(current)
    return batch
