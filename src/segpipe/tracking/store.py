"""Creates MLflow's SQLite store, or migrates it to the present schema: one process at a time, completely or not at all.

MLflow does so in each process that opens the store, without a lock and without a transaction. If several do so at the
same time, all but one fail, and a kill leaves a file that no later migration accepts. Here a lock file next to the
store admits one process. It works on a copy and writes that back in one SQLite transaction, which a kill undoes.

`python -m segpipe.tracking.store sqlite:///mlflow.db` does it before a server starts.
"""

import contextlib
import logging
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow.store.db.utils as mlflow_schema
from alembic.util import CommandError
from filelock import FileLock
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from segpipe.errors import TrackingError

log = logging.getLogger(__name__)

BUSY_SECONDS = 60.0  # long enough for another process to write the whole file
# Counts the rows of a store, except those that a migration itself writes.
ROWS_OF_AN_EMPTY_STORE = {
    "alembic_version": "SELECT 0",
    "workspaces": "SELECT count(*) FROM workspaces WHERE name != 'default'",
    "experiments": "SELECT count(*) FROM experiments WHERE experiment_id != 0",
}


def prepare(address: str) -> None:
    """Creates or migrates the SQLite store at an address; waits while another process does it. Ignores other addresses.

    Args:
        address: as in `MLFLOW_TRACKING_URI`.

    Raises:
        TrackingError: the file is no store of MLflow, of a newer MLflow, damaged, or cannot be written.
    """
    path = _file_of(address)
    if path is None:
        return
    try:
        if _is_current(path):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):
            if not _is_current(path):
                _bring_up_to_date(path)
    except (sqlite3.Error, OSError) as error:
        raise TrackingError(
            f"MLflow's store {path} cannot be opened or created: {error}; nothing was changed"
        ) from error


def _file_of(address: str) -> Path | None:
    try:
        url = make_url(address)
    except ArgumentError:  # a folder, which MLflow takes too
        return None
    name = url.database or ""
    is_file = url.get_backend_name() == "sqlite" and name not in {"", ":memory:"} and not name.startswith("file:")
    return Path(name).absolute() if is_file else None


def _is_current(path: Path) -> bool:
    return path.exists() and _schema_of(path) == mlflow_schema._get_latest_schema_revision()


def _schema_of(path: Path) -> str:
    """Gives the revision of the tables; '' where the file names none."""
    with _opened(path) as connection:
        if "alembic_version" not in _tables(connection):
            return ""
        (revision,) = connection.execute("SELECT version_num FROM alembic_version").fetchone() or ("",)
        return str(revision)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path, timeout=BUSY_SECONDS)) as connection:
        yield connection


def _tables(connection: sqlite3.Connection) -> set[str]:
    found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return {str(name) for (name,) in found}


def _bring_up_to_date(path: Path) -> None:
    """Creates or migrates the store; needs the lock."""
    part = path.with_name(f".{path.name}.part")
    _remove(part)
    before = _schema_of(path) if path.exists() else ""
    had_content = path.exists() and _has_content(path)
    try:
        if path.exists():
            _copy(path, part)
        try:
            _migrate(part)
        except TrackingError as error:
            if had_content:
                raise TrackingError(_advice(path, str(error))) from error
            if not path.exists():
                raise TrackingError(f"MLflow's store {path} cannot be created: {error}; nothing was changed") from error
            log.warning("%s was left incomplete and empty by a process that was killed; creating it again", path)
            _remove(part)
            _migrate(part)
        if had_content:
            kept = path.with_name(f"{path.name}.{before or 'unnamed'}.backup")
            _copy(path, kept)
            log.warning("%s: MLflow's tables are migrated; a copy of the old file is %s", path, kept.name)
        _copy(part, path)
    finally:
        _remove(part)


def _has_content(path: Path) -> bool:
    """Whether the file holds more than a new store.

    Raises:
        TrackingError: it is a database of another program.
    """
    with _opened(path) as connection:
        tables = _tables(connection) - {"alembic_version"}
        if tables and "experiments" not in tables:
            some = ", ".join(sorted(tables)[:3])
            raise TrackingError(
                f"{path} is no store of MLflow (it has the tables {some}); write another file in MLFLOW_TRACKING_URI"
            )
        counts = (ROWS_OF_AN_EMPTY_STORE.get(name, f'SELECT count(*) FROM "{name}"') for name in tables)
        return any(connection.execute(count).fetchone()[0] for count in counts)


def _migrate(path: Path) -> None:
    """Creates or migrates the tables in a file that no other process has open.

    Raises:
        TrackingError: the present tables cannot be migrated.
    """
    logging.getLogger("alembic").setLevel(logging.WARNING)
    logging.getLogger(mlflow_schema.__name__).setLevel(logging.CRITICAL)
    engine = mlflow_schema.create_sqlalchemy_engine(f"sqlite:///{path}")
    try:
        if mlflow_schema._is_empty_database(engine):
            mlflow_schema._initialize_tables(engine)
        else:
            mlflow_schema._upgrade_db(engine)
    except CommandError as error:
        raise TrackingError(f"{error}: a newer MLflow has written it; `git pull` and `make setup`") from error
    except Exception as error:  # MLflow's migrations raise many types
        raise TrackingError(str(error).splitlines()[0]) from error
    finally:
        engine.dispose()


def _advice(path: Path, reason: str) -> str:
    return (
        f"{path} cannot be migrated to this MLflow's tables: {reason}\n"
        "  Nothing was changed. Perhaps a migration by an earlier release was killed. Restore a backup\n"
        f"  (cp YOUR_BACKUP {path.name}), or begin a new store and register the model of build/ in it:\n"
        f"  mv {path} {path}.old && segpipe publish"
    )


def _copy(source: Path, target: Path) -> None:
    """Writes a database over another, or into a new file, in one transaction."""
    with _opened(source) as reader, _opened(target) as writer:
        reader.backup(writer)


def _remove(part: Path) -> None:
    for path in (part, part.with_name(f"{part.name}-journal")):
        path.unlink(missing_ok=True)


def main() -> None:
    """Prepares the store whose address is the only argument."""
    try:
        prepare(sys.argv[1])
    except TrackingError as error:
        sys.exit(f"segpipe: {error}")


if __name__ == "__main__":
    main()
