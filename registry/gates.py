"""Gates: what must hold of a version before an alias means it, or more than some share of the traffic can come to it.

A gate goes by the name of its model and outlives it, so that nobody gets round one by deleting the model and making it
anew; it holds, too, for whichever model answers under that name. It is asked within the transaction of the write and by
the functions that write, so it holds for whichever way the write came. It asks of what is new: what an alias means
already stays, and so does what a version is sent already (docs/decisions/0025).
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from registry import history, interfaces, serving
from registry.entities import (
    Action,
    ApprovalNeeded,
    Gate,
    LoadTestNeeded,
    MetricNeeded,
    ModelVersion,
    Need,
    SignatureNeeded,
    VerdictNeeded,
)
from registry.errors import GateNotFound, GatesNotMet, RegisteredModelNotFound
from registry.gate_needs import Candidate, why_unmet
from registry.granted import ensure_may_change, may_see
from registry.names import check_alias_may_be_set, check_model_name
from registry.reach import Reach, reach_of
from registry.rows import get_version_row, to_version
from registry.schema import EndpointRow, GateRow, ModelVersionRow, PinRow
from registry.splits import BUCKETS
from tracking.access.caller import as_program
from tracking.errors import Exhausted, InvalidParameter
from tracking.names import check_text

GATES_MAX = 50
"""Of one model."""
_NAME_LENGTH_MAX = 100
_DAYS_MAX = 3_650


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
    serving.raise_generation(session)
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
    serving.raise_generation(session)
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
    session: Session, model: str, alias: str, version: int, *, now_ms: int, override: Override | None = None
) -> None:
    """Look at the gates of *model* for an *alias* that is to mean *version*, and didn't until now.

    Raises:
        GatesNotMet: if one isn't met, and nobody overrides it.
    """
    gates = _gates_for(session, model)
    if not gates:
        return
    before = reach_of(session, model)
    after = before.with_alias(alias, version)
    asked = tuple(gate for gate in gates if alias in gate.aliases or _is_passed(gate, version, before, after))
    _ensure_met(session, model, [_Question(alias, version, asked)], before, now_ms, override)


def ensure_shares_may_be(
    session: Session, model: str, shares_bp: Mapping[str, int], *, now_ms: int, override: Override | None = None
) -> None:
    """The same for the arms of *model*'s endpoint, which are to have *shares_bp*."""
    gates = _gates_for(session, model)
    if not gates:
        return
    before = reach_of(session, model)
    after = before.with_shares(shares_bp)
    questions = []
    for version in sorted(after.versions):
        asked = tuple(gate for gate in gates if _is_passed(gate, version, before, after))
        questions.append(_Question(after.arms_of(version)[0], version, asked))
    _ensure_met(session, model, questions, before, now_ms, override)


def ensure_may_be_pinned(session: Session, model: str, version: int, *, now_ms: int) -> None:
    """Keep a *version* from memory, where it could be asked for by its number past every bound on its share.

    Raises:
        GatesNotMet: if a gate with such a bound isn't met, unless it asks for a load test.
    """
    # A load test has what isn't in memory pinned, and asks for it by number where nobody else may.
    gates = [gate for gate in _bounds_for(session, model) if not isinstance(gate.needs, LoadTestNeeded)]
    if gates:
        reach = reach_of(session, model)
        _ensure_met(session, model, [_by_name(gates, version, reach)], reach, now_ms, None)


def ensure_may_be_called(session: Session, model: str, name: str, *, now_ms: int) -> None:
    """Ask the gates that wait under *name*, which *model* or its endpoint takes, of all that it means and serves.

    Raises:
        GatesNotMet: if one isn't met.
    """
    gates = _gates_elsewhere(session, name)
    if not gates:
        return
    reach, nobody = reach_of(session, model), Reach()
    meanings = {(alias, version) for alias, version in reach.desired.items()}
    meanings |= {(arm, version) for arm, versions in reach.arms.items() for version in versions}
    questions = []
    for alias, version in sorted(meanings):
        asked = tuple(
            gate
            for gate in gates
            if alias in gate.aliases or any(_is_beyond(gate, version, each) for each in (reach, reach.in_force))
        )
        questions.append(_Question(alias, version, asked))
    # As of a first champion of that name, if there never was another.
    unmet = _find_unmet(session, model, questions, nobody, now_ms, called=name)
    if unmet:
        raise _not_met(model, unmet)


def open_by_name(session: Session, model: str, *, now_ms: int) -> tuple[int, ...] | None:
    """The versions that may be asked for by arm or number, past the split; None: all, as no gate bounds a share."""
    gates = _bounds_for(session, model)
    if not gates:
        return None
    reach = reach_of(session, model)
    pinned = session.scalars(select(PinRow.version).where(PinRow.model == model)).all()
    questions = [_by_name(gates, version, reach) for version in sorted({*reach.versions, *pinned})]
    unmet = _find_unmet(session, model, questions, reach, now_ms)
    return tuple(each.version for each in questions if each not in unmet)


def find_uncompared(session: Session, model: str, versions: Iterable[int]) -> list[ModelVersion]:
    """Those of *versions*, and of what aliases mean, that a gate of *model* compares and nobody has read yet."""
    check_model_name(model)
    gates = _gates_for(session, model)
    if not any(isinstance(gate.needs, SignatureNeeded) for gate in gates):
        return []
    with as_program(session):
        reach = reach_of(session, model)
        wanted = {*versions, *reach.versions, *reach.desired.values()}
        known = select(ModelVersionRow).where(ModelVersionRow.name == model).order_by(ModelVersionRow.version)
        return [
            to_version(session, row)
            for row in session.scalars(known)
            if row.version in wanted and interfaces.find(session, model, row.version) is None
        ]


