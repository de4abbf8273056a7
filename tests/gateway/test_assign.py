"""`titlebout assign`: which arm, why, and whether a log tells the truth."""

import json

import httpx
import msgspec
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from gateway.cli import cli
from gateway.cli.client import Client
from registry import serving
from registry.entities import Route, RoutingTable
from registry.schema import EndpointRow, EpochRow
from tests.gateway.events import events
from tests.gateway.test_serving import ask, wait_until, wait_until_served
from tests.training import constant_classifier, register, set_alias
from tracking.database import Database

EPOCHS = {6: (("champion", 10_000),), 7: (("challenger", 4_500), ("champion", 5_500))}


@pytest.fixture
def endpoint(api_server, shared_api):
    """The URL of a server whose endpoint `iris` has two epochs; 7 is in force."""
    client = MlflowClient(api_server, registry_uri=api_server)
    client.create_registered_model("iris")
    run = client.create_run("0")
    client.create_model_version("iris", f"{run.info.artifact_uri}/model", run.info.run_id)
    client.set_registered_model_alias("iris", "champion", 1)
    database = Database(f"sqlite:///{shared_api.data / 'titlebout.db'}")
    with database.writing() as session:
        (row,) = session.query(EndpointRow).all()
        for number, owners in EPOCHS.items():
            route = Route(
                id=row.id,
                name="iris",
                model="iris",
                salt="salt",
                fallback=False,
                period=number - 5,
                arms={"champion": 1, "challenger": 2},
                owners=owners,
            )
            table = msgspec.json.encode(RoutingTable(epoch=number, routes=(route,))).decode()
            session.add(EpochRow(number=number, table=table, activate_at_ms=0, created_ms=0))
        now_ms = database.now_ms(session)
        serving.heartbeat(session, "replica", slots=[], epoch=7, now_ms=now_ms, lease_ms=60_000)
    database.dispose()
    return api_server


def assign(url, *arguments, log=None, status=0):
    done = CliRunner().invoke(cli, ["assign", *arguments, "--server", url], input=log)
    assert done.exit_code == status, done.output
    return done.output


def test_the_api_gives_what_it_takes_to_work_an_assignment_out(endpoint):
    url = f"{endpoint}/api/1.0/titlebout/endpoints/iris/assignment"
    now, then = httpx.get(url).json(), httpx.get(url, params={"epoch": 6}).json()
    assert (now["epoch"], now["salt"], now["period"]) == (7, "salt", 2)
    assert now["owners"] == [["challenger", 4_500], ["champion", 5_500]]
    assert (then["epoch"], then["owners"]) == (6, [["champion", 10_000]])
    assert httpx.get(url, params={"epoch": 5}).status_code == 404
    assert httpx.get(url.replace("iris", "none")).status_code == 404


def test_it_says_which_arm_a_unit_meets_and_why(endpoint):
    said = assign(endpoint, "iris", "ann")
    answer = httpx.get(f"{endpoint}/api/1.0/titlebout/endpoints/iris/assignment").json()
    assert "owners  0–4499 challenger, 4500–9999 champion\n" in said
    assert "shares  challenger 45 %, champion 55 %\n" in said
    assert "epoch   7, period 2 of the split\n" in said
    assert f"by the hash of id {answer['id']}, salt 'salt' and the unit" in said
    assert assign(endpoint, "iris", "ann", "--epoch", "6").startswith("arm     champion, version 1\n")


def test_a_log_that_tells_the_truth_agrees(endpoint):
    lines = [
        {"event": "predicted", "endpoint": "iris", "arm": "challenger", "version": 2, "epoch": 7, "bucket": 4_499},
        {"event": "predicted", "endpoint": "iris", "arm": "champion", "version": 1, "epoch": 6, "bucket": 0},
        {"event": "predicted", "endpoint": "iris", "arm": "challenger", "version": 2, "epoch": 7},
        {"event": "predicted", "endpoint": "iris", "arm": "champion", "version": 1, "epoch": 2, "bucket": 0},
        {"event": "started"},
    ]
    said = assign(endpoint, "--replay", "-", log="not JSON\n" + "".join(json.dumps(line) + "\n" for line in lines))
    assert said.startswith("2 agree, 0 don't; 1 passed over")
    assert "1 of endpoints or epochs" in said


