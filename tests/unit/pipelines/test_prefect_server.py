"""The server's SQLite after a request that was cancelled."""

import asyncio
import gc
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

import pipelines.prefect_server  # noqa: F401  what it does to SQLAlchemy is under test

NUM_ROUNDS = 60


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    """The garbage that keeps a cancelled statement is collected too late, as on a server that waits."""
    gc.disable()
    yield
    gc.enable()


async def _write_without_end(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        while True:
            await connection.execute(sqlalchemy.text("INSERT INTO runs VALUES (1), (2) RETURNING number"))


async def _cancel_writers(path: Path) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
    for number in range(NUM_ROUNDS):
        writer = asyncio.create_task(_write_without_end(engine))
        await asyncio.sleep(0.001 * (number % 7))
        writer.cancel()
        await asyncio.wait([writer])
        assert writer.cancelled()
        with sqlite3.connect(path, timeout=1) as other:
            other.execute("INSERT INTO runs VALUES (0)")
        other.close()
    await engine.dispose()


@pytest.mark.usefixtures("no_garbage_collection")
def test_a_cancelled_transaction_lets_others_write(tmp_path: Path) -> None:
    path = tmp_path / "prefect.db"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE runs (number INTEGER)")
    asyncio.run(_cancel_writers(path))
    assert connection.execute("SELECT count(*) FROM runs").fetchone() == (NUM_ROUNDS,)
    connection.close()
