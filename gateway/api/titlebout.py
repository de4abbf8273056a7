"""Titlebout's own API: endpoints and their splits, desired and serving state side by side.

Unknown fields are refused here, unlike on MLflow's paths: a misspelt share must not pass for a default.
"""

import logging
from collections.abc import Callable

import msgspec
from litestar import delete, get, patch, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery, JSONBody
from litestar.status_codes import HTTP_200_OK
from sqlalchemy.orm import Session

from gateway.api.gates import override_of
from gateway.auth import needs
from gateway.settings import Settings
from gateway.version_interfaces import learn_interfaces
from registry import announcements, endpoints, fallbacks, models, pins, rollbacks, serving
from registry.entities import (
    CHAMPION,
    DesiredRoute,
    Endpoint,
    Replica,
    Rollback,
    Route,
    RoutingTable,
    Shadow,
    SlotStatus,
    Split,
)
from registry.uri import resolve, resolve_at
from tracking.access.caller import caller_of
from tracking.access.permissions import Permission
from tracking.artifacts import ArtifactStore
from tracking.database import Database

_log = logging.getLogger(__name__)

_ROOT = "/api/1.0/titlebout"

Clock = Callable[[], float]


class EndpointStatus(msgspec.Struct, kw_only=True):
    """One endpoint: what it should be beside what it is."""

    name: str
    model: str
    stopped: bool
    period: int
    shares_bp: dict[str, int]
    dormant_bp: dict[str, int]
    desired: dict[str, int]
    """Arm to the version that its alias means."""
    serving: dict[str, int]
    """Arm to the version that answers on every live replica."""
    serving_period: int | None
    """The period whose split is in force; it lags `period` until the next epoch. None until all arms are right."""
    problems: list[str]
    """Why the two differ, if a load failed."""
    former_champion: int | None
    fallback: bool
    """Whether the champion answers where another arm fails."""
    shadow: Shadow | None
    """Whose arm is asked a copy of what others answer."""


class ReplicaStatus(msgspec.Struct, kw_only=True):
    id: str
    live: bool
    epoch: int
    slots: list[SlotStatus]


class ReplicaProgress(msgspec.Struct, kw_only=True):
    """A live replica's part in one endpoint."""

    id: str
    epoch: int
    serving: dict[str, int]
    """Arm to the version that this replica answers with."""
    slots: list[SlotStatus]
    """The versions of the endpoint's model that it holds, or tries to."""


class Progress(msgspec.Struct, kw_only=True):
    """How far each live replica is from what one endpoint should be: what a flip is followed by."""

    stopped: bool
    desired: dict[str, int]
    replicas: list[ReplicaProgress]


class Status(msgspec.Struct, kw_only=True):
    generation: int
    epoch: int
    """The epoch that all live replicas answer from."""
    endpoints: list[EndpointStatus]
    replicas: list[ReplicaStatus]


class ChangeSplit(msgspec.Struct, forbid_unknown_fields=True):
    """New shares, in basis points; arms not named stay, dark."""

    shares_bp: dict[str, int]
    reason: str = "split changed"
    reshuffle: bool = False
    """Draw a new salt, so that every unit is assigned anew."""
    override: str | None = None
    """Why gates that aren't met are passed by, for who may."""


class SetFallback(msgspec.Struct, forbid_unknown_fields=True):
    """Whether the champion answers where another arm fails."""

    on: bool


class RenameEndpoint(msgspec.Struct, forbid_unknown_fields=True):
    name: str


class SplitAnswer(msgspec.Struct, kw_only=True):
    endpoint: str
    period: int
    shares_bp: dict[str, int]


class Resolved(msgspec.Struct, kw_only=True):
    """What a model's URI means now."""

    name: str
    version: int
    source: str
    digest: str | None
    aliases: list[str]


@get(f"{_ROOT}/status", sync_to_thread=True, opt=needs(Permission.OBSERVE))
def get_status(database: NamedDependency[Database]) -> Status:
    with database.reading() as session:
        return read_status(session, now_ms=database.now_ms(session))


@get(f"{_ROOT}/endpoints/{{name:str}}", sync_to_thread=True, opt=needs(Permission.OBSERVE))
def get_endpoint_status(name: FromPath[str], database: NamedDependency[Database]) -> EndpointStatus:
    with database.reading() as session:
        endpoint = endpoints.get_endpoint(session, name)
        now_ms = database.now_ms(session)
        replicas = serving.list_replicas(session, now_ms=now_ms)
        slots = [slot for replica in replicas if replica.live for slot in replica.slots]
        statuses = _endpoint_statuses(session, serving.table_in_force(session, replicas), slots, now_ms=now_ms)
    return next(status for status in statuses if status.name == endpoint.name)


