"""Grants for single models: what may be changed, what may only be seen, and what isn't there at all."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest
from sqlalchemy import select

from gateway.access.gatekeeper import Gatekeeper
from gateway.app import _PROTOCOLS
from gateway.auth import permission_of
from gateway.settings import Settings
from tests.conftest import running_api
from tests.gateway.access.registry_world import ABSENT, DIGEST, Thing, build
from tests.gateway.access.tracking_world import keep, let_in, signed_in
from tests.gateway.load_testing.reports import REPORT
from tracking.access.grants import Grant
from tracking.access.permissions import Permission
from tracking.database import Database
from tracking.schema import Base

API = "/api/2.0/mlflow"
OURS = "/api/1.0/titlebout"
PREFIX = "s3://shared"
TESTED = {"digest": DIGEST, "report": msgspec.to_builtins(REPORT)}
MINE, THEIRS, HIDDEN = Thing("mine", "mark-mine"), Thing("theirs", "mark-theirs"), Thing("hidden", "mark-hidden")
SEES = ("viewer:model:theirs", "scorer:model:theirs", "access:read:model:theirs")
ANN = tuple(map(Grant.parse, ("admin:model:mine*", *SEES)))
NOTHING_TO_GO_BACK_TO = SERVED = 409
NO_SIGNATURE = 400

# In an order in which all of them can be done.
WRITING: dict[tuple[str, str], tuple[dict[str, Any], int]] = {
    ("PATCH", f"{API}/registered-models/update"): ({"name": "NAME", "description": "changed"}, 200),
    ("POST", f"{API}/registered-models/set-tag"): ({"name": "NAME", "key": "k", "value": "v"}, 200),
    ("DELETE", f"{API}/registered-models/delete-tag"): ({"name": "NAME", "key": "mark"}, 200),
    ("POST", f"{API}/registered-models/rename"): ({"name": "NAME", "new_name": "NAME"}, 200),
    ("POST", f"{API}/registered-models/alias"): ({"name": "NAME", "alias": "y", "version": "2"}, 200),
    ("DELETE", f"{API}/registered-models/alias"): ({"name": "NAME", "alias": "x"}, 200),
    ("POST", f"{API}/model-versions/create"): ({"name": "NAME", "source": f"{PREFIX}/new"}, 200),
    ("PATCH", f"{API}/model-versions/update"): ({"name": "NAME", "version": "1", "description": "changed"}, 200),
    ("POST", f"{API}/model-versions/set-tag"): ({"name": "NAME", "version": "1", "key": "k", "value": "v"}, 200),
    ("DELETE", f"{API}/model-versions/delete-tag"): ({"name": "NAME", "version": "1", "key": "mark"}, 200),
    ("POST", f"{API}/model-versions/transition-stage"): ({"name": "NAME", "version": "1", "stage": "Staging"}, 200),
    ("PUT", f"{OURS}/models/NAME/versions/1/signatures"): ({"bundle": "{}"}, NO_SIGNATURE),
    ("DELETE", f"{OURS}/models/NAME/versions/1/signatures/k"): ({}, 200),
    ("PUT", f"{OURS}/models/NAME/gates/g"): ({"needs": {"kind": "approval"}, "aliases": ["unused"]}, 200),
    ("DELETE", f"{OURS}/models/NAME/gates/g"): ({}, 200),
    ("PUT", f"{OURS}/models/NAME/versions/1/approvals"): ({"reason": "r"}, 200),
    ("DELETE", f"{OURS}/models/NAME/versions/1/approvals"): ({}, 200),
    ("POST", f"{OURS}/models/NAME/versions/1/load-tests"): (TESTED, 200),
    ("PUT", f"{OURS}/pins/NAME/2"): ({}, 200),
    ("POST", "/v2/repository/models/NAME/versions/1/load"): ({}, 200),
    ("POST", "/v2/repository/models/NAME/unload"): ({}, 200),
    ("PUT", f"{OURS}/endpoints/ENDPOINT/split"): ({"shares_bp": {"champion": 9_000, "challenger": 1_000}}, 200),
    ("PUT", f"{OURS}/endpoints/ENDPOINT/fallback"): ({"on": True}, 200),
    ("POST", f"{OURS}/rollouts/ENDPOINT/dry-run"): ({"version": 2, "spec": {"steps_bp": [10_000]}}, 200),
    ("POST", f"{OURS}/rollouts"): ({"endpoint": "ENDPOINT", "version": 2, "spec": {"steps_bp": [100, 10_000]}}, 200),
    ("POST", f"{OURS}/rollouts/ENDPOINT/pause"): ({"reason": "lunch"}, 200),
    ("POST", f"{OURS}/rollouts/ENDPOINT/resume"): ({}, 200),
    ("POST", f"{OURS}/rollouts/ENDPOINT/promote"): ({}, 200),
    ("POST", f"{OURS}/rollouts/ENDPOINT/abort"): ({}, 200),
    ("PUT", f"{OURS}/endpoints/ENDPOINT/shadow"): ({"arm": "challenger", "keep_inputs": 3}, 200),
    ("DELETE", f"{OURS}/endpoints/ENDPOINT/shadow/inputs"): ({}, 200),
    ("DELETE", f"{OURS}/endpoints/ENDPOINT/shadow"): ({}, 200),
    ("POST", f"{OURS}/endpoints/ENDPOINT/rollback"): ({}, NOTHING_TO_GO_BACK_TO),
    ("PATCH", f"{OURS}/endpoints/ENDPOINT"): ({"name": "mine-too"}, 200),
    ("POST", f"{OURS}/endpoints/mine-too/stop"): ({}, 200),
    ("DELETE", f"{API}/model-versions/delete"): ({"name": "NAME", "version": "2"}, 200),
    ("DELETE", f"{API}/registered-models/delete"): ({"name": "NAME"}, SERVED),
    ("PATCH", f"{OURS}/users/USER"): ({"is_disabled": True}, 200),
    ("DELETE", f"{OURS}/users/USER"): ({}, 200),
    ("DELETE", f"{OURS}/scoring-keys/KEY"): ({}, 200),
}
"""How each thing is changed, and what is answered where it may be; what is written in capitals, each model has."""

ELSEWHERE = {
    # Of one that isn't there nothing is answered, and so of one that is hidden.
    ("DELETE", f"{OURS}/pins/{{model:str}}/{{version:int}}"),
    # By names: the tests below, and `tests/tracking/access/test_managing.py`.
    ("POST", f"{API}/registered-models/create"),
    ("POST", f"{OURS}/users"),
    ("POST", f"{OURS}/scoring-keys"),
    ("POST", f"{OURS}/tokens"),
    ("DELETE", f"{OURS}/tokens/{{token_id:str}}"),
    # For those who are granted everything.
    ("POST", f"{OURS}/prediction-keys/rotate"),
    ("POST", f"{API}/webhooks"),
    ("PATCH", f"{API}/webhooks/{{webhook_id:str}}"),
    ("DELETE", f"{API}/webhooks/{{webhook_id:str}}"),
    ("POST", f"{API}/webhooks/{{webhook_id:str}}/test"),
}


@pytest.fixture(autouse=True)
def grants(server) -> None:
    let_in(server.gate, ann=ANN)


class Server(NamedTuple):
    gate: Gatekeeper
    ann: httpx.Client
    database: Database
    webhook_id: str


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    config = Settings(data=str(tmp_path_factory.mktemp("writes")), source_prefixes=PREFIX)
    database = Database(config.database)
    database.upgrade()
    webhook_id = build(database, [MINE, THEIRS, HIDDEN])
    keep(database, ann=ANN)
    gate = Gatekeeper(is_open=False, clock=lambda: 0.0)
    let_in(gate, ann=ANN)
    with running_api(config, gate) as url, signed_in(url, "ann") as ann:
        yield Server(gate, ann, database, webhook_id)
    database.dispose()


def everything(database: Database) -> dict[str, list[Any]]:
    with database.reading() as session:
        return {table.name: list(session.execute(select(table))) for table in Base.metadata.sorted_tables}


def ask(client: httpx.Client, method: str, path: str, body: dict[str, Any], thing: Thing) -> httpx.Response:
    def filled(text: str) -> str:
        # The endpoint that was renamed is no other's.
        if thing is not MINE:
            text = text.replace("/mine-too/", "/ENDPOINT/")
        stands = {"NAME": thing.name, "ENDPOINT": thing.endpoint, "USER": thing.user, "KEY": thing.key}
        for word, name in stands.items():
            text = text.replace(word, name)
        return text

    given = {key: filled(value) if isinstance(value, str) else value for key, value in body.items()}
    return client.request(method, filled(path), json=given)


def test_hidden_is_absent_seen_is_refused_and_granted_is_done(server):
    before = everything(server.database)
    for (method, path), (body, _) in WRITING.items():
        hidden, absent, seen = (ask(server.ann, method, path, body, one) for one in (HIDDEN, ABSENT, THEIRS))
        assert hidden.status_code == absent.status_code == 404, (path, hidden.text, absent.text)
        alike = hidden.text.replace(HIDDEN.mark, ABSENT.mark).replace(HIDDEN.name, ABSENT.name)
        assert alike == absent.text, path
        assert seen.status_code == 403, (path, seen.text)
        assert seen.json().get("error_code", "PERMISSION_DENIED") == "PERMISSION_DENIED"
    assert everything(server.database) == before
    for (method, path), (body, status) in WRITING.items():
        answer = ask(server.ann, method, path, body, MINE)
        assert answer.status_code == status, (path, answer.text)
    after = everything(server.database)
    for table in ("registered_models", "model_versions", "endpoints", "registered_model_tags"):
        kept = [row for row in before[table] if MINE.name not in row and MINE.mark not in str(row)]
        assert kept, table
        assert all(row in after[table] for row in kept), table


def test_every_route_that_changes_what_models_grants_are_for_is_tried():
    kinds = {Permission.REGISTRY_WRITE, Permission.ALIAS_WRITE, Permission.SPLIT_WRITE, Permission.GATE_WRITE,
             Permission.VERSION_APPROVE, Permission.LOAD_TEST_WRITE, Permission.WEBHOOK_WRITE,
             Permission.ACCESS_WRITE}  # fmt: skip
    routes = {
        (str(method), path)
        for protocol in _PROTOCOLS
        for handler in protocol.handlers
        for method in handler.http_methods
        for path in handler.paths
        if permission_of(handler) in kinds and not path.startswith("/ajax-api/")
    }
    stands = (
        ("endpoints/{name:str}/stop", "endpoints/mine-too/stop"),
        ("endpoints/{name:str}", "endpoints/ENDPOINT"),
        ("rollouts/{name:str}", "rollouts/ENDPOINT"),
        ("users/{name:str}", "users/USER"),
        ("scoring-keys/{name:str}", "scoring-keys/KEY"),
        ("{model:str}/{version:int}", "NAME/2"),
        ("{version:int}", "1"),
        ("{key_id:str}", "k"),
        ("{gate_name:str}", "g"),
        ("{name:str}", "NAME"),
        ("models/{path:path}", "models/NAME/unload"),
    )

    def spelt(path: str) -> str:
        for template, ours in stands:
            path = path.replace(template, ours)
        return path

    assert {route for route in routes - ELSEWHERE if (route[0], spelt(route[1])) not in WRITING} == set()


def test_who_may_only_see_a_model_or_nothing_of_it_unpins_nothing(server):
    before = everything(server.database)
    statuses = [server.ann.delete(f"{OURS}/pins/{one.name}/1").status_code for one in (HIDDEN, ABSENT, THEIRS)]
    assert statuses == [200, 200, 403]
    assert everything(server.database) == before


@pytest.mark.parametrize("name", ["theirs", "hidden", "nowhere"])
def test_a_name_is_refused_whether_it_is_taken_or_not(server, name):
    asked = (
        server.ann.post(f"{API}/registered-models/create", json={"name": name}),
        server.ann.post(f"{API}/registered-models/rename", json={"name": "mine", "new_name": name}),
        server.ann.patch(f"{OURS}/endpoints/mine-too", json={"name": name}),
    )
    for answer in asked:
        assert answer.status_code == 403
        assert answer.json()["message"] == f"ann may not take the name {name!r}: nobody has granted that."


def test_a_name_of_ones_own_that_a_hidden_models_endpoint_has_tells_nothing_of_it(server):
    own = {"name": "mine-3"}
    server.ann.post(f"{API}/registered-models/create", json=own).raise_for_status()
    let_in(server.gate, ann=ANN, admin=[Grant("admin")])
    taken = server.ann.patch(
        f"{OURS}/endpoints/{HIDDEN.endpoint}", json={"name": "mine-3"}, headers={"Authorization": "Bearer admin"}
    )
    assert taken.is_success
    source = {**own, "source": f"{PREFIX}/new"}
    assert server.ann.post(f"{API}/model-versions/create", json=source).is_success
    refused = server.ann.post(f"{API}/registered-models/alias", json={**own, "alias": "champion", "version": "1"})
    assert refused.status_code == 409
    assert "belongs to another model" in refused.text
    assert "hidden" not in refused.text


def test_who_may_write_and_not_read_writes_and_learns_what_became_of_it(server):
    let_in(server.gate, ann=[Grant.parse("alias:write:model:mine"), Grant.parse("registry:write:model:mine*")])
    for path, body in (
        (f"{API}/registered-models/alias", {"name": "mine", "alias": "z", "version": "1"}),
        ("/v2/repository/models/mine/versions/1/load", {}),
        ("/v2/repository/models/mine/unload", {}),
        (f"{API}/model-versions/create", {"name": "mine", "source": f"{PREFIX}/new"}),
    ):
        answer = server.ann.post(path, json=body)
        assert answer.status_code == 200, answer.text
    copied = server.ann.post(f"{API}/model-versions/create", json={"name": "mine", "source": "models:/mine/1"})
    assert copied.status_code == 404
    assert server.ann.get(f"{API}/registered-models/get", params={"name": "mine"}).status_code == 403


def test_a_version_is_made_of_what_its_maker_may_read(server):
    def made(source: str, **claim: str) -> httpx.Response:
        return server.ann.post(f"{API}/model-versions/create", json={"name": "mine", "source": source, **claim})

    assert made("models:/theirs/1").is_success
    for uri in ("models:/{}/1", "models:/{}@champion", "models:/{}/latest"):
        hidden, absent = made(uri.format("hidden")), made(uri.format("absent"))
        assert hidden.status_code == absent.status_code == 404
        assert hidden.text.replace("hidden", "absent") == absent.text


def test_webhooks_are_for_those_who_are_granted_everything(server):
    before = everything(server.database)
    body = {"name": "hook", "url": "https://example.org", "events": [{"entity": "MODEL_VERSION", "action": "CREATED"}]}
    hook = f"{API}/webhooks/{server.webhook_id}"
    asked = (
        server.ann.post(f"{API}/webhooks", json=body),
        server.ann.patch(hook, json={"name": "other"}),
        server.ann.delete(hook),
        server.ann.post(f"{hook}/test", json={}),
    )
    for answer in asked:
        assert answer.status_code == 403
        assert "change webhooks, which are told of every model" in answer.text
    assert everything(server.database) == before
