"""Grants for single models: what isn't granted is in no answer, however it is asked for, and looks like nothing."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from gateway.access.gatekeeper import Gatekeeper
from gateway.routing_table import CurrentTable, LiveTable
from gateway.scoring.served_models import ServedModels
from gateway.settings import Settings
from registry import serving
from tests.conftest import empty_postgres, running_api
from tests.gateway.access.registry_world import ABSENT, NAMES, THINGS, Thing, build, counted, covered
from tests.gateway.access.tracking_world import let_in, signed_in
from tracking.access.grants import Grant, Kind
from tracking.database import Database

API = "/api/2.0/mlflow"
OURS = "/api/1.0/titlebout"
ADMIN = (Grant("admin"),)
# So that she may ask anything, about nothing that is there.
OF_NOTHING = Grant("admin", Kind.MODEL, "none of these")

OK, LOADING, REFUSED = 200, 503, 403


class Ask(NamedTuple):
    """One question, and what it is about."""

    path: str
    params: Mapping[str, Any] = MappingProxyType({})
    body: dict[str, Any] | None = None
    """Asked by POST, if there is one."""
    listed: str | None = None
    """The list of its answer; empty where the answer is the list."""
    each: int = 1
    """How many items there are of each model that is granted."""
    status: int = OK
    """Where what it is about is granted."""
    is_page: bool = False
    """One that lists what is granted, and is there where nothing is."""

    @property
    def is_paged(self) -> bool:
        return "max_results" in self.params


class Reading(NamedTuple):
    """How a route can be asked: about one model, perhaps a hidden one, and about all."""

    of_one: Callable[[Thing], list[Ask]] = lambda _: []
    of_all: Sequence[Ask] = ()
    for_all: bool = False
    """Whether it takes a grant for everything."""


def by_query(path: str, *, status: int = OK, **fields: str) -> Reading:
    """A GET whose parameters may hold the model's *name* or *mark*."""

    def asks(thing: Thing) -> list[Ask]:
        return [Ask(path, {field: text.format(**thing._asdict()) for field, text in fields.items()}, status=status)]

    return Reading(asks)


def by_path(*paths: str, status: int = OK) -> Reading:
    """A GET of each of *paths*, which may hold a thing's *name*, *endpoint* or *user*."""

    def asks(thing: Thing) -> list[Ask]:
        parts = {part: quote(getattr(thing, part), safe="") for part in ("name", "endpoint", "user")}
        return [Ask(path.format(**parts), status=status) for path in paths]

    return Reading(asks)


def searches(path: str, listed: str, each: int, orders: Sequence[str]) -> Reading:
    """Each filter and order at once and page by page; and a search for one model, by its name and by what is in it."""
    filters = ("", "name LIKE '%'", "tags.shared = 'yes'", "tags.mark != 'x'")
    wholes = [Ask(path, {"filter": text}, listed=listed, each=each) for text in filters]
    wholes += [Ask(path, {"order_by": order}, listed=listed, each=each) for order in orders]

    def of_one(thing: Thing) -> list[Ask]:
        texts = (f"name = '{thing.name}'", f"tags.mark = '{thing.mark}'")
        return [Ask(path, {"filter": text}, listed=listed, each=each) for text in texts]

    pages = [ask._replace(params={**ask.params, "max_results": 1}) for ask in wholes]
    return Reading(of_one, [*wholes, *pages])


def _latest(thing: Thing) -> list[Ask]:
    path = f"{API}/registered-models/get-latest-versions"
    return [Ask(path, {"name": thing.name}), Ask(path, body={"name": thing.name})]


def _all(path: str, *, listed: str | None = None, each: int = 1, body: dict[str, Any] | None = None) -> Reading:
    return Reading(of_all=[Ask(path, body=body, listed=listed, each=each)])


_MODEL = f"{OURS}/models/{{name:str}}/versions/{{version:int}}"

