"""Two replicas over one PostgreSQL and one S3 flip together, and a fresh one is ready only with what is served.

Of a rollout one of them acts, and the other goes on where that one was killed.
"""

import asyncio
import contextlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import numpy as np
import psutil
import pytest
from mlflow.models import infer_signature

from gateway.cli.client import Client
from gateway.cli.load import Load
from tests.gateway.events import states_of
from tests.gateway.gate import gate_to
from tests.gateway.slow_models import comes_slowly
from tests.gateway.test_cli import titlebout
from tests.gateway.test_serving import BODY, ask, wait_until, wait_until_served
from tests.training import constant_classifier, register, register_function, set_alias

pytestmark = pytest.mark.e2e


@pytest.fixture
def shared(postgres_database_url, s3_environment, tmp_path):
    """Options and environment of replicas that share a database and a store, and nothing else."""
    bucket = f"s3://titlebout-test/{tmp_path.name}"
    return ("--database-url", postgres_database_url, "--artifact-root", bucket, "--migrate"), s3_environment


def test_two_replicas_flip_together_and_lose_no_request(serve, shared, tmp_path):
    options, environment = shared
    first = serve(*options, data=tmp_path / "first", environment=environment)
    for answer in (0, 1):
        register(first.url, "iris", constant_classifier(answer))
    set_alias(first.url, "iris", "champion", 1)
    set_alias(first.url, "iris", "challenger", 2)
    wait_until_served(first.url, "iris", champion=1, challenger=2)

    second = serve(*options, data=tmp_path / "second", environment=environment)
    # Ready means ready: the first request to a fresh replica is answered.
    assert ask(second.url).json() == {"predictions": [0]}
    client = Client(first.url)
    wait_until(lambda: len([r for r in client.status()["replicas"] if r["live"]]) == 2)

    async def flip_under_load():
        loads = [
            Load(f"{server.url}/endpoints/iris/invocations", BODY, connections=4, pause_s=0.01)
            for server in (first, second)
        ]
        async with loads[0].running(), loads[1].running():
            for version in (2, 1, 2, 1):
                epochs = [load.newest_epoch for load in loads]
                await asyncio.to_thread(set_alias, second.url, "iris", "champion", version)
                for load, epoch in zip(loads, epochs, strict=True):
                    await load.until_answered_by(version, after_epoch=epoch, timeout_s=60)
        return loads

    for load in asyncio.run(flip_under_load()):
        assert load.failures == []
        assert not load.epochs_went_back()

    # What both answer counts as one, whichever of them is asked.
    period = client.change_split("iris", {"champion": 5_000, "challenger": 5_000})["period"]
    wait_until(lambda: client.endpoint("iris")["serving_period"] == period)
    met = [
        {ask(server.url, X_Titlebout_Unit=f"unit-{number}").headers["X-Titlebout-Arm"] for server in (first, second)}
        for number in range(40)
    ]
    assert all(len(arms) == 1 for arms in met)
    expected = {arm: 2 * sum(arm in arms for arms in met) for arm in ("champion", "challenger")}
    for server in (first, second):
        counted = Client(server.url)
        wait_until(lambda counted=counted: requests_of(counted, period) == expected)

    assert second.stop() == 0
    # A replica that left in order is not waited for.
    set_alias(first.url, "iris", "champion", 2)
    wait_until(lambda: ask(first.url).json() == {"predictions": [1]}, timeout_s=30)


def requests_of(client, period):
    found = client.comparison("iris", from_period=period)
    return {arm: found[arm]["requests"] for arm in ("champion", "challenger")}


@pytest.fixture
def gated(serve, shared, tmp_path):
    """Two replicas: of each the server, the gate through which it reaches the store, and the name it gives itself."""
    options, environment = shared
    with ExitStack() as gates:

        def start(name, *, besides=frozenset()):
            # With the slash that a gate looks for.
            gate, store = gates.enter_context(gate_to(environment["AWS_ENDPOINT_URL_S3"] + "/"))
            server = serve(*options, data=tmp_path / name, environment={**environment, "AWS_ENDPOINT_URL_S3": store})
            (name,) = wait_until(
                lambda: {replica["id"] for replica in Client(server.url).status()["replicas"]} - besides
            )
            return server, gate, name

        first = start("first")
        yield first, start("second", besides={first[-1]})


