"""The main job against a real server process: predict, split, flip under load, survive what goes wrong."""

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter

import httpx
import psutil
import pytest

from gateway.cli.client import Client
from gateway.cli.load import Load
from gateway.cli.server_process import free_port, server_process
from tests.training import ROW, constant_classifier, mlflow, register, set_alias

pytestmark = pytest.mark.e2e

JSON = {"Content-Type": "application/json"}
BODY = b'{"inputs": [[5.1, 3.5, 1.4, 0.2]]}'


def wait_until(holds, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not (value := holds()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return value


def wait_until_served(url, name, **arms):
    client = Client(url)

    def served():
        answer = httpx.get(f"{url}/api/1.0/titlebout/endpoints/{name}", timeout=30)
        return answer.is_success and answer.json()["serving"] == arms

    wait_until(served)
    return client


def ask(url, name="iris", body=BODY, **headers):
    sent = {**JSON, **{key.replace("_", "-"): value for key, value in headers.items()}}
    return httpx.post(f"{url}/endpoints/{name}/invocations", content=body, headers=sent, timeout=30)


@pytest.fixture(scope="module")
def shared_iris(tmp_path_factory):
    """A server with two workers and two versions of `iris`: version 1 answers 0, version 2 answers 1."""
    secret = {"AWS_SECRET_ACCESS_KEY": "planted-secret"}
    data = tmp_path_factory.mktemp("shared")
    with server_process(data, "--workers", "2", port=free_port(), environment=secret) as server:
        register(server.url, "iris", constant_classifier(0))
        register(server.url, "iris", constant_classifier(1))
        yield server


@pytest.fixture
def iris(shared_iris):
    """The same for one test after the other, each of which finds the arms where they were at first."""
    set_alias(shared_iris.url, "iris", "champion", 1)
    set_alias(shared_iris.url, "iris", "challenger", 2)
    client = wait_until_served(shared_iris.url, "iris", champion=1, challenger=2)
    if client.endpoint("iris")["shares_bp"] != {"champion": 10_000, "challenger": 0}:
        client.change_split("iris", {"champion": 10_000, "challenger": 0})
    return shared_iris


def test_a_registered_model_is_served_by_its_alias_with_headers_that_say_who_answered(iris):
    answer = ask(iris.url, X_Request_Id="mine-1")
    assert answer.json() == {"predictions": [0]}
    said = {name: answer.headers[f"X-Titlebout-{name}"] for name in ("Model", "Version", "Arm")}
    assert said == {"Model": "iris", "Version": "1", "Arm": "champion"}
    assert int(answer.headers["X-Titlebout-Epoch"]) > 0
    # Of what browsers are told, a prediction carries this alone.
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Content-Security-Policy" not in answer.headers
    assert answer.headers["X-Request-Id"] == "mine-1"
    assert httpx.post(f"{iris.url}/invocations", content=BODY, headers=JSON).json() == {"predictions": [0]}

    # Names on the wire: an arm by header, by @, by a quoted URI, and a version by number.
    assert ask(iris.url, X_Titlebout_Arm="challenger").json() == {"predictions": [1]}
    assert ask(iris.url, "iris%40challenger").json() == {"predictions": [1]}
    assert ask(iris.url, "models:%2Firis%40challenger").json() == {"predictions": [1]}
    assert ask(iris.url, "iris/versions/2").json() == {"predictions": [1]}

    columns = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
    forms = [
        {"dataframe_split": {"columns": columns, "data": [ROW, ROW]}},
        {"dataframe_records": [dict(zip(reversed(columns), reversed(ROW), strict=True))] * 2},
        {"instances": [dict(zip(columns, ROW, strict=True))] * 2},
        {"inputs": {column: [value, value] for column, value in zip(columns, ROW, strict=True)}},
    ]
    for form in forms:
        assert httpx.post(f"{iris.url}/invocations", json=form).json() == {"predictions": [0, 0]}, form
    csv = ",".join(columns) + "\n" + ",".join(map(str, ROW)) + "\n"
    assert ask(iris.url, body=csv.encode(), Content_Type="text/csv").json() == {"predictions": [0]}

    for wrong, status, word in [
        (ask(iris.url, body=b"{"), 400, "JSON"),
        (ask(iris.url, body=b"[1, 2]"), 400, "object"),
        (ask(iris.url, body=b"[" * 100_000), 400, "nested"),
        (ask(iris.url, body=b'{"inputs": [[1, 2]]}'), 400, "4"),
        (ask(iris.url, body=b'{"inputs": [[NaN, 1, 2, 3]]}'), 400, "JSON"),
        (ask(iris.url, body=b'{"dataframe_records": [{"sepal length (cm)": 1}]}'), 400, "sepal width (cm)"),
        (ask(iris.url, body=b'{"inputs": [["a", 1, 2, 3]]}'), 400, "sepal length (cm)"),
        (ask(iris.url, body=b"x" * (33 * 1024**2)), 413, "limit"),
        (ask(iris.url, Content_Type="application/x-thing"), 415, "application/json"),
        (httpx.post(f"{iris.url}/invocations", content=BODY), 415, "application/json"),
        (ask(iris.url, "nothing"), 404, "iris"),
        (ask(iris.url, "iris/versions/99"), 404, "99"),
        (ask(iris.url, "iris/versions/x"), 400, "number"),
        (ask(iris.url, X_Titlebout_Arm="nobody"), 400, "challenger"),
        (ask(iris.url, X_Titlebout_Deadline_Ms="soon"), 400, "whole number"),
        (ask(iris.url, X_Titlebout_Deadline_Ms="0"), 504, "within 0 s"),
        (httpx.get(f"{iris.url}/invocations"), 405, "POST"),
    ]:
        assert wrong.status_code == status, wrong.text
        assert set(wrong.json()) == {"error_code", "message"}
        assert word in wrong.json()["message"]
    assert ask(iris.url).json() == {"predictions": [0]}


def test_a_split_is_observed_and_units_stick_to_their_arm(iris):
    client = Client(iris.url)
    period = client.change_split("iris", {"champion": 8_000, "challenger": 2_000})["period"]
    wait_until(lambda: client.endpoint("iris")["serving_period"] == period)
    epoch = client.status()["epoch"]
    with httpx.Client() as http:

        def arm_of(unit):
            headers = {**JSON, "X-Titlebout-Unit": unit}
            answer = http.post(f"{iris.url}/invocations", content=BODY, headers=headers)
            return answer.headers["X-Titlebout-Arm"]

        arms = {f"user-{n}": arm_of(f"user-{n}") for n in range(1_000)}
        again = {unit: arm_of(unit) for unit in list(arms)[:100]}
    assert again == {unit: arms[unit] for unit in again}
    # Five standard deviations of 1,000 draws at 20 %.
    assert abs(Counter(arms.values())["challenger"] - 200) < 64
    assert client.status()["epoch"] == epoch

    # Whichever worker answered, each request is counted once, of the arm that it met.
    def compared():
        found = client.comparison("iris", from_period=period)
        requests = {arm: found[arm]["requests"] for arm in ("champion", "challenger")}
        return found if sum(requests.values()) == len(arms) + len(again) else None

    found = wait_until(compared)
    assert found["challenger"]["requests"] == Counter([*arms.values(), *again.values()])["challenger"]
    assert (found["split"]["asked"], found["split"]["locked"]) == (pytest.approx(0.2), False)
    assert found["challenger"]["predictions"]["classes"] == {"1": found["challenger"]["requests"]}
    told = {
        "gateway_comparison_verdict{",
        'gateway_split_share{arm="challenger",endpoint="iris",model="iris",version="2"} 0.2',
        'gateway_changes_total{action="split_changed"}',
    }
    wait_until(lambda: all(each in httpx.get(f"{iris.url}/metrics").text for each in told))


def test_flips_under_load_lose_no_request_and_no_connection_sees_an_older_table_again(iris):
    async def flip_under_load():
        path = f"{iris.url}/endpoints/iris/invocations"
        async with Load(path, BODY, connections=16, pause_s=0.01).running() as load:
            for version in [2, 1] * 3:
                epoch = load.newest_epoch
                await asyncio.to_thread(set_alias, iris.url, "iris", "champion", version)
                await load.until_answered_by(version, after_epoch=epoch, timeout_s=30)
        return load

    load = asyncio.run(flip_under_load())
    assert len(load.outcomes) > 100
    assert load.failures == []
    assert not load.epochs_went_back()


def test_a_version_that_cannot_be_loaded_leaves_the_old_one_serving_and_shows_why(iris):
    client = Client(iris.url)
    broken = register(iris.url, "iris", constant_classifier(2), serialization_format="cloudpickle")
    (stored,) = (iris.data / "artifacts").rglob("model.pkl")
    stored.write_bytes(b"not what was registered")
    set_alias(iris.url, "iris", "champion", broken)
    problems = wait_until(lambda: client.endpoint("iris")["problems"])
    assert "model.pkl" in problems[0]
    assert ask(iris.url).json() == {"predictions": [0]}
    assert client.endpoint("iris")["serving"] == {"champion": 1, "challenger": 2}
    set_alias(iris.url, "iris", "champion", 2)
    wait_until(lambda: client.endpoint("iris")["serving"]["champion"] == 2)
    # Without the alias the version last served stays, and the two are shown side by side.
    mlflow.MlflowClient(iris.url).delete_registered_model_alias("iris", "champion")
    shown = client.endpoint("iris")
    assert (shown["desired"], shown["serving"]) == ({"challenger": 2}, {"champion": 2, "challenger": 2})
    assert ask(iris.url).json() == {"predictions": [1]}


def test_workers_hold_no_model_library_and_hosts_no_secret(iris):
    assert ask(iris.url).is_success
    processes = psutil.Process(iris.process.pid).children(recursive=True)
    workers = [process for process in processes if "gateway.worker" in process.cmdline()]
    hosts = [process for process in processes if "gateway.pool.warm_parent" in process.cmdline()]
    assert workers
    assert hosts
    for worker in workers:
        mapped = " ".join(region.path for region in worker.memory_maps())
        assert "sklearn" not in mapped
        assert "torch" not in mapped
        assert "pandas" not in mapped
    for host in hosts:
        assert "planted-secret" not in str(host.environ())


def descendants(server, module):
    """The processes of *module* below *server*, with their parents' pids; what ends meanwhile is left out."""
    found = {}
    for process in psutil.Process(server.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if module in process.cmdline():
                found[process.pid] = process.ppid()
    return found


def hosts_of(server):
    # A host is a fork of its warm parent, so it is the one that is no child of the supervisor.
    parents = descendants(server, "gateway.pool.warm_parent")
    return {pid for pid, parent in parents.items() if parent != server.process.pid}


def test_a_killed_host_and_a_killed_worker_are_replaced(iris):
    workers = set(descendants(iris, "gateway.worker"))
    os.kill(min(workers), signal.SIGKILL)
    wait_until(lambda: len(set(descendants(iris, "gateway.worker")) - workers) == 1)
    hosts = hosts_of(iris)
    assert len(hosts) == 2
    for host in hosts:
        os.kill(host, signal.SIGKILL)
    wait_until(lambda: len(hosts_of(iris) - hosts) == 2)
    wait_until(lambda: ask(iris.url).is_success and ask(iris.url, X_Titlebout_Arm="challenger").is_success)


def test_sigterm_ends_everything_and_after_a_restart_without_its_database_the_last_table_serves_on(serve):
    first = serve()
    register(first.url, "iris", constant_classifier(2))
    set_alias(first.url, "iris", "champion", 1)
    wait_until_served(first.url, "iris", champion=1)
    processes = psutil.Process(first.process.pid).children(recursive=True)
    assert len(processes) >= 3, "a worker, a warm parent and a host"
    assert first.stop() == 0
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert alive == []
    # Nothing listens on port 1: the database can't be reached, and neither is its store asked.
    second = serve("--database-url", "postgresql://nobody@127.0.0.1:1/none")
    answer = ask(second.url)
    assert answer.json() == {"predictions": [2]}
    assert int(answer.headers["X-Titlebout-Stale-S"]) >= 0
    refused = httpx.get(f"{second.url}/api/1.0/titlebout/status")
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")


def test_a_model_made_anew_under_an_old_name_and_number_answers_with_its_own_bytes(serve):
    server = serve()
    client = mlflow.MlflowClient(server.url)
    register(server.url, "iris", constant_classifier(0))
    register(server.url, "other", constant_classifier(1))
    set_alias(server.url, "iris", "champion", 1)
    wait_until_served(server.url, "iris", champion=1)
    # A pin keeps the old version 1 in memory over all that follows.
    assert httpx.put(f"{server.url}/api/1.0/titlebout/pins/iris/1").is_success
    assert httpx.post(f"{server.url}/api/1.0/titlebout/endpoints/iris/stop").is_success
    wait_until(lambda: ask(server.url).status_code == 404)
    client.delete_registered_model("iris")
    client.create_registered_model("iris")
    client.create_model_version("iris", "models:/other/1")
    set_alias(server.url, "iris", "champion", 1)
    wait_until(lambda: ask(server.url).is_success)
    assert ask(server.url).json() == {"predictions": [1]}


def test_without_a_database_and_without_a_last_table_a_server_is_not_ready(serve):
    server = serve("--database-url", "postgresql://nobody@127.0.0.1:1/none", started_by="/health")
    wait_until(lambda: '"database_away"' in server.log)
    assert httpx.get(f"{server.url}/ready").status_code == 503