@get(f"{_ROOT}/endpoints/{{name:str}}/progress", sync_to_thread=True, opt=needs(Permission.OBSERVE))
def get_progress(name: FromPath[str], database: NamedDependency[Database]) -> Progress:
    """One endpoint, replica by replica; asked often while it is waited for, so it looks at nothing else."""
    with database.reading() as session:
        endpoint = endpoints.get_endpoint(session, name)
        arms = endpoints.get_split(session, endpoint.id).shares_bp
        aliases = models.get_model(session, endpoint.model).aliases
        live = [r for r in serving.list_replicas(session, now_ms=database.now_ms(session)) if r.live]
        # Almost always one epoch for all: a table can be large, and is read once.
        tables = {epoch: serving.table_of(session, epoch) for epoch in {replica.epoch for replica in live}}
    return Progress(
        stopped=endpoint.stopped,
        desired={alias: version for alias, version in aliases.items() if alias in arms},
        replicas=[_replica_progress(endpoint, replica, tables[replica.epoch]) for replica in live],
    )


@put(f"{_ROOT}/endpoints/{{name:str}}/split", sync_to_thread=True, opt=needs(Permission.SPLIT_WRITE))
def change_split(
    name: FromPath[str],
    data: JSONBody[ChangeSplit],
    database: NamedDependency[Database],
    clock: NamedDependency[Clock],
) -> SplitAnswer:
    now_ms = int(clock() * 1000)
    with database.writing() as session:
        override = None
        if data.override is not None:
            override = override_of(endpoints.model_of(session, name), data.override, now_ms)
        split = endpoints.change_split(
            session,
            name,
            data.shares_bp,
            author=caller_of(session).name,
            now_ms=now_ms,
            reason=data.reason,
            reshuffle=data.reshuffle,
            override=override,
        )
    return SplitAnswer(endpoint=name, period=split.period, shares_bp=split.shares_bp)


@put(f"{_ROOT}/endpoints/{{name:str}}/fallback", sync_to_thread=True, opt=needs(Permission.SPLIT_WRITE))
def set_fallback(
    name: FromPath[str],
    data: JSONBody[SetFallback],
    database: NamedDependency[Database],
    clock: NamedDependency[Clock],
) -> dict[str, str | bool]:
    with database.writing() as session:
        author = caller_of(session).name
        fallbacks.set_fallback(session, name, on=data.on, author=author, now_ms=int(clock() * 1000))
    return {"endpoint": name, "fallback": data.on}


@patch(f"{_ROOT}/endpoints/{{name:str}}", sync_to_thread=True, opt=needs(Permission.SPLIT_WRITE))
def rename_endpoint(
    name: FromPath[str],
    data: JSONBody[RenameEndpoint],
    database: NamedDependency[Database],
    clock: NamedDependency[Clock],
) -> dict[str, str]:
    with database.writing() as session:
        author = caller_of(session).name
        endpoints.rename_endpoint(session, name, data.name, author=author, now_ms=int(clock() * 1000))
    return {"name": data.name}


@post(
    f"{_ROOT}/endpoints/{{name:str}}/stop",
    sync_to_thread=True,
    status_code=HTTP_200_OK,
    opt=needs(Permission.SPLIT_WRITE),
)
def stop_endpoint(
    name: FromPath[str], database: NamedDependency[Database], clock: NamedDependency[Clock]
) -> dict[str, str]:
    with database.writing() as session:
        endpoints.stop_endpoint(session, name, author=caller_of(session).name, now_ms=int(clock() * 1000))
    return {"name": name, "state": "stopped"}


@post(
    f"{_ROOT}/endpoints/{{name:str}}/rollback",
    sync_to_thread=True,
    status_code=HTTP_200_OK,
    opt=needs(Permission.ALIAS_WRITE),
)
def roll_back(
    name: FromPath[str],
    database: NamedDependency[Database],
    settings: NamedDependency[Settings],
    expected_version: FromQuery[int | None] = None,
) -> Rollback:
    """Go back to the champion before, if it is still in memory; with *expected_version* only from that one."""
    with database.writing() as session:
        author = caller_of(session).name
        taken = rollbacks.roll_back(
            session,
            name,
            author=author,
            now_ms=database.now_ms(session),
            lead_ms=settings.switch_lead_ms,
            expected_version=expected_version,
        )
        announcements.alias_was_set(session, taken.model, CHAMPION, taken.version)
    _log.info("rolled_back", extra={**msgspec.structs.asdict(taken), "author": author})
    return taken


