"""What was changed of what is served: by whom, when and why; and whether anybody has altered what was written of it."""

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery

from gateway.auth import needs
from registry import history
from registry.chain import BEGINNING, Break, Link
from registry.entities import HistoryEntry
from tracking.access.permissions import Permission
from tracking.database import Database

_ROOT = "/api/1.0/titlebout"
_CHECKED_AT_ONCE = 10_000


class HistoryPage(msgspec.Struct, kw_only=True):
    """Some of a model's history, the newest first."""

    entries: list[HistoryEntry]
    next_page_token: str | None = None


class Checked(msgspec.Struct, kw_only=True):
    """How far the chain of all entries was looked at, and whether it holds so far."""

    seq: int
    """Of the last entry that follows from those before it; what to ask for next by `after_seq`."""
    hash: str
    """Its hash: whoever keeps it elsewhere can tell later that what came before was not altered since."""
    is_whole: bool
    """Whether there is none after it."""
    broken_seq: int | None = None
    """The first entry that isn't what was written, or isn't there."""
    broken: str | None = None


@get(f"{_ROOT}/models/{{name:str}}/history", sync_to_thread=True, opt=needs(Permission.REGISTRY_READ))
def get_history(
    name: FromPath[str],
    database: NamedDependency[Database],
    alias: FromQuery[str | None] = None,
    max_results: FromQuery[int] = 100,
    page_token: FromQuery[str | None] = None,
) -> HistoryPage:
    """What was done to a model, under its former names too; with *alias* what was done to that."""
    with database.reading() as session:
        page = history.list_history(session, name, alias=alias, max_results=max_results, page_token=page_token)
    return HistoryPage(entries=page.items, next_page_token=page.next_page_token)


@get(
    f"{_ROOT}/history/check",
    sync_to_thread=True,
    opt=needs(Permission.REGISTRY_READ, for_all="check the history of all models"),
)
def check_history(
    database: NamedDependency[Database], after_seq: FromQuery[int] = 0, after_hash: FromQuery[str] = BEGINNING
) -> Checked:
    """Follow the chain, which is of all models, for up to 10,000 entries after that one."""
    after = Link(after_seq, after_hash)
    with database.reading() as session:
        found = history.verify(session, after=after, limit=_CHECKED_AT_ONCE)
        newest = history.head(session)
    if isinstance(found, Break):
        return Checked(seq=after.seq, hash=after.hash, is_whole=False, broken_seq=found.seq, broken=found.what)
    return Checked(seq=found.seq, hash=found.hash, is_whole=found.seq >= newest.seq)


handlers = [get_history, check_history]
