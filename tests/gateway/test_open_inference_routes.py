"""Open Inference Protocol v2 beside predictions: readiness, index, load as a pin, and what is said when it can't be."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from gateway.api.open_inference import repository as open_inference_repository
from gateway.api.open_inference.repository import state_of
from gateway.settings import Settings
from registry import aliases, models, pins, serving, versions
from registry.entities import SlotStatus
from registry.sources import Claim, SourcePolicy
from tests.conftest import running_api
from tracking.database import Database
from tracking.folder_artifacts import FolderArtifactStore

PREFIX = "s3://shared-models"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The APIs, without any model: their URL and their database, with two versions of `iris` and a prompt."""
    settings = Settings(data=str(tmp_path_factory.mktemp("server") / "data"))
    with running_api(settings) as url:
        database = Database(settings.database, pool_size=1)
        policy = SourcePolicy(locate=FolderArtifactStore(settings.data_dir).locate, prefixes=(PREFIX,))
        with database.writing() as session:
            models.create_model(session, "iris", now_ms=1)
            models.create_model(session, "never loaded", now_ms=1)
            models.create_model(session, "a prompt", now_ms=1, tags={models.PROMPT_TAG: "true"})
            for _ in range(2):
                versions.create_version(session, "iris", Claim(source=f"{PREFIX}/iris"), policy=policy, now_ms=1)
            aliases.set_alias(session, "iris", "champion", 2, author="me", now_ms=1)
        yield url, database
        database.dispose()


@pytest.fixture
def wire(server):
    with httpx.Client(base_url=server[0], timeout=30) as client:
        yield client


@pytest.fixture
def store(server):
    """The database, with no pins and no replicas after the test."""
    yield server[1]
    with server[1].writing() as session:
        for pin in pins.list_pins(session):
            pins.unpin(session, pin.model, pin.version, author="me", now_ms=1)
        for replica in serving.list_replicas(session, now_ms=0):
            serving.leave(session, replica.id)


def hold(database, replica, **states):
    """Say for *replica* that it holds versions of `iris`: v2="READY"."""
    slots = [SlotStatus(model="iris", version=int(name[1:]), state=state) for name, state in states.items()]
    with database.writing() as session:
        now_ms = database.now_ms(session)
        serving.heartbeat(session, replica, slots=slots, epoch=0, now_ms=now_ms, lease_ms=60_000)


def pinned(database):
    with database.reading() as session:
        return [(pin.model, pin.version) for pin in pins.list_pins(session)]


def test_the_server_says_what_it_is_and_that_it_lives(wire):
    described = wire.get("/v2").json()
    assert described["name"] == "titlebout"
    assert described["extensions"] == ["binary_tensor_data", "model_repository", "statistics"]
    assert wire.get("/v2/health/live").json() == {"live": True}
    assert wire.get("/v2/health/ready").json() == {"ready": True}


