"""The servers that are compared, each serving one model: how it starts, what it is sent and where its answer stands."""

import http.client
import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gateway.cli.client import Client
from gateway.cli.example import training_environment
from gateway.cli.server_process import free_port, server_process
from loadtests.scoring.models import ESTIMATOR, SAVED, Examples, Form, alike, read_examples
from loadtests.servers import Server, titlebout_command

ECHO = "echo"
LOGGING_ECHO = "echo, logging"
TITLEBOUT = "Titlebout"
UNBATCHED = "Titlebout, unbatched"
KEYED = "Titlebout, asked with a key"
UNCOMPARED = "Titlebout, arms not compared"
MLFLOW = "mlflow models serve"
MLSERVER = "MLServer"

_MLFLOW_BIN = Path(".venv-mlflow/bin").absolute()
_MLSERVER_BIN = Path(".venv-mlserver/bin").absolute()
# One process for the models, as by default.
_MLSERVER_SETTINGS = {"debug": False, "host": "127.0.0.1", "parallel_workers": 1}
# Requests that may share a batch, and the seconds that they wait for each other. A longer wait gains nothing on models
# as quick as these, and costs a lone caller as much as it lasts.
_MLSERVER_BATCHING = {"max_batch_size": 64, "max_batch_time": 0.001}
_TIMEOUT_S = 60.0
_PREPARED_WITHIN_S = 120.0
_POLL_S = 0.1


class WrongAnswer(RuntimeError):
    """A server doesn't say what the model says; then its speed is of no interest."""

    def __init__(self, name: str, got: object, foretold: object) -> None:
        super().__init__(f"{name} answered {got!r:.500}; offline the model says {foretold!r:.500}.")


class ScoringServer(Server):
    """A server of one model, whose files *files* holds."""

    path = ""
    headers: Mapping[str, str] = MappingProxyType({})
    """With each request."""

    def __init__(self, folder: Path, model: str, files: Path) -> None:
        super().__init__(folder)
        self.model = model
        self.files = files

    def environment(self) -> Mapping[str, str]:
        # Each has two cores, its HTTP included; what its libraries would make of them by themselves differs.
        return {"OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}

    @cached_property
    def examples(self) -> Examples:
        return read_examples(self.files)

    def body(self, inputs: Sequence[Any]) -> bytes:
        """The request for the predictions of *inputs*, with the names of columns where there are any."""
        if self.examples.columns:
            return json.dumps({"dataframe_split": {"columns": self.examples.columns, "data": inputs}}).encode()
        return json.dumps({"inputs": inputs}).encode()

    def predictions(self, answer: bytes) -> list[Any]:
        found: list[Any] = json.loads(answer)["predictions"]
        return found

    def answers(self) -> bool:
        try:
            status, _ = self.ask(self.examples.inputs[:1])
        except (OSError, http.client.HTTPException):
            return False
        return status == http.HTTPStatus.OK

    def check(self, rows: int) -> None:
        """Ask for the first *rows* examples, in one request.

        Raises:
            WrongAnswer: for any other answer than what was foretold.
        """
        self._check(rows, {})

    def _check(self, rows: int, headers: Mapping[str, str]) -> None:
        foretold = self.examples.predictions[:rows]
        status, answer = self.ask(self.examples.inputs[:rows], headers)
        if status != http.HTTPStatus.OK:
            raise WrongAnswer(self.name, f"{status} {answer.decode(errors='replace')}", foretold)
        if not alike(got := self.predictions(answer), foretold):
            raise WrongAnswer(self.name, got, foretold)

    def ask(self, inputs: Sequence[Any], headers: Mapping[str, str] = MappingProxyType({})) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_TIMEOUT_S)
        try:
            sent = {"Content-Type": "application/json", **self.headers, **headers}
            connection.request("POST", self.path, self.body(inputs), sent)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


class Echo(ScoringServer):
    """uvicorn with uvloop and httptools, as Titlebout has it, and next to nothing behind."""

    name = ECHO
    path = "/"

    def command(self) -> list[str]:
        return [*self._command(), "--no-access-log"]

    def _command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "uvicorn", "loadtests.scoring.echo:app", "--lifespan", "off"),
            *("--host", "127.0.0.1", "--port", str(self.port), "--loop", "uvloop", "--http", "httptools"),
        ]

    def check(self, rows: int) -> None:
        asked = self.examples.inputs[:rows]
        _, answer = self.ask(asked)
        if answer != self.body(asked):
            raise WrongAnswer(self.name, answer, self.body(asked))


class LoggingEcho(Echo):
    """The same with the log line that uvicorn writes for each request unless it is told not to."""

    name = LOGGING_ECHO

    def command(self) -> list[str]:
        return self._command()


