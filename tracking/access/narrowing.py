"""What of the experiments, and of all that belongs to them, the caller of a session sees and may change.

Experiments go by their names. What isn't seen is as if it weren't there: that is a condition of the statement that
looks for it, so that nothing has to be taken out of an answer, nor counted off. For whoever is granted everything there
is no condition and no question more.
"""

from collections.abc import Collection, Sequence
from typing import Any, TypeVar, cast

from sqlalchemy import ColumnElement, Select, Table, exists, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from tracking.access.caller import caller_of
from tracking.access.grants import Names
from tracking.errors import PermissionDenied
from tracking.schema import ExperimentRow, LoggedModelRow, RunRow

Column = ColumnElement[Any] | InstrumentedAttribute[Any]
_Statement = TypeVar("_Statement", bound=Select[*tuple[Any, ...]])

# Under names of their own, or a statement about the same tables would take them for its own.
_EXPERIMENTS = cast(Table, ExperimentRow.__table__).alias("named_experiments")
_RUNS = cast(Table, RunRow.__table__).alias("named_runs")
_MODELS = cast(Table, LoggedModelRow.__table__).alias("named_models")

# What one IN may hold; SQLite bounds the parameters of a statement.
_IDS_PER_STATEMENT = 1_000


class NotGranted(PermissionDenied):
    """What would change something that the caller sees at most, or give it a name beyond their grants."""

    def __init__(self, caller: str, what: str) -> None:
        super().__init__(f"{caller} may not {what}: nobody has granted that.")


# --- seeing


def in_sight(session: Session, experiment_id: Column) -> list[ColumnElement[bool]]:
    """The conditions under which rows are seen that name their experiment in *experiment_id*."""
    names = caller_of(session).reading.experiments
    return [] if names.all else [experiment_id.in_(_numbers(names))]


def runs_in_sight(session: Session, run_id: Column) -> list[ColumnElement[bool]]:
    """The same for rows that name a run."""
    names = caller_of(session).reading.experiments
    if names.all:
        return []
    own = exists().where(_RUNS.c.run_id == run_id, _RUNS.c.experiment_id.in_(_numbers(names)))
    return [own.correlate_except(_RUNS)]


def no_hidden_model(session: Session, model_id: Column) -> list[ColumnElement[bool]]:
    """The conditions under which a logged model may be named that is perhaps of another server."""
    names = caller_of(session).reading.experiments
    if names.all:
        return []
    hidden = exists().where(_MODELS.c.model_id == model_id, _MODELS.c.experiment_id.not_in(_numbers(names)))
    return [~hidden.correlate_except(_MODELS)]


def narrowed(session: Session, statement: _Statement, experiment_id: Column) -> _Statement:
    """*statement*, which finds few rows by their ids, less what isn't seen by their experiment in *experiment_id*."""
    names = caller_of(session).reading.experiments
    if names.all:
        return statement
    # Asked of each row: of the names of all experiments a list would be made first, as for a search.
    own = exists().where(_EXPERIMENTS.c.experiment_id == experiment_id, names.holds(_EXPERIMENTS.c.name))
    return statement.where(own.correlate_except(_EXPERIMENTS))


def seen_runs(session: Session, run_ids: Sequence[str]) -> Sequence[str]:
    """Those of *run_ids* that aren't hidden; of runs that aren't there, nothing is promised."""
    if caller_of(session).reading.experiments.all:
        return run_ids
    seen: set[str] = set()
    for start in range(0, len(run_ids), _IDS_PER_STATEMENT):
        some = _RUNS.c.run_id.in_(run_ids[start : start + _IDS_PER_STATEMENT])
        seen.update(session.scalars(narrowed(session, select(_RUNS.c.run_id).where(some), _RUNS.c.experiment_id)))
    return [run_id for run_id in run_ids if run_id in seen]


# --- changing


def may_change(session: Session, experiment_ids: Collection[int]) -> bool:
    """Whether all of these experiments, which are there, may be changed."""
    names = caller_of(session).acting.experiments
    if names.all:
        return True
    found = session.scalars(select(_EXPERIMENTS.c.name).where(_EXPERIMENTS.c.experiment_id.in_(experiment_ids)))
    return all(name in names for name in found)


def ensure_may_change(session: Session, experiment_id: int) -> None:
    """Look at an experiment, which the caller sees, for whether they may change what belongs to it.

    Raises:
        NotGranted: if not.
    """
    if not may_change(session, [experiment_id]):
        raise NotGranted(caller_of(session).name, f"change the experiment {experiment_id}")


def ensure_may_name(session: Session, name: str) -> None:
    """Look at a name that an experiment is to have. Before anybody looks whether it is taken, which would tell of it.

    Raises:
        NotGranted: if it is beyond the caller's grants.
    """
    caller = caller_of(session)
    if name not in caller.acting.experiments:
        raise NotGranted(caller.name, f"name an experiment {name[:500]!r}")


def ensure_unrestricted(session: Session, what: str) -> None:
    """Let nobody do *what* but those who may change every experiment.

    Raises:
        NotGranted: to all others.
    """
    caller = caller_of(session)
    if not caller.acting.experiments.all:
        raise NotGranted(caller.name, what)


def _numbers(names: Names) -> Select[int]:
    return select(_EXPERIMENTS.c.experiment_id).where(names.holds(_EXPERIMENTS.c.name))
