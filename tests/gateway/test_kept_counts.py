"""What a running server counts of its arms is what the headers of its answers say: over workers, kills and restarts."""

import os
import re
import signal
from collections import Counter, defaultdict

import httpx
import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.linear_model import LogisticRegression

from gateway.cli import cli
from gateway.cli.server_process import free_port, server_process
from gateway.comparison import kept_sums
from gateway.comparison.sums import SERVING, Column, cluster_of
from gateway.scoring.routing import bucket_of
from loadtests.chaos.kills import kill_worker
from registry import endpoints
from tests.conftest import SOON_GONE
from tests.gateway.events import events
from tests.gateway.test_serving import BODY, JSON, ask, wait_until, wait_until_served
from tests.training import constant_classifier, register, set_alias
from tracking.database import Database

pytestmark = pytest.mark.e2e

BREAKS = b'{"inputs": [[999, 3.5, 1.4, 0.2]]}'
ASKS_WRONGLY = b'{"inputs": [["a", 3.5, 1.4, 0.2]]}'


def breaks_on_giants():
    """Answers 1, but for flowers that there aren't. A class of a function, so that it is pickled by value."""

    class BreaksOnGiants(LogisticRegression):
        def predict(self, rows):
            if np.asarray(rows)[:, 0].max() > 100:
                raise RuntimeError("no such flower")
            return super().predict(rows)

    model = constant_classifier(1)
    model.__class__ = BreaksOnGiants
    return model


class World:
    """A server that may be another one later, and what the answers of all of them have said."""

    def __init__(self, url, data):
        self.url = url
        self.database = Database(f"sqlite:///{data}/titlebout.db")
        with self.database.reading() as session:
            self.endpoint = endpoints.get_endpoint(session, "iris")
        self.requests = defaultdict(Counter)
        self.failures = Counter()
        self.refused = Counter()
        self.unitless = Counter()

    def ask(self, units, body=BODY, deadline_ms=30_000):
        """The answers to one request of each unit; None is no unit."""
        with httpx.Client(timeout=60) as http:
            answers = [self._ask(http, unit, body, deadline_ms) for unit in units]
        for unit, answer in zip(units, answers, strict=True):
            self.note(unit, answer)
        return answers

    def note(self, unit, answer):
        arm = answer.headers.get("X-Titlebout-Fallback-From", answer.headers["X-Titlebout-Arm"])
        cluster = None if unit is None else cluster_of(bucket_of(self.endpoint.id, self.endpoint.salt, unit))
        self.requests[arm][cluster] += 1
        self.unitless[arm] += unit is None
        self.failures[arm] += answer.is_server_error or "X-Titlebout-Fallback-From" in answer.headers
        self.refused[arm] += answer.is_client_error

    def _ask(self, http, unit, body, deadline_ms):
        headers = {**JSON, "X-Titlebout-Deadline-Ms": str(deadline_ms)}
        if unit is not None:
            headers["X-Titlebout-Unit"] = unit
        return http.post(f"{self.url}/endpoints/iris/invocations", content=body, headers=headers)

    @property
    def said(self):
        return {
            arm: (clusters.total(), self.unitless[arm], self.failures[arm]) for arm, clusters in self.requests.items()
        }

    @property
    def kept(self):
        with self.database.reading() as session:
            return kept_sums.read(session, self.endpoint.id)

    @property
    def counted(self):
        """What is in the database: requests, those without a unit, and failures, by arm."""
        cells = self.kept.tally(SERVING).cells
        return {cell.arm: tuple(sums.values.sum(axis=1)[:3].astype(int).tolist()) for cell, sums in cells.items()}

    def until_counted(self):
        wait_until(lambda: self.counted == self.said)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("counts") / "data"


@pytest.fixture(scope="module")
def server(data):
    """Two workers, and two arms, each of which gets half."""
    with server_process(data, "--workers", "2", port=free_port(), environment=SOON_GONE) as server:
        register(server.url, "iris", constant_classifier(0))
        register(server.url, "iris", breaks_on_giants(), serialization_format="cloudpickle")
        set_alias(server.url, "iris", "champion", 1)
        set_alias(server.url, "iris", "challenger", 2)
        client = wait_until_served(server.url, "iris", champion=1, challenger=2)
        period = client.change_split("iris", {"champion": 5_000, "challenger": 5_000})["period"]
        wait_until(lambda: client.endpoint("iris")["serving_period"] == period)
        yield server


@pytest.fixture(scope="module")
def world(server, data):
    world = World(server.url, data)
    yield world
    world.database.dispose()


