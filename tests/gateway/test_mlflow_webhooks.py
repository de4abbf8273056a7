"""Webhooks as the stock MLflow client makes, tries and hears them."""

import json

import httpx
import pytest
from mlflow import MlflowClient
from mlflow.entities.webhook import WebhookEvent, WebhookStatus
from mlflow.exceptions import MlflowException

from tests.gateway.receiver import running_receiver

# A server for each test: slow, so that `make test` stays under two minutes; part of `make check`.
pytestmark = pytest.mark.slow

API = "/api/2.0/mlflow/webhooks"
URL = "https://8.8.8.8/hook"
EVENTS = ["registered_model.created", "model_version_alias.created"]


@pytest.fixture
def client(api_server, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return MlflowClient(tracking_uri=api_server, registry_uri=api_server)


@pytest.fixture
def wire(api_server):
    with httpx.Client(base_url=api_server) as client:
        yield client


def test_a_webhook_lives_and_dies(client):
    made = client.create_webhook(
        "ci", URL, [WebhookEvent.from_str(event) for event in EVENTS], description="tells CI", secret="s3cret"
    )
    assert (made.name, made.url, made.status, made.description) == ("ci", URL, WebhookStatus.ACTIVE, "tells CI")
    assert [str(event) for event in made.events] == EVENTS
    client.update_webhook(made.webhook_id, name="cd", status="DISABLED")
    found = client.get_webhook(made.webhook_id)
    assert (found.name, found.status, found.url) == ("cd", WebhookStatus.DISABLED, URL)
    assert [one.webhook_id for one in client.list_webhooks()] == [made.webhook_id]
    client.delete_webhook(made.webhook_id)
    with pytest.raises(MlflowException) as caught:
        client.get_webhook(made.webhook_id)
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_webhooks_come_in_pages(client):
    for number in range(3):
        client.create_webhook(f"hook-{number}", URL, [WebhookEvent.from_str(EVENTS[0])])
    first = client.list_webhooks(max_results=2)
    rest = client.list_webhooks(max_results=2, page_token=first.token)
    assert sorted(one.name for one in [*first, *rest]) == ["hook-0", "hook-1", "hook-2"]


def test_a_secret_comes_back_in_no_answer(wire):
    event = {"entity": "PROMPT", "action": "CREATED"}
    made = wire.post(API, json={"name": "ci", "url": URL, "events": [event], "secret": "s3cret"})
    path = f"{API}/{made.json()['webhook']['webhook_id']}"
    changed = wire.patch(path, json={"secret": "an0ther"})
    for answer in (made, changed, wire.get(path), wire.get(API)):
        assert answer.status_code == 200
        assert "secret" not in answer.text
        assert "s3cret" not in answer.text


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param({"name": "ci", "url": URL, "events": []}, "at least one event", id="no event"),
        pytest.param({"name": "ci", "url": "https://127.0.0.1/"}, "isn't public", id="a private address"),
        pytest.param({"name": "ci", "url": "http://8.8.8.8/"}, "https://", id="plain http"),
        pytest.param({"name": "c i", "url": URL}, "is invalid", id="a name with a blank"),
        pytest.param(
            {"name": "ci", "url": URL, "events": [{"entity": "PROMPT", "action": "SET"}]}, "Valid actions", id="events"
        ),
        pytest.param({"name": "ci", "url": URL, "status": "ASLEEP"}, "ACTIVE, DISABLED", id="an unknown status"),
        pytest.param({"url": URL}, "name", id="no name"),
    ],
)
def test_a_webhook_that_cannot_be_is_refused(wire, body, said):
    answer = wire.post(API, json={"events": [{"entity": 1, "action": 1}], **body})
    assert (answer.status_code, answer.json()["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert said in answer.json()["message"]
    assert wire.get(API).json() == {}


def test_a_webhook_may_not_be_moved_inside_either(wire):
    made = wire.post(API, json={"name": "ci", "url": URL, "events": [{"entity": 1, "action": 1}]}).json()["webhook"]
    assert wire.patch(f"{API}/{made['webhook_id']}", json={"url": "https://10.0.0.1/"}).status_code == 400
    assert wire.get(f"{API}/{made['webhook_id']}").json()["webhook"]["url"] == URL


@pytest.mark.e2e
def test_a_running_server_tells_what_the_client_does(serve):
    server = serve(environment={"TITLEBOUT_WEBHOOK_ALLOW_PRIVATE": "true"})
    client = MlflowClient(tracking_uri=server.url, registry_uri=server.url)
    with running_receiver() as receiver:
        hook = client.create_webhook(
            "ci", receiver.url, [WebhookEvent.from_str(event) for event in EVENTS], secret="s3cret"
        )
        trial = client.test_webhook(hook.webhook_id)
        assert (trial.success, trial.response_status, trial.response_body) == (True, 200, "thanks!")
        assert json.loads(receiver.take().body)["entity"] == "registered_model"
        receiver.statuses = [500]
        trial = client.test_webhook(hook.webhook_id, WebhookEvent.from_str("model_version_alias.created"))
        assert (trial.success, trial.response_status) == (False, 500)
        assert json.loads(receiver.take().body)["entity"] == "model_version_alias"
        receiver.statuses = [200]
        client.create_registered_model("iris", tags={"team": "bees"})
        said = json.loads(receiver.take().body)
        assert (said["entity"], said["action"]) == ("registered_model", "created")
        assert said["data"] == {"name": "iris", "tags": {"team": "bees"}, "description": ""}
        run = client.create_run("0")
        client.create_model_version("iris", f"{run.info.artifact_uri}/model", run_id=run.info.run_id)
        client.set_registered_model_alias("iris", "champion", "1")
        said = json.loads(receiver.take().body)
        assert said["data"] == {"name": "iris", "alias": "champion", "version": "1"}
