"""Load tests over HTTP: who may bring one, of which bytes, and how it is shown."""

import httpx
import msgspec
import pytest

from gateway.access.gatekeeper import Gatekeeper
from gateway.load_testing.slowdown import Slower
from gateway.settings import Settings
from registry.load_tests import REPORT_LENGTH_MAX
from registry.schema import ModelVersionRow
from tests.conftest import running_api
from tests.gateway.load_testing.reports import REPORT, compared
from tracking.access.book import Book, KnownToken, KnownUser
from tracking.access.caller import CALLER, PROGRAM
from tracking.access.grants import Grant
from tracking.access.secrets import digest_of
from tracking.database import Database

LOAD_TESTS = "/api/1.0/titlebout/models/iris/versions/1/load-tests"
DIGEST = "d" * 64
PEOPLE = {"ann": ("publisher",), "bob": ("promoter",), "cid": ("publisher", "load_test:write"), "eve": ("viewer",)}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    gate = Gatekeeper(is_open=False, clock=lambda: 0.0)
    grants = {name: tuple(map(Grant.parse, texts)) for name, texts in PEOPLE.items()}
    gate.take(
        Book(
            number=1,
            users={name: KnownUser(name, held, None) for name, held in grants.items()},
            tokens={digest_of(name): KnownToken(name, name, held, 1, False) for name, held in grants.items()},
        )
    )
    settings = Settings(data=str(tmp_path_factory.mktemp("load-tests")), source_prefixes="s3://shared")
    with running_api(settings, gate) as url:
        with client(url, "ann") as ann:
            ann.post("/api/2.0/mlflow/registered-models/create", json={"name": "iris"}).raise_for_status()
            for number in (1, 2):
                body = {"name": "iris", "source": f"s3://shared/{number}"}
                ann.post("/api/2.0/mlflow/model-versions/create", json=body).raise_for_status()
        # As the first load of its files does.
        CALLER.set(PROGRAM)
        with Database(settings.database).writing() as session:
            session.get_one(ModelVersionRow, ("iris", 1)).digest = DIGEST
        yield url


def client(url, name):
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {name}"})


@pytest.fixture
def by(url):
    return lambda name: client(url, name)


def body(report=REPORT, **changed):
    return {"digest": DIGEST, "report": msgspec.to_builtins(report), **changed}


def test_a_report_is_kept_and_shown_with_its_picture(by):
    kept = by("bob").post(LOAD_TESTS, json=body(compared(Slower.YES)))
    assert kept.status_code == 200, kept.text
    told = kept.json()
    assert (told["author"], told["digest"], told["passed"], told["against"]) == ("bob", DIGEST, False, 7)
    assert by("eve").get(LOAD_TESTS).json()["load_tests"][0] == told
    shown = by("eve").get(f"{LOAD_TESTS}/{told['number']}").json()
    assert shown["load_test"] == told
    assert msgspec.convert(shown["report"], type(REPORT)) == compared(Slower.YES)
    picture = by("eve").get(f"{LOAD_TESTS}/{told['number']}/picture.svg")
    assert picture.headers["Content-Type"].startswith("image/svg+xml")
    assert "<polyline" in picture.text
    assert "sandbox" in picture.headers["Content-Security-Policy"]
    newest = by("eve").get("/api/1.0/titlebout/models/iris/history").json()["entries"][0]
    assert (newest["action"], newest["author"], newest["details"]["passed"]) == ("load_tested", "bob", False)


def test_passed_is_what_the_outcomes_come_to_and_not_what_anybody_says(by):
    assert by("bob").post(LOAD_TESTS, json=body()).json()["passed"] is True
    assert by("bob").post(LOAD_TESTS, json=body(passed=True)).status_code == 400


def test_who_makes_models_brings_no_evidence_for_them_unless_that_is_granted(by):
    refused = by("ann").post(LOAD_TESTS, json=body())
    assert refused.status_code == 403
    assert "load_test:write" in refused.json()["message"]
    assert by("eve").post(LOAD_TESTS, json=body()).status_code == 403
    assert by("cid").post(LOAD_TESTS, json=body()).json()["author"] == "cid"


@pytest.mark.parametrize(
    ("path", "sent", "status", "what"),
    [
        pytest.param(LOAD_TESTS, body(digest="e" * 64), 409, "is of the digest 'eeee", id="other bytes"),
        pytest.param(LOAD_TESTS.replace("1/l", "9/l"), body(), 400, "of version 1, and not of 9", id="other version"),
        pytest.param(LOAD_TESTS.replace("iris", "wine"), body(), 404, "name=wine, version=1", id="no such model"),
        pytest.param(
            LOAD_TESTS,
            body(msgspec.structs.replace(REPORT, endpoint="x" * REPORT_LENGTH_MAX)),
            400,
            "maximum length",
            id="too long",
        ),
        pytest.param(LOAD_TESTS, {"digest": DIGEST, "report": {}}, 400, "endpoint", id="no report"),
        pytest.param(LOAD_TESTS, body(sure=True), 400, "sure", id="an unknown field"),
    ],
)
def test_what_is_no_report_on_this_version_is_refused(by, path, sent, status, what):
    before = by("eve").get(LOAD_TESTS).json()
    refused = by("bob").post(path, json=sent)
    assert refused.status_code == status, refused.text
    assert what in refused.json()["message"]
    assert by("eve").get(LOAD_TESTS).json() == before


def test_a_version_whose_files_nobody_has_read_has_no_load_test(by):
    report = msgspec.structs.replace(REPORT, version=2)
    refused = by("bob").post(LOAD_TESTS.replace("/1/", "/2/"), json=body(report))
    assert refused.status_code == 409
    assert "has not been loaded yet" in refused.json()["message"]


def test_what_is_not_there_is_404(by):
    for path in (f"{LOAD_TESTS}/99", f"{LOAD_TESTS}/99/picture.svg", LOAD_TESTS.replace("/1/", "/9/")):
        assert by("eve").get(path).status_code == 404
