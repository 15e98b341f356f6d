"""Waits for a worker's pool, which `make deploy` creates; several workers that create it at once would lock SQLite."""

import argparse
import sys
import time

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound, PrefectException
from prefect.settings import get_current_settings

POLL_SECONDS = 1.0
# Then worker.sh reads address and login again: `make up` may have written new ones.
NUM_TRIES = 20


def main() -> None:
    """Ends with exit code 1 if the pool is not there in time; says each new reason once."""
    parser = argparse.ArgumentParser(prog="await_pool", description="Wait for a work pool; create a worker's queue.")
    parser.add_argument("pool")
    parser.add_argument("--queue", help="create this queue; a worker takes nothing while one of its queues is missing")
    options = parser.parse_args()
    address = get_current_settings().api.url
    if address is None:
        print(f"waiting for pool {options.pool}: PREFECT_API_URL is not set; `make up` starts a server", flush=True)
        sys.exit(1)
    said = ""
    for _ in range(NUM_TRIES):
        reason = _why_not(options.pool, options.queue)
        if not reason:
            return
        if reason != said:
            print(f"waiting for pool {options.pool} at {address}: {reason}", flush=True)
            said = reason
        time.sleep(POLL_SECONDS)
    sys.exit(1)


def _why_not(pool: str, queue: str | None) -> str:
    """Gives an empty text if the pool and the queue are there."""
    try:
        with get_client(sync_client=True) as client:
            client.read_work_pool(pool)
            if queue:
                _ensure_queue(client, pool, queue)
    except ObjectNotFound:
        return "there is no such pool; `make deploy` creates it"
    except (httpx.HTTPError, PrefectException, RuntimeError) as error:
        return f"{type(error).__name__}: {error}".partition("\n")[0]
    return ""


def _ensure_queue(client: SyncPrefectClient, pool: str, queue: str) -> None:
    try:
        client.read_work_queue_by_name(queue, work_pool_name=pool)
    except ObjectNotFound:
        try:
            client.create_work_queue(queue, work_pool_name=pool)
        except ObjectAlreadyExists:  # by another worker, just now
            return


if __name__ == "__main__":
    main()
