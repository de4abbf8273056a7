"""Shadows: which arm of an endpoint is asked a copy of what others answer, and the inputs it differed most on.

The inputs may be somebody's. None is kept unless that was asked for, a bounded number of bounded ones, and they go with
the shadow, with its version, and when nobody wants any kept any more.
"""

from collections.abc import Iterable
from hashlib import sha256
from typing import Any

import msgspec
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from registry import endpoints, history, serving
from registry.entities import CHAMPION, Action, Endpoint, Shadow
from registry.schema import EndpointRow, ShadowInputRow, ShadowRow
from registry.splits import BUCKETS
from tracking.errors import InvalidParameter
from tracking.upserts import upsert

KEPT_INPUTS_MAX = 100
INPUT_BYTES_MAX = 16 * 1024
"""Of one input that is kept, with both answers to it."""


class ChampionIsNoShadow(InvalidParameter):
    def __init__(self, endpoint: str) -> None:
        super().__init__(
            f"The champion of {endpoint!r} answers requests; a shadow is another arm, whose answers nobody waits for."
        )


class KeptInput(msgspec.Struct, frozen=True, kw_only=True):
    """One row that a shadow answered otherwise."""

    labels_differ: bool
    difference: float | None
    """The largest of its numbers' absolute differences; None where one of two isn't finite."""
    input: Any
    given: Any
    given_by: tuple[str, int]
    """The arm and the version that answered."""
    shadows: Any
    version: int
    """The shadow's."""
    at_ms: int

    @property
    def rank(self) -> tuple[bool, float]:
        """The higher, the further apart."""
        return self.labels_differ, float("inf") if self.difference is None else self.difference


def find_shadow(session: Session, endpoint_id: str) -> Shadow | None:
    row = session.get(ShadowRow, endpoint_id)
    return None if row is None else endpoints.to_shadow(row)


def set_shadow(session: Session, name: str, shadow: Shadow, *, author: str, now_ms: int) -> None:
    """Have endpoint *name* ask *shadow*'s arm a copy of what others answer. An arm that is none yet joins dark.

    Raises:
        EndpointNotFound: if there is no such endpoint.
        ChampionIsNoShadow, ArmWithoutAlias: if the arm can't be one.
        InvalidParameter: if a figure is out of its range.
        RolloutRunning: if the arm would have to join, and a rollout decides what the arms are.
    """
    if shadow.arm == CHAMPION:
        raise ChampionIsNoShadow(name)
    _check(shadow)
    endpoint = endpoints.join_dark(session, name, shadow.arm, author=author, now_ms=now_ms)
    before = find_shadow(session, endpoint.id)
    if before == shadow:
        return
    if before is not None and before.arm != shadow.arm:
        _drop_inputs(session, endpoint.id)
    said = msgspec.structs.asdict(shadow)
    upsert(session, ShadowRow, [{"endpoint_id": endpoint.id, **said, "author": author, "created_ms": now_ms}])
    session.expire_all()
    _cut_inputs(session, endpoint.id, shadow.keep_inputs)
    _record(session, endpoint, {"shadow": said}, author=author, now_ms=now_ms)


def remove_shadow(session: Session, name: str, *, author: str, now_ms: int) -> None:
    """Ask no copies any more, and drop the inputs that were kept; nothing happens if there was no shadow.

    Raises:
        EndpointNotFound: if there is no such endpoint.
    """
    _end(session, endpoints.lock_endpoint(session, name), author=author, now_ms=now_ms)


def alias_was_deleted(session: Session, model: str, alias: str, *, author: str, now_ms: int) -> None:
    """End a shadow whose arm is gone: set again, an alias isn't an arm by itself either."""
    row = session.scalar(select(EndpointRow).where(EndpointRow.model == model))
    shadow = None if row is None else find_shadow(session, row.id)
    if row is not None and shadow is not None and shadow.arm == alias:
        _end(session, endpoints.to_endpoint(row), author=author, now_ms=now_ms)


# --- inputs


