"""Grants for single experiments: what isn't granted is in no answer, however it is asked for."""

import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.access.gatekeeper import Gatekeeper
from gateway.settings import Settings
from tests.conftest import empty_postgres, running_api
from tests.gateway.access.tracking_world import (
    ABSENT,
    API,
    DATASETS,
    FILES,
    NAMES,
    Thing,
    World,
    build,
    let_in,
    signed_in,
)
from tracking.access.grants import Grant, Kind

ADMIN = (Grant("admin"),)


class Ask(NamedTuple):
    """One question, and what of the world it is about."""

    method: str
    path: str
    about: tuple[Thing, ...]
    params: Mapping[str, Any] = MappingProxyType({})
    body: dict[str, Any] | None = None
    listed: str = ""
    """The list of its answer that has as many items as it is about; else it is about one thing, or nothing."""
    each: int = 1

    @property
    def is_paged(self) -> bool:
        return "max_results" in self.params or "max_results" in (self.body or {})


class Reading(NamedTuple):
    """How a route can be asked: about one thing, perhaps hidden, and about the whole world."""

    of_one: Callable[[Thing, World], list[Ask]] = lambda _thing, _world: []
    of_all: Callable[[World], list[Ask]] = lambda _world: []


def one(path: str, **params: str) -> Reading:
    """A GET whose params are attributes of the thing."""

    def asks(thing: Thing, _world: World) -> list[Ask]:
        given = {name: getattr(thing, attribute) for name, attribute in params.items()}
        return [Ask("GET", _filled(path, thing), (thing,), given)]

    return Reading(asks)


def _filled(path: str, thing: Thing) -> str:
    for name in ("model_id", "dataset_id"):
        path = path.replace(f"{{{name}:str}}", getattr(thing, name))
    return path


def searches(path: str, listed: str, bodies: Callable[[World], list[dict[str, Any]]], filter_field: str) -> Reading:
    """A POST with these *bodies*, each at once and page by page, and one that looks for a thing by its mark."""

    def of_one(thing: Thing, world: World) -> list[Ask]:
        found = bodies(world)[0] | {filter_field: f"tags.mark = '{thing.mark}'"}
        return [Ask("POST", path, (thing,), body=found, listed=listed)]

    def of_all(world: World) -> list[Ask]:
        about = tuple(world.things)
        whole = [Ask("POST", path, about, body=body, listed=listed) for body in bodies(world)]
        return [*whole, *(ask._replace(body=ask.body | {"max_results": 1}) for ask in whole)]

    return Reading(of_one, of_all)


def searches_by_both(path: str, listed: str, bodies: Callable[[World], list[dict[str, Any]]]) -> Reading:
    """The same for a search that is a GET too."""
    by_post = searches(path, listed, bodies, "filter")

    def of_all(world: World) -> list[Ask]:
        asks = by_post.of_all(world)
        return [*asks, *(ask._replace(method="GET", params=ask.body or {}, body=None) for ask in asks)]

    return Reading(by_post.of_one, of_all)


def _experiments(_world: World) -> list[dict[str, Any]]:
    return [
        {"filter": "tags.shared = 'yes'"},
        {},
        {"order_by": ["name DESC"], "view_type": "ALL"},
        {"filter": "name LIKE '%' AND tags.mark != 'x'", "order_by": ["tags.mark"]},
    ]


def _runs(world: World) -> list[dict[str, Any]]:
    within = {"experiment_ids": world.experiment_ids}
    orders = (["metrics.score DESC"], ["params.mark"], ["tags.mark DESC"], ["attributes.start_time", "metrics.score"])
    return [
        within,
        *(within | {"order_by": order} for order in orders),
        within | {"filter": "metrics.score > 0 AND params.mark LIKE 'mark%' AND dataset.context LIKE 'mark%'"},
    ]


def _models(world: World) -> list[dict[str, Any]]:
    within = {"experiment_ids": world.experiment_ids}
    by_metric = [{"field_name": "metrics.cross"}, {"field_name": "metrics.measured", "ascending": False}]
    return [within, within | {"filter": "metrics.measured > 0", "order_by": by_metric}]


def _metric_histories(world: World) -> list[Ask]:
    run_ids = [thing.run_id for thing in world.things]
    asked = {"run_id": run_ids, "metric_key": "score"}
    return [Ask("GET", f"{API}/metrics/get-history-bulk", tuple(world.things), asked, listed="metrics")]


def _metric_history(thing: Thing, _world: World) -> list[Ask]:
    path = f"{API}/metrics/get-history"
    asked = {"run_id": thing.run_id, "metric_key": "score"}
    return [
        Ask("GET", path, (thing,), asked, listed="metrics"),
        Ask("GET", path, (thing,), asked | {"max_results": 1}, listed="metrics"),
        Ask("GET", f"{API}/metrics/get-history-bulk", (thing,), asked, listed="metrics"),
    ]


