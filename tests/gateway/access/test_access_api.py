"""The routes for users, tokens and keys, as whoever may do everything finds them."""

import httpx
import pytest

ROOT = "/api/1.0/titlebout"


@pytest.fixture
def api(api_server):
    with httpx.Client(base_url=api_server + ROOT) as client:
        yield client


def refusal(answer):
    return answer.status_code, answer.json()["error_code"]


def test_who_asks_is_told_who_they_are(api):
    assert api.get("/me").json() == {"name": "local", "grants": ["admin", "scorer"], "scoring_key": False}


def test_a_user_is_added_changed_and_removed(api):
    added = api.post("/users", json={"name": "ann", "grants": ["viewer"], "password": "correct horse battery"}).json()
    assert (added["grants"], added["has_password"], added["created_by"]) == (["viewer"], True, "local")
    assert "correct" not in str(added)
    changed = api.patch("/users/ann", json={"grants": ["publisher", "scorer"], "password": "", "is_disabled": True})
    assert changed.json() == {
        **added, "grants": ["publisher", "scorer"], "has_password": False, "is_disabled": True,
    }  # fmt: skip
    assert api.get("/users/ann").json() == changed.json()
    assert [user["name"] for user in api.get("/users").json()["users"]] == ["ann"]
    assert api.delete("/users/ann").json() == {"name": "ann"}
    assert refusal(api.get("/users/ann")) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_a_token_is_told_once(api):
    api.post("/users", json={"name": "ann", "grants": ["publisher"]})
    made = api.post("/tokens", json={"name": "ci", "user": "ann", "scope": ["viewer"], "days": 1}).json()
    assert made["secret"].startswith(made["beginning"])
    (listed,) = api.get("/tokens", params={"user": "ann"}).json()["tokens"]
    assert listed == {**made, "secret": None}
    too_much = api.post("/tokens", json={"name": "ci", "user": "ann", "scope": ["admin"]})
    assert refusal(too_much) == (403, "PERMISSION_DENIED")
    assert api.delete(f"/tokens/{made['id']}").json() == {"id": made["id"]}
    assert refusal(api.delete(f"/tokens/{made['id']}")) == (404, "RESOURCE_DOES_NOT_EXIST")


def test_a_key_is_told_once(api):
    made = api.post("/scoring-keys", json={"name": "shop", "endpoints": ["iris*"], "rate": 10}).json()
    assert made["secret"].startswith("tbk_")
    assert (made["may_force"], made["may_pin"], made["expires_ms"]) == (False, False, None)
    assert api.get("/scoring-keys").json()["keys"] == [{**made, "secret": None}]
    assert refusal(api.post("/scoring-keys", json={"name": "shop", "endpoints": ["a"]})) == (
        400, "RESOURCE_ALREADY_EXISTS",
    )  # fmt: skip
    assert api.delete("/scoring-keys/shop").is_success
    assert refusal(api.delete("/scoring-keys/shop")) == (404, "RESOURCE_DOES_NOT_EXIST")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/users", {"name": "a b"}),
        ("/users", {"name": "ann", "grants": ["king"]}),
        ("/users", {"name": "ann", "grants": ["viewer:model:"]}),
        ("/users", {"name": "ann", "password": "short"}),
        ("/users", {"name": "ann", "grant": ["viewer"]}),
        ("/users", {"name": "ann", "grants": "viewer"}),
        ("/users", {}),
        ("/tokens", {"name": "t", "user": "nobody"}),
        ("/tokens", {"name": "t", "days": 0}),
        ("/tokens", {"name": "t", "days": 1e300}),
        ("/tokens", {"name": "t\0", "days": 1}),
        ("/scoring-keys", {"name": "k", "endpoints": []}),
        ("/scoring-keys", {"name": "k", "endpoints": ["a"], "rate": -1}),
        ("/scoring-keys", {"name": "", "endpoints": ["a"]}),
        ("/scoring-keys", {"name": "k", "endpoints": ["a"], "days": -1}),
    ],
)
def test_bad_input_is_refused_and_does_nothing(api, path, body):
    api.post("/users", json={"name": "admin", "grants": ["admin"]})
    assert api.post(path, json=body).status_code in {400, 404}
    assert [user["name"] for user in api.get("/users").json()["users"]] == ["admin"]
    assert api.get("/scoring-keys").json()["keys"] == []
