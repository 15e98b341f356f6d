"""Prefect's server, whose SQLite no cancelled request can lock.

Prefect cancels what a lost worker or browser has asked for, also in the middle of a transaction. SQLAlchemy then closes
the connection; but SQLite only ends it, and with it the transaction, once nothing refers to its statements any more
(https://www.sqlite.org/c3ref/close.html), and here the cancelled task's traceback refers to them. Until Python collects
that garbage nobody can write: all requests wait for up to a minute, and fail. With PostgreSQL there is no such state.
"""

import sqlite3
import sys
from typing import Any

from prefect.cli import app
from sqlalchemy import event
from sqlalchemy.engine import Dialect, Engine


class RollingBack(sqlite3.Connection):
    """A connection that ends its transaction when it is closed, whatever still refers to its statements."""

    def close(self) -> None:
        """Rolls back first."""
        if self.in_transaction:
            self.rollback()
        super().close()


@event.listens_for(Engine, "do_connect")
def _roll_back_when_closed(dialect: Dialect, _record: object, _arguments: object, options: dict[str, Any]) -> None:
    if dialect.name == "sqlite":
        options["factory"] = RollingBack


if __name__ == "__main__":
    sys.argv[1:1] = ["server", "start"]
    app()
