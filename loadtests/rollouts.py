"""How soon a bad challenger is put back with no human, and how rarely a healthy one: `python -m loadtests.rollouts`.

Starts a Titlebout of its own in a throw-away folder and rolls out, under load, a version that fails in 5 % of its
requests, one that takes twice as long, and one that is two points less accurate, whose labels come late. Then days of
healthy traffic are simulated. Ends with status 1 if one of the bad wasn't put back, or more than 0.1 % of the healthy
windows were.
"""

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from gateway.cli.client import Client
from gateway.cli.server_process import ServerProcess, free_port, server_process
from loadtests.healthy_rollouts import WINDOWS, healthy_alarms
from loadtests.tables import heading, line
from registry.rollout_entities import Rollout, RolloutSpec, RolloutState
from registry.splits import BUCKETS

_CONNECTIONS = 8
_LABELS_LATE_S = 3.0
_POLL_S = 0.1
_LONGEST_S = 120.0
_ANSWERED_STILL_S = 2.0
"""For how long it is looked, once a version was put back, whether it still answers."""
_ALARMS_MAX = 0.001


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One way of being bad, beside a champion that isn't."""

    name: str
    said: str
    guards: tuple[str, ...]
    metric: str | None = None
    steps_bp: tuple[int, ...] = (1_000, 5_000, BUCKETS)
    champion: dict[str, float]
    challenger: dict[str, float]

    @property
    def spec(self) -> RolloutSpec:
        return RolloutSpec(
            steps_bp=self.steps_bp,
            every_s=5.0,
            guards=self.guards,
            metric=self.metric,
            on_undecided="wait",
            watch_s=5.0,
        )


KINDS = (
    Kind(
        name="fails",
        said="5 % failures",
        guards=("failures", "p99=1.2x"),
        champion={},
        challenger={"fails": 0.05},
    ),
    Kind(
        name="slow",
        said="twice the latency (5 ms, 10 ms)",
        guards=("failures", "p99=1.2x", "p50=1.2x"),
        champion={"seconds": 0.005},
        challenger={"seconds": 0.010},
    ),
    Kind(
        name="wrong",
        said=f"accuracy 0.96 for 0.98, labels {_LABELS_LATE_S:g} s late",
        guards=("failures",),
        metric="accuracy",
        steps_bp=(5_000, BUCKETS),
        champion={"wrong": 0.02},
        challenger={"wrong": 0.04},
    ),
)


class Outcome(msgspec.Struct, frozen=True):
    ended_s: float
    """Of the wall's clock, which is the server's."""
    arm: str | None
    failed: bool


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a rollout, as callers saw it."""

    kind: Kind
    rollout: Rollout
    outcomes: list[Outcome]

    def row(self) -> tuple[str, ...]:
        answered = [each for each in self.outcomes if each.arm == "challenger"]
        began_s = min(each.ended_s for each in answered)
        found_s = (self.rollout.ended_ms or 0) / 1000
        last_s = max(each.ended_s for each in answered)
        return (
            self.kind.said,
            f"{self.rollout.state} at {self.rollout.share_bp / 100:g} %",
            f"{found_s - began_s:.1f} s",
            f"{1000 * max(0.0, last_s - found_s):.0f} ms",
            f"{len(answered):,} of {len(self.outcomes):,}",
            f"{sum(each.failed for each in answered)}",
        )


def make_model(*, fails: float = 0.0, seconds: float = 0.0, wrong: float = 0.0) -> Any:
    """A model that answers the label it is given, but for so many; a class of a function is pickled by value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.pyfunc.model import PythonModel  # noqa: PLC0415  (a second, for those who simulate only)

        class Model(PythonModel):
            def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:  # noqa: ARG002  (MLflow's)
                import random  # noqa: PLC0415  (in the host)
                import time  # noqa: PLC0415

                time.sleep(seconds)
                if random.random() < fails:
                    raise RuntimeError("This version fails now and then.")
                label, chance = model_input["label"], model_input["chance"]
                return label.where(chance >= wrong, 1 - label)

    return Model()


def register(url: str, kind: Kind) -> None:
    """Two versions of a model that is called as *kind* is; the first is champion."""
    import mlflow  # noqa: PLC0415  (a second, for those who simulate only)
    import pandas as pd  # noqa: PLC0415

    example = pd.DataFrame({"label": [1], "chance": [0.5]})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.set_tracking_uri(url)
        for ways in (kind.champion, kind.challenger):
            with mlflow.start_run():
                mlflow.pyfunc.log_model(
                    python_model=make_model(**ways),
                    name="model",
                    registered_model_name=kind.name,
                    input_example=example,
                    pip_requirements=["mlflow-skinny"],
                )
    Client(url).set_alias(kind.name, "champion", 1)
    Client(url).pin(kind.name, 2)


