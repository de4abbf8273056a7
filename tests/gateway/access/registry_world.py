"""Registered models whose names trip prefixes, each with one of everything, and in all of it a text of its own."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.observability.exposition import AllMetrics
from gateway.observability.metrics import Metrics, MetricsFolder
from gateway.observability.prediction_metrics import ArmMetrics
from gateway.routing_table import Choice
from registry import (
    aliases,
    approvals,
    endpoints,
    epochs,
    gates,
    load_tests,
    models,
    rollouts,
    serving,
    versions,
    webhooks,
)
from registry.entities import ApprovalNeeded, Gate, SlotStatus
from registry.rollout_entities import RolloutSpec
from registry.rollouts import Act
from registry.schema import ModelVersionRow, VersionSignatureRow
from registry.sources import Claim, SourcePolicy
from registry.webhook_events import WebhookEvent
from registry.webhooks import WebhookChanges
from tests.gateway.load_testing.reports import REPORT
from tracking.access import keys, users
from tracking.access.grants import Grant, Kind
from tracking.access.tokens import create_token
from tracking.database import Database

NAMES = ("a", "a%", "a_b", "A", "a-b", "a@x", "ä𝒷")
ALL = (Grant("admin"), Grant("scorer"))
NOW_MS = 1_700_000_000_000
LEASE_MS = 2**42
DIGEST = "d" * 64

POLICY = SourcePolicy(locate=lambda _: None, prefixes=("s3://shared",))


class Thing(NamedTuple):
    """A model, and what belongs to it under names of its own."""

    name: str
    mark: str

    @property
    def endpoint(self) -> str:
        # It begins as most models' names do, whatever its model's.
        return f"a-{self.mark}"

    @property
    def user(self) -> str:
        return f"user-{self.mark}"

    @property
    def key(self) -> str:
        return f"key-{self.mark}"


ABSENT = Thing("ab", "mark-of-none")
"""What never was."""
THINGS = [Thing(name, f"mark{number:03d}secret") for number, name in enumerate(NAMES)]


def build(database: Database, things: Sequence[Thing] = THINGS) -> str:
    """Make everything; gives the id of a webhook that tells of it."""
    with database.writing() as session:
        # Over the access of some names lies that of all.
        users.create_user(session, "boss", grants=ALL, password_hash=None, author="boss", own=ALL, now_ms=1)
    for thing in things:
        _make(database, thing)
    with database.writing() as session:
        now_ms = database.now_ms(session)
        slots = [slot for thing in things for slot in _slots(thing)]
        serving.heartbeat(session, "replica", slots=slots, epoch=1, now_ms=now_ms, lease_ms=LEASE_MS)
        epochs.commit_epoch(session, now_ms=now_ms, lead_ms=0)
        hook = WebhookChanges(
            name="hook",
            url=f"https://example.org/{'/'.join(thing.mark for thing in things)}",
            events=[WebhookEvent.MODEL_VERSION_CREATED],
        )
        return webhooks.create_webhook(session, hook, now_ms=1).webhook_id


def _make(database: Database, thing: Thing) -> None:
    name, mark = thing
    tags = {"mark": mark, "shared": "yes"}
    with database.writing() as session:
        models.create_model(session, name, now_ms=NOW_MS, description=mark, tags=tags)
        for number in (1, 2):
            versions.create_version(
                session,
                name,
                Claim(source=f"s3://shared/{mark}/{number}", run_id=mark),
                policy=POLICY,
                now_ms=NOW_MS,
                description=mark,
                tags=tags,
            )
        for alias, number in (("champion", 1), ("challenger", 2), ("x", 2)):
            aliases.set_alias(session, name, alias, number, author=mark, now_ms=NOW_MS)
        endpoints.rename_endpoint(session, name, thing.endpoint, author=mark, now_ms=NOW_MS)
        gate = Gate(name=mark, needs=ApprovalNeeded(), aliases=("unused",))
        gates.set_gate(session, name, gate, author=mark, now_ms=NOW_MS)
        approvals.approve(session, name, 1, author=mark, now_ms=NOW_MS, reason=mark)
        session.get_one(ModelVersionRow, (name, 1)).digest = DIGEST
        report = msgspec.structs.replace(REPORT, endpoint=mark)
        tested = {"digest": DIGEST, "passed": True, "report": msgspec.json.encode(report).decode()}
        load_tests.keep(session, name, 1, **tested, author=mark, now_ms=NOW_MS)
        rollouts.start(session, thing.endpoint, 2, RolloutSpec(steps_bp=(10_000,)), Act(author=mark, now_ms=NOW_MS))
        rollouts.abort(session, thing.endpoint, Act(author=mark, now_ms=NOW_MS), lead_ms=0)
        session.add(VersionSignatureRow(name=name, version=1, key_id="k", bundle=mark, author=mark, created_ms=1))
        own = [Grant("viewer", Kind.MODEL, name)]
        users.create_user(session, thing.user, grants=own, password_hash=None, author=mark, own=ALL, now_ms=1)
        create_token(session, thing.user, mark, life_ms=1_000, now_ms=NOW_MS, own=ALL)
        keys.create_key(session, thing.key, endpoints=[name], author=mark, own=ALL, now_ms=1)


def _slots(thing: Thing) -> list[SlotStatus]:
    return [
        SlotStatus(model=thing.name, version=1, state="READY", predictor=thing.mark, digest=DIGEST),
        SlotStatus(model=thing.name, version=2, state="FAILED", reason=f"{thing.mark} is broken"),
    ]


def counted(folder: Path, things: Iterable[Thing] = THINGS) -> AllMetrics:
    """What a worker wrote down of a prediction by each."""
    metrics = Metrics()
    for thing in things:
        ArmMetrics(metrics, Choice(thing.endpoint, thing.name, 1, "champion", 1)).answered(200, 0.004)
    folder.mkdir()
    written = MetricsFolder(folder)
    written.write("worker", metrics.snapshot())
    return AllMetrics(written, lambda: None)


def covered(grants: Iterable[Grant]) -> Callable[[Thing], bool]:
    """Which of the world any of *grants*, by their own words, is for."""
    held = list(grants)

    def is_covered(thing: Thing) -> bool:
        return any(
            grant.kind is Kind.EVERYTHING
            or (thing.name.startswith(grant.name) if grant.is_prefix else thing.name == grant.name)
            for grant in held
        )

    return is_covered