@put(f"{_ROOT}/pins/{{model:str}}/{{version:int}}", sync_to_thread=True, opt=needs(Permission.ALIAS_WRITE))
def pin_version(
    model: FromPath[str],
    version: FromPath[int],
    database: NamedDependency[Database],
    clock: NamedDependency[Clock],
    artifact_store: NamedDependency[ArtifactStore],
) -> dict[str, str | int]:
    """Keep a version in memory, whatever the aliases say."""
    learn_interfaces(database, artifact_store, model, version)
    with database.writing() as session:
        pins.pin(session, model, version, author=caller_of(session).name, now_ms=int(clock() * 1000))
    return {"model": model, "version": version}


@delete(
    f"{_ROOT}/pins/{{model:str}}/{{version:int}}",
    sync_to_thread=True,
    status_code=HTTP_200_OK,
    opt=needs(Permission.ALIAS_WRITE),
)
def unpin_version(
    model: FromPath[str],
    version: FromPath[int],
    database: NamedDependency[Database],
    clock: NamedDependency[Clock],
) -> dict[str, str | int]:
    with database.writing() as session:
        pins.unpin(session, model, version, author=caller_of(session).name, now_ms=int(clock() * 1000))
    return {"model": model, "version": version}


@get(f"{_ROOT}/resolve", sync_to_thread=True, opt=needs(Permission.REGISTRY_READ))
def resolve_uri(
    uri: FromQuery[str], database: NamedDependency[Database], at_ms: FromQuery[int | None] = None
) -> Resolved:
    """What ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION`` means now, or an alias meant at an instant."""
    with database.reading() as session:
        version = resolve(session, uri) if at_ms is None else resolve_at(session, uri, at_ms)
    return Resolved(
        name=version.name,
        version=version.version,
        source=version.source,
        digest=version.digest,
        aliases=list(version.aliases),
    )


def read_status(session: Session, *, now_ms: int) -> Status:
    """Of all that the session's caller may see."""
    replicas = serving.list_replicas(session, now_ms=now_ms)
    table = serving.table_in_force(session, replicas)
    slots = [slot for replica in replicas if replica.live for slot in replica.slots]
    return Status(
        generation=serving.generation(session),
        epoch=table.epoch,
        endpoints=_endpoint_statuses(session, table, slots, now_ms=now_ms),
        replicas=[ReplicaStatus(id=r.id, live=r.live, epoch=r.epoch, slots=list(r.slots)) for r in replicas],
    )


def _replica_progress(endpoint: Endpoint, replica: Replica, table: RoutingTable) -> ReplicaProgress:
    return ReplicaProgress(
        id=replica.id,
        epoch=replica.epoch,
        serving=next((route.arms for route in table.routes if route.id == endpoint.id), {}),
        slots=[slot for slot in replica.slots if slot.model == endpoint.model],
    )


def _endpoint_statuses(
    session: Session, table: RoutingTable, slots: list[SlotStatus], *, now_ms: int
) -> list[EndpointStatus]:
    served = {route.id: route for route in table.routes}
    wishes = {wish.endpoint.id: wish for wish in endpoints.desired_routes(session, now_ms=now_ms)}
    return [
        _endpoint_status(
            endpoint,
            endpoints.get_split(session, endpoint.id),
            wishes.get(endpoint.id),
            served.get(endpoint.id),
            slots,
        )
        for endpoint in endpoints.list_endpoints(session)
    ]


def _endpoint_status(
    endpoint: Endpoint, split: Split, wish: DesiredRoute | None, route: Route | None, slots: list[SlotStatus]
) -> EndpointStatus:
    desired = wish.versions if wish else {}
    wanted = {(endpoint.model, version) for version in desired.values()}
    return EndpointStatus(
        name=endpoint.name,
        model=endpoint.model,
        stopped=endpoint.stopped,
        period=split.period,
        shares_bp=split.shares_bp,
        dormant_bp=split.dormant_bp,
        desired=desired,
        serving=route.arms if route else {},
        serving_period=(route.period or None) if route else None,
        problems=sorted(
            {
                f"version {slot.version}: {slot.reason}"
                for slot in slots
                if slot.reason and (slot.model, slot.version) in wanted
            }
        ),
        former_champion=endpoint.former_champion,
        fallback=endpoint.fallback,
        shadow=wish.shadow if wish else None,
    )


handlers = [
    get_status,
    get_endpoint_status,
    get_progress,
    change_split,
    set_fallback,
    rename_endpoint,
    stop_endpoint,
    roll_back,
    pin_version,
    unpin_version,
    resolve_uri,
]
