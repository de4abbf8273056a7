"""Grants for single experiments, where clients go past the proxy to S3."""

from collections.abc import Iterator

import httpx
import pytest

from gateway.access.gatekeeper import Gatekeeper
from gateway.settings import Settings
from tests.conftest import running_api
from tests.gateway.access.tracking_world import ABSENT, API, Thing, build, let_in, signed_in
from tracking.access.grants import Grant

pytestmark = pytest.mark.e2e

MPU = "/api/2.0/mlflow-artifacts/mpu"
SIGNED = "/api/2.0/mlflow-artifacts/presigned"
ADMIN = (Grant("admin"),)


@pytest.fixture
def gate() -> Gatekeeper:
    return Gatekeeper(is_open=False, clock=lambda: 0.0)


@pytest.fixture
def url(tmp_path, s3_environment, monkeypatch, gate) -> Iterator[str]:
    for name, value in s3_environment.items():
        monkeypatch.setenv(name, value)
    root = f"s3://titlebout-test/{tmp_path.name}"
    settings = Settings(data=str(tmp_path / "data"), artifact_root=root, artifact_mode="direct", presigned=True)
    with running_api(settings, gate) as url:
        yield url


def asks(thing: Thing) -> list[tuple[str, str, dict[str, object] | None]]:
    """Each way past the proxy, to read and to write."""
    sent = {"path": "x.txt", "upload_id": "none", "parts": []}
    folder = f"{thing.folder}/{thing.run_id}/artifacts"
    return [
        ("GET", f"{SIGNED}/{thing.run_file}", None),
        ("POST", f"{API}/artifacts/presigned-download-url", {"run_id": thing.run_id, "path": f"{thing.mark}.txt"}),
        ("POST", f"{API}/artifacts/presigned-upload-url", {"run_id": thing.run_id, "path": "new.txt"}),
        ("POST", f"{API}/artifacts/presigned-upload-url", {"model_id": thing.model_id, "path": "new.txt"}),
        *(("POST", f"{MPU}/{step}/{folder}", sent) for step in ("create", "complete", "abort")),
    ]


def test_signed_urls_are_for_what_is_granted(url, gate):
    let_in(gate, admin=ADMIN)
    with signed_in(url, "admin") as admin, signed_in(url, "ann") as ann:
        mine, theirs, hidden = build(admin, ("mine", "theirs", "hidden")).things
        let_in(gate, ann=[Grant.parse("publisher:experiment:mine"), Grant.parse("viewer:experiment:theirs")])

        def statuses(thing: Thing) -> list[int]:
            return [ann.request(method, path, json=body).status_code for method, path, body in asks(thing)]

        def told(thing: Thing) -> list[str]:
            texts = [ann.request(method, path, json=body).text for method, path, body in asks(thing)]
            given = (thing.run_file, f"{thing.folder}/{thing.run_id}", thing.run_id, thing.model_id, thing.mark)
            for one in given:
                texts = [text.replace(one, "GIVEN") for text in texts]
            return texts

        # Of a path nothing can be said but that it is somebody else's.
        assert statuses(hidden) == statuses(ABSENT) == [404, 404, 404, 404, 403, 403, 403]
        assert told(hidden) == told(ABSENT)
        assert statuses(theirs) == [200, 200, 403, 403, 403, 403, 403]
        assert statuses(mine)[:5] == [200, 200, 200, 200, 200]
        # S3 knows no such upload.
        assert not {403, 500} & set(statuses(mine)[5:])
        signed = ann.get(f"{SIGNED}/{mine.run_file}").json()
        assert httpx.get(signed["url"]).text == mine.mark
