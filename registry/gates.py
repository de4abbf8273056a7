"""Gates: what must hold of a version before an alias means it, or an arm of it takes more than some share.

A gate goes by the name of its model and outlives it, so that nobody gets round one by deleting the model and making it
anew. It is asked within the transaction of the write and by the functions that write, so it holds for whichever way the
write came.
"""

import math
from collections.abc import Callable, Collection, Mapping
from operator import ge, gt, le, lt

import msgspec
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from registry import history
from registry.approvals import list_approvals
from registry.entities import Action, Comparator, Gate, MetricNeeded, ModelVersion
from registry.errors import GateNotFound, GatesNotMet, RegisteredModelNotFound
from registry.granted import ensure_may_change, may_see
from registry.names import check_alias_may_be_set, check_model_name
from registry.rows import get_version_row, to_version
from registry.schema import GateRow
from registry.splits import BUCKETS
from tracking.errors import Exhausted, InvalidParameter
from tracking.metrics import latest_metrics
from tracking.names import check_text

GATES_MAX = 50
"""Of one model."""
_NAME_LENGTH_MAX = 100
_HOLDS: Mapping[Comparator, Callable[[float, float], bool]] = {">=": ge, ">": gt, "<=": le, "<": lt}


class Override(msgspec.Struct, frozen=True):
    """Who makes a write though a gate isn't met, why, and when; that they may is for the caller to know."""

    author: str
    reason: str
    now_ms: int


# --- which gates there are


def set_gate(session: Session, model: str, gate: Gate, *, author: str, now_ms: int) -> None:
    """Have *gate* hold for *model*, which needn't be there yet, in place of one of the same name.

    Raises:
        NotGranted: if the caller may not change this model's gates.
        InvalidParameter: if it is for no alias and no share, or asks for what can't be.
    """
    check_model_name(model)
    ensure_may_change(session, model, RegisteredModelNotFound(model))
    _check(gate)
    gates = {each.name for each in _gates_of(session, model)}
    if gate.name not in gates and len(gates) >= GATES_MAX:
        raise Exhausted(f"{model!r} has {GATES_MAX} gates; remove one first.")
    spec = msgspec.json.encode(gate).decode()
    session.merge(GateRow(model=model, name=gate.name, spec=spec, author=author, created_ms=now_ms))
    session.flush()
    details = msgspec.to_builtins(gate)
    history.record(session, Action.GATE_SET, model, author=author, now_ms=now_ms, details=details)


def remove_gate(session: Session, model: str, name: str, *, author: str, now_ms: int) -> None:
    """Let *model* go without its gate *name*.

    Raises:
        GateNotFound: if it has none, or the caller may not see the model.
        NotGranted: if they may not change its gates.
    """
    ensure_may_change(session, model, GateNotFound(model, name))
    if session.execute(delete(GateRow).where(GateRow.model == model, GateRow.name == name)).rowcount == 0:  # type: ignore[attr-defined]
        raise GateNotFound(model, name)
    history.record(session, Action.GATE_REMOVED, model, author=author, now_ms=now_ms, details={"name": name})


def list_gates(session: Session, model: str) -> list[Gate]:
    """The gates of *model*, by name; none of a model that the caller may not see."""
    return _gates_of(session, model) if may_see(session, model) else []


def follow_rename(session: Session, old: str, new: str, *, author: str, now_ms: int) -> None:
    """Take a model's gates along to its new name, where those that are there stay; both names keep theirs."""
    there = {gate.name for gate in _gates_of(session, new)}
    for row in session.scalars(select(GateRow).where(GateRow.model == old)).all():
        if row.name not in there:
            session.add(GateRow(model=new, name=row.name, spec=row.spec, author=author, created_ms=now_ms))
    session.flush()


# --- whether they are met


def ensure_alias_may_mean(
    session: Session,
    model: str,
    alias: str,
    version: int,
    *,
    share_of: Callable[[], int],
    override: Override | None = None,
) -> None:
    """Look at the gates of *model* for an *alias* that is to mean *version*; *share_of* says its basis points.

    Raises:
        GatesNotMet: if one isn't met, and nobody overrides it.
    """
    gates = _gates_of(session, model)
    if not gates:
        return
    share_bp = share_of()
    gates = [gate for gate in gates if alias in gate.aliases or _is_passed(gate, share_bp)]
    _ensure_met(session, gates, model, alias, version, override)