def test_a_log_that_does_not_is_told_line_by_line(endpoint, tmp_path):
    wrong = {"endpoint": "iris", "arm": "champion", "epoch": 7, "bucket": 4_499}
    log = tmp_path / "log"
    log.write_text((json.dumps(wrong) + "\n") * 25)
    said = assign(endpoint, "--replay", str(log), status=1)
    assert "line 1: bucket 4499 is challenger's, not champion's\n" in said
    assert "… and 5 more\n0 agree, 25 don't" in said


@pytest.mark.parametrize("arguments", [(), ("iris",), ("iris", "--replay", "-"), ("--replay", "-", "--epoch", "3")])
def test_what_is_missing_is_said(arguments):
    done = CliRunner().invoke(cli, ["assign", *arguments])
    assert done.exit_code == 2
    assert "Usage" in done.output


@pytest.mark.e2e
def test_a_servers_own_log_agrees_with_it_over_a_change_of_split(serve):
    server = serve()
    for answer in (0, 1):
        register(server.url, "iris", constant_classifier(answer))
    set_alias(server.url, "iris", "champion", 1)
    set_alias(server.url, "iris", "challenger", 2)
    wait_until_served(server.url, "iris", champion=1, challenger=2)
    client, met = Client(server.url), {}
    for share in (3_000, 6_000):
        period = client.change_split("iris", {"champion": 10_000 - share, "challenger": share})["period"]
        wait_until(lambda period=period: client.endpoint("iris")["serving_period"] == period)
        for number in range(25):
            met[f"user-{number}"] = ask(server.url, X_Titlebout_Unit=f"user-{number}").headers["X-Titlebout-Arm"]
        ask(server.url, X_Titlebout_Arm="challenger")
    # A third arm, at the challenger's expense: the champion's units stay where they are.
    set_alias(server.url, "iris", "canary", 1)
    shares = {"champion": 4_000, "challenger": 2_000, "canary": 4_000}
    period = client.change_split("iris", shares)["period"]
    wait_until(lambda: client.endpoint("iris")["serving_period"] == period)
    before = dict(met)
    for unit in before:
        met[unit] = ask(server.url, X_Titlebout_Unit=unit).headers["X-Titlebout-Arm"]
    assert {(before[unit], met[unit]) for unit in met if before[unit] != met[unit]} == {("challenger", "canary")}
    assert set(met.values()) == set(shares)
    wait_until(lambda: len(events(server, "predicted")) == 77)
    for unit in ("user-3", "user-4", "user-5"):
        assert assign(server.url, "iris", unit).startswith(f"arm     {met[unit]},")
    said = assign(server.url, "--replay", str(server.data / "serve.log"))
    assert said.startswith("75 agree, 0 don't; 2 passed over")
    # A gate that bounds a share closes the way past it: the challenger is asked by nobody who names it.
    gate = {"needs": {"kind": "approval", "count": 1}, "aliases": [], "share_over_bp": 2_000}
    client.set_gate("iris", "tried", gate)
    refused = wait_until(lambda: (one := ask(server.url, X_Titlebout_Arm="challenger")).status_code == 403 and one)
    assert refused.json()["error_code"] == "PERMISSION_DENIED"
    assert "before a gate is met" in refused.json()["message"]
    assert ask(server.url, "iris/versions/2").status_code == 403
    of_challenger = next(unit for unit, arm in met.items() if arm == "challenger")
    assert ask(server.url, X_Titlebout_Unit=of_challenger).json() == {"predictions": [1]}
