"""Whether a rollout is running on an endpoint: what other writes ask, and know no more of rollouts than that.

Whoever asks holds the lock of the model or of the generation; each write of a rollout takes both.
"""

import msgspec
from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from registry.rollout_entities import Before
from registry.schema import EndpointRow, RolloutRow
from tracking.errors import Conflict


class RolloutRunning(Conflict):
    def __init__(self, endpoint: str, model: str, version: int, rollout: str) -> None:
        super().__init__(
            f"A rollout of version {version} of {model!r} is running on endpoint {endpoint!r} (rollout {rollout}) and "
            f"decides what answers there: `titlebout rollout abort {endpoint}` first, or wait for its end. Nothing "
            "was changed."
        )


def ensure_none_running(session: Session, model: str, *, rollout: str | None = None) -> None:
    """Raise `RolloutRunning` if one is running on the endpoint of *model*, unless it is *rollout* that asks."""
    running = _running(session, model)
    if running is not None and running.id != rollout:
        raise RolloutRunning(running.name, model, running.version, running.id)


def ensure_not_gone_back_to(session: Session, model: str, version: int) -> None:
    """Raise `RolloutRunning` if *version* was champion of *model* when the one that is running began."""
    running = _running(session, model)
    if running is not None and msgspec.json.decode(running.course, type=_Course).before.champion == version:
        raise RolloutRunning(running.name, model, running.version, running.id)


def is_running(session: Session, model: str, *, rollout: str | None = None) -> bool:
    """Whether one is running on the endpoint of *model*, other than *rollout*."""
    running = _running(session, model)
    return running is not None and running.id != rollout


class _Course(msgspec.Struct):
    before: Before


def _running(session: Session, model: str) -> Row[str, int, str, str] | None:
    on_endpoint = EndpointRow.id == RolloutRow.running_on
    columns = select(RolloutRow.id, RolloutRow.version, RolloutRow.course, EndpointRow.name)
    return session.execute(columns.join(EndpointRow, on_endpoint).where(EndpointRow.model == model)).first()
