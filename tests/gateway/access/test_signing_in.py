"""A server that asks who is calling: what each may do, and that what is taken back is gone on all replicas at once."""

import re
import time

import httpx
import pytest

from tests.gateway.test_serving import BODY, JSON, wait_until
from tests.training import constant_classifier, register, set_alias
from tracking.access import keys, tokens, users
from tracking.access.grants import Grant
from tracking.access.secrets import hash_password
from tracking.access.tokens import DAY_MS
from tracking.database import Database

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ADMIN = "an-administrator's-token-of-a-test"
ALL = (Grant("admin"), Grant("scorer"))
EXPERIMENT = "/api/2.0/mlflow/experiments/get?experiment_id=0"
PASSWORD = "correct horse battery"


@pytest.fixture
def database(postgres_database_url):
    database = Database(postgres_database_url)
    yield database
    database.dispose()


@pytest.fixture
def replicas(serve, postgres_database_url, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", ADMIN)
    options = ("--database-url", postgres_database_url, "--artifact-root", str(tmp_path / "files"))
    environment = {"TITLEBOUT_ACCESS": "required", "TITLEBOUT_ADMIN_TOKEN": ADMIN}
    first = serve(*options, "--migrate", data=tmp_path / "first", environment=environment)
    return first, serve(*options, data=tmp_path / "second", environment=environment)


def bearer(secret):
    return {"Authorization": f"Bearer {secret}"}


def add_user(database, name, *grants, password=None):
    with database.writing() as session:
        users.create_user(
            session, name, grants=grants, password_hash=password and hash_password(password), author="admin", own=ALL,
            now_ms=1,
        )  # fmt: skip
        now_ms = database.now_ms(session)
        return tokens.create_token(session, name, "test", life_ms=DAY_MS, now_ms=now_ms, own=ALL)


def status(url, path=EXPERIMENT, **headers):
    return httpx.get(url + path, headers=headers).status_code


def test_who_may_do_what_is_asked_on_every_replica_and_taken_back_on_all_within_seconds(replicas, database):
    first = replicas[0]
    iris = f"{first.url}/endpoints/iris/invocations"
    register(first.url, "iris", constant_classifier(0))
    set_alias(first.url, "iris", "champion", 1)
    set_alias(first.url, "iris", "challenger", 1)

    # --- nobody in particular
    refused = httpx.get(first.url + EXPERIMENT)
    assert (refused.status_code, refused.json()["error_code"]) == (401, "UNAUTHENTICATED")
    assert refused.headers["WWW-Authenticate"].startswith("Bearer")
    assert httpx.get(first.url + "/ready").status_code == 200
    assert httpx.post(iris, content=BODY, headers=JSON).status_code == 401

    # --- users, by token and by password
    ann = add_user(database, "ann", Grant("viewer"), password=PASSWORD)
    wait_until(lambda: {status(one.url, **bearer(ann.secret)) for one in replicas} == {200})
    for _ in range(2):
        assert httpx.get(first.url + EXPERIMENT, auth=("ann", PASSWORD)).status_code == 200
    wrong = httpx.get(first.url + EXPERIMENT, auth=("ann", "wrong"))
    unknown = httpx.get(first.url + EXPERIMENT, auth=("nobody", "wrong"))
    assert (wrong.status_code, wrong.text) == (unknown.status_code, unknown.text)
    mlflow_api = f"{first.url}/api/2.0/mlflow"
    created = httpx.post(f"{mlflow_api}/experiments/create", json={"name": "x"}, headers=bearer(ann.secret))
    assert (created.status_code, created.json()["error_code"]) == (403, "PERMISSION_DENIED")
    # A call that goes past Litestar is asked alike.
    run = httpx.post(f"{mlflow_api}/runs/create", json={"experiment_id": "0"}, headers=bearer(ann.secret))
    assert run.status_code == 403
    assert httpx.post(iris, content=BODY, headers=JSON | bearer(ann.secret)).status_code == 403

    # --- an application's key
    with database.writing() as session:
        key = keys.create_key(session, "shop", endpoints=["ir*"], author="admin", own=ALL, now_ms=1)
        slow = keys.create_key(
            session, "slow", endpoints=["iris"], author="admin", own=ALL, now_ms=1, rate=1, may_force=True
        )

    def scored(secret, url=iris, **headers):
        return httpx.post(url, content=BODY, headers={**JSON, **bearer(secret), **headers})

    wait_until(lambda: scored(key.secret).status_code == 200)
    assert scored(key.secret, **{"X-Titlebout-Arm": "challenger"}).status_code == 403
    assert scored(key.secret, **{"X-Titlebout-Version": "1"}).status_code in {200, 403}
    elsewhere = scored(key.secret, iris.replace("iris", "other"))
    assert elsewhere.status_code == 403
    assert status(first.url, **bearer(key.secret)) == 403
    answers = [scored(slow.secret, **{"X-Titlebout-Arm": "challenger"}) for _ in range(5)]
    assert {answer.status_code for answer in answers} == {200, 429}
    assert all(int(answer.headers["Retry-After"]) >= 1 for answer in answers if answer.status_code == 429)

    # --- taken back
    with database.writing() as session:
        tokens.revoke_token(session, ann.token.id)
        keys.revoke_key(session, "shop", ALL)
    began = time.monotonic()
    # Tried so often, it is soon told to wait.
    wait_until(lambda: {status(one.url, **bearer(ann.secret)) for one in replicas} <= {401, 429})
    wait_until(lambda: scored(key.secret).status_code in {401, 429})
    took_s = time.monotonic() - began
    print(f"revoked on two replicas within {took_s:.1f} s")
    assert took_s < 5


def test_on_an_open_address_the_first_start_shows_a_token_once_and_nothing_is_open(serve, tmp_path):
    server = serve("--host", "0.0.0.0", data=tmp_path / "one")
    (token,) = set(re.findall(r"tbt_[\w-]+", server.log))
    assert status(server.url) == 401
    assert status(server.url, **bearer(token)) == 200
    server.stop()
    again = serve("--host", "0.0.0.0", data=tmp_path / "one")
    assert status(again.url, **bearer(token)) == 200
    assert "token, shown" not in again.log.replace(server.log, "")


def test_a_replica_that_starts_without_its_database_lets_in_whom_it_knew(serve, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", ADMIN)
    environment = {"TITLEBOUT_ACCESS": "required", "TITLEBOUT_ADMIN_TOKEN": ADMIN}
    server = serve(data=tmp_path / "one", environment=environment)
    register(server.url, "iris", constant_classifier(0))
    set_alias(server.url, "iris", "champion", 1)
    url = "/endpoints/iris/invocations"
    wait_until(lambda: httpx.post(server.url + url, content=BODY, headers=JSON | bearer(ADMIN)).is_success)
    server.stop()
    (tmp_path / "one" / "titlebout.db").rename(tmp_path / "away.db")
    (tmp_path / "one" / "titlebout.db").mkdir()
    again = serve(data=tmp_path / "one", environment=environment)
    assert httpx.post(again.url + url, content=BODY, headers=JSON | bearer(ADMIN)).status_code == 200
    assert httpx.post(again.url + url, content=BODY, headers=JSON).status_code == 401
