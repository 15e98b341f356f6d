"""Prefect's server, whose SQLite nobody blocks for a minute.

Python's sqlite3 keeps a statement alive longer than its user: after an error, and after a cancelled request, it is
freed with the last traceback that refers to its cursor. In a server that runs each connection in a thread of its own
this had two effects; each time all requests waited for the 60 s of Prefect's timeout, and those that write then failed:

- An error ("database is locked", a name that is taken) ended a request. Its traceback was freed in the event loop, when
  the same connection waited in its thread for another to commit. SQLite's mutex let neither go on: the event loop
  waited for that thread, and the other transaction for the event loop.
- A request was cancelled in its transaction, as when a worker dies. SQLAlchemy closes the connection, but SQLite ends
  it and its transaction only with its last statement (https://www.sqlite.org/c3ref/close.html), at Python's next
  collection of garbage.

So statements end here with the call that fails, and transactions with their connection.
"""

import sqlite3
import sys
from collections.abc import Callable
from typing import Any, Self

from prefect.cli import app
from sqlalchemy import event
from sqlalchemy.engine import Dialect, Engine


class Cursor(sqlite3.Cursor):
    """A cursor that lets a statement go when it fails, in the thread that runs it."""

    def execute(self, *arguments: Any) -> Self:
        """As sqlite3 does."""
        return self._run(super().execute, *arguments)

    def executemany(self, *arguments: Any) -> Self:
        """As sqlite3 does."""
        return self._run(super().executemany, *arguments)

    def _run(self, call: Callable[..., object], *arguments: Any) -> Self:
        try:
            call(*arguments)
        except BaseException:
            self.close()
            raise
        return self


class Connection(sqlite3.Connection):
    """A connection that ends its transaction when it is closed, whatever still refers to its statements."""

    def cursor(self, factory: Any = Cursor) -> Any:
        """Gives a cursor of this module."""
        return super().cursor(factory)

    def close(self) -> None:
        """Rolls back first."""
        if self.in_transaction:
            self.rollback()
        super().close()


@event.listens_for(Engine, "do_connect")
def _connect_so(dialect: Dialect, _record: object, _arguments: object, options: dict[str, Any]) -> None:
    if dialect.name == "sqlite":
        options["factory"] = Connection


if __name__ == "__main__":
    sys.argv[1:1] = ["server", "start"]
    app()
