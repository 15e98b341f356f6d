"""The service itself: what happens with a request, from its body to its answer."""

import asyncio
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Literal, TypeVar

from starlette.requests import Request

from segpipe.serving.backends import Served
from segpipe.serving.batching import Batcher
from segpipe.serving.following import Follower, Watch
from segpipe.serving.limits import MAX_RETRY_SECONDS, Limits, RefusedError
from segpipe.serving.metrics import Metrics
from segpipe.serving.roles import CHAMPION, Role
from segpipe.serving.web.access import Access
from segpipe.serving.web.answers import (
    Result,
    Wish,
    choose_form,
    mean_confidence,
    write_answer,
)
from segpipe.serving.web.documents import AboutService, Allowed, FollowedModel, Readiness, ServedModel
from segpipe.serving.web.uploads import Intake, Upload, read_picture

T = TypeVar("T")

MAX_DECODING_THREADS = 4


@dataclass(frozen=True)
class Predicted:
    """An answer that is ready to be sent.

    Attributes:
        content: the body.
        wish: its form.
        served: the model.
        confidence: the mean over all pixels, 0..1.
    """

    content: bytes
    wish: Wish
    served: Served
    confidence: float


class Service:
    """All parts of a running service.

    Args:
        watch: holds the models.
        access: who may ask.
        limits: what is taken.
        metrics: what is counted.
    """

    def __init__(self, watch: Watch, access: Access, limits: Limits, metrics: Metrics) -> None:
        self.watch, self.access, self.limits, self.metrics = watch, access, limits, metrics
        self.intake = Intake(limits)
        self.batcher = Batcher(limits, metrics.observe_batch)
        num_threads = min(MAX_DECODING_THREADS, os.cpu_count() or 1)
        self._pool = ThreadPoolExecutor(num_threads, "pictures")
        self._batches: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to predict and to follow; must be called in the event loop."""
        self._batches = asyncio.get_running_loop().create_task(self.batcher.run())
        self.watch.start()

    def stop(self) -> None:
        """Ends the threads."""
        self.watch.stop()
        if self._batches is not None:
            self._batches.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def is_alive(self) -> bool:
        """Whether pictures are predicted."""
        return self._batches is not None and not self._batches.done()

    @property
    def is_ready(self) -> bool:
        """Whether requests are answered."""
        return self.is_alive and self.watch.champion.served is not None

    def find(self, role: Role) -> Served:
        """Gives a model.

        Raises:
            RefusedError: there is none now: 503 for the champion, 404 for the challenger.
        """
        follower = self.watch.of(role)
        if follower is not None and (served := follower.served) is not None:
            return served
        if role == CHAMPION:
            reason = "this service waits for its first model; `/readyz` says why"
            seconds = math.ceil(min(self.watch.poll_seconds, MAX_RETRY_SECONDS))
            raise RefusedError(HTTPStatus.SERVICE_UNAVAILABLE, reason, seconds)
        raise RefusedError(HTTPStatus.NOT_FOUND, _why_no_challenger(follower))

    def tell_readiness(self) -> Readiness:
        """Gives the models, and what stands against following the registry."""
        champion, challenger = FollowedModel.of(self.watch.champion), self.watch.challenger
        second = None if challenger is None else FollowedModel.of(challenger)
        status: Literal["ready", "not ready"] = "ready" if self.is_ready else "not ready"
        return Readiness(champion.model, champion.trouble, status, second)

    def describe(self) -> AboutService:
        """Gives what a client needs to know to ask and to draw.

        Raises:
            RefusedError: 503, there is no model yet.
        """
        champion, challenger = ServedModel.of(self.find(CHAMPION)), self.watch.challenger
        second = None if challenger is None or challenger.served is None else ServedModel.of(challenger.served)
        allowed = Allowed(self.limits.max_bytes, self.limits.max_px, self.limits.max_files)
        return AboutService(champion.model, champion.classes, second, allowed)

    def write_metrics(self) -> bytes:
        """Gives the page for Prometheus."""
        return self.metrics.write(self.watch.followers, self.batcher.num_held)

    async def predict(self, request: Request, role: Role, style: str, polygons: bool, request_id: str) -> Predicted:
        """Answers a request.

        Raises:
            RefusedError: it cannot be answered; says why.
        """
        served = self.find(role)
        self.batcher.check_room()  # before its body is read
        with self.intake.holding() as body:
            uploads = await self.intake.receive(request, body)
            wish = Wish(choose_form(request.headers.get("accept", ""), len(uploads)), style, polygons)
            try:
                async with asyncio.timeout(self.limits.timeout_seconds):
                    with self.batcher.holding(len(uploads)):
                        results = await self._predict_all(uploads, served)
                        content = await self._in_pool(partial(write_answer, results, wish, request_id))
            except TimeoutError as error:
                reason = f"there was no answer after {self.limits.timeout_seconds:g} s (--timeout)"
                raise RefusedError(HTTPStatus.GATEWAY_TIMEOUT, reason) from error
        self.metrics.pictures.labels(served.role, served.label).inc(len(results))
        return Predicted(content, wish, served, mean_confidence(results))

    async def _predict_all(self, uploads: list[Upload], served: Served) -> list[Result]:
        """Predicts all files, or says what is wrong with each that cannot be."""
        outcomes = await asyncio.gather(*(self._predict_one(one, served) for one in uploads), return_exceptions=True)
        wrong = [(number, one) for number, one in enumerate(outcomes) if isinstance(one, RefusedError)]
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, RefusedError):
                raise outcome
        if not wrong:
            return [one for one in outcomes if isinstance(one, Result)]
        first = wrong[0][1]
        if len(uploads) == 1:
            raise first
        reasons = [f"file {number} ({uploads[number].name!a}): {one.reason}" for number, one in wrong]
        raise RefusedError(first.status, "\n".join(reasons), first.retry_seconds)

    async def _predict_one(self, upload: Upload, served: Served) -> Result:
        with self.batcher.holding_px() as held:
            with self.batcher.decoding():
                mapping = served.model.image_mapping
                work = partial(read_picture, upload, mapping, self.limits, held.take)
                picture = await self._in_pool(work)
            answer = await self.batcher.predict(served, picture.pixels)
        return Result(upload.name, picture, answer)

    async def _in_pool(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


def _why_no_challenger(follower: Follower | None) -> str:
    if follower is None or follower.source is None:
        return "this service has no challenger; start it by `segpipe serve --challenger`"
    if follower.trouble is None:
        return f"there is no challenger now: {follower.source.title} names no version"
    return f"there is no challenger now; `/readyz` says why {follower.source.title} cannot be followed"