def _used_datasets(path: str) -> Reading:
    def of(things: list[Thing]) -> list[Ask]:
        wanted = {"experiment_ids": [thing.experiment_id for thing in things]}
        return [Ask("POST", path, tuple(things), body=wanted, listed="dataset_summaries")]

    return Reading(lambda thing, _: of([thing]), lambda world: of(world.things))


def _listed_files(thing: Thing, _world: World) -> list[Ask]:
    folders = [f"{thing.folder}/{thing.run_id}/artifacts", f"{thing.folder}/models/{thing.model_id}/artifacts/"]
    return [Ask("GET", FILES, (thing,), {"path": folder}, listed="files") for folder in folders]


def _files(thing: Thing, _world: World) -> list[Ask]:
    file = f"{FILES}/{thing.run_file}"
    return [Ask("GET", file, (thing,)), Ask("GET", file.replace("api/2.0", "ajax-api/2.0"), (thing,))]


def _evaluation_datasets(thing: Thing, _world: World) -> list[Ask]:
    wanted = {"experiment_ids": [thing.experiment_id], "filter_string": "tags.mark LIKE '%'"}
    path = f"{DATASETS}/search"
    return [
        Ask("POST", path, (thing,), body=wanted, listed="datasets"),
        Ask("GET", path, (thing,), wanted, listed="datasets"),
    ]


def _records(thing: Thing, _world: World) -> list[Ask]:
    ask = Ask("GET", f"{DATASETS}/{thing.dataset_id}/records", (thing,))
    return [ask, ask._replace(params={"max_results": 1})]


ONLY_S3 = Reading(lambda thing, _: [Ask("GET", "/api/2.0/mlflow-artifacts/presigned/" + thing.run_file, ())])
"""Answered where artifacts are in S3: `test_signed_urls_are_for_what_is_granted`."""
OF_MODELS = Reading()
"""By the registered model's grant: `test_who_may_read_a_model_may_read_its_files`."""

READING: dict[str, Reading] = {
    f"{API}/experiments/get": one(f"{API}/experiments/get", experiment_id="experiment_id"),
    f"{API}/experiments/get-by-name": one(f"{API}/experiments/get-by-name", experiment_name="name"),
    f"{API}/experiments/search": searches_by_both(f"{API}/experiments/search", "experiments", _experiments),
    f"{API}/runs/get": one(f"{API}/runs/get", run_id="run_id"),
    f"{API}/runs/search": searches(f"{API}/runs/search", "runs", _runs, "filter"),
    f"{API}/metrics/get-history": Reading(_metric_history),
    f"{API}/metrics/get-history-bulk": Reading(of_all=_metric_histories),
    f"{API}/metrics/get-history-bulk-interval": one(
        f"{API}/metrics/get-history-bulk-interval", run_ids="run_id", metric_key="mark"
    ),
    f"{API}/logged-models/search": searches(f"{API}/logged-models/search", "models", _models, "filter"),
    f"{API}/logged-models/{{model_id:str}}": one(f"{API}/logged-models/{{model_id:str}}"),
    f"{API}/artifacts/list": one(f"{API}/artifacts/list", run_id="run_id"),
    "/get-artifact": Reading(
        lambda thing, _: [Ask("GET", "/get-artifact", (thing,), {"run_id": thing.run_id, "path": f"{thing.mark}.txt"})]
    ),
    f"{API}/logged-models/{{model_id:str}}/artifacts/directories": one(
        f"{API}/logged-models/{{model_id:str}}/artifacts/directories"
    ),
    f"{API}/logged-models/{{model_id:str}}/artifacts/files": Reading(
        lambda thing, _: [
            Ask(
                "GET",
                f"{API}/logged-models/{thing.model_id}/artifacts/files",
                (thing,),
                {"artifact_file_path": f"{thing.mark}.txt"},
            )
        ]
    ),
    "/model-versions/get-artifact": OF_MODELS,
    f"{FILES}/{{path:path}}": Reading(_files),
    FILES: Reading(_listed_files),
    f"{API}/experiments/search-datasets": _used_datasets(f"{API}/experiments/search-datasets"),
    "/api/2.0mlflow/experiments/search-datasets": _used_datasets("/api/2.0mlflow/experiments/search-datasets"),
    f"{DATASETS}/search": Reading(_evaluation_datasets),
    f"{DATASETS}/{{dataset_id:str}}": one(f"{DATASETS}/{{dataset_id:str}}"),
    f"{DATASETS}/{{dataset_id:str}}/experiment-ids": Reading(
        lambda thing, _: [
            # An id and nothing else, which says nothing of whose it is.
            Ask("GET", f"{DATASETS}/{thing.dataset_id}/experiment-ids", (thing,), listed="experiment_ids")
        ]
    ),
    f"{DATASETS}/{{dataset_id:str}}/records": Reading(_records),
    "/api/2.0/mlflow-artifacts/presigned/{path:path}": ONLY_S3,
    f"{API}/artifacts/presigned-download-url": ONLY_S3,
}
"""How each route that reads experiments is asked. The twins under /ajax-api are answered by the same functions."""


