"""Work that threads do ahead of the one that needs its results, in bounded memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import TypeVar

T = TypeVar("T")

# A task: the executor that does it, its cost in pixels, and the work.
Task = tuple[Executor, int, Callable[[], T]]


def run_ahead(tasks: Iterable[Task[T]], max_tasks: int, max_px: int) -> Iterator[T]:
    """Starts tasks ahead of the caller, and gives their results in order.

    Args:
        tasks: are taken one by one, when there is room for one more.
        max_tasks: that are under way or wait to be taken, at least 1.
        max_px: of them together; a task that alone costs more runs alone.

    Raises:
        Exception: that a task raised; the tasks after it that have not begun are not done.
    """
    waiting: deque[tuple[int, Future[T]]] = deque()
    held_px = 0
    try:
        for executor, cost_px, work in tasks:
            while waiting and (len(waiting) >= max_tasks or held_px + cost_px > max_px):
                yield waiting[0][1].result()
                held_px -= waiting.popleft()[0]
            waiting.append((cost_px, executor.submit(work)))
            held_px += cost_px
        while waiting:
            yield waiting[0][1].result()
            waiting.popleft()
    finally:
        for _, future in waiting:
            future.cancel()