def keep_inputs(session: Session, endpoint_id: str, inputs: Iterable[KeptInput]) -> None:
    """Keep those of *inputs* that differ most, as many as are asked for by now, which may be none."""
    # Locked, so that nothing is added beside a shadow's end, nor more than are to be kept.
    row = session.get(ShadowRow, endpoint_id, with_for_update=True, populate_existing=True)
    if row is None or not row.keep_inputs:
        return
    found = [one for one in inputs if len(_content(one)) <= INPUT_BYTES_MAX]
    if not found:
        return
    newest = max(one.version for one in found)
    kept = {fingerprint: one for fingerprint, one in _read(session, endpoint_id) if one.version == newest}
    for one in found:
        fingerprint = sha256(msgspec.json.encode(one.input, order="sorted")).hexdigest()
        if one.version == newest and (fingerprint not in kept or one.rank > kept[fingerprint].rank):
            kept[fingerprint] = one
    ranked = sorted(kept.items(), key=lambda item: item[1].rank, reverse=True)[: row.keep_inputs]
    _drop_inputs(session, endpoint_id)
    rows = [
        {"endpoint_id": endpoint_id, "fingerprint": fingerprint, "content": _content(one).decode()}
        for fingerprint, one in ranked
    ]
    upsert(session, ShadowInputRow, rows)


def list_inputs(session: Session, name: str) -> list[KeptInput]:
    """The inputs that are kept of endpoint *name*, those first on which the answers differ most.

    Raises:
        EndpointNotFound: if there is no such endpoint that the caller may see.
    """
    endpoint = endpoints.get_endpoint(session, name)
    return sorted((one for _, one in _read(session, endpoint.id)), key=lambda one: one.rank, reverse=True)


def forget_inputs(session: Session, name: str) -> None:
    """Drop the inputs that are kept of endpoint *name*; others will be kept in their place.

    Raises:
        EndpointNotFound: if there is no such endpoint.
    """
    _drop_inputs(session, endpoints.lock_endpoint(session, name).id)


# --- inside


def _check(shadow: Shadow) -> None:
    if not 1 <= shadow.share_bp <= BUCKETS:
        raise InvalidParameter(f"A shadow's share is 1 to {BUCKETS} basis points, not {shadow.share_bp}.")
    if not 0 <= shadow.keep_inputs <= KEPT_INPUTS_MAX:
        raise InvalidParameter(f"A shadow keeps 0 to {KEPT_INPUTS_MAX} inputs, not {shadow.keep_inputs}.")
    if not 0 <= shadow.tolerance <= 1:
        raise InvalidParameter(f"A tolerance is relative, from 0 to 1, not {shadow.tolerance:g}.")


def _end(session: Session, endpoint: Endpoint, *, author: str, now_ms: int) -> None:
    row = session.get(ShadowRow, endpoint.id)
    if row is not None:
        arm = row.arm
        _drop_inputs(session, endpoint.id)
        session.delete(row)
        session.flush()
        _record(session, endpoint, {"shadow": None, "before": arm}, author=author, now_ms=now_ms)


def _record(session: Session, endpoint: Endpoint, details: dict[str, Any], *, author: str, now_ms: int) -> None:
    said = {"endpoint": endpoint.name, **details}
    history.record(session, Action.SHADOW_CHANGED, endpoint.model, author=author, now_ms=now_ms, details=said)
    serving.raise_generation(session)


def _cut_inputs(session: Session, endpoint_id: str, count: int) -> None:
    ranked = sorted(_read(session, endpoint_id), key=lambda item: item[1].rank, reverse=True)
    doomed = [fingerprint for fingerprint, _ in ranked[count:]]
    row = ShadowInputRow
    session.execute(delete(row).where(row.endpoint_id == endpoint_id, row.fingerprint.in_(doomed)))


def _drop_inputs(session: Session, endpoint_id: str) -> None:
    session.execute(delete(ShadowInputRow).where(ShadowInputRow.endpoint_id == endpoint_id))


def _read(session: Session, endpoint_id: str) -> list[tuple[str, KeptInput]]:
    query = select(ShadowInputRow.fingerprint, ShadowInputRow.content)
    rows = session.execute(query.where(ShadowInputRow.endpoint_id == endpoint_id)).all()
    return [(fingerprint, msgspec.json.decode(content, type=KeptInput)) for fingerprint, content in rows]


def _content(one: KeptInput) -> bytes:
    return msgspec.json.encode(one)