READING: dict[str, Reading] = {
    f"{API}/registered-models/get": by_query(f"{API}/registered-models/get", name="{name}"),
    f"{API}/registered-models/search": searches(
        f"{API}/registered-models/search", "registered_models", 1, ["name DESC", "last_updated_timestamp"]
    ),
    f"{API}/registered-models/get-latest-versions": Reading(_latest),
    f"{API}/registered-models/alias": Reading(
        lambda thing: [
            Ask(f"{API}/registered-models/alias", {"name": thing.name, "alias": alias})
            for alias in ("champion", "x", "latest")
        ]
    ),
    f"{API}/model-versions/get": by_query(f"{API}/model-versions/get", name="{name}", version="1"),
    f"{API}/model-versions/get-download-uri": by_query(
        f"{API}/model-versions/get-download-uri", name="{name}", version="2"
    ),
    f"{API}/model-versions/search": searches(
        f"{API}/model-versions/search", "model_versions", 2, ["name", "version_number DESC", "creation_timestamp"]
    ),
    f"{OURS}/resolve": Reading(
        lambda thing: [
            Ask(f"{OURS}/resolve", {"uri": f"models:/{thing.name}{what}"}) for what in ("/1", "@challenger", "/latest")
        ]
    ),
    f"{_MODEL}/files": by_path(f"{OURS}/models/{{name}}/versions/1/files"),
    f"{_MODEL}/signatures": by_path(f"{OURS}/models/{{name}}/versions/1/signatures"),
    f"{OURS}/models/{{name:str}}/gates": by_path(f"{OURS}/models/{{name}}/gates"),
    f"{_MODEL}/approvals": by_path(f"{OURS}/models/{{name}}/versions/1/approvals"),
    f"{_MODEL}/load-tests": by_path(f"{OURS}/models/{{name}}/versions/1/load-tests"),
    f"{_MODEL}/load-tests/{{number:int}}": by_path(f"{OURS}/models/{{name}}/versions/1/load-tests/1"),
    f"{_MODEL}/load-tests/{{number:int}}/picture.svg": by_path(
        f"{OURS}/models/{{name}}/versions/1/load-tests/1/picture.svg"
    ),
    f"{OURS}/models/{{name:str}}/history": by_path(f"{OURS}/models/{{name}}/history"),
    f"{OURS}/history/check": Reading(of_all=[Ask(f"{OURS}/history/check")], for_all=True),
    f"{OURS}/status": _all(f"{OURS}/status", listed="endpoints"),
    f"{OURS}/endpoints/{{name:str}}": by_path(f"{OURS}/endpoints/{{endpoint}}"),
    f"{OURS}/endpoints/{{name:str}}/progress": by_path(f"{OURS}/endpoints/{{endpoint}}/progress"),
    f"{OURS}/rollouts": _all(f"{OURS}/rollouts", listed="rollouts"),
    f"{OURS}/rollouts/{{name:str}}": by_path(f"{OURS}/rollouts/{{endpoint}}"),
    f"{OURS}/endpoints/{{name:str}}/shadow": by_path(f"{OURS}/endpoints/{{endpoint}}/shadow"),
    f"{OURS}/endpoints/{{name:str}}/shadow/inputs": by_path(f"{OURS}/endpoints/{{endpoint}}/shadow/inputs"),
    f"{OURS}/endpoints/{{name:str}}/assignment": by_path(f"{OURS}/endpoints/{{endpoint}}/assignment"),
    f"{OURS}/endpoints/{{name:str}}/feedback": by_path(f"{OURS}/endpoints/{{endpoint}}/feedback"),
    f"{OURS}/endpoints/{{name:str}}/predictions": by_path(f"{OURS}/endpoints/{{endpoint}}/predictions"),
    f"{OURS}/endpoints/{{name:str}}/predictions/{{day:str}}/{{file_name:str}}": by_path(
        # A name that no file can have, which is told to whoever may know of the endpoint.
        f"{OURS}/endpoints/{{endpoint}}/predictions/2026-11-23/%5C",
        status=400,
    ),
    f"{OURS}/prediction-keys": Reading(of_all=[Ask(f"{OURS}/prediction-keys")], for_all=True),
    f"{OURS}/endpoints/{{name:str}}/comparison": by_path(f"{OURS}/endpoints/{{endpoint}}/comparison"),
    f"{OURS}/endpoints/{{name:str}}/versions/{{version:int}}/example": by_path(
        f"{OURS}/endpoints/{{endpoint}}/versions/1/example", status=LOADING
    ),
    f"{OURS}/endpoints/{{name:str}}/versions/{{version:int}}/processor-time": by_path(
        f"{OURS}/endpoints/{{endpoint}}/versions/1/processor-time", status=LOADING
    ),
    # Here no version is in any memory; `test_registry_scopes_served` asks where they are.
    "/endpoints/{name:str}/openapi.json": by_path("/endpoints/{endpoint}/openapi.json", status=LOADING),
    "/endpoints/{name:str}/docs": by_path("/endpoints/{endpoint}/docs", status=LOADING),
    "/endpoints": Reading(of_all=[Ask("/endpoints", is_page=True)]),
    "/endpoints/{name:str}/comparison": by_path("/endpoints/{endpoint}/comparison"),
    "/endpoints/{name:str}/rollout": by_path("/endpoints/{endpoint}/rollout"),
    "/v1/models": _all("/v1/models", listed="models"),
    "/v1/models/{path:path}": by_path(
        *(f"/v1/models/{{endpoint}}{what}" for what in ("", "/metadata", "/versions/1", "/labels/champion")),
        status=LOADING,
    ),
    "/v2/models/{path:path}": by_path(
        *(f"/v2/models/{{endpoint}}{what}" for what in ("", "/ready", "/versions/1", "/versions/1/ready")),
        status=LOADING,
    ),
    "/v2/models/stats": _all("/v2/models/stats", listed="model_stats"),
    "/v2/repository/index": _all("/v2/repository/index", listed="", each=2, body={}),
    "/metrics": Reading(of_all=[Ask("/metrics")], for_all=True),
    f"{API}/webhooks": Reading(
        of_all=[Ask(f"{API}/webhooks"), Ask(f"{API}/webhooks", {"max_results": 1})], for_all=True
    ),
    f"{API}/webhooks/{{webhook_id:str}}": Reading(of_all=[Ask(f"{API}/webhooks/WEBHOOK")], for_all=True),
    f"{OURS}/users": _all(f"{OURS}/users", listed="users"),
    f"{OURS}/users/{{name:str}}": by_path(f"{OURS}/users/{{user}}"),
    f"{OURS}/scoring-keys": _all(f"{OURS}/scoring-keys", listed="keys"),
    f"{OURS}/tokens": by_query(f"{OURS}/tokens", user="user-{mark}"),
}
"""How each route that reads what models' grants are for is asked. The twins under /ajax-api are the same functions."""


