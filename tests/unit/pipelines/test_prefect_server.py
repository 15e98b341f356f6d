"""The server's SQLite after a request that failed, and after one that was cancelled."""

import asyncio
import gc
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from pipelines.prefect_server import Connection

NUM_ROUNDS = 60
Fail = Callable[[sqlite3.Connection, sqlite3.Connection], sqlite3.Cursor]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with a write-ahead log, as Prefect has one, and one table with the number 1."""
    path = tmp_path / "prefect.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE runs (number INTEGER UNIQUE)")
        connection.execute("INSERT INTO runs VALUES (1)")
        connection.commit()
    return path


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    """The garbage that keeps a cancelled statement is collected too late, as on a server that waits."""
    gc.disable()
    yield
    gc.enable()


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, timeout=10, check_same_thread=False, factory=Connection)


def _repeat_a_name(one: sqlite3.Connection, other: sqlite3.Connection) -> sqlite3.Cursor:
    cursor = one.cursor()
    with pytest.raises(sqlite3.IntegrityError):
        cursor.execute("INSERT INTO runs VALUES (1)")
    return cursor


def _repeat_a_name_in_a_batch(one: sqlite3.Connection, other: sqlite3.Connection) -> sqlite3.Cursor:
    cursor = one.cursor()
    with pytest.raises(sqlite3.IntegrityError):
        cursor.executemany("INSERT INTO runs VALUES (?)", [(1,)])
    return cursor


def _write_after_another(one: sqlite3.Connection, other: sqlite3.Connection) -> sqlite3.Cursor:
    cursor = one.cursor()
    one.execute("BEGIN DEFERRED")
    one.execute("SELECT * FROM runs").fetchall()
    other.execute("INSERT INTO runs VALUES (2)")
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        cursor.execute("INSERT INTO runs VALUES (3)")
    one.rollback()
    return cursor


@pytest.mark.parametrize("fail", [_repeat_a_name, _repeat_a_name_in_a_batch, _write_after_another])
def test_a_failed_statement_is_freed_while_its_connection_waits(path: Path, fail: Fail) -> None:
    with closing(_connect(path)) as one, closing(_connect(path)) as other:
        cursor = fail(one, other)
        other.execute("BEGIN IMMEDIATE")
        waiting = threading.Thread(target=one.execute, args=("UPDATE runs SET number = 5 WHERE number = 1",))
        waiting.start()
        waiting.join(0.3)
        del cursor
        assert waiting.is_alive()  # else it was not freed before the connection had given up
        other.execute("COMMIT")
        waiting.join()
        assert (5,) in other.execute("SELECT number FROM runs").fetchall()


async def _write_without_end(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        for number in range(2, 1_000_000):
            await connection.execute(sqlalchemy.text(f"INSERT INTO runs VALUES ({number}) RETURNING number"))


async def _cancel_writers(path: Path) -> None:
    engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
    for number in range(NUM_ROUNDS):
        writer = asyncio.create_task(_write_without_end(engine))
        await asyncio.sleep(0.001 * (number % 7))
        writer.cancel()
        await asyncio.wait([writer])
        assert writer.cancelled()
        with closing(sqlite3.connect(path, timeout=1, isolation_level=None)) as other:
            other.execute("INSERT INTO runs VALUES (?)", (-number,))
    await engine.dispose()
    for _ in range(1000):  # the threads of cancelled connections still tell the event loop about their end
        if not any("_connection_worker_thread" in thread.name for thread in threading.enumerate()):
            break
        await asyncio.sleep(0.01)


# From Python 3.13 on sqlite3 warns of connections that nobody closed: their request was cancelled while they connected.
@pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")
@pytest.mark.usefixtures("no_garbage_collection")
def test_a_cancelled_transaction_lets_others_write(path: Path) -> None:
    asyncio.run(_cancel_writers(path))
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT count(*) FROM runs WHERE number <= 0").fetchone() == (NUM_ROUNDS,)
    gc.collect()  # while the warning is ignored
