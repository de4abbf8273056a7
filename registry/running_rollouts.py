"""Whether a rollout is running on an endpoint: what other writes ask, and know no more of rollouts than that."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from registry.schema import EndpointRow, RolloutRow
from tracking.errors import Conflict


class RolloutRunning(Conflict):
    def __init__(self, endpoint: str, model: str, version: int, rollout_id: str) -> None:
        super().__init__(
            f"A rollout of version {version} of {model!r} is running on endpoint {endpoint!r} ({rollout_id}), and "
            f"decides what answers there: `titlebout rollout abort {endpoint}` first, or wait for its end. Nothing "
            "was changed."
        )


def ensure_none_running(session: Session, model: str, *, rollout: str | None = None) -> None:
    """Raise `RolloutRunning` if one is running on the endpoint of *model*, unless it is *rollout* that asks.

    The caller holds the lock of the generation or of the model, one of which each write of a rollout takes.
    """
    if is_running(session, model, rollout=rollout):
        row, endpoint = session.execute(_running(model)).one()
        raise RolloutRunning(endpoint.name, model, row.version, row.id)


def is_running(session: Session, model: str, *, rollout: str | None = None) -> bool:
    """Whether one is running on the endpoint of *model*, other than *rollout*."""
    found = session.execute(_running(model)).first()
    return found is not None and found[0].id != rollout


def _running(model: str):  # type: ignore[no-untyped-def]  # noqa: ANN202  (a statement of two rows)
    return (
        select(RolloutRow, EndpointRow)
        .join(EndpointRow, EndpointRow.id == RolloutRow.running_on)
        .where(EndpointRow.model == model)
    )