class Server(NamedTuple):
    gate: Gatekeeper
    ann: httpx.Client
    webhook_id: str


def _serving(config: Settings) -> Iterator[Server]:
    database = Database(config.database)
    database.upgrade()
    webhook_id = build(database)
    current = CurrentTable()
    with database.reading() as session:
        current.switch(LiveTable(serving.newest_table(session)))
    assert len(current.live.routes) == len(NAMES)
    parts = {"served_models": ServedModels(current, None), "all_metrics": counted(config.data_dir / "counted")}
    gate = Gatekeeper(is_open=False, clock=lambda: 0.0)
    with running_api(config, gate, **parts) as url, signed_in(url, "ann") as ann:
        yield Server(gate, ann, webhook_id)
    database.dispose()


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    yield from _serving(Settings(data=str(tmp_path_factory.mktemp("scopes"))))


@pytest.fixture
def postgres_server(tmp_path, migrated_postgres) -> Iterator[Server]:
    yield from _serving(Settings(data=str(tmp_path), database_url=migrated_postgres))
    empty_postgres(migrated_postgres)


def answers(client: httpx.Client, ask: Ask) -> tuple[list[httpx.Response], list[Any]]:
    """What is answered, page by page where *ask* is for pages, and the items of its list."""
    given, items = [], []
    while True:
        method = "GET" if ask.body is None else "POST"
        answer = client.request(method, ask.path, params=ask.params, json=ask.body)
        given.append(answer)
        found = answer.json() if "json" in answer.headers["content-type"] else {}
        if ask.listed is not None and answer.is_success:
            items += found.get(ask.listed, []) if ask.listed else found
        token = found.get("next_page_token") if isinstance(found, dict) else None
        if not (ask.is_paged and token):
            return given, items
        ask = ask._replace(params={**ask.params, "page_token": token})


