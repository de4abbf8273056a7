"""Who a transaction is for, and what of the store that lets it see and change.

A route's guard works out both from its permission and the caller's grants, once; `Database` hands them to each session
that is opened while the request is answered; the functions that go from ids and names to rows ask here. So no handler
can forget to.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import msgspec
from sqlalchemy.orm import Session

from tracking.access.grants import EVERYTHING, Grant, Scope


class Caller(msgspec.Struct, frozen=True):
    """A name, what may be done by the permission that the route needs, and what may be seen."""

    name: str
    acting: Scope = EVERYTHING
    reading: Scope = EVERYTHING
    grants: tuple[Grant, ...] = ()
    """All that they have, which is the most that they can give others."""


LOCAL = Caller("local")
"""Whoever reaches a server that asks nobody for credentials."""
PROGRAM = Caller("titlebout")
"""The program itself, for what is nobody's request."""

CALLER: ContextVar[Caller] = ContextVar("caller")
"""Whose request is being answered. Without one, a `Database` made with ``asks_who=True`` opens no session."""

CALLER_KEY = "caller"
"""Of a session's `info`."""


def set_caller(session: Session, caller: Caller) -> None:
    session.info[CALLER_KEY] = caller


def caller_of(session: Session) -> Caller:
    """Who *session* is for; the program itself where nobody was named."""
    found: Caller = session.info.get(CALLER_KEY, PROGRAM)
    return found


@contextmanager
def as_program(session: Session) -> Iterator[None]:
    """Decide something for everybody within one caller's transaction: what is there is all there is."""
    caller = caller_of(session)
    set_caller(session, PROGRAM)
    try:
        yield
    finally:
        set_caller(session, caller)
