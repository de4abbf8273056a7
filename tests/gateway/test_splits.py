"""Splits over HTTP and on the command line: what can't be is refused in words, and changes nothing."""

import httpx
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient

from gateway.cli import cli

OURS = "/api/1.0/titlebout"
EVEN = {"champion": 5_000, "challenger": 5_000}


@pytest.fixture
def iris(api_server):
    """An endpoint with a champion and a dark challenger, and an alias that is no arm."""
    client = MlflowClient(api_server, registry_uri=api_server)
    client.create_registered_model("iris")
    run = client.create_run("0")
    for version, alias in enumerate(("champion", "challenger", "canary"), start=1):
        client.create_model_version("iris", f"{run.info.artifact_uri}/model", run.info.run_id)
        client.set_registered_model_alias("iris", alias, version)
    return client


def state(url):
    """All that a split could have changed."""
    told = httpx.get(f"{url}{OURS}/models/iris/history").json()
    return httpx.get(f"{url}{OURS}/endpoints/iris").json(), told


@pytest.mark.parametrize(
    ("name", "asked", "status", "said"),
    [
        pytest.param("iris", {"champion": 9_000}, 400, "add up to 9000 basis points; expected 10000", id="too little"),
        pytest.param("iris", EVEN | {"canary": 1}, 400, "add up to 10001 basis points", id="too much"),
        pytest.param("iris", {"champion": 10_500, "challenger": -500}, 400, "none below 0", id="below nothing"),
        pytest.param("iris", {}, 400, "add up to 0 basis points", id="nothing"),
        pytest.param("iris", {"champion": 5_000, "nobody": 5_000}, 400, "'nobody'", id="an unknown arm"),
        pytest.param("iris", {"champion": 9_999.5, "challenger": 0.5}, 400, "int", id="half a basis point"),
        pytest.param("iris", {"champion": "all"}, 400, "int", id="a word"),
        pytest.param("nothing", EVEN, 404, "nothing", id="no endpoint"),
    ],
)
def test_shares_that_cannot_be_are_named_and_change_nothing(iris, api_server, name, asked, status, said):
    before = state(api_server)
    answer = httpx.put(f"{api_server}{OURS}/endpoints/{name}/split", json={"shares_bp": asked})
    assert (answer.status_code, set(answer.json())) == (status, {"error_code", "message"}), answer.text
    assert said in answer.json()["message"]
    assert state(api_server) == before


@pytest.mark.parametrize(
    ("shares", "status", "said"),
    [
        pytest.param(("champion=90", "nobody=10"), 1, "'nobody' is no alias of 'iris'", id="an unknown arm"),
        pytest.param(("champion=90",), 2, "add up to 90 %; expected 100 %", id="too little"),
    ],
)
def test_so_they_are_on_the_command_line(iris, api_server, shares, status, said):
    before = state(api_server)
    done = CliRunner().invoke(cli, ["split", "iris", *shares, "--server", api_server])
    assert (done.exit_code, said in done.output + str(done.exception)) == (status, True), done.output
    assert state(api_server) == before


def test_any_alias_may_take_a_share_and_what_its_deletion_leaves_is_told(iris, api_server):
    shares = {"champion": 5_000, "challenger": 3_000, "canary": 2_000}
    path = f"{api_server}{OURS}/endpoints/iris"
    assert httpx.put(f"{path}/split", json={"shares_bp": shares}).json()["shares_bp"] == shares
    iris.delete_registered_model_alias("iris", "canary")
    assert httpx.get(path).json()["shares_bp"] == {"champion": 7_000, "challenger": 3_000}
