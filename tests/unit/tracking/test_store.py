"""MLflow's SQLite store is made and migrated by one process at a time, whole or not at all."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow.store.db.utils as mlflow_schema
import pytest
from alembic import command
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from sqlalchemy.exc import SQLAlchemyError

from segpipe.errors import TrackingError
from segpipe.tracking.store import prepare

FORK = multiprocessing.get_context("fork")
NUM_PROCESSES = 6
KILLED_AFTER_SECONDS = (0.05, 0.5, 0.9)
# Tables of an earlier MLflow, and what its next migration does before it notes that it was done.
OLD_SCHEMA, NEXT_MIGRATION = "17e22815139b", "ALTER TABLE jobs ADD COLUMN creator VARCHAR(255)"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "mlflow.db"


def address(store: Path) -> str:
    return f"sqlite:///{store}"


@contextlib.contextmanager
def opened(store: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(store)) as connection, connection:
        yield connection


def schema_of(store: Path) -> str:
    with opened(store) as connection:
        return str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])


def assert_is_usable(store: Path) -> None:
    assert schema_of(store) == mlflow_schema._get_latest_schema_revision()
    with opened(store) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert MlflowClient(address(store)).search_experiments()


def make_old_store(store: Path) -> None:
    """What an earlier MLflow has left."""
    engine = mlflow_schema.create_sqlalchemy_engine(address(store))
    mlflow_schema.InitialBase.metadata.create_all(engine)
    config = mlflow_schema._get_alembic_config(address(store))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, OLD_SCHEMA)
    engine.dispose()


def add_experiment(store: Path) -> None:
    with opened(store) as connection:
        connection.execute("INSERT INTO experiments (experiment_id, name, lifecycle_stage) VALUES (7, 'old', 'active')")


def prepare_at_once(store: Path, everyone: multiprocessing.synchronize.Barrier) -> None:
    everyone.wait()
    prepare(address(store))


@pytest.mark.parametrize("is_new", [True, False], ids=["new", "old"])
def test_all_who_open_a_store_at_once_find_it_whole(store: Path, is_new: bool) -> None:
    if not is_new:
        make_old_store(store)
        add_experiment(store)
    everyone = FORK.Barrier(NUM_PROCESSES)
    processes = [FORK.Process(target=prepare_at_once, args=(store, everyone)) for _ in range(NUM_PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * NUM_PROCESSES
    assert_is_usable(store)


def test_a_kill_at_any_moment_leaves_a_store_that_the_next_one_finishes(store: Path) -> None:
    for seconds in KILLED_AFTER_SECONDS:
        for old in store.parent.glob("*"):
            old.unlink()
        process = FORK.Process(target=prepare, args=(address(store),))
        process.start()
        time.sleep(seconds)
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        prepare(address(store))
        assert_is_usable(store)
        assert not list(store.parent.glob(".*"))


def test_a_half_migrated_store_without_content_is_made_again(store: Path) -> None:
    make_old_store(store)
    with opened(store) as connection:
        connection.execute(NEXT_MIGRATION)
    with pytest.raises((MlflowException, SQLAlchemyError)):  # MLflow by itself, for ever
        MlflowClient(address(store)).search_experiments()
    prepare(address(store))
    assert_is_usable(store)


def test_a_half_migrated_store_with_content_is_refused_and_stays_as_it_is(store: Path) -> None:
    make_old_store(store)
    with opened(store) as connection:
        connection.execute(NEXT_MIGRATION)
    add_experiment(store)
    before = store.read_bytes()
    with pytest.raises(TrackingError, match=f"duplicate column name(.|\n)*mv {store} {store}.old && segpipe publish"):
        prepare(address(store))
    assert store.read_bytes() == before
    assert {path.name for path in store.parent.iterdir()} == {store.name, f"{store.name}.lock"}


def test_an_older_store_is_migrated_and_kept_as_it_was(store: Path) -> None:
    make_old_store(store)
    add_experiment(store)
    prepare(address(store))
    assert_is_usable(store)
    assert MlflowClient(address(store)).get_experiment_by_name("old").experiment_id == "7"
    kept = store.with_name(f"{store.name}.{OLD_SCHEMA}.backup")
    assert schema_of(kept) == OLD_SCHEMA
    with opened(kept) as connection:
        assert connection.execute("SELECT name FROM experiments").fetchall() == [("old",)]


def test_a_store_of_a_newer_mlflow_is_refused(store: Path) -> None:
    prepare(address(store))
    with opened(store) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
        connection.execute("INSERT INTO experiments (experiment_id, name) VALUES (7, 'new')")
    with pytest.raises(TrackingError, match="a newer MLflow has written it"):
        prepare(address(store))
    assert schema_of(store) == "ffffffffffff"


@pytest.mark.parametrize("is_text", [True, False], ids=["text", "database"])
def test_a_file_of_something_else_is_refused_and_stays_as_it_is(store: Path, is_text: bool) -> None:
    if is_text:
        store.write_text("not a database, " * 100, encoding="utf-8")
    else:
        with opened(store) as connection:
            connection.execute("CREATE TABLE birds (name TEXT)")
    before = store.read_bytes()
    with pytest.raises(TrackingError, match="file is not a database" if is_text else "the tables birds"):
        prepare(address(store))
    assert store.read_bytes() == before


@pytest.mark.parametrize("other", ["", "mlruns", "http://localhost:1", "sqlite://", "sqlite:///:memory:"])
def test_other_addresses_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(other)
    assert not list(tmp_path.iterdir())


def test_a_store_that_finds_no_space_is_named_and_nothing_is_left(store: Path) -> None:
    limited = f"ulimit -f 4; exec {sys.executable} -m segpipe.tracking.store {address(store)}"
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True)
    assert done.returncode == 1
    assert f"segpipe: MLflow's store {store} cannot be created: " in done.stderr
    assert "nothing was changed" in done.stderr
    assert "killed" not in done.stderr  # no process was
    assert {path.name for path in store.parent.iterdir()} <= {"mlflow.db.lock"}
