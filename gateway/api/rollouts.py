"""Rollouts: begun, followed and steered by people. Who carries them on is `gateway.rollouts.actor`."""

from typing import Any

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK
from sqlalchemy.orm import Session

from gateway.access.identity import NotPermitted, current_identity
from gateway.api.gates import override_of
from gateway.auth import needs
from gateway.comparison.metrics import metric_named
from gateway.rollouts.decision import Finding, Ruling
from gateway.rollouts.guards import parse_guard
from gateway.settings import Settings
from gateway.version_interfaces import learn_interfaces
from registry import endpoints, rollouts
from registry.endpoints import EndpointNotFound
from registry.gates import Override
from registry.granted import ensure_may_change
from registry.history import REASON_LENGTH_MAX
from registry.rollout_entities import Rollout, RolloutSpec
from registry.rollouts import Act
from tracking.access.caller import caller_of
from tracking.access.permissions import Permission
from tracking.artifacts import ArtifactStore
from tracking.database import Database
from tracking.names import check_text

_ROLLOUTS = "/api/1.0/titlebout/rollouts"
_ROLLOUT = f"{_ROLLOUTS}/{{name:str}}"


class StartRollout(msgspec.Struct, forbid_unknown_fields=True):
    """Which version, and how."""

    endpoint: str
    version: int
    spec: RolloutSpec
    reason: str = ""
    override: str | None = None
    """Why gates that aren't met are passed by at each step, for who may."""


class TryRollout(msgspec.Struct, forbid_unknown_fields=True):
    version: int
    spec: RolloutSpec
    override: str | None = None


class Tried(msgspec.Struct, kw_only=True):
    """What would be done now, and why; nothing was changed."""

    endpoint: str
    version: int
    share_bp: int
    """Of the step that would be next."""
    ruling: Ruling
    reason: str
    findings: list[Finding]
    """By what both arms have been asked so far, if they have."""


class Word(msgspec.Struct, forbid_unknown_fields=True):
    """What a person has to say about what they ask."""

    reason: str = ""


class Promote(msgspec.Struct, forbid_unknown_fields=True):
    reason: str = ""
    override: str | None = None


class Rollouts(msgspec.Struct, kw_only=True):
    rollouts: list[Rollout]


@get(_ROLLOUTS, sync_to_thread=True, opt=needs(Permission.OBSERVE))
def list_rollouts(database: NamedDependency[Database]) -> Rollouts:
    """The newest hundred, those that run first."""
    with database.reading() as session:
        return Rollouts(rollouts=rollouts.list_rollouts(session))


@get(_ROLLOUT, sync_to_thread=True, opt=needs(Permission.OBSERVE))
def get_rollout(name: FromPath[str], database: NamedDependency[Database]) -> Rollout:
    """The one that runs on an endpoint, else the one that ran last."""
    with database.reading() as session:
        return rollouts.newest(session, name)


@post(_ROLLOUTS, sync_to_thread=True, status_code=HTTP_200_OK, opt=needs(Permission.ALIAS_WRITE))
def start_rollout(
    data: JSONBody[StartRollout], database: NamedDependency[Database], artifact_store: NamedDependency[ArtifactStore]
) -> Rollout:
    _ensure_known(data.spec)
    _learn(database, artifact_store, data.endpoint, data.version)
    with database.writing() as session:
        act, override = _asked(session, database, data.endpoint, data.reason, data.override)
        return rollouts.start(session, data.endpoint, data.version, data.spec, act, override=override)


@post(f"{_ROLLOUT}/dry-run", sync_to_thread=True, status_code=HTTP_200_OK, opt=needs(Permission.ALIAS_WRITE))
def try_rollout(
    name: FromPath[str],
    data: JSONBody[TryRollout],
    database: NamedDependency[Database],
    artifact_store: NamedDependency[ArtifactStore],
) -> Tried:
    """What a rollout would do now: the same refusals, and what is known of the two versions already."""
    # With scipy, 26 MiB and a quarter of a second, which most workers have no use for.
    from gateway.rollouts.looks import judge_beforehand  # noqa: PLC0415

    _ensure_known(data.spec)
    _learn(database, artifact_store, name, data.version)
    with database.writing() as session:
        act, override = _asked(session, database, name, "", data.override)
        undone = session.begin_nested()
        try:
            rollout = rollouts.start(session, name, data.version, data.spec, act, override=override)
        finally:
            undone.rollback()
    with database.reading() as session:
        judged, findings = judge_beforehand(session, rollout, now_ms=act.now_ms)
    return Tried(
        endpoint=name,
        version=data.version,
        share_bp=data.spec.share_bp(1),
        ruling=judged.ruling,
        reason=judged.reason,
        findings=list(findings),
    )


