"""Rollouts over HTTP and on the command line: what is refused, what is tried, and what people tell them."""

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
OURS = "/api/1.0/titlebout"
ROLLOUTS = f"{OURS}/rollouts"
SPEC = {"steps_bp": [100, 10_000]}


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """Of a model `iris` with three versions, the first of them champion. No replica is there to go on by itself."""
    config = Settings(data=str(tmp_path_factory.mktemp("rollouts")))
    database = Database(config.database)
    database.upgrade()
    policy = SourcePolicy(locate=lambda _: None, prefixes=("s3://shared",))
    with database.writing() as session:
        models.create_model(session, "iris", now_ms=1)
        for _ in range(3):
            versions.create_version(session, "iris", Claim(source="s3://shared/iris"), policy=policy, now_ms=1)
    with running_api(config) as url, httpx.Client(base_url=url) as api:
        api.post(ALIAS, json={"name": "iris", "alias": "champion", "version": "1"}).raise_for_status()
        yield api
    database.dispose()


def state(api):
    """All that a rollout could have changed."""
    history = api.get(f"{OURS}/models/iris/history").json()["entries"]
    return api.get(f"{OURS}/endpoints/iris").json(), history


@pytest.fixture
def titlebout(api):
    def run(*arguments, status=0):
        done = CliRunner().invoke(cli, [*arguments, "--server", str(api.base_url)], env={"COLUMNS": "200"})
        assert done.exit_code == status, (done.output, done.exception)
        return done.output if done.exception is None or status == 2 else str(done.exception)

    return run


@pytest.mark.parametrize("path", [ROLLOUTS, f"{ROLLOUTS}/iris/dry-run"], ids=["start", "dry run"])
@pytest.mark.parametrize(
    ("asked", "status", "word"),
    [
        pytest.param({"version": 9}, 404, "version=9", id="a version that isn't registered"),
        pytest.param({"version": 1}, 409, "champion", id="the champion"),
        pytest.param({"spec": {"steps_bp": [500, 100]}}, 400, "5, 1 %", id="steps that fall"),
        pytest.param({"spec": {"steps_bp": []}}, 400, "none", id="no steps"),
        pytest.param({"spec": {**SPEC, "metric": "niceness"}}, 400, "niceness", id="an unknown metric"),
        pytest.param({"spec": {**SPEC, "guards": ["p99"]}}, 400, "'p99'", id="an unknown guard"),
        pytest.param({"spec": {**SPEC, "every_s": 0.0}}, 400, "every_s", id="no time"),
        pytest.param({"spec": {**SPEC, "evry_s": 1}}, 400, "evry_s", id="a misspelt field"),
        pytest.param({"spec": {}}, 400, "steps_bp", id="nothing said"),
        pytest.param({"version": "two"}, 400, "version", id="a version that is no number"),
    ],
)
def test_what_cannot_be_rolled_out_is_named_and_changes_nothing(api, path, asked, status, word):
    before = state(api)
    of_endpoint = {} if "dry" in path else {"endpoint": "iris"}
    answer = api.post(path, json={"version": 2, "spec": SPEC, **of_endpoint, **asked})
    assert (answer.status_code, set(answer.json())) == (status, {"error_code", "message"}), answer.text
    assert word in answer.json()["message"]
    assert state(api) == before


def test_no_endpoint_no_rollout_and_no_reason_that_is_none(api):
    assert api.get(f"{ROLLOUTS}/nothing").status_code == 404
    assert api.post(ROLLOUTS, json={"endpoint": "nothing", "version": 2, "spec": SPEC}).status_code == 404
    assert api.post(f"{ROLLOUTS}/iris/pause", json={"reason": "a\0b"}).status_code == 400
    stopped = api.post(f"{ROLLOUTS}/iris/abort", json={})
    assert (stopped.status_code, stopped.json()["error_code"]) == (409, "RESOURCE_CONFLICT")


