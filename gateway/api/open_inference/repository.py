"""Open Inference Protocol v2: the model repository. Loading is a pin, unloading takes it back.

A pin is a wish that every replica follows, over restarts too; nothing here loads anything itself.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import unquote

import msgspec
from litestar import Request, Response, post
from litestar.di import NamedDependency
from litestar.params import FromPath
from litestar.status_codes import HTTP_200_OK
from sqlalchemy.orm import Session

from gateway.api.open_inference.errors import IN_PROTOCOL
from gateway.api.open_inference.models import NoSuchPath
from gateway.api.raw_paths import raw_path_below
from gateway.api.scoring.walk import version_number
from gateway.auth import needs
from gateway.pool.version_policy import SlotState
from registry import models, pins, serving, versions
from registry.entities import Replica, SlotStatus, VersionKey
from registry.uri import parse_model_uri, resolve
from tracking.access.caller import caller_of
from tracking.access.permissions import Permission
from tracking.database import Database
from tracking.errors import BadRequest, Conflict, InvalidParameter, TemporarilyUnavailable

_MODELS = "/v2/repository/models/"
_OF_A_MODEL = re.compile(r"(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?/(?P<what>load|unload)/?")
_NAMES_MAX = 10_000
# Triton's client gives up after 60 s by itself; before that it should hear how far things are.
_WAIT_S = 50.0
_POLL_S = 0.2
_LOST = frozenset({SlotState.FAILED, SlotState.UNLOADED})

Clock = Callable[[], float]
T = TypeVar("T", bound=msgspec.Struct)


class LoadFailed(Conflict):
    def __init__(self, key: VersionKey, reason: str) -> None:
        super().__init__(
            f"Version {key[1]} of {key[0]!r} can't be loaded: {reason} It stays pinned and is tried again; "
            "unload takes the pin back."
        )


class StillLoading(TemporarilyUnavailable):
    def __init__(self, key: VersionKey, said: str) -> None:
        super().__init__(f"Version {key[1]} of {key[0]!r} is pinned and not ready everywhere yet: {said}.")


class FilesFromElsewhere(InvalidParameter):
    def __init__(self, parameter: str) -> None:
        super().__init__(f"Parameter {parameter!r} isn't taken: what is loaded are the files that were registered.")


class IndexRequest(msgspec.Struct):
    ready: bool = False


class ChangeRequest(msgspec.Struct):
    parameters: dict[str, Any] | None = None


class IndexEntry(msgspec.Struct, omit_defaults=True):
    name: str
    version: str = ""
    """Absent for a model of which no version is in memory."""
    state: str = ""
    reason: str = ""


@post("/v2/repository/index", status_code=HTTP_200_OK, opt=needs(Permission.OBSERVE), exception_handlers=IN_PROTOCOL)
async def list_repository(request: Request[Any, Any, Any], database: NamedDependency[Database]) -> list[IndexEntry]:
    """All versions that a live replica holds or tries to, and the names of the other models.

    The body may be empty, or ``{"ready": true}`` for those that are ready on all replicas.
    """
    asked = _read(await request.body(), IndexRequest)
    entries = await asyncio.to_thread(_index, database)
    return [entry for entry in entries if entry.state == "READY" or not asked.ready]


@post(
    f"{_MODELS}{{path:path}}",
    status_code=HTTP_200_OK,
    opt=needs(Permission.ALIAS_WRITE),
    exception_handlers=IN_PROTOCOL,
)
async def change_repository(
    request: Request[Any, Any, Any],
    path: FromPath[str],  # noqa: ARG001  (names the parameter; it is read from the raw path)
    database: NamedDependency[Database],
    clock: NamedDependency[Clock],
) -> Response[None]:
    """``NAME/load`` or ``NAME/versions/V/load``: pin a version and wait, bounded, until every replica has it ready.

    A name alone means its champion, ``NAME@ALIAS`` the alias's version. ``/unload`` takes back the pin of that version,
    or with a name alone all of the model's; what an arm needs stays in memory.
    """
    match = _OF_A_MODEL.fullmatch(raw_path_below(request, _MODELS).decode("latin-1"))
    if match is None:
        raise NoSuchPath(request.url.path)
    asked = _read(await request.body(), ChangeRequest)
    name, version = unquote(match["name"]), version_number(match["version"])
    now_ms = int(clock() * 1000)
    if match["what"] == "unload":
        await asyncio.to_thread(_unpin, database, name, version, now_ms)
        return Response(None)
    for parameter in asked.parameters or ():
        if parameter == "config" or parameter.startswith("file:"):
            raise FilesFromElsewhere(parameter)
    key = await asyncio.to_thread(_pin, database, name, version, now_ms)
    await _until_ready(database, key)
    return Response(None)


# --- what is in memory


def state_of(slots: Sequence[SlotStatus | None]) -> tuple[str, str]:
    """State, in Triton's words, and reason of one version, from its slot in each live replica."""
    # What had to leave memory says why, as failures do; what left because nobody wants it has no reason.
    reasons = [slot.reason for slot in slots if slot is not None and slot.reason and slot.state in _LOST]
    if reasons:
        return "UNAVAILABLE", reasons[0]
    states = [SlotState.NEW if slot is None else SlotState(slot.state) for slot in slots]
    if all(state is SlotState.READY for state in states):
        return "READY", ""
    said = ", ".join(f"{state} on {states.count(state)}" for state in dict.fromkeys(states))
    if any(state in {SlotState.DRAINING, SlotState.UNLOADED} for state in states):
        return "UNLOADING", said
    return "LOADING", said