@pytest.mark.parametrize("path", ["iris", "iris/ready", "iris/versions/1/ready", "iris/stats"])
def test_without_a_table_each_model_is_not_there_yet(wire, path):
    answer = wire.get(f"/v2/models/{path}")
    assert answer.status_code == 503
    assert answer.json() == {"error": "No routing table is in force here yet; its models are being loaded."}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/models/iris/versions/x/ready", 400),
        ("GET", "/v2/models/iris/config", 404),
        ("GET", "/v2/systemsharedmemory/status", 404),
        ("POST", "/v2/models/iris/generate", 404),
        ("POST", "/v2/repository/models/iris/reload", 404),
        ("POST", "/v2/repository/models/nobody/load", 404),
        ("POST", "/v2/repository/models/nobody/unload", 404),
        ("POST", "/v2/repository/models/iris/versions/9/load", 404),
        ("POST", "/v2/repository/models/iris%40nobody/load", 400),
        ("POST", "/v2/repository/models/a%00b/load", 400),
    ],
)
def test_what_is_not_there_is_refused_as_the_protocol_says_it(wire, store, method, path, status):
    answer = wire.request(method, path)
    assert answer.status_code == status, answer.text
    if "%00" not in path:
        assert list(answer.json()) == ["error"]
    assert pinned(store) == []


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b'{"ready": 1, "parameters": []}', b"[" * 100_000])
@pytest.mark.parametrize("path", ["index", "models/iris/load", "models/iris/unload"])
def test_a_body_that_is_none_is_refused(wire, store, path, body):
    answer = wire.post(f"/v2/repository/{path}", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert list(answer.json()) == ["error"]
    assert pinned(store) == []


def test_the_index_lists_what_is_held_and_the_names_of_the_rest(wire, store):
    hold(store, "one", v1="READY", v2="READY")
    hold(store, "two", v1="READY", v2="WARMING")
    index = wire.post("/v2/repository/index").json()
    assert index == [
        {"name": "iris", "version": "1", "state": "READY"},
        {"name": "iris", "version": "2", "state": "LOADING", "reason": "READY on 1, WARMING on 1"},
        {"name": "never loaded", "state": "UNAVAILABLE", "reason": "no version is in memory"},
    ]
    ready = wire.post("/v2/repository/index", json={"ready": True}).json()
    assert ready == index[:1]


def test_a_load_is_a_pin_and_is_answered_once_every_replica_is_ready(wire, store):
    hold(store, "one", v2="READY")
    hold(store, "two", v2="LOADING")
    with ThreadPoolExecutor(1) as caller:
        answer = caller.submit(wire.post, "/v2/repository/models/iris%40champion/load")
        while pinned(store) != [("iris", 2)]:
            assert not answer.done()
        assert not answer.done()
        hold(store, "two", v2="READY")
        assert answer.result(30).status_code == 200
    assert wire.post("/v2/repository/models/iris/versions/2/load").status_code == 200
    assert pinned(store) == [("iris", 2)]


def test_a_load_that_fails_says_why_and_stays_a_wish(wire, store):
    with store.writing() as session:
        slots = [SlotStatus(model="iris", version=1, state="FAILED", reason="Its file is broken.")]
        now_ms = store.now_ms(session)
        serving.heartbeat(session, "one", slots=slots, epoch=0, now_ms=now_ms, lease_ms=60_000)
    answer = wire.post("/v2/repository/models/iris/versions/1/load", json={})
    assert answer.status_code == 409
    assert "Its file is broken. It stays pinned" in answer.json()["error"]
    assert pinned(store) == [("iris", 1)]


def test_a_load_that_takes_too_long_is_told_how_far_it_is(wire, store, monkeypatch):
    monkeypatch.setattr(open_inference_repository, "_WAIT_S", 0.1)
    hold(store, "one", v2="FETCHING")
    answer = wire.post("/v2/repository/models/iris/load")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "not ready everywhere yet: FETCHING on 1" in answer.json()["error"]


def test_files_from_elsewhere_are_not_loaded(wire, store):
    for parameters in ({"config": "{}"}, {"file:1/model.onnx": "AA=="}):
        answer = wire.post("/v2/repository/models/iris/load", json={"parameters": parameters})
        assert answer.status_code == 400
        assert "files that were registered" in answer.json()["error"]
    assert pinned(store) == []


def test_unloading_takes_pins_back_one_or_all(wire, store):
    with store.writing() as session:
        for version in (1, 2):
            pins.pin(session, "iris", version, author="me", now_ms=1)
    assert wire.post("/v2/repository/models/iris/versions/1/unload").status_code == 200
    assert pinned(store) == [("iris", 2)]
    with store.writing() as session:
        pins.pin(session, "iris", 1, author="me", now_ms=1)
    everything = {"parameters": {"unload_dependents": False}}
    assert wire.post("/v2/repository/models/iris/unload", json=everything).status_code == 200
    assert pinned(store) == []
    assert wire.post("/v2/repository/models/models:%2Firis%40champion/unload").status_code == 200


def slot(state, reason=None):
    return SlotStatus(model="iris", version=1, state=state, reason=reason)


@pytest.mark.parametrize(
    ("slots", "state", "reason"),
    [
        ([slot("READY"), slot("READY")], "READY", ""),
        ([slot("READY"), None], "LOADING", "READY on 1, NEW on 1"),
        ([slot("READY"), slot("FAILED", "no")], "UNAVAILABLE", "no"),
        ([slot("UNLOADED", "no room")], "UNAVAILABLE", "no room"),
        ([slot("UNLOADED")], "UNLOADING", "UNLOADED on 1"),
        ([slot("DRAINING"), slot("DRAINING")], "UNLOADING", "DRAINING on 2"),
        ([slot("FETCHING")], "LOADING", "FETCHING on 1"),
    ],
)
def test_a_state_over_all_replicas_is_that_of_the_last(slots, state, reason):
    assert state_of(slots) == (state, reason)
