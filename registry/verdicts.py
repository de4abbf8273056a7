"""What was concluded of a challenger, kept so that a gate can ask for it and an alias move can say by what evidence.

A verdict is of two versions and one metric. It is what was true when somebody last looked at the sums, which are there
to look at again; so that whoever judges twice, or after another replica did, only says the same anew. The exception is
the p-value of the test of the split: it counts as its least so far, and is kept so.
"""

import math
from collections.abc import Iterable
from typing import Any

import msgspec
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from registry.entities import CHAMPION, KeptVerdict
from registry.schema import EndpointRow, VerdictRow
from tracking.upserts import upsert

PAIRS_MAX = 50
"""Of versions of one endpoint, those that were judged last."""


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Two versions of an endpoint, and since when they are compared."""

    endpoint_id: str
    champion: int
    challenger: int
    from_period: int = 1


def keep(session: Session, pair: Pair, verdicts: Iterable[KeptVerdict]) -> None:
    """Keep what is concluded of *pair* now; nothing is kept of an endpoint that is gone.

    The verdicts of other metrics, of which nothing is concluded any more, go, and so do those of the pairs that were
    judged longest ago. Of two replicas that judge at once one waits for the other and says the same again.
    """
    # Not FOR UPDATE, which whoever counts for the endpoint would have to wait for.
    if session.get(EndpointRow, pair.endpoint_id, with_for_update={"key_share": True}) is None:
        return
    least = least_mismatch_p(session, pair)
    session.execute(delete(VerdictRow).where(_of(pair)))
    rows = [_columns(pair.endpoint_id, verdict) for verdict in verdicts]
    for row in rows:
        row["mismatch_p"] = min(least, row["mismatch_p"])
    upsert(session, VerdictRow, rows)
    _forget_oldest(session, pair.endpoint_id)


def least_mismatch_p(session: Session, pair: Pair) -> float:
    """The least p-value of the split's test that was kept of *pair* since it began; 1 if none was."""
    row = VerdictRow
    kept = session.scalars(select(row.mismatch_p).where(_of(pair), row.from_period == pair.from_period)).all()
    return min(kept, default=1.0)


def find(session: Session, endpoint_id: str, *, champion: int, challenger: int, metric: str) -> KeptVerdict | None:
    """What was concluded last by *metric*; None if nothing was."""
    row = session.get(VerdictRow, (endpoint_id, champion, challenger, metric))
    return None if row is None else _verdict(row)


def list_of(session: Session, endpoint_id: str) -> list[KeptVerdict]:
    """All that is kept of an endpoint, the pair judged last first, its metrics by name."""
    row = VerdictRow
    newest_first = (row.judged_ms.desc(), row.champion, row.challenger, row.metric)
    rows = session.scalars(select(row).where(row.endpoint_id == endpoint_id).order_by(*newest_first))
    return [_verdict(each) for each in rows]


def said_of(session: Session, model: str, alias: str, *, before: int | None, version: int) -> dict[str, Any]:
    """What was known of *version* when it takes the place of *before*, for the history; nothing if nothing was."""
    endpoint_id = session.scalar(select(EndpointRow.id).where(EndpointRow.model == model))
    if alias != CHAMPION or before is None or endpoint_id is None:
        return {}
    of_pair = _of(Pair(endpoint_id=endpoint_id, champion=before, challenger=version))
    told = ("verdict", "difference", "lower", "upper", "judged_ms")
    rows = session.scalars(select(VerdictRow).where(of_pair).order_by(VerdictRow.metric)).all()
    return {"verdicts": {row.metric: {name: getattr(row, name) for name in told} for row in rows}} if rows else {}


def _of(pair: Pair) -> Any:
    row = VerdictRow
    return (row.endpoint_id == pair.endpoint_id) & (row.champion == pair.champion) & (row.challenger == pair.challenger)


def _forget_oldest(session: Session, endpoint_id: str) -> None:
    newest_first: dict[tuple[int, int], None] = {}
    for verdict in list_of(session, endpoint_id):
        newest_first.setdefault((verdict.champion, verdict.challenger))
    for champion, challenger in list(newest_first)[PAIRS_MAX:]:
        doomed = Pair(endpoint_id=endpoint_id, champion=champion, challenger=challenger)
        session.execute(delete(VerdictRow).where(_of(doomed)))


def _columns(endpoint_id: str, verdict: KeptVerdict) -> dict[str, Any]:
    columns = {"endpoint_id": endpoint_id, **msgspec.structs.asdict(verdict)}
    # A database has no one way to write what is no number.
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in columns.items()
    }


def _verdict(row: VerdictRow) -> KeptVerdict:
    return KeptVerdict(**{name: getattr(row, name) for name in KeptVerdict.__struct_fields__})