def _index(database: Database) -> list[IndexEntry]:
    with database.reading() as session:
        replicas = _live(session, database.now_ms(session))
        names = models.list_names(session, _NAMES_MAX)
    keys = sorted({(slot.model, slot.version) for replica in replicas for slot in replica.slots})
    entries = [
        IndexEntry(model, str(version), *state_of(_slots(replicas, (model, version)))) for model, version in keys
    ]
    held = {model for model, _ in keys}
    entries += [
        IndexEntry(name, state="UNAVAILABLE", reason="no version is in memory") for name in names if name not in held
    ]
    return entries


def _live(session: Session, now_ms: int) -> list[Replica]:
    return [replica for replica in serving.list_replicas(session, now_ms=now_ms) if replica.live]


def _slots(replicas: Sequence[Replica], key: VersionKey) -> list[SlotStatus | None]:
    return [next((slot for slot in replica.slots if (slot.model, slot.version) == key), None) for replica in replicas]


# --- pins


def _pin(database: Database, name: str, version: int | None, now_ms: int) -> VersionKey:
    with database.writing() as session:
        key = _version_meant(session, name, version)
        pins.pin(session, *key, author=caller_of(session).name, now_ms=now_ms)
    return key


def _unpin(database: Database, name: str, version: int | None, now_ms: int) -> None:
    with database.writing() as session:
        reference = parse_model_uri(name, lambda text: models.find_model(session, text) is not None)
        author = caller_of(session).name
        if version is None and reference.version is None and reference.alias is None:
            pins.unpin_all(session, reference.name, author=author, now_ms=now_ms)
        else:
            pins.unpin(session, *_version_meant(session, name, version), author=author, now_ms=now_ms)


def _version_meant(session: Session, name: str, version: int | None) -> VersionKey:
    if version is None:
        found = resolve(session, name)
    else:
        model = parse_model_uri(name, lambda text: models.find_model(session, text) is not None).name
        found = versions.get_version(session, model, version)
    return found.name, found.version


async def _until_ready(database: Database, key: VersionKey) -> None:
    """Wait until each live replica has the version in memory, with the bytes it is registered with.

    Raises:
        LoadFailed: as soon as one of them can't load it.
        StillLoading: if it takes longer than a caller waits.
    """
    said = "no replica has heard of it"
    try:
        async with asyncio.timeout(_WAIT_S):
            while True:
                ready, state, said = await asyncio.to_thread(_progress, database, key)
                if ready:
                    return
                if state == "UNAVAILABLE":
                    raise LoadFailed(key, said)
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        raise StillLoading(key, said) from None


def _progress(database: Database, key: VersionKey) -> tuple[bool, str, str]:
    """Whether it is ready everywhere, and how far it is."""
    with database.reading() as session:
        replicas = _live(session, database.now_ms(session))
        digest = versions.find_digests(session, [key]).get(key)
    ready = bool(replicas) and all(key in replica.ready and replica.ready[key] == digest for replica in replicas)
    return ready, *(state_of(_slots(replicas, key)) if replicas else ("UNKNOWN", "no replica is live"))


def _read(body: bytes, type_: type[T]) -> T:
    """The body, which may be empty."""
    try:
        return msgspec.json.decode(body or b"{}", type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"The body isn't as it must be: {error}.") from error


handlers = [list_repository, change_repository]