async def roll_out(server: ServerProcess, kind: Kind) -> Found:
    """Roll the bad version out under load, and see what becomes of it."""
    client, load = Client(server.url), _Load(server.url, kind)
    asked = {"endpoint": kind.name, "version": 2, "spec": msgspec.to_builtins(kind.spec)}
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(load.send()) for _ in range(_CONNECTIONS)]
        if kind.metric is not None:
            running.append(tasks.create_task(load.give_labels()))
        await asyncio.sleep(1.0)
        await asyncio.to_thread(client.start_rollout, asked)
        rollout = await _until_ended(client, kind.name)
        await asyncio.sleep(_ANSWERED_STILL_S)
        for task in running:
            task.cancel()
    return Found(kind=kind, rollout=rollout, outcomes=load.outcomes)


async def _until_ended(client: Client, name: str) -> Rollout:
    deadline_s = time.monotonic() + _LONGEST_S
    while time.monotonic() < deadline_s:
        rollout = msgspec.convert(await asyncio.to_thread(client.rollout, name), Rollout)
        if rollout.ended_ms is not None:
            return rollout
        await asyncio.sleep(_POLL_S)
    client.tell_rollout(name, "abort", {"reason": "it took too long"})
    return msgspec.convert(client.rollout(name), Rollout)


class _Load:
    """Callers that ask one after the other, without a unit, and know what was right."""

    def __init__(self, url: str, kind: Kind) -> None:
        self._url, self._path = url, f"{url}/endpoints/{kind.name}/invocations"
        self.outcomes: list[Outcome] = []
        self._labels: deque[tuple[float, dict[str, Any]]] = deque()

    async def send(self) -> None:
        async with httpx.AsyncClient(timeout=30.0) as http:
            while True:
                label = random.getrandbits(1)
                row = {"label": label, "chance": random.random()}
                answer = await http.post(self._path, json={"dataframe_records": [row]})
                self.outcomes.append(Outcome(time.time(), answer.headers.get("X-Titlebout-Arm"), not answer.is_success))
                if (prediction_id := answer.headers.get("X-Titlebout-Prediction-Id")) is not None:
                    self._labels.append((time.time(), {"prediction_id": prediction_id, "label": label}))

    async def give_labels(self) -> None:
        """In bulk, some seconds after the predictions."""
        async with httpx.AsyncClient(timeout=30.0) as http:
            while True:
                await asyncio.sleep(0.5)
                late = []
                while self._labels and self._labels[0][0] < time.time() - _LABELS_LATE_S:
                    late.append(self._labels.popleft()[1])
                if late:
                    answer = await http.post(f"{self._url}/feedback", json={"feedback": late})
                    answer.raise_for_status()


@contextmanager
def running_server() -> Iterator[ServerProcess]:
    """With the models of all kinds, in memory."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {"TITLEBOUT_CODE_POLICY": "allow"}
        with server_process(Path(folder), "--workers", "2", port=free_port(), environment=environment) as server:
            os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
            for kind in KINDS:
                register(server.url, kind)
                _until_in_memory(server.url, kind.name)
            yield server


def _until_in_memory(url: str, name: str) -> None:
    deadline_s = time.monotonic() + _LONGEST_S
    client = Client(url)
    while time.monotonic() < deadline_s:
        replicas = client.progress(name)["replicas"]
        ready = [slot for replica in replicas for slot in replica["slots"] if slot["state"] == "READY"]
        if len(ready) == 2 and all(replica["serving"] for replica in replicas):
            return
        time.sleep(_POLL_S)
    raise SystemExit(f"The versions of {name} are not in memory after {_LONGEST_S:.0f} s.")


def show_bad() -> bool:
    """Print the table of bad challengers; whether each was put back."""
    print(heading("challenger", "ended", "found after", "put back after", "requests to it", "of them failed"))
    with running_server() as server:
        found = []
        for kind in KINDS:
            found.append(asyncio.run(roll_out(server, kind)))
            print(line(*found[-1].row()), flush=True)
            print(f"<!-- {found[-1].rollout.reason} -->", flush=True)
    return all(each.rollout.state is RolloutState.STOPPED for each in found)


def show_healthy(days: int) -> bool:
    """Print how often healthy versions were put back in simulated days; whether that is rare enough."""
    alarms = healthy_alarms(days)
    print(heading("healthy, simulated", "days", f"windows ({WINDOWS} a day)", "put back"))
    for said, count in (("rolled out", alarms.stopped), ("watched as champion", alarms.rolled_back)):
        print(line(said, f"{days:,}", f"{alarms.windows:,}", f"{count} ({count / alarms.windows:.3%} of the windows)"))
    return alarms.stopped + alarms.rolled_back <= _ALARMS_MAX * alarms.windows


def main() -> None:
    """Both tables, for docs/rollouts.md."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--days", type=int, default=250, help="of healthy traffic; 0: none")
    parser.add_argument("--no-server", action="store_true", help="simulate only")
    options = parser.parse_args()
    well = options.no_server or show_bad()
    if options.days:
        well = show_healthy(options.days) and well
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
