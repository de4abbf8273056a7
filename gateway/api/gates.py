"""What must hold of a version before an alias means it or it takes more traffic, and who has approved which."""

from collections.abc import Callable

import msgspec
from litestar import delete, get, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from litestar.status_codes import HTTP_200_OK

from gateway.access.identity import NotPermitted, current_identity
from gateway.auth import needs
from gateway.version_interfaces import learn_interfaces
from registry import approvals, gates
from registry.entities import CHAMPION, Approval, Gate, Need
from registry.gates import Override
from registry.history import REASON_LENGTH_MAX
from registry.rows import ensure_model_seen, get_version_row
from tracking.access.caller import caller_of
from tracking.access.permissions import Permission
from tracking.artifacts import ArtifactStore
from tracking.database import Database
from tracking.errors import InvalidParameter
from tracking.names import check_text

_MODEL = "/api/1.0/titlebout/models/{name:str}"
_APPROVALS = f"{_MODEL}/versions/{{version:int}}/approvals"

Clock = Callable[[], float]


class PutGate(msgspec.Struct, forbid_unknown_fields=True):
    """A gate, but for its name, which is in the path."""

    needs: Need
    aliases: tuple[str, ...] = (CHAMPION,)
    share_over_bp: int | None = None


class Gates(msgspec.Struct, kw_only=True):
    gates: list[Gate]


class Approve(msgspec.Struct, forbid_unknown_fields=True):
    reason: str | None = None


class Approvals(msgspec.Struct, kw_only=True):
    approvals: list[Approval]


def override_of(model: str, reason: str | None, now_ms: int) -> Override | None:
    """What the sender of this request says for going past the gates of *model*; None if they say nothing.

    Raises:
        NotPermitted: if they may not.
        InvalidParameter: if the reason is empty, or can't be kept.
    """
    if reason is None:
        return None
    identity = current_identity()
    if model not in identity.caller(Permission.GATE_OVERRIDE).acting.models:
        raise NotPermitted(identity.name, Permission.GATE_OVERRIDE)
    if not reason.strip():
        raise InvalidParameter("Going past a gate takes a reason.")
    check_text(reason, "override", REASON_LENGTH_MAX)
    return Override(identity.name, reason, now_ms)


@get(f"{_MODEL}/gates", sync_to_thread=True, opt=needs(Permission.REGISTRY_READ))
def list_gates(name: FromPath[str], database: NamedDependency[Database]) -> Gates:
    with database.reading() as session:
        found = gates.list_gates(session, name)
        if not found:
            ensure_model_seen(session, name)
    return Gates(gates=found)


@put(f"{_MODEL}/gates/{{gate_name:str}}", sync_to_thread=True, opt=needs(Permission.GATE_WRITE))
def set_gate(
    name: FromPath[str],
    gate_name: FromPath[str],
    data: JSONBody[PutGate],
    database: NamedDependency[Database],
    clock: NamedDependency[Clock],
    artifact_store: NamedDependency[ArtifactStore],
) -> Gate:
    """Have a gate hold from now on. What an alias means already stays, and so do shares."""
    made = Gate(name=gate_name, needs=data.needs, aliases=data.aliases, share_over_bp=data.share_over_bp)
    with database.writing() as session:
        gates.set_gate(session, name, made, author=caller_of(session).name, now_ms=int(clock() * 1000))
    learn_interfaces(database, artifact_store, name)
    return made


@delete(
    f"{_MODEL}/gates/{{gate_name:str}}", status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.GATE_WRITE)
)
def remove_gate(
    name: FromPath[str], gate_name: FromPath[str], database: NamedDependency[Database], clock: NamedDependency[Clock]
) -> dict[str, str]:
    with database.writing() as session:
        gates.remove_gate(session, name, gate_name, author=caller_of(session).name, now_ms=int(clock() * 1000))
    return {"model": name, "gate": gate_name}


@get(_APPROVALS, sync_to_thread=True, opt=needs(Permission.REGISTRY_READ))
def list_approvals(name: FromPath[str], version: FromPath[int], database: NamedDependency[Database]) -> Approvals:
    with database.reading() as session:
        get_version_row(session, name, version)
        return Approvals(approvals=approvals.list_approvals(session, name, version))


@put(_APPROVALS, sync_to_thread=True, opt=needs(Permission.VERSION_APPROVE))
def approve(
    name: FromPath[str],
    version: FromPath[int],
    data: JSONBody[Approve],
    database: NamedDependency[Database],
    clock: NamedDependency[Clock],
) -> Approval:
    """Vouch for a version, in one's own name."""
    with database.writing() as session:
        author, now_ms = caller_of(session).name, int(clock() * 1000)
        return approvals.approve(session, name, version, author=author, now_ms=now_ms, reason=data.reason)


@delete(_APPROVALS, status_code=HTTP_200_OK, sync_to_thread=True, opt=needs(Permission.VERSION_APPROVE))
def withdraw(
    name: FromPath[str], version: FromPath[int], database: NamedDependency[Database], clock: NamedDependency[Clock]
) -> dict[str, str | int]:
    """Take one's own approval back. What it let through stays."""
    with database.writing() as session:
        author = caller_of(session).name
        approvals.withdraw(session, name, version, author=author, now_ms=int(clock() * 1000))
    return {"model": name, "version": version}


handlers = [list_gates, set_gate, remove_gate, list_approvals, approve, withdraw]
