"""Whether the champion of an endpoint answers where another arm fails."""

from sqlalchemy.orm import Session

from registry import endpoints, history, serving
from registry.entities import Action
from registry.schema import EndpointRow


def set_fallback(session: Session, name: str, *, on: bool, author: str, now_ms: int) -> None:
    """Have the champion of endpoint *name* answer for arms that fail, from the next epoch on, or no longer.

    No period begins by it: what an arm is asked stays the same, and its failures are counted all the same.

    Raises:
        EndpointNotFound: if there is no such endpoint.
    """
    endpoint = endpoints.lock_endpoint(session, name)
    if endpoint.fallback == on:
        return
    session.get_one(EndpointRow, endpoint.id).fallback = on
    history.record(
        session,
        Action.FALLBACK_CHANGED,
        endpoint.model,
        author=author,
        now_ms=now_ms,
        details={"endpoint": endpoint.name, "fallback": on},
    )
    serving.raise_generation(session)
