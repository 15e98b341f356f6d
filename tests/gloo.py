"""Runs a function in several processes that can talk to each other, as the processes of a training do."""

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

import torch
from daemons import find_free_ports

from segpipe.training.processes.ranks import Ranks

T = TypeVar("T")
# Loads the libraries once and forks each rank, which is a process of its own all the same.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["torch", "timm.layers", "segpipe.training.step", "segpipe.inference.evaluate"])


def run_ranks(function: Callable[[Ranks], T], number: int) -> list[T]:
    """Gives the result of each rank. The function lies in a module that another process can import."""
    (port,) = find_free_ports(1)
    with ProcessPoolExecutor(number, CONTEXT) as pool:
        results = [pool.submit(_run, function, rank, number, port) for rank in range(number)]
        return [result.result(timeout=120) for result in results]


def _run(function: Callable[[Ranks], T], rank: int, number: int, port: int) -> T:
    names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    os.environ.update(dict(zip(names, (str(rank), str(number), "127.0.0.1", str(port)), strict=True)))
    torch.set_num_threads(1)
    ranks = Ranks.join(torch.device("cpu"))
    try:
        return function(ranks)
    finally:
        ranks.leave()