def names_with_gates(session: Session) -> frozenset[str]:
    """The names, of models and endpoints, under which gates wait."""
    return frozenset(session.scalars(select(GateRow.model).distinct()))


_PINNED = ""
"""Where a version would go that is only in memory: no alias has this name."""


class _Question(msgspec.Struct, frozen=True):
    """What is asked before a version goes where it wasn't."""

    place: str
    """The alias or arm."""
    version: int
    gates: tuple[Gate, ...]


def _by_name(gates: Iterable[Gate], version: int, reach: Reach) -> _Question:
    """Who may be asked for by name may be asked for everything; what comes to it already is left to it."""
    return _Question(_PINNED, version, tuple(gate for gate in gates if not _is_beyond(gate, version, reach)))


_Unmet = dict[_Question, dict[str, str]]
"""The gates by name, and why each isn't met."""


def _ensure_met(
    session: Session,
    model: str,
    questions: Sequence[_Question],
    before: Reach,
    now_ms: int,
    override: Override | None,
) -> None:
    unmet = _find_unmet(session, model, questions, before, now_ms)
    if unmet and override is None:
        raise _not_met(model, unmet)
    for question, why in unmet.items():
        assert override is not None  # noqa: S101  (else it was raised; for the type checker)
        history.record(
            session,
            Action.GATES_OVERRIDDEN,
            model,
            author=override.author,
            now_ms=override.now_ms,
            alias=question.place,
            version=question.version,
            reason=override.reason,
            details={"unmet": why},
        )


def _not_met(model: str, unmet: _Unmet) -> GatesNotMet:
    return GatesNotMet(model, [(question.place, question.version, why) for question, why in unmet.items()])


def _find_unmet(
    session: Session,
    model: str,
    questions: Iterable[_Question],
    before: Reach,
    now_ms: int,
    *,
    called: str | None = None,
) -> _Unmet:
    unmet: _Unmet = {}
    # Whether a version gets through is the same for everybody, whatever they are shown of its run.
    with as_program(session):
        for question in questions:
            if not question.gates:
                continue
            version = to_version(session, get_version_row(session, model, question.version))
            candidate = Candidate(version, before, now_ms, called or model)
            why = {g.name: said for g in question.gates if (said := why_unmet(session, g.needs, candidate)) is not None}
            if why:
                unmet[question] = why
    return unmet


def _is_passed(gate: Gate, version: int, before: Reach, after: Reach) -> bool:
    return _is_beyond(gate, version, after) and not _is_beyond(gate, version, before)


def _is_beyond(gate: Gate, version: int, reach: Reach) -> bool:
    """Whether more can come to *version* than the gate's bound; never, if it has none."""
    return gate.share_over_bp is not None and reach.most_bp(version) > gate.share_over_bp


def _bounds_for(session: Session, model: str) -> list[Gate]:
    """The gates that keep a version from being asked by name, past the share that it has."""
    return [gate for gate in _gates_for(session, model) if gate.share_over_bp is not None]


def _gates_for(session: Session, model: str) -> list[Gate]:
    """The gates of *model* and, if its endpoint has another name, those that wait under that."""
    own = _gates_of(session, model)
    name = session.scalar(select(EndpointRow.name).where(EndpointRow.model == model, EndpointRow.name != model))
    if name is None:
        return own
    # Those that went along when the model was renamed are asked once.
    went_along = [_called_elsewhere(gate, name) for gate in own]
    return own + [gate for gate in _gates_elsewhere(session, name) if gate not in went_along]


def _gates_elsewhere(session: Session, name: str) -> list[Gate]:
    """The gates under a *name* that isn't the model's own."""
    return [_called_elsewhere(gate, name) for gate in _gates_of(session, name)]


def _called_elsewhere(gate: Gate, name: str) -> Gate:
    return msgspec.structs.replace(gate, name=f"{gate.name} of {name}")


def _gates_of(session: Session, name: str) -> list[Gate]:
    rows = session.scalars(select(GateRow.spec).where(GateRow.model == name).order_by(GateRow.name))
    return [msgspec.json.decode(spec, type=Gate) for spec in rows]


# --- what can be asked


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
    _check_needs(gate.needs)


def _check_needs(needs: Need) -> None:
    match needs:
        case MetricNeeded():
            _check_metric(needs.metric)
            if not math.isfinite(needs.value):
                raise InvalidParameter("A metric is compared with a number.")
        case ApprovalNeeded() if not 1 <= needs.count <= 10:
            raise InvalidParameter("A gate asks for 1 to 10 approvals.")
        case LoadTestNeeded() if not 1 <= needs.within_days <= _DAYS_MAX:
            raise InvalidParameter(f"A load test is of the last 1 to {_DAYS_MAX} days ('within_days').")
        case VerdictNeeded():
            _check_metric(needs.metric)
            if needs.within_hours is not None and not 1 <= needs.within_hours <= _DAYS_MAX * 24:
                raise InvalidParameter(f"A verdict is of the last 1 to {_DAYS_MAX * 24} hours ('within_hours').")
        case _:
            pass


def _check_metric(name: str) -> None:
    check_text(name, "metric", 250)
    if not name.strip():
        raise InvalidParameter("A gate for a metric names one.")
