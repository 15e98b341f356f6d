"""How fast a training is: images a second, the share of the time that it waits for data, and the time that is left."""

import datetime
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")


class Pace:
    """Measures the epochs of a training, and shows on a terminal how far it is.

    Use it as a context.

    Args:
        num_epochs: of the whole training; an early stop may come before.
        batches_per_epoch: batches in an epoch.
        batch_size: images in a batch.
        num_done: batches that are done before, in earlier processes.
        seconds_before: that they took.
        is_shown: whether a terminal shows it.
    """

    def __init__(
        self,
        num_epochs: int,
        batches_per_epoch: int,
        batch_size: int,
        num_done: int,
        seconds_before: float = 0.0,
        is_shown: bool = True,
    ) -> None:
        self._num_epochs, self._batches_per_epoch, self._batch_size = num_epochs, batches_per_epoch, batch_size
        self._num_before, self._began = num_done, time.perf_counter()
        self._seconds_before = seconds_before
        self._bar = tqdm(
            initial=num_done,
            total=num_epochs * batches_per_epoch,
            leave=False,
            disable=not (is_shown and sys.stderr.isatty()),
            unit="batch",
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}",
            dynamic_ncols=True,
        )
        self.start_epoch(num_done // batches_per_epoch)

    def __enter__(self) -> "Pace":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    @property
    def seconds(self) -> float:
        """The seconds of the whole training, earlier processes included."""
        return self._seconds_before + time.perf_counter() - self._began

    def start_epoch(self, epoch: int) -> None:
        """Begins to measure an epoch, counted from 0."""
        self._started, self._num_batches, self._waited = time.perf_counter(), 0, 0.0
        self._bar.set_description_str(f"epoch {epoch + 1}/{self._num_epochs}", refresh=False)

    def watch(self, items: Iterable[T]) -> Iterator[T]:
        """Gives the items, and adds up the time that they took to come."""
        iterator = iter(items)
        while True:
            asked = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self._waited += time.perf_counter() - asked
            yield item

    def advance(self, num_batches: int) -> None:
        """Counts finished batches."""
        self._num_batches += num_batches
        self._bar.update(num_batches)

    def show_loss(self, loss: float) -> None:
        """Shows the mean loss of the epoch so far."""
        self._bar.set_postfix(loss=f"{loss:.3f}", refresh=False)

    def measure(self) -> dict[str, float]:
        """Gives the metrics of the steps of this epoch: `images_per_second` and `data_wait_share`, 0..1."""
        seconds = time.perf_counter() - self._started
        speed = self._num_batches * self._batch_size / seconds
        return {"images_per_second": speed, "data_wait_share": self._waited / seconds}

    def time_left(self, epoch: int) -> str:
        """Gives the time until the last epoch, as hours, minutes and seconds, when `epoch` epochs are done."""
        num_done = epoch * self._batches_per_epoch
        num_here = num_done - self._num_before
        if num_here <= 0:
            return "?"
        seconds = (time.perf_counter() - self._began) / num_here
        left = datetime.timedelta(seconds=round(seconds * (self._num_epochs * self._batches_per_epoch - num_done)))
        return str(left)
