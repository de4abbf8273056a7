"""The history over HTTP, by the stock client and by `titlebout log`."""

import re
import sqlite3
import time
from contextlib import closing

import httpx
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.exceptions import RestException

from gateway.cli import cli

ALIAS = "/api/2.0/mlflow/registered-models/alias"


@pytest.fixture
def iris(api_server):
    """A model of three versions, by the stock client."""
    client = MlflowClient(api_server, registry_uri=api_server)
    client.create_registered_model("iris")
    run = client.create_run("0")
    for _ in range(3):
        client.create_model_version("iris", f"{run.info.artifact_uri}/model", run.info.run_id)
    return client


@pytest.fixture
def titlebout(api_server):
    def run(*arguments, status=0, columns=200):
        done = CliRunner().invoke(cli, [*arguments, "--server", api_server], env={"COLUMNS": str(columns)})
        assert done.exit_code == status, done.output
        return done.output if status == 0 else str(done.exception) + done.output

    return run


def test_what_the_stock_client_does_is_told(iris, titlebout):
    iris.set_registered_model_alias("iris", "champion", 1)
    titlebout("promote", "iris", "challenger", "2", "--reason", "two points better offline")
    titlebout("split", "iris", "champion=75", "challenger=25", "--reason", "a quarter")
    iris.delete_registered_model_alias("iris", "challenger")
    iris.rename_registered_model("iris", "lily")
    lines = [re.split(r"  +", line.strip()) for line in titlebout("log", "lily").splitlines()]
    assert lines[0] == ["WHEN (UTC)", "WHO", "WHAT", "WHY"]
    assert [line[2:] for line in lines[1:]] == [
        ["renamed from iris"],
        ["split: champion 100 %", "alias challenger deleted"],
        ["challenger deleted (was version 2)"],
        ["split: champion 75 %, challenger 25 %", "a quarter"],
        ["split: champion 100 %, challenger 0 %", "alias challenger set"],
        ["challenger is version 2", "two points better offline"],
        ["split: champion 100 %", "first champion"],
        ["champion is version 1"],
    ]
    assert {line[1] for line in lines[1:]} == {"local"}
    # Where that is too wide, the reason stands below what it is of.
    narrow = titlebout("log", "lily", columns=80).splitlines()
    assert max(map(len, narrow)) <= 80
    below = next(place for place, line in enumerate(narrow) if "challenger is version 2" in line) + 1
    assert narrow[below].strip() == "two points better offline"
    assert len(titlebout("log", "lily", "challenger").splitlines()) == 4
    assert len(titlebout("log", "lily", "--limit", "3").splitlines()) == 4
    assert "nobody" in titlebout("log", "nobody", status=1)


def test_an_alias_is_resolved_as_of_a_past_instant(iris, api_server, titlebout):
    iris.set_registered_model_alias("iris", "staging", 1)
    between_ms = int(time.time() * 1000) + 1
    while time.time() * 1000 <= between_ms:
        pass
    iris.set_registered_model_alias("iris", "staging", 2)
    ask = {"uri": "models:/iris@staging"}
    resolve = f"{api_server}/api/1.0/titlebout/resolve"
    assert httpx.get(resolve, params=ask).json()["version"] == 2
    assert httpx.get(resolve, params=ask | {"at_ms": between_ms}).json()["version"] == 1
    assert httpx.get(resolve, params=ask | {"at_ms": 1}).status_code == 400
    assert httpx.get(resolve, params={"uri": "models:/iris/1", "at_ms": 1}).status_code == 400
    assert "version 2" in titlebout("resolve", "models:/iris@staging", "--at", "2999-01-01")
    assert "expected a time" in titlebout("resolve", "models:/iris@staging", "--at", "yesterday", status=2)
    iris.delete_model_version("iris", "1")
    gone = httpx.get(resolve, params=ask | {"at_ms": between_ms})
    assert (gone.status_code, "meant version 1 then" in gone.text) == (404, True)


def test_of_two_who_promote_at_once_one_finds_out_and_by_whom(iris, api_server):
    def promote(version, expected):
        body = {"name": "iris", "alias": "champion", "version": version, "expected_version": expected}
        return httpx.post(api_server + ALIAS, json=body)

    assert promote("1", "").status_code == 200
    assert promote("2", "1").status_code == 200
    late = promote("3", "1")
    assert (late.status_code, late.json()["error_code"]) == (409, "RESOURCE_CONFLICT")
    assert "means version 2 and not version 1; local was the last to move it" in late.json()["message"]
    assert promote("3", "").status_code == 409
    assert promote("3", "x").status_code == 400
    assert int(iris.get_model_version_by_alias("iris", "champion").version) == 2
    with pytest.raises(RestException, match="not found"):
        iris.set_registered_model_alias("iris", "champion", 9)


def test_the_chain_is_followed_and_what_was_noted_is_compared(iris, api_server, titlebout):
    iris.set_registered_model_alias("iris", "staging", 1)
    said = titlebout("log", "--verify")
    assert said.startswith("1 entries, and each follows from the one before.")
    noted = said.split()[-1]
    iris.set_registered_model_alias("iris", "staging", 2)
    assert titlebout("log", "--verify", "--noted", noted).startswith("2 entries")
    other = f"1:{'0' * 64}"
    assert "Entry 1 isn't what was noted" in titlebout("log", "--verify", "--noted", other, status=1)
    assert "expected SEQ:HASH" in titlebout("log", "--verify", "--noted", "x", status=2)
    assert "--noted goes with --verify" in titlebout("log", "iris", "--noted", noted, status=2)
    assert "Say a MODEL" in titlebout("log", status=2)
    check = httpx.get(f"{api_server}/api/1.0/titlebout/history/check", params={"after_seq": -1}).json()
    assert check["broken_seq"] == -1


def test_the_first_entry_that_was_altered_is_named(iris, shared_api, titlebout):
    for version in (1, 2, 3):
        iris.set_registered_model_alias("iris", "staging", version)
    # As somebody does who may do anything with the database, and puts the lock back.
    with closing(sqlite3.connect(shared_api.data / "titlebout.db")) as connection, connection:
        [(trigger,)] = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'history_no_update'")
        connection.execute("DROP TRIGGER history_no_update")
        connection.execute("UPDATE history SET author = 'eve' WHERE seq >= 2")
        connection.execute("UPDATE history SET action = 'alias_deleted', details = '{' WHERE seq = 3")
        connection.execute(trigger)
    assert "Entry 2 " in titlebout("log", "--verify", status=1)
    # What can be read is still told.
    told = titlebout("log", "iris")
    assert "staging is version 2 (was version 1)" in told
    assert "alias_deleted, and what of it can't be read: see `titlebout log --verify`" in told
