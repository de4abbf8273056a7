"""A replica that can't reach the database, serves the last committed table, however long and over a restart too."""

import asyncio
import os
import signal

import httpx
import pytest

from gateway.cli.client import Client
from gateway.cli.load import Load
from tests.gateway.events import events
from tests.gateway.gate import gate_to
from tests.gateway.slow_models import loads_slowly
from tests.gateway.test_serving import BODY, ask, hosts_of, wait_until, wait_until_served
from tests.training import constant_classifier, register, register_function, set_alias

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture
def behind_a_gate(postgres_database_url):
    """A gate, options of a replica that reaches the database through it, and of one that doesn't."""
    with gate_to(postgres_database_url) as (gate, url):
        yield gate, ("--database-url", url), ("--database-url", postgres_database_url)


def test_predictions_go_on_while_the_database_hangs_and_hosts_are_replaced_from_what_is_on_disk(serve, behind_a_gate):
    gate, options, _ = behind_a_gate
    server = serve(*options, "--migrate", environment={"TITLEBOUT_RETRY_FIRST_S": "0.2"})
    for answer in (0, 1):
        register(server.url, "iris", constant_classifier(answer))
    set_alias(server.url, "iris", "champion", 1)
    set_alias(server.url, "iris", "challenger", 2)
    wait_until_served(server.url, "iris", champion=1, challenger=2)
    assert "X-Titlebout-Stale-S" not in ask(server.url).headers

    async def lose_it_under_load():
        async with Load(
            f"{server.url}/endpoints/iris/invocations", BODY, connections=2, pause_s=0.02
        ).running() as load:
            # Worse than a database that refuses: nobody is told.
            await asyncio.to_thread(gate.hang)
            await asyncio.to_thread(wait_until, lambda: "X-Titlebout-Stale-S" in ask(server.url).headers)
        return load

    load = asyncio.run(lose_it_under_load())
    assert load.failures == []
    wait_until(lambda: int(ask(server.url).headers["X-Titlebout-Stale-S"]) >= 2)

    hosts = hosts_of(server)
    for host in hosts:
        os.kill(host, signal.SIGKILL)
    wait_until(lambda: len(hosts_of(server) - hosts) == 2 and ask(server.url).is_success)

    gate.shut()
    refused = httpx.get(f"{server.url}/api/1.0/titlebout/status", timeout=30)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    gate.open()
    wait_until(lambda: "X-Titlebout-Stale-S" not in ask(server.url).headers)
    assert len(events(server, "database_away")) == len(events(server, "database_back")) == 1
    set_alias(server.url, "iris", "champion", 2)
    wait_until(lambda: ask(server.url).json() == {"predictions": [1]})


def test_a_replica_that_was_cut_off_follows_a_flip_it_missed_and_loses_no_request(serve, behind_a_gate, tmp_path):
    gate, through_gate, options = behind_a_gate
    shared = ("--artifact-root", str(tmp_path / "artifacts"))
    first = serve(*options, *shared, "--migrate", data=tmp_path / "first")
    for answer in (0, 1):
        register_function(first.url, "iris", loads_slowly(answer, seconds=1.5))
    set_alias(first.url, "iris", "champion", 1)
    wait_until_served(first.url, "iris", champion=1)
    cut_off = serve(*through_gate, *shared, data=tmp_path / "second")
    client = Client(first.url)
    wait_until(lambda: len([r for r in client.status()["replicas"] if r["live"]]) == 2)

    gate.shut()
    wait_until(lambda: "X-Titlebout-Stale-S" in ask(cut_off.url).headers)
    set_alias(first.url, "iris", "champion", 2)
    wait_until(lambda: ask(first.url).json() == {"predictions": [1]})
    assert ask(cut_off.url).json() == {"predictions": [0]}
    # It serves on over a restart, from what is on its own disk.
    assert cut_off.stop() == 0
    cut_off = serve(*through_gate, *shared, data=tmp_path / "second")
    answer = ask(cut_off.url)
    assert answer.json() == {"predictions": [0]}
    assert int(answer.headers["X-Titlebout-Stale-S"]) >= 0

    async def come_back_under_load():
        async with Load(
            f"{cut_off.url}/endpoints/iris/invocations", BODY, connections=4, pause_s=0.02
        ).running() as load:
            gate.open()
            await load.until_answered_by(2, after_epoch=0, timeout_s=60)
        return load

    load = asyncio.run(come_back_under_load())
    assert load.failures == []
    assert not load.epochs_went_back()
    wait_until(lambda: "X-Titlebout-Stale-S" not in ask(cut_off.url).headers)

    # Who joins late is ready with what is served, and with nothing else.
    late = serve(*options, *shared, data=tmp_path / "third")
    assert ask(late.url).json() == {"predictions": [1]}
    assert ask(late.url).headers["X-Titlebout-Epoch"] == ask(first.url).headers["X-Titlebout-Epoch"]
