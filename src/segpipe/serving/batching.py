"""Dynamic batches: pictures of one size that are there at the same time go through the network together.

One thread runs the network, so the event loop never waits for it. A batch begins with the picture that came first, as
soon as that thread is free. It waits for others only while pictures are being decoded, and only `max_wait_ms`: a single
client never waits.
"""

import asyncio
import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus

import numpy as np
import numpy.typing as npt

from segpipe.serving.backends import Served
from segpipe.serving.limits import MAX_RETRY_SECONDS, Limits, RefusedError

FIRST_GUESS_SECONDS = 0.2  # for a picture, until one was predicted
WEIGHT_OF_NEWEST = 0.2
TOGETHER_PX = 1 << 22  # of one batch


@dataclass(frozen=True)
class Answer:
    """What the network said about one picture.

    Attributes:
        served: the model.
        mask: (height, width) uint8 class indices.
        confidences: (height, width) float32, 0..1: the probability of the mask's class.
    """

    served: Served
    mask: npt.NDArray[np.uint8]
    confidences: npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class _Waiting:
    served: Served
    pixels: npt.NDArray[np.uint8]
    since: float
    answer: "asyncio.Future[Answer]"

    @property
    def kind(self) -> tuple[Served, tuple[int, ...]]:
        return self.served, self.pixels.shape


class HeldPixels:
    """The memory of a picture; a thread that decodes takes it, the event loop gives it back.

    Args:
        batcher: whose memory it is.
    """

    def __init__(self, batcher: "Batcher") -> None:
        self._batcher, self._num_px, self._is_closed = batcher, 0, False

    def take(self, num_px: int) -> None:
        """Takes memory for so many pixels.

        Raises:
            RefusedError: there is not so much, or nobody waits for the picture any more.
        """
        batcher = self._batcher
        with batcher.memory_lock:
            is_too_much = batcher.held_px and batcher.held_px + num_px > batcher.limits.max_held_px
            if self._is_closed or is_too_much:
                raise batcher.refuse()
            self._num_px += num_px
            batcher.held_px += num_px

    def close(self) -> None:
        """Gives it back."""
        with self._batcher.memory_lock:
            self._is_closed = True
            self._batcher.held_px -= self._num_px


class Batcher:
    """The queue before the network.

    Args:
        limits: of the queue and the batches.
        observe: gets the number of pictures and the seconds of each batch.
    """

    def __init__(self, limits: Limits, observe: Callable[[int, float], None] = lambda number, seconds: None) -> None:
        self.limits, self._observe = limits, observe
        self._waiting: deque[_Waiting] = deque()
        self._changed = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "network")
        self._seconds = FIRST_GUESS_SECONDS
        self._num_held, self._num_decoding = 0, 0
        self.held_px, self.memory_lock = 0, threading.Lock()

    @property
    def num_held(self) -> int:
        """Pictures that are accepted and not answered yet."""
        return self._num_held

    @contextlib.contextmanager
    def holding(self, num_pictures: int) -> Iterator[None]:
        """Keeps places in the queue during the body.

        Raises:
            RefusedError: there are not so many.
        """
        self.check_room(num_pictures)
        self._num_held += num_pictures
        try:
            yield
        finally:
            self._num_held -= num_pictures

    @contextlib.contextmanager
    def holding_px(self) -> Iterator["HeldPixels"]:
        """Gives what counts the pixels of a picture, until the end of the body of this statement."""
        held = HeldPixels(self)
        try:
            yield held
        finally:
            held.close()

    @contextlib.contextmanager
    def decoding(self) -> Iterator[None]:
        """Says that a picture is coming; batches wait for it a little."""
        self._num_decoding += 1
        try:
            yield
        finally:
            self._num_decoding -= 1
            self._changed.set()

    def check_room(self, num_pictures: int = 1) -> None:
        """Checks that the queue has places.

        Raises:
            RefusedError: it has not; says when to come again.
        """
        if self._num_held + num_pictures > self.limits.max_queue:
            raise self.refuse()

    def refuse(self) -> RefusedError:
        """Gives the refusal of a request for which there is no room."""
        seconds = min(MAX_RETRY_SECONDS, max(1, math.ceil(self._num_held * self._seconds / 2)))
        reason = f"{self._num_held} pictures wait already; send it again in {seconds} s"
        return RefusedError(HTTPStatus.TOO_MANY_REQUESTS, reason, seconds)

    async def predict(self, served: Served, pixels: npt.NDArray[np.uint8]) -> Answer:
        """Predicts a picture, together with others of its size.

        Args:
            served: the model.
            pixels: (height, width, 3) uint8 RGB.

        Raises:
            Exception: that the network raised.
        """
        one = _Waiting(served, pixels, time.monotonic(), asyncio.get_running_loop().create_future())
        self._waiting.append(one)
        self._changed.set()
        return await one.answer

    async def run(self) -> None:
        """Feeds the network until the task is cancelled."""
        try:
            while True:
                await self._run_batch()
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _run_batch(self) -> None:
        """Predicts the next batch; nothing keeps its model afterwards, which may not be served any more."""
        batch = await self._collect()
        began = time.perf_counter()
        try:
            answers = await asyncio.get_running_loop().run_in_executor(self._thread, _predict, batch)
        except Exception as error:  # of any kind: it is the answer to these requests, and not the end of all
            for one in batch:
                if not one.answer.done():
                    one.answer.set_exception(error)
            return
        seconds = time.perf_counter() - began
        self._observe(len(batch), seconds)
        self._seconds += WEIGHT_OF_NEWEST * (seconds / len(batch) - self._seconds)
        for one, answer in zip(batch, answers, strict=True):
            if not one.answer.done():
                one.answer.set_result(answer)

    async def _collect(self) -> list[_Waiting]:
        """Waits for a picture, and a little for others of its size; takes them from the queue."""
        while True:
            self._waiting = deque(one for one in self._waiting if not one.answer.done())  # of those who went
            if not self._waiting:
                self._changed.clear()
                await self._changed.wait()
                continue
            first = self._waiting[0]
            num_px = first.pixels.shape[0] * first.pixels.shape[1]
            wanted = max(1, min(self.limits.max_batch, TOGETHER_PX // num_px))
            batch = [one for one in self._waiting if one.kind == first.kind][:wanted]
            left = first.since + self.limits.max_wait_ms / 1000 - time.monotonic()
            if len(batch) < wanted and self._num_decoding and left > 0:
                self._changed.clear()
                del first, batch  # whose clients may go meanwhile
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), left)
                continue
            taken = set(map(id, batch))
            self._waiting = deque(one for one in self._waiting if id(one) not in taken)
            return batch


def _predict(batch: list[_Waiting]) -> list[Answer]:
    served = batch[0].served
    prediction = served.model.predict(np.stack([one.pixels for one in batch]))
    pairs = zip(prediction.masks_NHW, prediction.confidences_NHW, strict=True)
    return [Answer(served, mask, confidences) for mask, confidences in pairs]