class Server(NamedTuple):
    gate: Gatekeeper
    admin: httpx.Client
    ann: httpx.Client
    world: World


def _serving(settings: Settings) -> Iterator[Server]:
    gate = Gatekeeper(is_open=False, clock=lambda: 0.0)
    let_in(gate, admin=ADMIN)
    with running_api(settings, gate) as url, signed_in(url, "admin") as admin, signed_in(url, "ann") as ann:
        yield Server(gate, admin, ann, build(admin))


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
    place = "params" if ask.body is None else "body"
    while True:
        answer = client.request(ask.method, ask.path, params=ask.params, json=ask.body)
        given.append(answer)
        found = answer.json() if answer.headers["content-type"].startswith("application/json") else {}
        if ask.listed and answer.is_success:
            items += found.get(ask.listed, [])
        token = found.get("next_page_token")
        if not (ask.is_paged and token):
            return given, items
        ask = ask._replace(**{place: getattr(ask, place) | {"page_token": token}})


def check(client: httpx.Client, ask: Ask, world: World, names: set[str]) -> None:
    given, items = answers(client, ask)
    text = "".join(answer.text + str(answer.headers) for answer in given)
    for thing in ask.about[:1]:
        # Who asks for one file by its path is told the path that they gave.
        text = text.replace(thing.run_file, "") if thing.run_file in ask.path else text
    granted = [thing for thing in ask.about if thing.name in names]
    hidden = [thing for thing in world.things if thing.name not in names]
    assert not [thing.name for thing in hidden if thing.is_in(text)], (ask, text)
    # Who asks for one thing by its id is told the id that they gave.
    assert not [one for thing in hidden if (thing,) != ask.about for one in thing.ids if one in text], (ask, text)
    if ask.listed:
        assert len(items) == ask.each * len(granted), (ask, text)
        assert not granted or all(answer.is_success for answer in given), (ask, text)
        assert ask.listed == "experiment_ids" or all(thing.is_in(text) for thing in granted), (ask, text)
    elif ask.about:
        assert [answer.status_code for answer in given][:1] == [200 if granted else 404], (ask, text)
        assert all(thing.is_in(text) for thing in granted), (ask, text)


def read_all(server: Server, grants: list[Grant]) -> None:
    let_in(server.gate, admin=ADMIN, ann=[*grants, Grant("viewer", Kind.EXPERIMENT, "none of these")])
    names = {name for name in NAMES if any(_covers(grant, name) for grant in grants)}
    world = server.world
    for reading in READING.values():
        for thing in world.things:
            for ask in reading.of_one(thing, world):
                check(server.ann, ask, world, names)
        for ask in reading.of_all(world):
            check(server.ann, ask, world, names)


def _covers(grant: Grant, name: str) -> bool:
    return grant.kind is Kind.EVERYTHING or (name.startswith(grant.name) if grant.is_prefix else name == grant.name)


GRANTS = st.one_of(
    st.builds(Grant, st.just("viewer"), st.just(Kind.EXPERIMENT), st.sampled_from(NAMES), st.booleans()),
    st.builds(
        Grant, st.just("publisher"), st.just(Kind.EXPERIMENT), st.sampled_from(["a", "a_", "D", "ä"]), st.just(True)
    ),
)


def test_no_way_of_asking_shows_what_is_not_granted(server):
    read_all(server, [Grant.parse("viewer:experiment:a%*"), Grant.parse("viewer:experiment:a_b")])


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(st.lists(GRANTS, min_size=1, max_size=3))
def test_whatever_is_granted_nothing_else_is_shown(server, grants):
    read_all(server, grants)


@pytest.mark.slow
def test_postgresql_shows_the_same(postgres_server):
    read_all(postgres_server, [Grant.parse("viewer:experiment:a_*"), Grant.parse("viewer:experiment:A")])


def test_whoever_is_granted_everything_sees_everything(server):
    read_all(server, [Grant("viewer")])


def test_hidden_is_answered_as_what_never_was(server):
    let_in(server.gate, admin=ADMIN, ann=[Grant.parse("viewer:experiment:a")])
    for reading in READING.values():
        for thing in server.world.things[:3]:
            if thing.name != "a":
                asked = zip(reading.of_one(thing, server.world), reading.of_one(ABSENT, server.world), strict=True)
                for hidden, absent in asked:
                    assert shape(server.ann, hidden, thing) == shape(server.ann, absent, ABSENT), hidden


