"""Every route of the OpenAPI document, with bodies, queries and paths that no client should send.

Each must be refused with MLflow's error body, and leave the database as it was.
"""

import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from gateway.settings import Settings
from tests.conftest import running_api
from tests.gateway.bad_bodies import NOT_SENT, Document
from tracking.database import Database
from tracking.errors import ErrorCode
from tracking.schema import Base

V2 = "/api/2.0/mlflow"
V3 = "/api/3.0/mlflow"


# Thousands of bodies take their time: slow, so that `make test` stays under two minutes; `make check` runs both.
pytestmark = pytest.mark.slow


@pytest.fixture(params=["sqlite and a folder", pytest.param("postgresql and S3", marks=pytest.mark.e2e)])
def settings(request, tmp_path, monkeypatch) -> Settings:
    data = str(tmp_path / "data")
    if request.param == "sqlite and a folder":
        return Settings(data=data)
    for name, value in request.getfixturevalue("s3_environment").items():
        monkeypatch.setenv(name, value)
    return Settings(
        data=data,
        database_url=request.getfixturevalue("postgres_database_url"),
        artifact_root=f"s3://titlebout-test/{uuid.uuid4().hex}",
        presigned=True,
    )


@pytest.fixture
def wire(settings) -> Iterator[httpx.Client]:
    with running_api(settings) as url, httpx.Client(base_url=url, timeout=60) as client:
        yield client


@pytest.fixture
def document(wire) -> Document:
    return Document(wire.get("/openapi.json").json(), _one_of_each(wire))


def _one_of_each(wire: httpx.Client) -> dict[str, Any]:
    """Makes one thing of each kind; gives the values by which parameters and fields find it."""

    def call(path: str, **content: Any) -> Any:
        answer = wire.post(path, json=content)
        assert answer.is_success, answer.text
        return answer.json()

    experiment = call(f"{V2}/experiments/create", name="there")["experiment_id"]
    run = call(f"{V2}/runs/create", experiment_id=experiment)["run"]["info"]["run_id"]
    logged = call(f"{V2}/logged-models", experiment_id=experiment, name="logged")["model"]["info"]["model_id"]
    call(f"{V2}/registered-models/create", name="there")
    call(f"{V2}/model-versions/create", name="there", source=f"models:/{logged}", model_id=logged)
    call(f"{V2}/registered-models/alias", name="there", alias="now", version="1")
    dataset = call(f"{V3}/datasets/create", name="questions")["dataset"]["dataset_id"]
    return {
        "experiment_id": experiment, "experiment_ids": [experiment], "run_ids": [run], "run_id": run,
        # The older name of `run_id`, read only where that isn't sent.
        "run_uuid": NOT_SENT,
        "model_id": logged, "source": f"models:/{logged}", "name": "there", "model": "there", "new_name": "other",
        "alias": "now", "version": "1", "uri": "models:/there@now", "stage": "Staging", "dataset_id": dataset,
        f"{V2}/experiments/create#name": "other", f"{V2}/registered-models/create#name": "other",
        f"{V3}/datasets/create#tags": "{}", f"{V3}/datasets/{{dataset_id}}/tags#tags": "{}", "records": "[]",
        "model_json": '{"run_id": "1", "artifact_path": "a", "utc_time_created": "", "flavors": {}}',
        "status": 2, "view_type": 1, "run_view_type": 1, "path": "file",
        f"{V2}/logged-models/search#order_by": [{"field_name": "name", "dataset_name": "d", "dataset_digest": "1"}],
        "filter": "", "filter_string": "", "order_by": [], "page_token": None,
    }  # fmt: skip


def rows_of(settings: Settings) -> dict[str, list[Any]]:
    database = Database(settings.database, pool_size=1)
    with database.reading() as session:
        rows = {table.name: sorted(map(repr, session.execute(select(table)))) for table in Base.metadata.sorted_tables}
    database.dispose()
    return rows


def what_is_wrong(answer: httpx.Response) -> str | None:
    """With *answer*, as one to a bad request; None if it is right."""
    if answer.status_code == 503 and "No routing table is in force" in answer.text:
        # True of a server without a supervisor, whatever it is asked of what is served.
        return None
    if not (400 <= answer.status_code < 500 or answer.status_code == 501):
        return f"{answer.status_code} {answer.text[:200]}"
    try:
        body = answer.json()
        ErrorCode(body["error_code"])
    except (ValueError, KeyError, TypeError):
        return f"no error of MLflow's: {answer.text[:200]}"
    leaked = [
        word for word in ("sql", "psycopg", "Traceback", "msgspec", "litestar") if word in body["message"].lower()
    ]
    return f"speaks of {leaked}: {body['message'][:200]}" if leaked else None


def test_a_bad_body_is_refused_and_changes_nothing(settings, wire, document):
    before = rows_of(settings)
    wrong = []
    for route in document.routes:
        for case in document.cases(route):
            headers = {"Content-Type": "application/json"}
            answer = wire.request(route.method, document.url(route), content=case.body, headers=headers)
            if said := what_is_wrong(answer):
                wrong.append(f"{route.name}: {case.fault}: {said}")
        if (after := rows_of(settings)) != before:
            wrong.append(f"{route.name} wrote something")
            before = after
    assert not wrong, "\n".join(wrong)
    assert wire.get("/health").text == "OK"


def test_a_bad_path_or_query_is_refused_or_finds_nothing(wire, document):
    wrong = []
    for route in document.routes:
        body = document.body(route)
        for fault, url in document.bad_urls(route):
            answer = wire.request(route.method, url, json=body)
            said = what_is_wrong(answer)
            if said and route.method != "head" and ("NUL" in fault or not answer.is_success):
                wrong.append(f"{route.name}: {fault}: {said}")
    assert not wrong, "\n".join(wrong)
    assert wire.get("/health").text == "OK"
