"""`titlebout promote` and `titlebout rollback`: what they say, when they end, and with which status."""

import os
import pty
import subprocess
import sys

import httpx
import pytest
from click.testing import CliRunner
from rich.console import Console

from gateway.cli import cli
from gateway.cli.following import Flip, Phase, Progress, Replica, Step, _table
from gateway.cli.server_process import free_port, server_process
from registry.entities import SlotStatus
from tests.gateway.events import events, states_of
from tests.gateway.slow_models import fails_to_load
from tests.gateway.test_cli import titlebout
from tests.gateway.test_serving import wait_until, wait_until_served
from tests.training import constant_classifier, register, register_function, set_alias
from tracking.errors import ServingError

FLIP = Flip(endpoint="iris", model="iris", arm="champion", version=2)


def replica(state=None, *, serving=1, reason=None):
    slots = () if state is None else (SlotStatus(model="iris", version=2, state=state, reason=reason, since_ms=7),)
    return Replica("a", 3, {"champion": serving}, slots)


@pytest.mark.parametrize(
    ("seen", "phase"),
    [
        pytest.param(replica(), Phase.WAITING, id="not noticed yet"),
        pytest.param(replica("NEW"), Phase.WAITING, id="waits its turn"),
        pytest.param(replica("FETCHING"), Phase.FETCHING, id="fetching"),
        pytest.param(replica("LOADING"), Phase.LOADING, id="loading"),
        pytest.param(replica("WARMING"), Phase.WARMING, id="warming"),
        pytest.param(replica("READY"), Phase.READY, id="ready, before the switch"),
        pytest.param(replica("READY", serving=2), Phase.SWITCHED, id="answers from it"),
        pytest.param(replica("FAILED", serving=2), Phase.SWITCHED, id="a host that ended after the switch"),
        pytest.param(replica("DRAINING"), Phase.WAITING, id="on its way out of an earlier life"),
        pytest.param(replica("FAILED", reason="no"), Phase.FAILED, id="failed"),
    ],
)
def test_a_replicas_phase_is_what_it_holds_and_what_it_answers_from(seen, phase):
    assert seen.phase(FLIP) is phase


def test_a_failure_is_known_by_its_time():
    progress = Progress(False, {"champion": 2}, (replica("FAILED", reason="no"), replica("READY")))
    assert list(progress.failures(FLIP)) == [("a", 7)]


def test_on_a_terminal_a_line_shows_the_whole_way(capsys):
    Console(width=100).print(_table({"vm-1": Step(Phase.LOADING), "vm-2": Step(Phase.FAILED, "no such file")}))
    first, second = capsys.readouterr().out.splitlines()
    assert first.split() == ["vm-1", "fetching", "loading", "warming", "ready", "switched"]
    assert second.split("  ")[:2] == ["vm-2", "failed: no such file"]


# --- errors, against the API alone


def run(*arguments, server):
    return CliRunner().invoke(cli, [*arguments, "--server", server])


@pytest.fixture
def registered(api_server):
    """Three versions of `iris` without files; nothing serves them."""
    http = httpx.Client(base_url=f"{api_server}/api/2.0/mlflow")
    http.post("/registered-models/create", json={"name": "iris"}).raise_for_status()
    run_id = http.post("/runs/create", json={"experiment_id": "0"}).json()["run"]["info"]["run_id"]
    for _ in range(3):
        version = {"name": "iris", "source": f"runs:/{run_id}/model", "run_id": run_id}
        http.post("/model-versions/create", json=version).raise_for_status()
    http.post("/registered-models/alias", json={"name": "iris", "alias": "staging", "version": "2"}).raise_for_status()
    return api_server


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(("nothing", "champion", "1"), "There is no model 'nothing'; there are: iris.", id="model"),
        pytest.param(("iris", "champion", "9"), "'iris' has no version 9; its newest is 3.", id="version"),
        pytest.param(("iris", "champion", "@best"), "'iris' has no alias 'best'; it has: staging.", id="other alias"),
        pytest.param(("iris", "bad alias", "1"), "Invalid alias name: 'bad alias'", id="alias"),
        pytest.param(("iris", "latest", "1"), "latest", id="a word that is no alias"),
        pytest.param(
            ("iris", "staging", "3", "--wait"), "no endpoint before its first champion", id="no arm to wait for"
        ),
    ],
)
def test_what_is_not_there_is_said_beside_what_is(registered, arguments, said):
    with pytest.raises(ServingError) as refused:
        raise run("promote", *arguments, server=registered).exception
    assert said in refused.value.message


@pytest.mark.parametrize("version", ["two", "-1", "1.0", ""])
def test_a_version_is_a_number_or_an_alias(registered, version):
    done = run("promote", "iris", "champion", version, server=registered)
    assert done.exit_code == 2
    assert "VERSION" in done.output or "No such option" in done.output


def test_any_alias_is_set_and_told_from_an_arm(registered):
    done = run("promote", "iris", "canary", "@staging", server=registered)
    assert done.output == "iris@canary is version 2.\nIt is no arm (there is no endpoint yet), so no traffic moves.\n"
    assert run("promote", "iris", "champion", "1", server=registered).output == "iris@champion is version 1.\n"
    done = run("promote", "iris", "canary", "3", server=registered)
    assert done.output == "iris@canary is version 3.\nIt is no arm (champion), so no traffic moves.\n"