def ensure_share_may_be(
    session: Session, model: str, arm: str, version: int, *, share_bp: int, override: Override | None = None
) -> None:
    """The same for an *arm*, which means *version*, that is to have *share_bp*."""
    gates = [gate for gate in _gates_of(session, model) if _is_passed(gate, share_bp)]
    _ensure_met(session, gates, model, arm, version, override)


def _ensure_met(
    session: Session,
    gates: Collection[Gate],
    model: str,
    alias: str,
    version: int,
    override: Override | None,
) -> None:
    if not gates:
        return
    found = to_version(session, get_version_row(session, model, version))
    unmet = {gate.name: why for gate in gates if (why := _why_unmet(session, gate, found))}
    if not unmet:
        return
    if override is None:
        raise GatesNotMet(model, alias, version, unmet)
    history.record(
        session,
        Action.GATES_OVERRIDDEN,
        model,
        author=override.author,
        now_ms=override.now_ms,
        alias=alias,
        version=version,
        reason=override.reason,
        details={"unmet": unmet},
    )


def _is_passed(gate: Gate, share_bp: int) -> bool:
    return gate.share_over_bp is not None and share_bp > gate.share_over_bp


def _why_unmet(session: Session, gate: Gate, version: ModelVersion) -> str | None:
    """Why *version* doesn't get through *gate*; None if it does."""
    if isinstance(gate.needs, MetricNeeded):
        return _why_metric_unmet(session, gate.needs, version)
    approvals = list_approvals(session, version.name, version.version)
    # Its own author's word is worth nothing here, whoever that is.
    others = sorted({approval.author for approval in approvals} - {version.author})
    if len(others) >= gate.needs.count:
        return None
    by_whom = f"somebody other than {version.author}" if version.author else "somebody"
    return f"needs {gate.needs.count} approval(s) by {by_whom}, and has {len(others)}"


def _why_metric_unmet(session: Session, needed: MetricNeeded, version: ModelVersion) -> str | None:
    asked = f"needs {needed.metric} {needed.comparator} {needed.value:g}"
    if version.run_id is None:
        return f"{asked}, and version {version.version} is of no run"
    latest = {metric.key: metric.value for metric in latest_metrics(session, [version.run_id])[version.run_id]}
    if needed.metric not in latest:
        return f"{asked}, and its run {version.run_id} has no such metric"
    value = latest[needed.metric]
    # NaN compares to nothing, and so meets nothing.
    return None if _HOLDS[needed.comparator](value, needed.value) else f"{asked}, and its run has {value:g}"


def _gates_of(session: Session, model: str) -> list[Gate]:
    rows = session.scalars(select(GateRow.spec).where(GateRow.model == model).order_by(GateRow.name))
    return [msgspec.json.decode(spec, type=Gate) for spec in rows]


def _check(gate: Gate) -> None:
    if not gate.name.strip():
        raise InvalidParameter("A gate has a name.")
    check_text(gate.name, "gate", _NAME_LENGTH_MAX)
    if not gate.aliases and gate.share_over_bp is None:
        raise InvalidParameter(
            "A gate is for aliases ('aliases'), for a share that an arm passes ('share_over_bp'), or both."
        )
    for alias in gate.aliases:
        check_alias_may_be_set(alias)
    if gate.share_over_bp is not None and not 0 <= gate.share_over_bp < BUCKETS:
        raise InvalidParameter(f"'share_over_bp' is in basis points: 0 to {BUCKETS - 1}.")
    if isinstance(gate.needs, MetricNeeded):
        check_text(gate.needs.metric, "metric", 250)
        if not gate.needs.metric.strip():
            raise InvalidParameter("A gate for a metric names one.")
        if math.isnan(gate.needs.value):
            raise InvalidParameter("A metric is compared with a number.")
    elif not 1 <= gate.needs.count <= 10:
        raise InvalidParameter("A gate asks for 1 to 10 approvals.")
