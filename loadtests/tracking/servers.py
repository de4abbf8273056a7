"""Both servers as their users start them, each with a database of its own."""

from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path

from loadtests.servers import Server, titlebout_command
from loadtests.tracking.wire import call

_MLFLOW = Path(".venv-mlflow/bin/mlflow")


class TrackingServer(Server):
    """One of the two."""

    def __init__(self, folder: Path, database_url: str) -> None:
        super().__init__(folder)
        self.database_url = database_url

    def answers(self) -> bool:
        try:
            call(self.port, "POST", "/api/2.0/mlflow/experiments/search", {"max_results": 10})
        except (OSError, HTTPException):
            return False
        return True


class Titlebout(TrackingServer):
    name = "Titlebout"

    def command(self) -> list[str]:
        return [*titlebout_command(self.folder, self.port), "--database-url", self.database_url, "--migrate"]


class Genuine(TrackingServer):
    """``mlflow server``, with one worker and without the processes for jobs, which no row here needs."""

    name = "mlflow server"

    def command(self) -> list[str]:
        # The driver that its own environment has.
        database_url = self.database_url.replace("postgresql://", "postgresql+psycopg2://")
        return [
            *(str(_MLFLOW.absolute()), "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"),
            *("--backend-store-uri", database_url, "--artifacts-destination", str(self.folder / "artifacts")),
        ]

    def environment(self) -> Mapping[str, str]:
        return {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
