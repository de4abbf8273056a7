"""Grants for single experiments: what may be changed, what may only be seen, and what isn't there at all."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import httpx
import pytest
from sqlalchemy import select

from gateway.access.gatekeeper import Gatekeeper
from gateway.app import _PROTOCOLS
from gateway.auth import permission_of
from gateway.settings import Settings
from tests.conftest import empty_postgres, running_api
from tests.gateway.access.tracking_world import ABSENT, API, DATASETS, FILES, Thing, World, build, let_in, signed_in
from tracking.access.grants import Grant
from tracking.access.permissions import Permission
from tracking.database import Database
from tracking.schema import Base

MODELS = f"{API}/logged-models"
ADMIN = (Grant("admin"),)
ANN = (Grant.parse("publisher:experiment:mine*"), Grant.parse("viewer:experiment:theirs"))
DATASET = {"name": "d", "digest": "d"}
OLD_MODEL = {"artifact_path": "m", "flavors": {}, "utc_time_created": "now", "run_id": "r"}


def tag(key: str) -> dict[str, str]:
    return {"key": key, "value": "written"}


# In an order in which all of them can be done.
WRITING: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", f"{API}/experiments/set-experiment-tag"): {"experiment_id": "EXPERIMENT", **tag("new")},
    ("POST", f"{API}/experiments/delete-experiment-tag"): {"experiment_id": "EXPERIMENT", "key": "mark"},
    ("POST", f"{API}/experiments/update"): {"experiment_id": "EXPERIMENT", "new_name": "mine, renamed"},
    ("POST", f"{API}/runs/create"): {"experiment_id": "EXPERIMENT"},
    ("POST", f"{API}/runs/update"): {"run_id": "RUN", "run_name": "renamed"},
    ("POST", f"{API}/runs/log-metric"): {"run_id": "RUN", "key": "k", "value": 1.0, "timestamp": 1},
    ("POST", f"{API}/runs/log-parameter"): {"run_id": "RUN", **tag("p")},
    ("POST", f"{API}/runs/set-tag"): {"run_id": "RUN", **tag("t")},
    ("POST", f"{API}/runs/delete-tag"): {"run_id": "RUN", "key": "mark"},
    ("POST", f"{API}/runs/log-batch"): {"run_id": "RUN", "tags": [tag("b")]},
    ("POST", f"{API}/runs/log-inputs"): {"run_id": "RUN", "datasets": [{"dataset": DATASET}]},
    ("POST", f"{API}/runs/outputs"): {"run_id": "RUN", "models": [{"model_id": "MODEL"}]},
    ("POST", f"{API}/runs/log-model"): {"run_id": "RUN", "model_json": json.dumps(OLD_MODEL)},
    ("POST", f"{API}/upload-artifact?run_uuid=RUN&path=page.txt"): {},
    ("PUT", f"{FILES}/FOLDER/RUN/artifacts/new.txt"): {},
    ("DELETE", f"{FILES}/FOLDER/RUN/artifacts/new.txt"): {},
    ("DELETE", f"{FILES}/FOLDER"): {},
    ("POST", MODELS): {"experiment_id": "EXPERIMENT", "name": "new"},
    ("PATCH", f"{MODELS}/MODEL"): {"status": "LOGGED_MODEL_UPLOAD_FAILED"},
    ("POST", f"{MODELS}/MODEL/params"): {"params": [tag("p")]},
    ("PATCH", f"{MODELS}/MODEL/tags"): {"tags": [tag("t")]},
    ("DELETE", f"{MODELS}/MODEL/tags/mark"): {},
    ("DELETE", f"{MODELS}/MODEL"): {},
    ("POST", f"{DATASETS}/create"): {"name": "new", "experiment_ids": ["EXPERIMENT"]},
    ("PATCH", f"{DATASETS}/DATASET/tags"): {"tags": "{}"},
    ("DELETE", f"{DATASETS}/DATASET/tags/mark"): {},
    ("POST", f"{DATASETS}/DATASET/add-experiments"): {"experiment_ids": ["EXPERIMENT"]},
    ("POST", f"{DATASETS}/DATASET/remove-experiments"): {"experiment_ids": ["8"]},
    ("POST", f"{DATASETS}/DATASET/records"): {"records": json.dumps([{"inputs": {"new": 1}}])},
    ("DELETE", f"{DATASETS}/DATASET/records"): {"dataset_record_ids": ["none"]},
    ("DELETE", f"{DATASETS}/DATASET"): {},
    ("POST", f"{API}/runs/delete"): {"run_id": "RUN"},
    ("POST", f"{API}/runs/restore"): {"run_id": "RUN"},
    ("POST", f"{API}/experiments/delete"): {"experiment_id": "EXPERIMENT"},
    ("POST", f"{API}/experiments/restore"): {"experiment_id": "EXPERIMENT"},
}
"""How each thing is changed; of what is written in capitals each experiment has its own."""

ELSEWHERE = {
    # By name: `test_a_name_is_refused_whether_it_is_taken_or_not`.
    ("POST", f"{API}/experiments/create"),
    # In S3: `test_signed_urls_are_for_what_is_granted`.
    *(("POST", f"/api/2.0/mlflow-artifacts/mpu/{step}/{{path:path}}") for step in ("create", "complete", "abort")),
    ("POST", f"{API}/artifacts/presigned-upload-url"),
}


class Server(NamedTuple):
    gate: Gatekeeper
    ann: httpx.Client
    mine: Thing
    theirs: Thing
    hidden: Thing
    world: World
    settings: Settings

    def everything(self) -> dict[str, Any]:
        """All rows, and all files."""
        database = Database(self.settings.database)
        with database.reading() as session:
            rows = {
                table.name: sorted(map(repr, session.execute(select(table)))) for table in Base.metadata.sorted_tables
            }
        database.dispose()
        files = sorted(str(file) for file in (self.settings.data_dir / "artifacts").rglob("*") if file.is_file())
        return rows | {"files": files}


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def server(request, tmp_path_factory) -> Iterator[Server]:
    settings = Settings(data=str(tmp_path_factory.mktemp("writes")))
    if request.param == "postgresql":
        settings = Settings(data=settings.data, database_url=request.getfixturevalue("migrated_postgres"))
    gate = Gatekeeper(is_open=False, clock=lambda: 0.0)
    let_in(gate, admin=ADMIN, ann=ANN)
    with running_api(settings, gate) as url, signed_in(url, "admin") as admin, signed_in(url, "ann") as ann:
        world = build(admin, ("mine", "theirs", "hidden"))
        yield Server(gate, ann, *world.things, world, settings)
    if settings.database_url:
        empty_postgres(settings.database_url)


@pytest.fixture(autouse=True)
def grants(server) -> None:
    let_in(server.gate, admin=ADMIN, ann=ANN)


def send(client: httpx.Client, asked: tuple[str, str], thing: Thing) -> httpx.Response:
    method, path = asked
    body = json.dumps(WRITING[asked])
    own = {"EXPERIMENT": thing.experiment_id, "RUN": thing.run_id, "MODEL": thing.model_id, "FOLDER": thing.folder}
    for stands, meant in (own | {"DATASET": thing.dataset_id}).items():
        path, body = path.replace(stands, meant), body.replace(f'"{stands}"', f'"{meant}"')
    return client.request(method, path, content=body, headers={"Content-Type": "application/json"})


def as_written(answer: httpx.Response, thing: Thing) -> tuple[int, str]:
    text = answer.text
    for given in (thing.run_id, thing.model_id, thing.dataset_id, f"id={thing.experiment_id} ", f"'{thing.folder}"):
        text = text.replace(given, "GIVEN")
    return answer.status_code, text


def test_what_is_hidden_can_be_changed_no_more_than_what_never_was(server):
    before = server.everything()
    for asked in WRITING:
        hidden, absent = send(server.ann, asked, server.hidden), send(server.ann, asked, ABSENT)
        assert as_written(hidden, server.hidden) == as_written(absent, ABSENT), asked
        # MLflow finds nothing wrong with deleting a dataset, or a tag of one, that isn't there; of paths nothing can be
        # said but that they are somebody else's.
        assert hidden.status_code in {200, 403, 404}
        assert (hidden.status_code == 200) == (asked[0] == "DELETE" and DATASETS in asked[1] and "rec" not in asked[1])
        assert (hidden.status_code == 403) == (FILES in asked[1]), asked
    assert server.everything() == before


def test_what_may_only_be_seen_is_not_changed(server):
    before = server.everything()
    for asked in WRITING:
        answer = send(server.ann, asked, server.theirs)
        assert (answer.status_code, answer.json()["error_code"]) == (403, "PERMISSION_DENIED"), (asked, answer.text)
        assert server.hidden.mark not in answer.text
    assert server.everything() == before


def test_a_name_is_refused_whether_it_is_taken_or_not(server):
    def create(name: str, **more: str) -> httpx.Response:
        return server.ann.post(f"{API}/experiments/create", json={"name": name, **more})

    def rename(name: str) -> httpx.Response:
        asked = {"experiment_id": server.mine.experiment_id, "new_name": name}
        return server.ann.post(f"{API}/experiments/update", json=asked)

    before = server.everything()
    for ask in (create, rename):
        taken, free = ask("hidden"), ask("hiddem")
        assert taken.status_code == 403
        assert (free.status_code, free.text) == (403, taken.text.replace("hidden", "hiddem"))
    assert create("mine").json()["error_code"] == "RESOURCE_ALREADY_EXISTS"
    # It could be the place of another one.
    assert create("mine, elsewhere", artifact_location=f"mlflow-artifacts:/{server.hidden.folder}").status_code == 403
    assert server.everything() == before
    assert create("mine too").status_code == 200


def test_runs_name_only_models_that_are_seen_and_measure_only_their_own(server):
    def use(model_id: str) -> httpx.Response:
        asked = {"run_id": server.mine.run_id, "models": [{"model_id": model_id}]}
        return server.ann.post(f"{API}/runs/log-inputs", json=asked)

    def measure(model_id: str) -> httpx.Response:
        point = {"key": "k", "value": 1, "timestamp": 1, "model_id": model_id}
        return server.ann.post(f"{API}/runs/log-metric", json=point | {"run_id": server.mine.run_id})

    for ask in (use, measure):
        hidden, absent = ask(server.hidden.model_id), ask(ABSENT.model_id)
        assert (hidden.status_code, absent.status_code) == (404, 404)
        assert hidden.text.replace(server.hidden.model_id, ABSENT.model_id) == absent.text
    assert (use(server.theirs.model_id).status_code, measure(server.theirs.model_id).status_code) == (200, 403)
    assert (use(server.mine.model_id).status_code, measure(server.mine.model_id).status_code) == (200, 200)


def test_a_dataset_is_changed_by_those_who_may_change_all_that_it_belongs_to(server):
    path = f"{DATASETS}/{server.world.shared_dataset_id}"
    asked = {"tags": json.dumps({"k": "v"})}
    refused = server.ann.patch(f"{path}/tags", json=asked)
    assert refused.status_code == 403
    assert server.ann.post(f"{DATASETS}/create", json={"name": "nobody's"}).status_code == 403
    own = f"{DATASETS}/{server.mine.dataset_id}"
    others = {"experiment_ids": [server.theirs.experiment_id]}
    assert server.ann.post(f"{own}/add-experiments", json=others).status_code == 403
    hidden = {"experiment_ids": [server.hidden.experiment_id]}
    assert server.ann.post(f"{own}/add-experiments", json=hidden).status_code == 404
    all_of_it = {"experiment_ids": [server.mine.experiment_id]}
    assert server.ann.post(f"{own}/remove-experiments", json=all_of_it).status_code == 403
    let_in(
        server.gate, admin=ADMIN, ann=[Grant.parse("publisher:experiment:mine"), Grant.parse("publisher:experiment:t*")]
    )
    assert server.ann.patch(f"{path}/tags", json=asked).status_code == 200


def test_an_experiment_is_granted_by_the_name_that_it_has_now(server):
    renamed = {"experiment_id": server.mine.experiment_id, "new_name": "mine, now"}
    let_in(server.gate, admin=ADMIN, ann=[*ANN, Grant.parse("viewer:experiment:mine")])
    assert server.ann.post(f"{API}/experiments/update", json=renamed).status_code == 200
    let_in(server.gate, admin=ADMIN, ann=[Grant.parse("publisher:experiment:mine")])
    assert server.ann.get(f"{API}/runs/get", params={"run_id": server.mine.run_id}).status_code == 404
    let_in(server.gate, admin=ADMIN, ann=[Grant.parse("publisher:experiment:mine, now")])
    assert server.ann.get(f"{API}/runs/get", params={"run_id": server.mine.run_id}).status_code == 200


def test_who_may_write_and_not_read_can_write(server):
    let_in(server.gate, admin=ADMIN, ann=[Grant.parse("tracking:write:experiment:mine*")])
    assert send(server.ann, ("POST", f"{API}/runs/set-tag"), server.mine).status_code == 200
    assert server.ann.get(f"{API}/runs/get", params={"run_id": server.mine.run_id}).status_code == 403


def test_what_is_granted_can_be_changed_in_every_way(server):
    for asked in WRITING:
        answer = send(server.ann, asked, server.mine)
        assert answer.status_code == 200, (asked, answer.text)


def test_every_route_that_writes_is_asked():
    def template(path: str) -> str:
        path = path.partition("?")[0].replace("FOLDER/RUN/artifacts/new.txt", "{path:path}")
        path = path.replace("/tags/mark", "/tags/{key:str}").replace(f"{FILES}/FOLDER", f"{FILES}/{{path:path}}")
        return path.replace("MODEL", "{model_id:str}").replace("DATASET", "{dataset_id:str}")

    routes = {
        (str(method), path)
        for protocol in _PROTOCOLS
        for handler in protocol.handlers
        if permission_of(handler) in {Permission.TRACKING_WRITE, Permission.ARTIFACT_WRITE}
        for method in handler.http_methods
        for path in handler.paths
        if not path.startswith("/ajax-api")
    }
    assert routes == {(method, template(path)) for method, path in WRITING} | ELSEWHERE
