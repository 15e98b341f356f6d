"""An MLflow server over PostgreSQL for those who register at once; no passwords, no Prefect next to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from daemons import answers, find_free_ports, running
from integration.project import environment
from team.test_postgres import PASSWORDS


@contextmanager
def running_registry(database: str, folder: Path) -> Iterator[str]:
    """Runs the server in the body; gives its address.

    Args:
        database: address of the PostgreSQL.
        folder: gets artifacts and log.
    """
    (port,) = find_free_ports(1)
    password = PASSWORDS["MLFLOW_DATABASE_PASSWORD"]
    env = {
        **environment(folder),
        "MLFLOW_BACKEND_STORE_URI": f"postgresql+psycopg2://mlflow:{password}@{database}/mlflow",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    # Two workers: requests meet in the database, not in one process's locks.
    command = ["mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "2"]
    command += ["--serve-artifacts", "--artifacts-destination", str(folder / "artifacts")]
    with running(command, env, folder / "mlflow.log") as server:
        server.wait_until(lambda: answers(f"http://127.0.0.1:{port}/health"))
        yield f"http://127.0.0.1:{port}"