class Titlebout(ScoringServer):
    """As it starts by itself: one worker, metrics, split, validation and a log line for each request.

    One arm answers until `split` gives a second one its share.
    """

    name = TITLEBOUT

    def __init__(self, folder: Path, model: str, files: Path) -> None:
        super().__init__(folder, model, files)
        self.path = f"/endpoints/{model}/invocations"
        self._arms = ["champion"]

    def command(self) -> list[str]:
        return titlebout_command(self.folder, self.port)

    def prepare(self, form: Form) -> None:
        """Train, register and name the model, and see it served once, so that each start finds it in the cache."""
        with server_process(self.folder, port=self.port, environment=self.environment()) as server:
            self._train(server.url, form)
            self._until_served(lambda: server.log[-2000:])

    def split(self, challenger_bp: int) -> None:
        """Have the running server give so many requests of 10,000 to version 2, the same estimator once more."""
        client = self._client()
        client.set_alias(self.model, "challenger", 2)
        client.change_split(self.model, {"champion": 10_000 - challenger_bp, "challenger": challenger_bp})
        self._arms = ["champion", "challenger"]
        self._until_served(self.log_end)

    def _until_served(self, log: Callable[[], str]) -> None:
        deadline_s = time.monotonic() + _PREPARED_WITHIN_S
        while not self._serves_as_asked():
            if time.monotonic() > deadline_s:
                raise RuntimeError(f"{self.model} was not served: {log()}")
            time.sleep(_POLL_S)

    def _serves_as_asked(self) -> bool:
        endpoint = self._client().endpoint(self.model)
        is_split: bool = endpoint["serving_period"] == endpoint["period"]
        return is_split and endpoint["serving"].keys() == set(self._arms)

    def _client(self) -> Client:
        return Client(f"http://127.0.0.1:{self.port}", self.signed_in())

    def signed_in(self) -> Mapping[str, str]:
        """The variables by which clients say who they are."""
        return {}

    def check(self, rows: int) -> None:
        for arm in self._arms:
            self._check(rows, {"X-Titlebout-Arm": arm})

    def _train(self, url: str, form: Form) -> None:
        ended = subprocess.run(
            [sys.executable, "-m", "loadtests.scoring.training", url, self.model, form, str(self.files)],
            capture_output=True,
            text=True,
            env={**training_environment(os.environ), "OMP_NUM_THREADS": "1", **self.signed_in()},
            timeout=_PREPARED_WITHIN_S,
            check=False,
        )
        if ended.returncode:
            raise RuntimeError(f"The {self.model} model could not be trained: {ended.stderr[-2000:]}")


class UnbatchedTitlebout(Titlebout):
    """The same with one row a message, which is what it would be without batching."""

    name = UNBATCHED

    def environment(self) -> Mapping[str, str]:
        return {**super().environment(), "TITLEBOUT_BATCH_ROWS_MAX": "1"}


class KeyedTitlebout(Titlebout):
    """The same where callers must sign in: each request comes with an application's key."""

    name = KEYED

    def __init__(self, folder: Path, model: str, files: Path) -> None:
        super().__init__(folder, model, files)
        self._admin_token = secrets.token_urlsafe(32)

    def environment(self) -> Mapping[str, str]:
        asking = {"TITLEBOUT_ACCESS": "required", "TITLEBOUT_ADMIN_TOKEN": self._admin_token}
        return {**super().environment(), **asking}

    def signed_in(self) -> Mapping[str, str]:
        return {"MLFLOW_TRACKING_TOKEN": self._admin_token}

    def _train(self, url: str, form: Form) -> None:
        super()._train(url, form)
        # It may say which arm answers, so that the answers of both are checked.
        made = self._client().add_key(name="bench", endpoints=[self.model], may_force=True)
        self.headers = {"Authorization": f"Bearer {made['secret']}"}


class UncomparedTitlebout(Titlebout):
    """The same where nothing is counted that arms could be compared by, and no answer has an id for feedback."""

    name = UNCOMPARED

    def environment(self) -> Mapping[str, str]:
        return {**super().environment(), "TITLEBOUT_COMPARISON": "false"}


class MlflowServe(ScoringServer):
    """``mlflow models serve`` with one worker, the model's libraries being those of its environment."""

    name = MLFLOW
    path = "/invocations"

    def command(self) -> list[str]:
        return [
            *(str(_MLFLOW_BIN / "mlflow"), "models", "serve", "--model-uri", str(self.files / SAVED)),
            *("--env-manager", "local", "--workers", "1", "--host", "127.0.0.1", "--port", str(self.port)),
        ]

    def environment(self) -> Mapping[str, str]:
        # It looks for uvicorn on the path.
        return {**super().environment(), "PATH": f"{_MLFLOW_BIN}{os.pathsep}{os.environ['PATH']}"}


class MLServer(ScoringServer):
    """MLServer's runtime for scikit-learn, batching by itself."""

    name = MLSERVER
    path = "/v2/models/model/infer"

    def __init__(self, folder: Path, model: str, files: Path) -> None:
        super().__init__(folder, model, files)
        ports = {"http_port": self.port, "grpc_port": free_port(), "metrics_port": free_port()}
        places = {"metrics_dir": str(folder / "metrics")}
        (folder / "settings.json").write_text(json.dumps({**_MLSERVER_SETTINGS, **ports, **places}))
        served = {
            "name": "model",
            "implementation": "mlserver_sklearn.SKLearnModel",
            "parameters": {"uri": str(files / ESTIMATOR)},
            **_MLSERVER_BATCHING,
        }
        (folder / "model-settings.json").write_text(json.dumps(served))

    def command(self) -> list[str]:
        return [str(_MLSERVER_BIN / "mlserver"), "start", str(self.folder)]

    def body(self, inputs: Sequence[Any]) -> bytes:
        data = [value for row in inputs for value in row]
        matrix = {"name": "predict", "shape": [len(inputs), len(inputs[0])], "datatype": "FP64", "data": data}
        return json.dumps({"inputs": [matrix]}).encode()

    def predictions(self, answer: bytes) -> list[Any]:
        found: list[Any] = json.loads(answer)["outputs"][0]["data"]
        return found