def test_a_wait_ends_when_its_time_is_over(registered):
    with pytest.raises(ServingError, match=r"after 0.3 s: no live replica is heard of\."):
        raise run("promote", "iris", "champion", "1", "--wait", "--timeout", "0.3", server=registered).exception


def test_going_back_is_refused_with_a_sentence_where_nothing_serves(registered):
    def go_back(name, **params):
        return httpx.post(f"{registered}/api/1.0/titlebout/endpoints/{name}/rollback", params=params)

    assert go_back("iris").status_code == 404
    run("promote", "iris", "champion", "1", server=registered)
    refused = go_back("iris")
    assert (refused.status_code, refused.json()["error_code"]) == (409, "RESOURCE_CONFLICT")
    assert "nothing to go back from" in refused.json()["message"]
    assert go_back("iris", expected_version="two").status_code == 400


@pytest.mark.parametrize("verb", [("promote", "iris", "champion", "1", "--wait"), ("rollback", "iris")])
def test_a_server_that_is_away_is_said_in_a_sentence(verb):
    with pytest.raises(ServingError, match="titlebout serve"):
        raise run(*verb, server="http://127.0.0.1:1").exception


# --- against a server


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server whose `iris` has two versions that can be loaded and one that can't; the first serves."""
    with server_process(tmp_path_factory.mktemp("served"), port=free_port()) as server:
        for answer in (0, 1):
            register(server.url, "iris", constant_classifier(answer))
        register_function(server.url, "iris", fails_to_load("a reason of its own"))
        set_alias(server.url, "iris", "champion", 1)
        wait_until_served(server.url, "iris", champion=1)
        yield server


@pytest.mark.e2e
def test_promote_waits_for_the_flip_and_rollback_is_a_switch_and_no_load(served):
    at = {"TITLEBOUT_URL": served.url}
    (replica_id,) = [r["id"] for r in httpx.get(f"{served.url}/api/1.0/titlebout/status").json()["replicas"]]

    promoted = titlebout("promote", "iris", "champion", "2", "--wait", environment=at)
    assert promoted.returncode == 0, promoted.stderr
    first, *lines, last = promoted.stdout.splitlines()
    assert first == "iris@champion is version 2."
    assert last.startswith("Version 2 answers as champion, epoch ")
    assert {line.split("  ")[0] for line in lines} == {replica_id}
    phases = [line.split("  ")[1] for line in lines]
    assert phases[-1] == "switched"
    assert phases == sorted(phases, key=list(Phase).index)

    failed = titlebout("promote", "iris", "champion", "3", "--wait", environment=at)
    assert failed.returncode == 1
    assert "a reason of its own" in failed.stderr
    assert "Version 2 goes on answering as champion." in failed.stderr
    assert "`titlebout rollback iris`" in failed.stderr
    # Its pause is on; asked again, it is the next try that counts.
    again = titlebout("promote", "iris", "champion", "3", "--wait", "--timeout", "50", environment=at)
    assert again.returncode == 1
    assert "a reason of its own" in again.stderr

    taken_back = titlebout("rollback", "iris", environment=at)
    assert taken_back.stdout.startswith("iris@champion is version 2 again, and not 3.\n")
    assert taken_back.returncode == 0

    before = states_of(served, "iris", 1)
    back = titlebout("rollback", "iris", environment=at)
    assert back.returncode == 0, back.stderr
    assert back.stdout.startswith("iris@champion is version 1 again, and not 2.\n")
    assert httpx.get(f"{served.url}/api/1.0/titlebout/endpoints/iris").json()["serving"] == {"champion": 1}
    # Version 1 has been in memory all the time: no state of its slot changed, and the epoch came with the call.
    assert states_of(served, "iris", 1) == before == ["FETCHING", "LOADING", "WARMING", "READY"]
    switches = events(served, "rolled_back", model="iris", version=1)
    assert [(event["left"], event["author"]) for event in switches] == [(2, "local")]
    assert f"epoch {switches[0]['epoch']}." in back.stdout

    nothing = titlebout("rollback", "iris", environment=at)
    assert nothing.returncode == 1
    assert "There is nothing to go back to" in nothing.stderr
    assert httpx.get(f"{served.url}/api/1.0/titlebout/endpoints/iris").json()["serving"] == {"champion": 1}
    # What was gone back from is not kept warm: it is no way back.
    wait_until(lambda: states_of(served, "iris", 2)[-1] == "UNLOADED")


@pytest.mark.e2e
def test_on_a_terminal_promote_shows_the_way_and_ends_well(served):
    ours, theirs = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-m", "gateway.cli", "promote", "iris", "champion", "2", "--wait", "--server", served.url],
        stdout=theirs,
        stderr=theirs,
        stdin=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(theirs)
    shown = b""
    while True:
        try:
            chunk = os.read(ours, 65_536)
        except OSError:
            break
        if not chunk:
            break
        shown += chunk
    os.close(ours)
    assert done.wait(60) == 0
    assert b"fetching" in shown
    assert b"switched" in shown
    assert b"Version 2 answers as champion" in shown
