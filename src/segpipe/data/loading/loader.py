"""Batches from the store, by threads: cv2 and memory maps release the GIL, and nothing is copied between processes.

A sample's augmentation depends only on (seed, epoch, index). So the stream of batches is the same for any number of
threads and processes, and can begin at any step: a resumed training gets the same batches as an uninterrupted one.
"""

import functools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from segpipe.config.augment import Augment
from segpipe.data.loading.augment import Augmenter
from segpipe.data.store import Store

NUM_LOADING_THREADS = 2
NUM_BATCHES_AHEAD = 2

Batch = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


@dataclass(frozen=True)
class TrainLoader:
    """Batches of varied training samples, for any number of epochs.

    Args:
        store: the training samples.
        augment: how they are varied.
        batch_size: samples a step; a split smaller than that is one step.
        seed: of order and augmentation.
        part: the samples of each batch that are made; other processes make the others.

    Raises:
        ConfigError: an augmentation cannot work; each is tried once.
    """

    store: Store
    augment: Augment
    batch_size: int
    seed: int
    part: slice = field(default_factory=lambda: slice(None))

    def __post_init__(self) -> None:
        self.augmenter.rehearse()

    @functools.cached_property
    def augmenter(self) -> Augmenter:
        """Makes the samples."""
        return Augmenter(self.store, self.augment)

    @property
    def batches_per_epoch(self) -> int:
        """Full batches in an epoch; the samples that are left over are not used in that epoch."""
        return max(1, len(self.store) // self.batch_size)

    @property
    def samples_per_batch(self) -> int:
        """Samples of a batch: fewer than `batch_size` if the split has fewer."""
        return min(self.batch_size, len(self.store))

    def batches(self, epoch: int, first_batch: int = 0) -> Iterator[Batch]:
        """Gives an epoch's batches from `first_batch` on.

        Yields:
            images (samples, *crop, 3) and masks (samples, *crop), uint8.
        """
        cv2.setNumThreads(0)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.store))
        with ThreadPoolExecutor(NUM_LOADING_THREADS) as pool:
            ahead: deque[tuple[Batch, list[Future[None]]]] = deque()
            for number in range(first_batch, self.batches_per_epoch):
                indices = order[number * self.batch_size : (number + 1) * self.batch_size][self.part].tolist()
                batch = self._empty(len(indices))
                # Several samples for each task: a task for each sample costs a tenth of the time to make it.
                work = [pool.submit(self._fill, batch, indices, epoch, n) for n in range(NUM_LOADING_THREADS)]
                ahead.append((batch, work))
                if len(ahead) > NUM_BATCHES_AHEAD:
                    yield _finished(*ahead.popleft())
            while ahead:
                yield _finished(*ahead.popleft())

    def make_sample(self, index: int, epoch: int, image: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]) -> None:
        """Writes one epoch's variation of a sample.

        Args:
            index: of the sample in the store.
            epoch: counted from 0.
            image: (*crop, 3) uint8 RGB; is overwritten.
            mask: crop, uint8; is overwritten.
        """
        # + 1: numpy pads a seed with zeros, so index 0 would repeat the numbers that the order was drawn from.
        rng = np.random.default_rng([self.seed, epoch, index + 1])
        self.augmenter.make_sample(index, rng, image, mask)

    def _empty(self, num_samples: int) -> Batch:
        shape = (num_samples, *self.augment.crop)
        return np.empty((*shape, 3), np.uint8), np.empty(shape, np.uint8)

    def _fill(self, batch: Batch, indices: list[int], epoch: int, number: int) -> None:
        """Makes every NUM_LOADING_THREADS-th sample of a batch, from `number` on."""
        for position in range(number, len(indices), NUM_LOADING_THREADS):
            self.make_sample(indices[position], epoch, batch[0][position], batch[1][position])


def _finished(batch: Batch, work: list[Future[None]]) -> Batch:
    for part in work:
        part.result()
    return batch