def titlebout(url, *arguments):
    done = CliRunner().invoke(cli, [*arguments, "--server", url], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.output


def units(count, name="unit"):
    return [f"{name}-{number}" for number in range(count)]


def test_what_is_counted_is_what_the_headers_said(world):
    world.ask([*units(150), *units(50)])
    world.ask([None] * 20)
    assert {answer.status_code for answer in world.ask(units(10), ASKS_WRONGLY)} == {400}
    assert {answer.status_code for answer in world.ask(units(20), BREAKS)} == {200, 500}
    # What nobody assigned isn't counted.
    for named in ({"X_Titlebout_Arm": "challenger"}, {"X_Titlebout_Arm": "champion"}):
        assert ask(world.url, **named).is_success
    assert ask(world.url, "iris/versions/2").is_success
    world.until_counted()
    assert world.failures["challenger"] > 0 == world.failures["champion"]
    kept = world.kept
    for cell, sums in kept.tally(SERVING).cells.items():
        requests = world.requests[cell.arm]
        of_units = sums.row(Column.REQUESTS) - sums.row(Column.UNITLESS)
        assert {cluster: int(of_units[cluster]) for cluster in requests if cluster is not None} == {
            cluster: count for cluster, count in requests.items() if cluster is not None
        }
        # Those that were refused for what they asked say nothing of how long an arm takes.
        timed = requests.total() - world.refused[cell.arm]
        assert kept.latency[cell].sum() == timed
        predicted = {"0" if cell.arm == "champion" else "1": timed - world.failures[cell.arm]}
        assert kept.predictions[cell].classes == predicted


def test_where_an_arm_fails_the_champion_answers_if_that_is_wanted(world, server):
    unit = next(each for each in units(100) if world.ask([each], BREAKS)[0].is_server_error)
    assert "the champion answers" in titlebout(world.url, "fallback", "iris", "on")
    assert "iris (fallback)" in titlebout(world.url, "status")
    answer = wait_until(lambda: next((each for each in world.ask([unit], BREAKS) if each.is_success), None))
    assert answer.json() == {"predictions": [0]}
    said = {name: answer.headers[f"X-Titlebout-{name}"] for name in ("Version", "Arm", "Fallback-From")}
    assert said == {"Version": "1", "Arm": "champion", "Fallback-From": "challenger"}
    # Neither arm can be told to have been right by it.
    label = {"prediction_id": answer.headers["X-Titlebout-Prediction-Id"], "label": 0}
    assert httpx.post(f"{world.url}/feedback", json=label).json()["not_compared"] == 1
    # Who names the arm gets what it says, and what its caller did wrong stays wrong.
    assert ask(world.url, body=BREAKS, X_Titlebout_Arm="challenger").status_code == 500
    assert world.ask([unit], ASKS_WRONGLY)[0].status_code == 400
    # The other protocols go the same way.
    document = {"instances": [[999, 3.5, 1.4, 0.2]]}
    other = httpx.post(f"{world.url}/v1/models/iris:predict", json=document, headers={"X-Titlebout-Unit": unit})
    assert (other.json(), other.headers["X-Titlebout-Fallback-From"]) == ({"predictions": [0]}, "challenger")
    world.note(unit, other)
    world.until_counted()
    assert world.failures["champion"] == 0

    series = 'gateway_fallbacks_total{arm="challenger",endpoint="iris",model="iris",version="2"} 2.0'
    wait_until(lambda: series in httpx.get(f"{world.url}/metrics").text)
    lines = wait_until(lambda: events(server, "predicted", fallback_from="challenger", arm="champion", version=1)[1:])
    assert lines[0]["bucket"] == bucket_of(world.endpoint.id, world.endpoint.salt, unit)

    # For a model that hangs half of the time is over when the champion is asked.
    spent = httpx.get(f"{world.url}/api/1.0/titlebout/endpoints/iris/versions/2/processor-time").json()
    challenger = int(spent["process"].rpartition(":")[2])
    os.kill(challenger, signal.SIGSTOP)
    try:
        [hung] = world.ask([unit], deadline_ms=4_000)
        assert (hung.json(), hung.headers["X-Titlebout-Fallback-From"]) == ({"predictions": [0]}, "challenger")
    finally:
        os.kill(challenger, signal.SIGCONT)
    titlebout(world.url, "fallback", "iris", "off")
    assert re.search(r"fallback off.*fallback on", titlebout(world.url, "log", "iris"), re.DOTALL)
    world.until_counted()


def test_counts_outlive_a_killed_worker_and_a_restart(world, server, data):
    kill_worker(server)
    world.ask(units(100, "after the kill"))
    world.until_counted()
    # Those of the last second go with an orderly stop, and not with the second.
    world.ask(units(100, "before the stop"))
    server.stop()
    assert world.counted == world.said
    with server_process(data, "--workers", "2", port=free_port()) as restarted:
        wait_until_served(restarted.url, "iris", champion=1, challenger=2)
        world.url = restarted.url
        world.ask(units(50, "after the restart"))
        world.until_counted()