def check(client: httpx.Client, ask: Ask, about: list[Thing], granted: list[Thing]) -> None:
    """Ask, and find all of what it is *about* that is granted, and nothing of any other."""
    given, items = answers(client, ask)
    text = "".join(answer.text + str(answer.headers) for answer in given)
    shown, hidden = [one for one in about if one in granted], [one for one in THINGS if one not in granted]
    if about[1:] == []:
        # Who asks for one thing by its name is told the name that they gave.
        text = text.replace(repr(about[0].endpoint), "").replace(repr(about[0].user), "")
    assert not [one for one in hidden if one.mark in text], (ask, text)
    told = [one for one in hidden if [one] != about and json.dumps(one.name, ensure_ascii=False) in text]
    assert not told, (ask, text)
    if ask.listed is not None:
        assert len(items) == ask.each * len(shown), (ask, text)
        assert {answer.status_code for answer in given} == {OK}, (ask, text)
        assert all(one.mark in text or f'"{one.name}"' in text for one in shown), (ask, text)
    elif ask.is_page:
        assert given[0].status_code == OK, (ask, text)
        assert all(one.endpoint in text for one in shown), (ask, text)
    else:
        assert (given[0].status_code == ask.status) == bool(shown), (ask, text)


def read_all(server: Server, grants: list[Grant]) -> None:
    let_in(server.gate, ann=[*grants, OF_NOTHING])
    granted = list(filter(covered(grants), THINGS))
    sees_all = any(grant.kind is Kind.EVERYTHING for grant in grants)
    for reading in READING.values():
        for thing in THINGS:
            for ask in reading.of_one(thing):
                check(server.ann, ask, [thing], granted)
        for ask in reading.of_all:
            if reading.for_all:
                answer = server.ann.get(ask.path.replace("WEBHOOK", server.webhook_id), params=ask.params)
                assert answer.status_code == (OK if sees_all else REFUSED), ask
                assert sees_all or "mark" not in answer.text, answer.text
            elif not sees_all or "users" not in ask.path:
                check(server.ann, ask, THINGS, granted)


GRANTS = st.one_of(
    st.builds(Grant, st.just("admin"), st.just(Kind.MODEL), st.sampled_from(NAMES), st.booleans()),
    st.builds(Grant, st.just("admin"), st.just(Kind.MODEL), st.sampled_from(["a_", "a@", "ä"]), st.just(True)),
)


def test_no_way_of_asking_shows_what_is_not_granted(server):
    read_all(server, [Grant.parse("admin:model:a%*"), Grant.parse("admin:model:a_b")])


@pytest.mark.slow
# What fails is plain enough as it is, and made smaller it would be asked for minutes.
@settings(max_examples=8, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.lists(GRANTS, max_size=3))
def test_whatever_is_granted_nothing_else_is_shown(server, grants):
    read_all(server, grants)


def test_a_name_that_hides_anothers_alias_does_so_only_for_those_who_see_it(server):
    for grants, meant in (["a"], ("a", 2)), (["a", "a@x"], ("a@x", 1)), (["a@x"], ("a@x", 1)):
        let_in(server.gate, ann=[Grant("viewer", Kind.MODEL, name) for name in grants])
        found = server.ann.get(f"{OURS}/resolve", params={"uri": "models:/a@x"}).json()
        assert (found["name"], found["version"]) == meant


def test_postgresql_shows_the_same(postgres_server):
    read_all(postgres_server, [Grant.parse("admin:model:a_*"), Grant.parse("admin:model:A")])


def test_whoever_is_granted_everything_sees_everything(server):
    read_all(server, [Grant("admin")])


def test_hidden_is_answered_as_what_never_was(server):
    let_in(server.gate, ann=[Grant.parse("admin:model:a-b")])
    for reading in READING.values():
        for thing in THINGS[:4]:
            for hidden, absent in zip(reading.of_one(thing), reading.of_one(ABSENT), strict=True):
                assert shape(server.ann, hidden, thing) == shape(server.ann, absent, ABSENT), hidden


def shape(client: httpx.Client, ask: Ask, thing: Thing) -> tuple[Any, ...]:
    """An answer, but for when it was given and for what the caller gave."""
    (answer, *_), _ = answers(client, ask)
    told = {
        name: value for name, value in answer.headers.items() if name not in {"date", "content-length", "x-request-id"}
    }
    text = answer.text.replace(thing.mark, "MARK")
    return answer.status_code, told, re.sub(rf"(?<=[='(]){re.escape(thing.name)}(?=[,') ]|$)", "NAME", text)
