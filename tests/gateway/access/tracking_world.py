"""Experiments whose names trip prefixes, each with one of everything, and in all of it a text that is nowhere else."""

import json
from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

import httpx

from gateway.access.gatekeeper import Gatekeeper
from tracking.access.book import Book, KnownToken, KnownUser
from tracking.access.grants import Grant
from tracking.access.schema import GrantRow, TokenRow, UserRow
from tracking.access.secrets import digest_of
from tracking.database import Database

API = "/api/2.0/mlflow"
FILES = "/api/2.0/mlflow-artifacts/artifacts"
DATASETS = "/api/3.0/mlflow/datasets"
NAMES = ("Default", "a", "a%", "a_b", "A", "a-b", "ä𝒷")
# What a name is followed by, for a place within another experiment's.
PLACES = {"a_b": "mlflow-artifacts:/teams/x", "A": "mlflow-artifacts:/teams/x/inner"}


class Thing(NamedTuple):
    """An experiment, and one of everything that can belong to it."""

    name: str
    mark: str
    number: float
    """The value of its metrics."""
    experiment_id: str
    run_id: str
    model_id: str
    dataset_id: str
    folder: str
    """Where its artifacts lie."""

    @property
    def ids(self) -> tuple[str, ...]:
        return self.run_id, self.model_id, self.dataset_id

    @property
    def run_file(self) -> str:
        return f"{self.folder}/{self.run_id}/artifacts/{self.mark}.txt"

    def is_in(self, text: str) -> bool:
        return self.mark in text or str(self.number) in text


ABSENT = Thing("nowhere", "mark-of-none", 0.5, "9", "0" * 32, f"m-{'1' * 32}", f"d-{'2' * 32}", "9")
"""What never was."""


class World(NamedTuple):
    things: list[Thing]
    shared_dataset_id: str
    """An evaluation dataset that belongs to the first two experiments."""

    def seen(self, names: Collection[str]) -> list[Thing]:
        return [thing for thing in self.things if thing.name in names]

    @property
    def experiment_ids(self) -> list[str]:
        return [thing.experiment_id for thing in self.things]


def let_in(gate: Gatekeeper, **grants: Iterable[Grant]) -> None:
    """Have each name be a user, and a token of theirs, with these grants."""
    held = {name: tuple(some) for name, some in grants.items()}
    gate.take(
        Book(
            number=1,
            users={name: KnownUser(name, some, None) for name, some in held.items()},
            tokens={digest_of(name): KnownToken(name, name, some, 2**53, False) for name, some in held.items()},
        )
    )


def keep(database: Database, **grants: Iterable[Grant]) -> None:
    """Keep the users and tokens of `let_in`: what changes access asks the database whether a token is still there."""
    with database.writing() as session:
        for name, some in grants.items():
            session.add(UserRow(name=name, created_by="boss", created_ms=1))
            session.flush()
            facts = {"digest": digest_of(name), "beginning": name, "is_session": False}
            session.add(TokenRow(id=name, user_name=name, name=name, created_ms=1, expires_ms=4 * 10**12, **facts))
            held = {str(grant) for grant in some}
            session.add_all(GrantRow(user_name=name, grant=text, author="boss", created_ms=1) for text in held)


def signed_in(url: str, name: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"Authorization": f"Bearer {name}"}, timeout=30)


def build(client: httpx.Client, names: Iterable[str] = NAMES) -> World:
    """Make everything as whoever *client* has signed in as."""
    things = [_make(client, number, name) for number, name in enumerate(names)]
    for one, other in zip(things, [*things[1:], things[0]], strict=True):
        # Each run has used the next experiment's model, and measured it.
        _send(client, f"{API}/runs/log-inputs", run_id=one.run_id, models=[{"model_id": other.model_id}])
        _send(client, f"{API}/runs/log-batch", run_id=one.run_id, metrics=[_point(one, "cross", other.model_id)])
    shared = _send(
        client, f"{DATASETS}/create", name="shared", experiment_ids=[one.experiment_id for one in things[:2]]
    )
    return World(things, shared["dataset"]["dataset_id"])


def _make(client: httpx.Client, number: int, name: str) -> Thing:
    mark = f"mark{number:03d}secret"
    tags = [{"key": "mark", "value": mark}, {"key": "shared", "value": "yes"}]
    if name == "Default":
        experiment_id = "0"
        for tag in tags:
            _send(client, f"{API}/experiments/set-experiment-tag", experiment_id="0", **tag)
    else:
        made = _send(client, f"{API}/experiments/create", name=name, tags=tags, artifact_location=PLACES.get(name))
        experiment_id = made["experiment_id"]
    run = _send(client, f"{API}/runs/create", experiment_id=experiment_id, run_name=mark, tags=tags)["run"]
    gone = _send(client, f"{API}/runs/create", experiment_id=experiment_id, run_name=f"gone {mark}", tags=tags)["run"]
    _send(client, f"{API}/runs/delete", run_id=gone["info"]["run_id"])
    run_id = run["info"]["run_id"]
    model = _send(
        client,
        f"{API}/logged-models",
        experiment_id=experiment_id,
        name=mark,
        source_run_id=run_id,
        tags=tags,
        params=[{"key": "mark", "value": mark}],
    )["model"]["info"]
    dataset = _send(
        client, f"{DATASETS}/create", name=mark, experiment_ids=[experiment_id], tags=json.dumps({"mark": mark})
    )["dataset"]
    thing = Thing(
        name=name,
        mark=mark,
        number=float(f"0.771{number}339"),
        experiment_id=experiment_id,
        run_id=run_id,
        model_id=model["model_id"],
        dataset_id=dataset["dataset_id"],
        folder=PLACES.get(name, experiment_id).removeprefix("mlflow-artifacts:/"),
    )
    _fill(client, thing)
    return thing


def _fill(client: httpx.Client, thing: Thing) -> None:
    _send(
        client,
        f"{API}/runs/log-batch",
        run_id=thing.run_id,
        metrics=[_point(thing, "score"), _point(thing, thing.mark), _point(thing, "measured", thing.model_id)],
        params=[{"key": "mark", "value": thing.mark}],
    )
    used = {"name": thing.mark, "digest": thing.mark, "source_type": "local", "source": thing.mark}
    context = [{"key": "mlflow.data.context", "value": thing.mark}]
    _send(client, f"{API}/runs/log-inputs", run_id=thing.run_id, datasets=[{"dataset": used, "tags": context}])
    model = f"{API}/logged-models/{thing.model_id}"
    client.patch(model, json={"status": "LOGGED_MODEL_READY"}).raise_for_status()
    records = json.dumps([{"inputs": {"mark": thing.mark, "number": number}} for number in range(2)])
    _send(client, f"{DATASETS}/{thing.dataset_id}/records", records=records)
    for file in (thing.run_file, f"{thing.folder}/models/{thing.model_id}/artifacts/{thing.mark}.txt"):
        client.put(f"{FILES}/{file}", content=thing.mark.encode()).raise_for_status()


def _point(thing: Thing, key: str, model_id: str | None = None) -> dict[str, Any]:
    return {
        "key": key,
        "value": thing.number,
        "timestamp": 1,
        "step": 1,
        "model_id": model_id,
        "dataset_name": thing.mark,
        "dataset_digest": thing.mark,
    }


def _send(client: httpx.Client, path: str, **body: Any) -> Any:
    answer = client.post(path, json=body)
    assert answer.is_success, (path, answer.text)
    return answer.json()
