"""Gates over HTTP: the stock client is refused at once and readably, and who may do what about it."""

import httpx
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from mlflow.exceptions import RestException

from gateway.access.gatekeeper import Gatekeeper
from gateway.cli import cli
from gateway.settings import Settings
from tests.conftest import running_api
from tracking.access.book import Book, KnownToken, KnownUser
from tracking.access.grants import Grant
from tracking.access.secrets import digest_of

OURS = "/api/1.0/titlebout/models/iris"
ALIAS = "/api/2.0/mlflow/registered-models/alias"
PEOPLE = {
    "boss": ("admin",),
    "ann": ("publisher", "promoter"),
    "bob": ("promoter",),
    "cid": ("promoter", "gate:override:model:other"),
    "eve": ("viewer",),
}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    gate = Gatekeeper(is_open=False, clock=lambda: 0.0)
    grants = {name: tuple(map(Grant.parse, texts)) for name, texts in PEOPLE.items()}
    gate.take(
        Book(
            number=1,
            users={name: KnownUser(name, held, None) for name, held in grants.items()},
            tokens={digest_of(name): KnownToken(name, name, held, 1, False) for name, held in grants.items()},
        )
    )
    with running_api(Settings(data=str(tmp_path_factory.mktemp("gates"))), gate) as url:
        yield url


@pytest.fixture
def by(url):
    """A client of somebody's."""

    def client(name):
        return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {name}"})

    return client


@pytest.fixture
def titlebout(url):
    def run(name, *arguments, status=0):
        environment = {"COLUMNS": "200", "MLFLOW_TRACKING_TOKEN": name}
        done = CliRunner().invoke(cli, [*arguments, "--server", url], env=environment)
        assert done.exit_code == status, done.output
        return done.output if status == 0 else str(done.exception) + done.output

    return run


