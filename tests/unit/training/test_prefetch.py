"""What arrives is what was sent, in order; on CUDA, that a copy is not overtaken by what reads it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from segpipe.data.loading.loader import Batch
from segpipe.training.prefetch import send_ahead

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
DEVICES = [torch.device("cpu"), pytest.param(torch.device("cuda"), marks=NEEDS_CUDA)]


def _batches(num_batches: int, size: int = 8) -> Iterator[Batch]:
    for value in range(num_batches):
        yield np.full((2, size, size, 3), value, np.uint8), np.full((2, size, size), 100 + value, np.uint8)


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("num_batches", [0, 1, 2, 5])
def test_all_batches_arrive_in_order(device: torch.device, num_batches: int) -> None:
    arrived = list(send_ahead(_batches(num_batches), device))
    assert [int(batch.images_NHWC[1, 7, 7, 2]) for batch in arrived] == list(range(num_batches))
    assert [int(batch.masks_NHW[0, 0, 0]) for batch in arrived] == list(range(100, 100 + num_batches))
    for batch in arrived:
        assert batch.images_NHWC.device.type == batch.masks_NHW.device.type == device.type
        assert batch.images_NHWC.dtype == batch.masks_NHW.dtype == torch.uint8
        assert batch.images_NHWC.shape == (2, 8, 8, 3)


@pytest.mark.parametrize("device", DEVICES, ids=str)
@pytest.mark.parametrize("num_batches", [0, 1, 4])
def test_maps_arrive_with_their_batch(device: torch.device, num_batches: int) -> None:
    arrived = list(send_ahead(_batches(num_batches), device, lambda masks: (None, masks.float() / 2)))
    for number, batch in enumerate(arrived):
        nothing, drawn = batch.maps
        assert nothing is None
        assert drawn is not None and drawn.device.type == device.type
        assert drawn.shape == (2, 8, 8) and bool((drawn == 50 + number / 2).all())
        parts = batch.split(2)
        assert [part.maps[0] for part in parts] == [None, None]
        assert [part.maps[1].shape for part in parts if part.maps[1] is not None] == [(1, 8, 8)] * 2
    assert len(arrived) == num_batches


def test_the_maps_of_one_batch_are_drawn_ahead() -> None:
    drawn: list[int] = []
    stream = send_ahead(_batches(4), torch.device("cpu"), lambda masks: (drawn.append(int(masks[0, 0, 0])),))
    next(stream)
    stream.close()  # type: ignore[attr-defined]  # waits for what is under way
    assert drawn == [100, 101]


def test_on_the_cpu_nothing_is_copied() -> None:
    ((images, masks),) = _batches(1)
    (batch,) = send_ahead([(images, masks)], torch.device("cpu"))
    images[:], masks[:] = 7, 8
    assert (batch.images_NHWC == 7).all()
    assert (batch.masks_NHW == 8).all()


def test_on_the_cpu_a_batch_is_asked_for_in_its_turn_only() -> None:
    """Else an interrupted training would have waited for a batch that it throws away."""
    asked = []

    def counted() -> Iterator[Batch]:
        for number, batch in enumerate(_batches(3)):
            asked.append(number)
            yield batch

    stream = send_ahead(counted(), torch.device("cpu"))
    next(stream)
    assert asked == [0]


def test_the_loaders_threads_end_with_the_stream() -> None:
    closed = []

    def closing() -> Iterator[Batch]:
        try:
            yield from _batches(3)
        finally:
            closed.append(True)

    stream = send_ahead(closing(), torch.device("cpu"))
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    del stream
    assert closed


@NEEDS_CUDA
def test_a_batch_is_read_after_its_copy_however_slow_the_network_is() -> None:
    device = torch.device("cuda")
    busy = torch.randn(2048, 2048, device=device)
    sums = []
    for batch in send_ahead(_batches(30, size=512), device):
        for _ in range(10):
            busy = torch.tanh(busy @ busy)
        sums.append(batch.images_NHWC.float().mean() + 0 * busy[0, 0])
    assert [round(float(value)) for value in sums] == list(range(30))
