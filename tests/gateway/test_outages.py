"""With the database and the artifact store away predictions go on, and all else is there again once they are."""

import time
import uuid

import httpx
import psycopg
import pytest

from gateway.cli.client import Client
from loadtests.chaos.clients import while_asked
from tests.gateway.test_restarts import callers, provide_iris
from tests.gateway.test_serving import ask, wait_until, wait_until_served
from tests.servers import postgres, s3
from tests.training import constant_classifier, register, set_alias

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

# As short as shows everything; `make chaos` takes a minute.
AWAY_S = 4.0
# There it is five seconds; here others use the machine, and what is to be told apart is "soon" from "at the next try".
BACK_WITHIN_S = 20.0


class Outside:
    """A database and a store that go away, and what a server needs to be told of them."""

    def __init__(self, database, store, environment, database_url, root):
        self.database = database
        self.store = store
        self.environment = environment
        self.options = ("--database-url", database_url, "--artifact-root", root, "--migrate")

    def stop(self):
        self.database.stop()
        self.store.stop()

    def start(self):
        self.store.start()
        self.database.start()


@pytest.fixture(scope="module")
def parts():
    with postgres() as (database, url), s3() as (store, environment):
        yield database, url, store, environment


@pytest.fixture
def outside(parts):
    """They are back at the end of each test, with a database and a folder of its own in them."""
    database, url, store, environment = parts
    name = f"outages_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return Outside(database, store, environment, url.rsplit("/", 1)[0] + f"/{name}", f"s3://titlebout-test/{name}")


@pytest.fixture
def start(serve, outside, tmp_path):
    """Starts the one server of a test, or starts it again."""
    return lambda: serve(*outside.options, data=tmp_path / "server", environment=outside.environment)


def move_alias(url, version):
    body = {"name": "iris", "alias": "champion", "version": str(version)}
    return httpx.post(f"{url}/api/2.0/mlflow/registered-models/alias", json=body, timeout=30)


def assert_everything_is_there_again(url, version):
    """An alias moves, and what it names is served, soon after the return."""
    returned_s = time.monotonic()
    wait_until(lambda: move_alias(url, version).is_success)
    wait_until_served(url, "iris", champion=version, challenger=2)
    wait_until(lambda: "X-Titlebout-Stale-S" not in ask(url).headers)
    assert time.monotonic() - returned_s < BACK_WITHIN_S


def test_nothing_that_is_away_costs_a_prediction_and_all_is_back_within_seconds(start, outside):
    server = start()
    provide_iris(server.url)

    def outage():
        outside.stop()
        began_s = time.monotonic()
        wait_until(lambda: "X-Titlebout-Stale-S" in ask(server.url).headers)
        refused = move_alias(server.url, 2)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
        time.sleep(max(0.0, AWAY_S - (time.monotonic() - began_s)))
        outside.start()
        assert_everything_is_there_again(server.url, 2)

    clients = while_asked(callers(server), outage)
    assert clients.failures == []

    # The same from a start on, with what was served last on disk.
    assert server.stop() == 0
    outside.stop()
    server = start()
    assert int(ask(server.url).headers["X-Titlebout-Stale-S"]) >= 0
    assert move_alias(server.url, 1).status_code == 503

    def end_of_outage():
        outside.start()
        assert_everything_is_there_again(server.url, 1)

    clients = while_asked(callers(server), end_of_outage)
    assert clients.failures == []


def test_a_version_that_could_not_be_fetched_is_there_soon_after_its_store_is(start, outside):
    server = start()
    for answer in (0, 1):
        register(server.url, "iris", constant_classifier(answer))
    set_alias(server.url, "iris", "champion", 1)
    wait_until_served(server.url, "iris", champion=1)

    def outage():
        outside.store.stop()
        set_alias(server.url, "iris", "champion", 2)
        wait_until(lambda: Client(server.url).endpoint("iris")["problems"])
        upload = httpx.put(f"{server.url}/api/2.0/mlflow-artifacts/artifacts/0/new.bin", content=b"x", timeout=60)
        assert (upload.status_code, upload.headers["Retry-After"]) == (503, "1")
        time.sleep(AWAY_S)
        outside.store.start()
        returned_s = time.monotonic()
        wait_until_served(server.url, "iris", champion=2)
        assert time.monotonic() - returned_s < BACK_WITHIN_S

    clients = while_asked(callers(server), outage)
    assert clients.failures == []
    assert ask(server.url).json() == {"predictions": [1]}
