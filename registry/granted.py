"""What of the registered models, and of all that belongs to them, the caller of a session sees and may change.

Models go by their names; versions, aliases, endpoints, splits, pins and signatures by their model's. What isn't seen is
answered as if it weren't there. For whoever is granted everything there is no condition and no question more.
"""

from typing import Any

from sqlalchemy import ColumnElement, or_
from sqlalchemy.orm import Session

from tracking.access.caller import caller_of
from tracking.access.narrowing import NotGranted
from tracking.errors import ServingError


def may_see(session: Session, model: str) -> bool:
    """Whether the caller may learn that *model* is there, as whoever may change it does too."""
    caller = caller_of(session)
    return model in caller.reading.models or model in caller.acting.models


def in_sight(session: Session, model: Any) -> list[ColumnElement[bool]]:
    """The same of rows that name their model in the column *model*: the conditions under which they are seen."""
    caller = caller_of(session)
    if caller.reading.models.all or caller.acting.models.all:
        return []
    # Mostly the same names, on routes that read.
    return [or_(*(names.holds(model) for names in {caller.reading.models, caller.acting.models}))]


def ensure_may_read(session: Session, model: str, missing: ServingError) -> None:
    """Let nobody go on who may change *model* at most, and not read it.

    Raises:
        missing: to them.
    """
    if model not in caller_of(session).reading.models:
        raise missing


def ensure_may_change(session: Session, model: str, missing: ServingError) -> None:
    """Let the caller change *model*, or what belongs to it, whether it is there or not.

    Raises:
        missing: what is answered where there is none, if they may not see it.
        NotGranted: if they may.
    """
    caller = caller_of(session)
    if model in caller.acting.models:
        return
    if model not in caller.reading.models:
        raise missing
    raise NotGranted(caller.name, f"do this to the model {model!r}")


def ensure_may_name(session: Session, name: str) -> None:
    """Look at a name that a model or an endpoint is to have, before anybody looks whether it is taken.

    Raises:
        NotGranted: if it is beyond the caller's grants.
    """
    caller = caller_of(session)
    if name not in caller.acting.models:
        raise NotGranted(caller.name, f"take the name {name[:500]!r}")