def shape(client: httpx.Client, ask: Ask, thing: Thing) -> tuple[Any, ...]:
    """An answer, but for when it was given and for what the caller gave."""
    answer = client.request(ask.method, ask.path, params=ask.params, json=ask.body)
    told = {
        name: value for name, value in answer.headers.items() if name not in {"date", "content-length", "x-request-id"}
    }
    text = re.sub(rf"\bid={thing.experiment_id}\b", "id=E", answer.text)
    for told_us, stands in ((thing.run_file, "F"), *zip(thing.ids, "RMD", strict=True)):
        text = text.replace(told_us, stands)
    return answer.status_code, told, text.replace(thing.mark, "K").replace(repr(thing.name), "N")


def test_a_dataset_of_several_experiments_names_those_that_are_granted(server):
    path = f"{DATASETS}/{server.world.shared_dataset_id}"
    default, other = server.world.things[:2]
    for grant, seen in (("Default", [default]), (other.name, [other]), ("a_b", [])):
        let_in(server.gate, admin=ADMIN, ann=[Grant("viewer", Kind.EXPERIMENT, grant)])
        ids = [thing.experiment_id for thing in seen]
        answer = server.ann.get(f"{path}/experiment-ids")
        assert answer.json().get("experiment_ids") == (ids or None)
        assert answer.status_code == (200 if seen else 404)
        found = (
            server.ann.post(f"{DATASETS}/search", json={"filter_string": "name = 'shared'"}).json().get("datasets", [])
        )
        assert [one["experiment_ids"] for one in found] == ([ids] if seen else [])
        wanted = {"filter_string": "name = 'shared'", "experiment_ids": [default.experiment_id]}
        found = server.ann.post(f"{DATASETS}/search", json=wanted).json().get("datasets", [])
        assert bool(found) == (default in seen)


def test_a_folder_shows_what_is_granted_and_the_way_there(server):
    def listed(folder: str | None) -> list[str]:
        answer = server.ann.get(FILES, params={} if folder is None else {"path": folder})
        return [one["path"] for one in answer.json()["files"]]

    by_name = {thing.name: thing for thing in server.world.things}
    let_in(server.gate, admin=ADMIN, ann=[Grant.parse("viewer:experiment:a")])
    assert listed(None) == [by_name["a"].folder]
    assert listed(by_name["a"].folder) == sorted([by_name["a"].run_id, "models"])
    assert listed("teams") == listed("teams/x") == listed(by_name["Default"].folder) == []
    let_in(server.gate, admin=ADMIN, ann=[Grant.parse("viewer:experiment:A")])
    assert (listed(None), listed("teams"), listed("teams/x")) == (["teams"], ["x"], ["inner"])
    # One experiment's place is within the other's: its files are its own.
    let_in(server.gate, admin=ADMIN, ann=[Grant.parse("viewer:experiment:a_b")])
    assert listed("teams/x") == sorted([by_name["a_b"].run_id, "models"])
    assert listed("teams/x/inner") == []


def test_what_is_registered_of_an_experiment_is_named_to_who_sees_the_model(server):
    thing = next(thing for thing in server.world.things if thing.name == "a-b")
    source = {"source": f"models:/{thing.model_id}", "model_id": thing.model_id}
    folder = f"{FILES}/{thing.folder}/models/{thing.model_id}/artifacts"
    let_in(server.gate, admin=ADMIN)
    server.admin.put(f"{folder}/MLmodel", content=b"flavors: {}").raise_for_status()
    for name in ("churn", "unseen"):
        server.admin.post(f"{API}/registered-models/create", json={"name": name}).raise_for_status()
        server.admin.post(f"{API}/model-versions/create", json={"name": name, **source}).raise_for_status()

    def asked() -> list[httpx.Response]:
        wanted = {"experiment_ids": [thing.experiment_id], "filter": "tags.`mlflow.modelVersions` LIKE '%unseen%'"}
        return [
            server.ann.get(f"{API}/logged-models/{thing.model_id}"),
            server.ann.post(f"{API}/logged-models/search", json=wanted),
            server.ann.put(f"{folder}/more", content=b"x"),
        ]

    let_in(server.gate, ann=[Grant.parse("publisher:experiment:a-b"), Grant.parse("viewer:model:churn")])
    got, found, frozen = asked()
    assert [answer.status_code for answer in (got, found, frozen)] == [200, 200, 409]
    assert not any("unseen" in answer.text for answer in (got, found, frozen))
    assert "churn" in got.text
    assert found.json()["models"] == []
    let_in(server.gate, ann=[Grant("publisher")])
    got, found, frozen = asked()
    assert "unseen" in got.text
    assert len(found.json()["models"]) == 1
    assert "churn" in frozen.text
