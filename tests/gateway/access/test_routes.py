"""Every route there is, asked by nobody, by a stranger and by each role; what isn't granted is never read."""

import http.client
import re

import httpx
import pytest

from gateway.access.gatekeeper import Gatekeeper
from gateway.app import _PROTOCOLS
from gateway.auth import permission_of
from gateway.settings import Settings
from tests.conftest import running_api
from tests.gateway.access.tracking_world import keep, let_in
from tracking.access.grants import Grant
from tracking.access.permissions import PERMISSIONS_OF, Permission, Role
from tracking.database import Database

ROLES = [role.value for role in Role]
_OF_NO_ROLE = {Permission.PUBLIC, Permission.SELF}
# Nothing has this name, so that what is let through finds nothing to do.
NAME = "nothing-that-is-there"


def routes():
    """(method, path, permission) of each route, its parameters filled in."""
    for protocol in _PROTOCOLS:
        for handler in protocol.handlers:
            for method in handler.http_methods:
                for path in handler.paths:
                    filled = re.sub(r"{\w+:int}", "1", path)
                    yield str(method), re.sub(r"{\w+:\w+}", NAME, filled), permission_of(handler)


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    settings = Settings(data=str(tmp_path_factory.mktemp("routes")))
    grants = {role: (Grant(role),) for role in ROLES} | {"stranger": ()}
    database = Database(settings.database)
    database.upgrade()
    keep(database, **grants)
    database.dispose()
    gate = Gatekeeper(is_open=False, clock=lambda: 0.0)
    let_in(gate, **grants)
    with running_api(settings, gate) as url:
        yield url


@pytest.fixture(scope="module")
def statuses(url):
    """{(method, path): {who: status}}, each asked with a body that no route takes."""
    asked = {}
    with httpx.Client(base_url=url, timeout=30) as client:
        for method, path, _ in routes():
            asked[method, path] = {
                who: client.request(
                    method, path, json=["nonsense"], headers={"Authorization": f"Bearer {who}"} if who else {}
                )
                for who in (None, "stranger", *ROLES)
            }
    return asked


def test_a_route_is_for_those_who_hold_its_permission_and_for_nobody_else(statuses):
    table = []
    for method, path, permission in sorted(set(routes())):
        answers = {who: answer.status_code for who, answer in statuses[method, path].items()}
        may = {role for role in ROLES if permission in PERMISSIONS_OF[Role(role)] | _OF_NO_ROLE}
        table.append(f"{method:6} {path:75} {permission:15} {' '.join(sorted(may)) or '-'}")
        assert (answers[None] == 401) == (permission is not Permission.PUBLIC), (method, path)
        assert (answers["stranger"] == 403) == (permission not in _OF_NO_ROLE), (method, path)
        assert {role for role in ROLES if answers[role] not in {401, 403}} == may, (method, path, answers)
        # Nothing serves a model here, and some calls of MLflow's have no answer anywhere.
        assert not any(status >= 500 and status not in {501, 503} for status in answers.values()), (
            method,
            path,
            answers,
        )
    print("\n".join(table))


def test_a_refusal_is_mlflows_and_says_how_to_sign_in(statuses):
    for (_, path), answers in statuses.items():
        # V1 and the Open Inference Protocol have one word for errors, and their clients read no other.
        fields = {"error"} if path.startswith(("/v1", "/v2")) else {"error_code", "message"}
        for answer in answers.values():
            if answer.status_code in {401, 403} and answer.request.method != "HEAD":
                assert set(answer.json()) == fields
            assert ("www-authenticate" in answer.headers) == (answer.status_code == 401)


@pytest.mark.parametrize(
    "path",
    [
        "//api/2.0/mlflow/experiments/get",
        "/api//2.0/mlflow/experiments/get",
        "/api/2.0/mlflow/experiments/get/",
        "/api/2.0/mlflow/experiments/%67et",
        "/api/2.0/mlflow/experiments%2fget",
        "/api/2.0/mlflow/x/../experiments/get",
        "/api/2.0/mlflow/x/%2e%2e/experiments/get",
        "/api/2.0/mlflow/x/..;/experiments/get",
        "/api/2.0/mlflow/experiments/get;x=1",
        "/api/2.0/mlflow/experiments/get.",
        "/API/2.0/MLflow/experiments/get",
        "/health/../api/2.0/mlflow/experiments/get",
        "/health/%2e%2e/api/2.0/mlflow/experiments/get",
        "/api/2.0/mlflow/experiments/get%20",
        "/ajax-api/2.0/mlflow/experiments/get",
    ],
)
def test_no_spelling_of_a_path_gets_past_its_permission(url, path):
    host, port = url.removeprefix("http://").split(":")
    # Past a client that would tidy the path.
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    connection.putrequest("GET", f"{path}?experiment_id=0", skip_accept_encoding=True)
    connection.endheaders()
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    assert answer.status in {400, 401, 404}, content
    assert b"artifact_location" not in content


@pytest.mark.parametrize(
    "headers",
    [
        [("Authorization", "Bearer nobodys")],
        [("Authorization", "Digest username=admin")],
        [("Authorization", "Bearer")],
        [("Authorization", "Basic YWRtaW4=")],
        [("Authorization", "Bearer admin"), ("Authorization", "Bearer admin")],
        [("Authorization", "Bearer " + "x" * 10_000)],
        [("Authorization", "\xff\xfe")],
    ],
)
def test_what_is_no_sign_of_anybody_does_nothing(url, headers):
    encoded = [(name, value.encode("latin-1")) for name, value in headers]
    answer = httpx.post(f"{url}/api/2.0/mlflow/experiments/create", json={"name": "made"}, headers=encoded)
    assert answer.status_code == 401
    found = httpx.get(
        f"{url}/api/2.0/mlflow/experiments/get-by-name?experiment_name=made", headers={"Authorization": "Bearer viewer"}
    )
    assert found.status_code == 404
