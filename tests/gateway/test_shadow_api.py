"""A shadow over HTTP and on the command line: what is refused, and with which status."""

import httpx
import pytest
from click.testing import CliRunner

from gateway.cli import cli
from gateway.settings import Settings
from registry import models, versions
from registry.sources import Claim, SourcePolicy
from tests.conftest import running_api
from tracking.database import Database

ALIAS = "/api/2.0/mlflow/registered-models/alias"
SHADOW = "/api/1.0/titlebout/endpoints/{}/shadow"


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """Of a model `iris` with a champion, and an alias `candidate` that is no arm."""
    config = Settings(data=str(tmp_path_factory.mktemp("shadows")))
    database = Database(config.database)
    database.upgrade()
    policy = SourcePolicy(locate=lambda _: None, prefixes=("s3://shared",))
    with database.writing() as session:
        models.create_model(session, "iris", now_ms=1)
        for _ in range(2):
            versions.create_version(session, "iris", Claim(source="s3://shared/iris"), policy=policy, now_ms=1)
    with running_api(config) as url, httpx.Client(base_url=url) as api:
        for alias, version in (("champion", "1"), ("candidate", "2")):
            api.post(ALIAS, json={"name": "iris", "alias": alias, "version": version}).raise_for_status()
        yield api
    database.dispose()


@pytest.mark.parametrize(
    ("name", "asked", "status", "word"),
    [
        pytest.param("iris", {"arm": "champion"}, 400, "another arm", id="the champion"),
        pytest.param("iris", {"arm": "nobody"}, 400, "candidate", id="no alias"),
        pytest.param("nothing", {"arm": "candidate"}, 404, "nothing", id="no endpoint"),
        pytest.param("iris", {"arm": "candidate", "share_bp": 10_001}, 400, "basis points", id="too large a share"),
        pytest.param("iris", {"arm": "candidate", "share_bp": 0}, 400, "basis points", id="no share"),
        pytest.param("iris", {"arm": "candidate", "keep_inputs": 1_000}, 400, "100", id="too many inputs"),
        pytest.param("iris", {"arm": "candidate", "tolerance": 2}, 400, "0 to 1", id="too wide a tolerance"),
        pytest.param("iris", {"arm": "candidate", "keep_input": 3}, 400, "keep_input", id="a misspelt field"),
        pytest.param("iris", {"arm": "a\0b"}, 400, "candidate", id="a NUL"),
    ],
)
def test_what_cannot_be_a_shadow_is_refused_readably(api, name, asked, status, word):
    answer = api.put(SHADOW.format(name), json=asked)
    assert (answer.status_code, set(answer.json())) == (status, {"error_code", "message"})
    assert word in answer.json()["message"]
    assert api.get(SHADOW.format("iris")).json()["shadow"] is None
    assert api.get("/api/1.0/titlebout/endpoints/iris").json()["shares_bp"] == {"champion": 10_000}


def test_a_shadow_is_set_shown_and_turned_off_on_the_command_line(api):
    def titlebout(*arguments, status=0):
        done = CliRunner().invoke(cli, [*arguments, "--server", str(api.base_url)], env={"COLUMNS": "200"})
        assert done.exit_code == status, done.output
        return done.output

    assert "iris has no shadow" in titlebout("shadow", "iris")
    titlebout("shadow", "iris", "candidate", "--share", "12.5", "--keep-inputs", "3", "--tolerance", "0.01")
    assert api.get(SHADOW.format("iris")).json()["shadow"] == {
        "arm": "candidate",
        "share_bp": 1_250,
        "keep_inputs": 3,
        "tolerance": 0.01,
    }
    shown = titlebout("shadow", "iris")
    assert "candidate (version 2) is asked 12.5 %" in shown
    assert "isn't asked yet" in shown
    assert "candidate (shadow)" in titlebout("status")
    assert titlebout("shadow", "iris", "--inputs") == "[]\n"
    titlebout("shadow", "iris", "--forget")
    titlebout("shadow", "iris", "--share", "10", status=2)
    titlebout("shadow", "iris", "--off")
    assert "no shadow" in titlebout("shadow", "iris")
    logged = titlebout("log", "iris")
    assert "shadow: candidate, 12.5 %" in logged
    assert "no shadow" in logged