@pytest.fixture
def iris(url, monkeypatch):
    """A new model by ann's stock client, with a version of accuracy 0.95 and one of 0.5."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "ann")
    client = MlflowClient(url, registry_uri=url)
    with httpx.Client(base_url=url, headers={"Authorization": "Bearer boss"}) as boss:
        boss.request("DELETE", "/api/2.0/mlflow/registered-models/delete", json={"name": "iris"})
        for gate in boss.get(f"{OURS}/gates").json().get("gates", []):
            boss.delete(f"{OURS}/gates/{gate['name']}")
    client.create_registered_model("iris")
    for accuracy in (0.95, 0.5):
        run = client.create_run("0")
        client.log_metric(run.info.run_id, "accuracy", accuracy)
        client.create_model_version("iris", f"{run.info.artifact_uri}/model", run.info.run_id)
    return client


def test_the_stock_client_is_refused_at_once_and_told_each_gate_that_is_not_met(iris, titlebout):
    titlebout("boss", "gate", "set", "iris", "accurate", "accuracy >= 0.9")
    titlebout("boss", "gate", "set", "iris", "reviewed", "approval", "--alias", "champion", "--alias", "prod")
    listed = titlebout("eve", "gate", "list", "iris")
    assert "accurate  accuracy >= 0.9  champion moves" in listed
    assert "reviewed  1 approval       champion moves, or prod moves" in listed
    with pytest.raises(RestException) as refused:
        iris.set_registered_model_alias("iris", "champion", "2")
    assert refused.value.get_http_status_code() == 403
    assert "gate 'accurate' needs accuracy >= 0.9, and its run has 0.5" in str(refused.value)
    assert "gate 'reviewed' needs 1 approval(s) by somebody other than ann, and has 0" in str(refused.value)
    assert "Nobody approves" in titlebout("ann", "approve", "iris", "1", "--list")
    titlebout("ann", "approve", "iris", "1")
    with pytest.raises(RestException, match="reviewed"):
        iris.set_registered_model_alias("iris", "champion", "1")
    titlebout("bob", "approve", "iris", "1", "--reason", "looked at the holdout")
    approved = titlebout("eve", "approve", "iris", "1", "--list")
    assert [line.split()[0] for line in approved.splitlines()] == ["BY", "ann", "bob"]
    assert "looked at the holdout" in approved
    iris.set_registered_model_alias("iris", "champion", "1")
    log = titlebout("eve", "log", "iris")
    assert all(said in log for said in ("gate accurate set", "version 1 approved", "looked at the holdout"))


MLMODEL = """
flavors: {{sklearn: {{}}}}
signature: {{inputs: '[{{"name": "x", "type": "{type}", "required": true}}]', outputs: null, params: null}}
"""


@pytest.fixture
def add_version(iris):
    """Registers a version whose input is of this type."""

    def add(type_):
        run_id = iris.create_run("0").info.run_id
        iris.log_text(run_id, MLMODEL.format(type=type_), "model/MLmodel")
        return iris.create_model_version("iris", f"runs:/{run_id}/model", run_id).version

    return add


def test_each_kind_of_gate_is_set_listed_and_named_to_the_stock_client(iris, titlebout, add_version):
    old, narrower, wider = add_version("integer"), add_version("boolean"), add_version("long")
    iris.set_registered_model_alias("iris", "champion", old)
    needs = {"fits": "signature", "fast": "load test within 7d", "better": "accuracy not worse within 48h"}
    for name, text in needs.items():
        assert text in titlebout("boss", "gate", "set", "iris", name, text)
    listed = titlebout("eve", "gate", "list", "iris")
    assert all(has_line(listed, name, text, "champion moves") for name, text in needs.items())
    with pytest.raises(RestException) as refused:
        iris.set_registered_model_alias("iris", "champion", narrower)
    assert refused.value.get_http_status_code() == 403
    for said in (
        "gate 'better' needs the comparison with the champion to say not worse by accuracy, and nothing is known",
        "gate 'fast' needs a passed load test of the last 7 day(s), and there is none: `titlebout loadtest",
        f"gate 'fits' needs a signature compatible with the champion's, version {old}'s, and input 'x' takes",
    ):
        assert said in str(refused.value)
    for name in ("fast", "better"):
        titlebout("boss", "gate", "remove", "iris", name)
    # What is tried knows as much of the files as what is done.
    assert "Nothing was changed" in titlebout("ann", "rollout", "iris", wider, "--steps", "100", "--dry-run")
    iris.set_registered_model_alias("iris", "champion", wider)


def test_a_pin_beyond_a_gates_bound_is_refused_by_either_protocol(iris, titlebout, by):
    iris.set_registered_model_alias("iris", "champion", "1")
    titlebout("boss", "gate", "set", "iris", "tried", "accuracy >= 0.9", "--share-over", "10")
    for answer in (
        by("ann").put("/api/1.0/titlebout/pins/iris/2"),
        by("ann").post("/v2/repository/models/iris/versions/2/load"),
    ):
        assert answer.status_code == 403
        assert "may not be pinned so far: gate 'tried' needs accuracy" in answer.text
    assert by("ann").put("/api/1.0/titlebout/pins/iris/1").status_code == 200


def test_a_share_beyond_a_gates_bound_is_refused_and_an_override_is_told_with_its_reason(iris, titlebout, by):
    iris.set_registered_model_alias("iris", "champion", "1")
    iris.set_registered_model_alias("iris", "challenger", "2")
    titlebout("boss", "gate", "set", "iris", "tried", "accuracy >= 0.9", "--share-over", "10")
    titlebout("ann", "split", "iris", "champion=90", "challenger=10")
    said = titlebout("ann", "split", "iris", "champion=50", "challenger=50", status=1)
    assert "Version 2 of 'iris' may not be 'challenger' so far: gate 'tried' needs" in said
    past = ("split", "iris", "champion=50", "challenger=50", "--override", "the old one leaks")
    assert "gate:override" in titlebout("ann", *past, status=1)
    # For another model it doesn't count.
    assert "gate:override" in titlebout("cid", *past, status=1)
    titlebout("boss", *past)
    assert has_line(titlebout("eve", "log", "iris"), "challenger is version 2 past tried", "the old one leaks")
    for no_reason in (" ", "x" * 1_001, "burns\0"):
        assert by("boss").post(ALIAS, json=alias("2", override=no_reason)).status_code == 400
    assert by("ann").post(ALIAS, json=alias("2", override="because")).status_code == 403
    assert by("boss").post(ALIAS, json=alias("2", override="because")).status_code == 200


def has_line(text, *words):
    return any(all(word in line for word in words) for line in text.splitlines())


def alias(version, **more):
    return {"name": "iris", "alias": "champion", "version": version, **more}


def test_gates_are_for_those_who_may_change_them(iris, by):
    gate = {"needs": {"kind": "metric", "metric": "accuracy", "comparator": ">=", "value": 0.9}}
    for name, status in (("ann", 403), ("eve", 403), ("boss", 200)):
        assert by(name).put(f"{OURS}/gates/accurate", json=gate).status_code == status
    assert by("ann").delete(f"{OURS}/gates/accurate").status_code == 403
    assert by("eve").put(f"{OURS}/versions/1/approvals", json={}).status_code == 403
    assert by("bob").put(f"{OURS}/versions/9/approvals", json={}).status_code == 404
    # Nobody gets round it by making the model anew.
    by("boss").request("DELETE", "/api/2.0/mlflow/registered-models/delete", json={"name": "iris"})
    assert [each["name"] for each in by("eve").get(f"{OURS}/gates").json()["gates"]] == ["accurate"]


@pytest.mark.parametrize(
    "gate",
    [
        {},
        {"needs": {"kind": "luck"}},
        {"needs": {"kind": "metric", "metric": "accuracy", "comparator": "~", "value": 1}},
        {"needs": {"kind": "metric", "comparator": ">=", "value": 1}},
        {"needs": {"kind": "metric", "metric": "", "comparator": ">=", "value": 1}},
        {"needs": {"kind": "metric", "metric": "m", "comparator": ">=", "value": "x"}},
        {"needs": {"kind": "approval", "count": 99}},
        {"needs": {"kind": "approval"}, "aliases": []},
        {"needs": {"kind": "approval"}, "aliases": ["v1"]},
        {"needs": {"kind": "approval"}, "share_over_bp": -1},
        {"needs": {"kind": "approval"}, "shares": 1},
        {"needs": {"kind": "load_test", "within_days": 0}},
        {"needs": {"kind": "comparison", "metric": ""}},
        {"needs": {"kind": "comparison", "metric": "accuracy", "verdict": "worse"}},
        {"needs": {"kind": "signature", "of": "mine"}},
    ],
)
def test_a_gate_that_makes_no_sense_is_refused_and_changes_nothing(iris, by, gate):
    answer = by("boss").put(f"{OURS}/gates/g", json=gate)
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), answer.text
    assert by("boss").get(f"{OURS}/gates").json() == {"gates": []}


@pytest.mark.parametrize(
    ("needs", "said"),
    [
        ({"kind": "metric", "comparator": ">=", "value": 0.9}, "required parameter 'metric'"),
        ({"kind": "metric", "metric": " ", "comparator": ">=", "value": 0.9}, "A gate for a metric names one."),
        ({"kind": "comparison", "metric": ""}, "A gate for a metric names one."),
        ({"kind": "metric", "metric": "accuracy", "value": 0.9}, "required parameter 'comparator'"),
        ({"kind": "luck"}, "luck"),
        ({"kind": "approval", "count": 99}, "1 to 10 approvals"),
    ],
)
def test_what_a_gate_lacks_is_named(iris, by, needs, said):
    answer = by("boss").put(f"{OURS}/gates/g", json={"needs": needs})
    assert (answer.status_code, said in answer.json()["message"]) == (400, True), answer.text


def test_what_the_command_line_cannot_read_it_says(titlebout, iris):
    for needs in ("luck", "accuracy > ", "accuracy >= 1e", "0.9 <= accuracy?"):
        assert "expected one like 'accuracy >= 0.9'" in titlebout("boss", "gate", "set", "iris", "g", needs, status=2)
    assert "has no gate" in titlebout("eve", "gate", "list", "iris")


def test_of_two_who_move_an_alias_the_second_is_told_who_was_first(iris, by):
    iris.set_registered_model_alias("iris", "champion", "1")
    assert by("bob").post(ALIAS, json=alias("2", expected_version="1")).status_code == 200
    gone = {"name": "iris", "alias": "champion", "expected_version": "1"}
    for late in (
        by("ann").post(ALIAS, json=alias("1", expected_version="1")),
        by("ann").request("DELETE", ALIAS, json=gone),
    ):
        assert (late.status_code, late.json()["error_code"]) == (409, "RESOURCE_CONFLICT")
        assert "means version 2 and not version 1; bob was the last to move it" in late.json()["message"]
