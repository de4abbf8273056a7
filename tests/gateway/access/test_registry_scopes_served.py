"""Grants for single models where they are in memory: what a worker says of them, and who may ask them."""

from typing import NamedTuple

import httpx
import pytest
from click.testing import CliRunner

from gateway.cli import cli
from gateway.cli.server_process import free_port, server_process
from tests.gateway.test_serving import BODY, JSON, wait_until
from tests.training import constant_classifier, register, set_alias

pytestmark = pytest.mark.e2e

ADMIN = "an-administrator's-token-of-a-test"
OURS = "/api/1.0/titlebout"
# Of the model `wine`, under a name that begins as what is granted.
OTHER = "iris-2"
ABSENT = "iris-3"


class Clients(NamedTuple):
    admin: httpx.Client
    ann: httpx.Client
    """Granted what begins with iris."""
    shop: httpx.Client
    """A scoring key for the endpoint `iris`."""


@pytest.fixture(scope="module")
def clients(tmp_path_factory):
    environment = {"TITLEBOUT_ACCESS": "required", "TITLEBOUT_ADMIN_TOKEN": ADMIN}
    data = tmp_path_factory.mktemp("served")
    with server_process(data, port=free_port(), environment=environment) as server, pytest.MonkeyPatch.context() as env:
        env.setenv("MLFLOW_TRACKING_TOKEN", ADMIN)

        def client(secret):
            return httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {secret}"}, timeout=30)

        admin = client(ADMIN)
        register(server.url, "iris", constant_classifier(0))
        copy = {"name": "wine", "source": "models:/iris/1"}
        for path, body in (("registered-models/create", {"name": "wine"}), ("model-versions/create", copy)):
            admin.post(f"/api/2.0/mlflow/{path}", json=body).raise_for_status()
        for name in ("iris", "wine"):
            set_alias(server.url, name, "champion", 1)
        admin.patch(f"{OURS}/endpoints/wine", json={"name": OTHER}).raise_for_status()
        user = {"name": "ann", "grants": ["viewer:model:iris*", "scorer:model:iris*"]}
        admin.post(f"{OURS}/users", json=user).raise_for_status()
        ann = client(admin.post(f"{OURS}/tokens", json={"name": "t", "user": "ann"}).json()["secret"])
        key = {"name": "shop", "endpoints": ["iris"]}
        shop = client(admin.post(f"{OURS}/scoring-keys", json=key).json()["secret"])
        wait_until(lambda: admin.get("/v1/models").json() == {"models": ["iris", OTHER]})
        wait_until(lambda: all(ask(one, "iris").is_success for one in (admin, ann, shop)))
        wait_until(lambda: ask(admin, OTHER).is_success)
        yield Clients(admin, ann, shop)


def ask(client, endpoint=None, **headers):
    path = "/invocations" if endpoint is None else f"/endpoints/{endpoint}/invocations"
    return client.post(path, content=BODY, headers={**JSON, **headers})


def test_a_worker_tells_of_what_is_granted(clients):
    ann = clients.ann
    assert ann.get("/v1/models").json() == {"models": ["iris"]}
    status = ann.get(f"{OURS}/status").json()
    assert [one["name"] for one in status["endpoints"]] == ["iris"]
    assert {slot["model"] for replica in status["replicas"] for slot in replica["slots"]} == {"iris"}
    assert {one["name"] for one in ann.post("/v2/repository/index").json()} == {"iris"}
    wait_until(lambda: ann.get("/v2/models/stats").json()["model_stats"])
    assert {one["name"] for one in ann.get("/v2/models/stats").json()["model_stats"]} == {"iris"}
    for path in ("/v1/models/iris", "/v1/models/iris/metadata", "/v2/models/iris", "/v2/models/iris/ready",
                 "/endpoints/iris/docs", "/endpoints/iris/openapi.json"):  # fmt: skip
        answer = ann.get(path)
        assert (answer.status_code, "wine" in answer.text, OTHER in answer.text) == (200, False, False), path


@pytest.mark.parametrize(
    "path",
    ["/v1/models/{}", "/v1/models/{}/versions/1", "/v2/models/{}", "/v2/models/{}/ready", "/v2/models/{}/stats",
     "/endpoints/{}/docs", "/endpoints/{}/openapi.json", f"{OURS}/endpoints/{{}}/progress"],
)  # fmt: skip
def test_it_knows_no_more_of_the_rest_than_of_what_is_not_there(clients, path):
    hidden, absent = clients.ann.get(path.format(OTHER)), clients.ann.get(path.format(ABSENT))
    assert (hidden.status_code, hidden.text.replace(OTHER, ABSENT)) == (404, absent.text)


def test_predictions_are_answered_by_what_the_caller_may_ask_as_if_there_were_no_more(clients):
    admin, ann, shop = clients
    hidden, absent = ask(ann, OTHER), ask(ann, ABSENT)
    assert (hidden.status_code, hidden.text.replace(OTHER, ABSENT)) == (404, absent.text)
    assert "there are: iris." in hidden.json()["message"]
    # By the model's own name nobody knows it, and beyond the grant everything is alike.
    assert {ask(ann, name).status_code for name in ("wine", "nowhere")} == {403}
    for client in (ann, shop):
        assert ask(client).is_success
        assert ask(client, "iris", **{"X-Titlebout-Arm": "champion"}).status_code == 403
    assert f"(iris, {OTHER})" in ask(admin).json()["message"]
    for name in (OTHER, ABSENT, "wine"):
        refused = ask(shop, name)
        assert (refused.status_code, refused.json()["message"]) == (
            403, f"The key 'shop' isn't for the endpoint {name!r}.",
        )  # fmt: skip


def test_status_shows_somebody_their_models_and_no_others(clients, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", clients.ann.headers["Authorization"].removeprefix("Bearer "))
    shown = CliRunner().invoke(cli, ["status", "--server", str(clients.ann.base_url)], catch_exceptions=False).output
    assert "iris" in shown
    assert "wine" not in shown
    assert OTHER not in shown