def test_a_rollout_is_tried_started_steered_and_aborted(api, titlebout):
    before = state(api)
    tried = titlebout("rollout", "iris", "2", "--steps", "1,100", "--dry-run", "--metric", "accuracy")
    assert "Version 2 of iris would begin with 1 %" in tried
    assert "Nothing was changed" in tried
    assert state(api) == before
    started = titlebout(
        "rollout", "iris", "2", "--steps", "1,5.5,100", "--every", "10m", "--guard", "p99=1.2x", "--guard", "failures",
        "--watch", "30m", "--budget", "0.5%", "--detach", "--reason", "two points better",
    )  # fmt: skip
    assert "iris version 2  running, loading" in started
    rollout = api.get(f"{ROLLOUTS}/iris").json()
    assert rollout["spec"] == {
        "steps_bp": [100, 550, 10_000], "every_s": 600.0, "guards": ["p99=1.2x", "failures"], "metric": None,
        "margin": 0.0, "on_undecided": "go", "requests_min": 100, "patience_s": None, "watch_s": 1_800.0,
        "budget": 0.005,
    }  # fmt: skip
    assert api.get(ROLLOUTS).json()["rollouts"] == [rollout]
    for refused in (
        api.post(ALIAS, json={"name": "iris", "alias": "champion", "version": "3"}),
        api.put(f"{OURS}/endpoints/iris/split", json={"shares_bp": {"champion": 10_000}}),
        api.post(f"{OURS}/endpoints/iris/stop"),
        api.post(ROLLOUTS, json={"endpoint": "iris", "version": 3, "spec": SPEC}),
    ):
        assert (refused.status_code, refused.json()["error_code"]) == (409, "RESOURCE_CONFLICT")
        assert rollout["id"] in refused.json()["message"]
    assert "paused by local: lunch" in titlebout("rollout", "pause", "iris", "--reason", "lunch")
    assert "paused" in titlebout("rollout", "status", "iris")
    assert "resumed by local" in titlebout("rollout", "resume", "iris")
    assert "aborted by local" in titlebout("rollout", "abort", "iris")
    assert titlebout("rollout", "status", "iris", "--follow", status=1).startswith(
        "Version 2 was not rolled out: aborted"
    )
    log = titlebout("log", "iris")
    assert "two points better" in log
    assert "rollout of version 2 started: 1, 5.5, 100 %" in log
    assert "rollout of version 2 aborted" in log
    served = api.get(f"{OURS}/endpoints/iris").json()
    assert (served["desired"], served["shares_bp"]) == ({"champion": 1}, {"champion": 10_000})


@pytest.mark.parametrize(
    "arguments",
    [
        ("iris", "two"),
        ("iris", "2", "--steps", "1,x,100"),
        ("iris", "2", "--every", "10"),
        ("iris", "2", "--budget", "x"),
    ],
)
def test_what_is_mistyped_is_named_before_anything_is_asked(titlebout, arguments):
    assert "Invalid value" in titlebout("rollout", *arguments, status=2)


def test_a_browser_finds_the_rollout_from_the_first_page_on(api, titlebout):
    as_browser = {"headers": {"Accept": "text/html"}, "follow_redirects": True}
    titlebout("rollout", "iris", "2", "--steps", "1,5.5,100", "--detach", "--reason", "<b>")
    start = api.get("/", **as_browser)
    assert (start.status_code, start.url.path) == (200, "/endpoints")
    assert '<a href="/endpoints/iris/rollout">rollout of version 2</a>' in start.text
    running = api.get("/endpoints/iris/rollout", **as_browser).text
    assert "Version 2: under way" in running
    assert "5.5 %" in running
    assert '<meta http-equiv="refresh"' in running
    titlebout("rollout", "abort", "iris", "--reason", "<b>")
    ended = api.get("/endpoints/iris/rollout", **as_browser).text
    assert "Version 2: aborted and put back" in ended
    assert "&lt;b&gt;" in ended
    assert '<meta http-equiv="refresh"' not in ended
    nobody = api.get("/endpoints/nobody/rollout", **as_browser)
    assert (nobody.status_code, "There is no endpoint" in nobody.text) == (404, True)


def test_a_promotion_by_hand_is_watched_until_somebody_ends_that(api, titlebout):
    titlebout("rollout", "iris", "2", "--detach")
    assert "watching" in titlebout("rollout", "promote", "iris")
    assert "succeeded" in titlebout("rollout", "promote", "iris")
    assert api.get(f"{OURS}/endpoints/iris").json()["desired"] == {"champion": 2, "challenger": 2}