@post(f"{_ROLLOUT}/pause", sync_to_thread=True, status_code=HTTP_200_OK, opt=needs(Permission.ALIAS_WRITE))
def pause_rollout(name: FromPath[str], data: JSONBody[Word], database: NamedDependency[Database]) -> Rollout:
    """Leave the shares as they are; what is bad is put back all the same."""
    with database.writing() as session:
        act, _ = _asked(session, database, name, data.reason)
        return rollouts.pause(session, name, act)


@post(f"{_ROLLOUT}/resume", sync_to_thread=True, status_code=HTTP_200_OK, opt=needs(Permission.ALIAS_WRITE))
def resume_rollout(
    name: FromPath[str],
    data: JSONBody[Word],
    database: NamedDependency[Database],
    artifact_store: NamedDependency[ArtifactStore],
) -> Rollout:
    """Go on after a pause; or to the next step, where it waits for a person."""
    _learn(database, artifact_store, name)
    with database.writing() as session:
        act, _ = _asked(session, database, name, data.reason)
        return rollouts.resume(session, name, act)


@post(f"{_ROLLOUT}/abort", sync_to_thread=True, status_code=HTTP_200_OK, opt=needs(Permission.ALIAS_WRITE))
def abort_rollout(
    name: FromPath[str],
    data: JSONBody[Word],
    database: NamedDependency[Database],
    settings: NamedDependency[Settings],
) -> Rollout:
    """End it with everything as it was before; a version that is champion already gives way to the one before."""
    with database.writing() as session:
        act, _ = _asked(session, database, name, data.reason)
        return rollouts.abort(session, name, act, lead_ms=settings.switch_lead_ms)


@post(f"{_ROLLOUT}/promote", sync_to_thread=True, status_code=HTTP_200_OK, opt=needs(Permission.ALIAS_WRITE))
def promote_rollout(
    name: FromPath[str],
    data: JSONBody[Promote],
    database: NamedDependency[Database],
    artifact_store: NamedDependency[ArtifactStore],
) -> Rollout:
    """Make the version champion at once; if it is, stop watching it."""
    _learn(database, artifact_store, name)
    with database.writing() as session:
        act, override = _asked(session, database, name, data.reason, data.override)
        return rollouts.promote(session, name, act, override=override)


def _learn(database: Database, store: ArtifactStore, endpoint: str, *versions: int) -> None:
    """What gates compare of *versions*, and of those that the aliases mean, where a gate has come since."""
    with database.reading() as session:
        model = endpoints.model_of(session, endpoint)
    learn_interfaces(database, store, model, *versions)


def _ensure_known(spec: RolloutSpec) -> None:
    """Raise `GuardUnknown` or `MetricUnknown` if *spec* names what there isn't."""
    for guard in spec.guards:
        parse_guard(guard)
    if spec.metric is not None:
        metric_named(spec.metric)


def _asked(
    session: Session, database: Database, endpoint: str, reason: str, override: str | None = None
) -> tuple[Act, Override | None]:
    """Who asks, by the database's clock, by which rollouts are carried on.

    Raises:
        EndpointNotFound: if there is no such endpoint that they may see.
        NotPermitted: if they may move the alias and not the split, or override nothing and want to.
    """
    now_ms = database.now_ms(session)
    model = endpoints.model_of(session, endpoint)
    ensure_may_change(session, model, EndpointNotFound(endpoint))
    identity = current_identity()
    if model not in identity.caller(Permission.SPLIT_WRITE).acting.models:
        raise NotPermitted(identity.name, Permission.SPLIT_WRITE)
    check_text(reason, "reason", REASON_LENGTH_MAX)
    return Act(author=caller_of(session).name, now_ms=now_ms, reason=reason), override_of(model, override, now_ms)


handlers: list[Any] = [
    list_rollouts,
    get_rollout,
    start_rollout,
    try_rollout,
    pause_rollout,
    resume_rollout,
    abort_rollout,
    promote_rollout,
]