def test_promote_shows_how_far_each_of_two_replicas_is_and_rollback_is_a_switch_on_both(gated):
    (first, first_gate, first_name), (second, second_gate, second_name) = gated
    register(first.url, "iris", constant_classifier(0))
    # Of a signature a row is made to warm it up with.
    signature = infer_signature(np.zeros((1, 4)))
    register_function(first.url, "iris", comes_slowly(1, seconds=1.0), signature=signature)
    set_alias(first.url, "iris", "champion", 1)
    wait_until_served(first.url, "iris", champion=1)

    first_gate.hang()
    second_gate.hang()
    promote = [sys.executable, "-m", "gateway.cli", "promote", "iris", "champion", "2", "--wait", "--server", first.url]
    lines = []
    with subprocess.Popen(promote, stdout=subprocess.PIPE, text=True) as promoting:
        for line in promoting.stdout:
            lines.append(line.rstrip())
            if {f"{first_name}  fetching", f"{second_name}  fetching"} <= set(lines):
                first_gate.open()
            if f"{first_name}  ready" in lines:
                second_gate.open()
    assert promoting.returncode == 0
    assert lines.pop(0) == "iris@champion is version 2."
    assert lines.pop().startswith("Version 2 answers as champion, epoch ")

    def phases(name):
        return [line.removeprefix(f"{name}  ") for line in lines if line.startswith(name) and "waiting" not in line]

    assert phases(first_name) == ["fetching", "loading", "warming", "ready", "switched"]
    # Nobody is left to wait for when the second one is ready, so that may be over before anybody looks.
    assert [phase for phase in phases(second_name) if phase != "ready"] == [
        "fetching",
        "loading",
        "warming",
        "switched",
    ]
    assert [ask(server.url).json() for server in (first, second)] == [{"predictions": [1]}] * 2

    before = [states_of(server, "iris", 1) for server in (first, second)]
    back = titlebout("rollback", "iris", environment={"TITLEBOUT_URL": second.url})
    assert back.returncode == 0, back.stderr
    assert {f"{first_name}  switched", f"{second_name}  switched"} <= set(back.stdout.splitlines())
    assert [ask(server.url).json() for server in (first, second)] == [{"predictions": [0]}] * 2
    # Version 1 had been in the memory of both all the time.
    assert [states_of(server, "iris", 1) for server in (first, second)] == before
    assert before[0][-1] == before[1][-1] == "READY"


def kill(server):
    """All of its processes at once, as a machine does that loses its power."""
    supervisor = psutil.Process(server.process.pid)
    for process in (supervisor, *supervisor.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    server.process.wait()


def test_a_rollout_goes_on_where_its_replica_was_killed_and_takes_each_step_once(serve, shared, tmp_path):
    options, environment = shared
    options = (*options, "--workers", "1")
    first = serve(*options, data=tmp_path / "first", environment=environment)
    client = Client(first.url)

    def names():
        return {replica["id"] for replica in client.status()["replicas"]}

    (name,) = wait_until(names)
    with ThreadPoolExecutor() as threads:
        starting = threads.submit(serve, *options, data=tmp_path / "second", environment=environment)
        for answer in (0, 1):
            register(first.url, "iris", constant_classifier(answer))
        set_alias(first.url, "iris", "champion", 1)
    wait_until_served(first.url, "iris", champion=1)
    (second_name,) = wait_until(lambda: names() - {name})
    servers = {name: first, second_name: starting.result()}

    spec = {"steps_bp": [1_000, 5_000, 10_000], "every_s": 1.0, "requests_min": 0, "watch_s": 1.0}
    client.start_rollout({"endpoint": "iris", "version": 2, "spec": spec})

    def first_step():
        rollout = client.rollout("iris")
        return rollout if rollout["actor"] and rollout["step"] else None

    acting = wait_until(first_step)["actor"]
    kill(servers.pop(acting))
    ((other, server),) = servers.items()
    client = Client(server.url)

    async def end_under_load():
        load = Load(f"{server.url}/endpoints/iris/invocations", BODY, connections=2, pause_s=0.02)
        async with load.running():
            await asyncio.to_thread(wait_until, lambda: client.rollout("iris")["actor"] == other)
            await asyncio.to_thread(wait_until, lambda: client.rollout("iris")["ended_ms"])
            await load.until_answered_by(2, after_epoch=client.status()["epoch"] - 1, timeout_s=60)
        return load

    load = asyncio.run(end_under_load())
    assert load.failures == []
    assert not load.epochs_went_back()
    assert client.rollout("iris")["state"] == "succeeded"

    entries = client.history("iris", max_results=1_000)["entries"][::-1]
    told = [(entry["action"], entry["details"].get("share_bp")) for entry in entries if "rollout" in entry["action"]]
    assert told == [
        ("rollout_started", None),
        *(("rollout_stepped", share) for share in (1_000, 5_000, 10_000)),
        ("rollout_ended", None),
    ]
    moves = [entry["version"] for entry in entries if (entry["action"], entry["alias"]) == ("alias_set", "champion")]
    assert moves == [1, 2]
    splits = [entry["details"]["shares_bp"] for entry in entries if entry["action"] == "split_changed"]
    assert [split["challenger"] for split in splits if "challenger" in split] == [0, 1_000, 5_000, 0]


def test_a_postgresql_is_migrated_only_when_told(serve, shared, tmp_path):
    options, environment = shared
    with pytest.raises(Exception, match="serve --migrate"):
        serve(*options[:-1], data=tmp_path / "first", environment=environment)
    server = serve(*options, data=tmp_path / "second", environment=environment)
    assert httpx.get(f"{server.url}/health").text == "OK"
