"""Who changed what is served, when, why and by what evidence: an entry for each change, in the change's transaction.

Entries are added and never altered: the database refuses it, and `registry.chain` shows it where somebody went round
the database. An entry goes by the name that the model had then; who asks by its present name is told of it under its
former ones too.
"""

from collections.abc import Iterator, Mapping
from typing import Any, cast

import msgspec
from sqlalchemy import ColumnElement, Row, Table, and_, func, insert, or_, select
from sqlalchemy.orm import Session

from registry import serving
from registry.chain import FIRST, Break, Link, canonical, follow, link_hash
from registry.entities import Action, HistoryEntry
from registry.errors import AliasMeantNothing, RegisteredModelNotFound
from registry.granted import may_see
from registry.rows import get_model_row
from registry.schema import HistoryRow
from tracking.paging import Page, Term, Turn, check_page_size, read_page
from tracking.search import ValueType

ENTRIES_MAX = 1_000
"""Of one page."""
REASON_LENGTH_MAX = 1_000

# Of one question: a model that was renamed oftener than this has a past that nobody looks for.
_NAMES_MAX = 100

_TABLE = cast(Table, HistoryRow.__table__)

_FROM = "from"
_TO = "to"


def record(
    session: Session,
    action: Action,
    model: str,
    *,
    author: str,
    now_ms: int,
    alias: str | None = None,
    version: int | None = None,
    reason: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> HistoryEntry:
    """Add what is being done in this transaction to the history.

    Takes the lock of the generation, under which all that routes is written, so that entries follow one another.
    """
    serving.lock_generation(session)
    before = head(session)
    entry = HistoryEntry(
        seq=before.seq + 1,
        at_ms=now_ms,
        author=author,
        action=action,
        model=model,
        alias=alias,
        version=version,
        reason=reason,
        details=dict(details or {}),
        hash="",
    )
    entry = msgspec.structs.replace(entry, hash=link_hash(before.hash, entry))
    said = msgspec.structs.asdict(entry) | {"details": canonical(entry.details)}
    session.connection().execute(_ADDED, said)
    return entry


def record_rename(session: Session, old: str, new: str, *, author: str, now_ms: int) -> None:
    """Add the beginning of the model *new* and, of the same model, the end of *old*."""
    # In this order, so that the end is what nobody is told of who asks for what came before the beginning.
    record(session, Action.MODEL_RENAMED, new, author=author, now_ms=now_ms, details={_FROM: old})
    record(session, Action.MODEL_RENAMED, old, author=author, now_ms=now_ms, details={_TO: new})


def last_mover(session: Session, model: str, alias: str) -> str | None:
    """Who set *alias* of *model*, or took it away, last; None if nothing is known of that."""
    moves = HistoryRow.action.in_([Action.ALIAS_SET, Action.ALIAS_DELETED])
    about = (HistoryRow.model == model) & (HistoryRow.alias == alias) & moves
    return session.scalar(select(HistoryRow.author).where(about).order_by(HistoryRow.seq.desc()).limit(1))


def ever_meant(session: Session, model: str, alias: str) -> bool:
    """Whether *alias* ever meant a version of *model*, of one that had its name before, or under its former names."""
    about = or_(HistoryRow.model == model, *(_is_of(span) for span in _spans(session, model)))
    moves = about & (HistoryRow.alias == alias) & (HistoryRow.action == Action.ALIAS_SET)
    return session.scalar(select(HistoryRow.seq).where(moves).limit(1)) is not None


def head(session: Session) -> Link:
    """The newest entry's place in the chain."""
    row = session.connection().execute(_HEAD).first()
    return FIRST if row is None else Link(row.seq, row.hash)


# Built once, as every alias write runs them.
_ADDED = insert(_TABLE)
_HEAD = select(HistoryRow.seq, HistoryRow.hash).order_by(HistoryRow.seq.desc()).limit(1)


def list_history(
    session: Session,
    model: str,
    *,
    alias: str | None = None,
    max_results: int = 100,
    page_token: str | None = None,
) -> Page[HistoryEntry]:
    """What was done to *model*, under former names too, the newest first; with *alias* what was done to that alone.

    Raises:
        RegisteredModelNotFound: if there is no such model and nothing is known of an earlier one.
    """
    check_page_size(max_results, ENTRIES_MAX)
    if not may_see(session, model):
        raise RegisteredModelNotFound(model)
    row = HistoryRow
    about = or_(*(_is_of(span) for span in _spans(session, model)))
    if alias is not None:
        about = and_(about, or_(row.alias == alias, row.action.in_([Action.MODEL_RENAMED, Action.MODEL_DELETED])))
    turn = Turn(_TABLE, [about], [Term(_TABLE.c.seq, ValueType.NUMBER, ascending=False)])
    page = read_page(
        session, list(_TABLE.c), [turn], search_key=(model, alias), max_results=max_results, token=page_token
    )
    if not page.items and page_token is None:
        get_model_row(session, model)
    return Page([_entry(each) for each in page.items], page.next_page_token)


def count_actions(session: Session, *, after: int, to: int) -> dict[str, int]:
    """How often each thing was done between the entries *after*, which isn't counted, and *to*, which is."""
    row = HistoryRow
    counted = select(row.action, func.count()).where(row.seq > after, row.seq <= to).group_by(row.action)
    return dict(iter(session.connection().execute(counted)))


def version_at(session: Session, model: str, alias: str, at_ms: int) -> int:
    """Which version *alias* meant at the instant *at_ms*, by the history.

    Raises:
        AliasMeantNothing: if it meant none then, or the history doesn't reach back so far.
    """
    row = HistoryRow
    for span in _spans(session, model) if may_see(session, model) else ():
        ends = row.action.in_([Action.MODEL_RENAMED, Action.MODEL_DELETED])
        newest = (
            select(row)
            .where(_is_of(span), row.at_ms <= at_ms, or_(row.alias == alias, ends))
            .where(row.action.in_([Action.ALIAS_SET, Action.ALIAS_DELETED, Action.MODEL_RENAMED, Action.MODEL_DELETED]))
            .order_by(row.seq.desc())
            .limit(1)
        )
        found = session.scalars(newest).first()
        if found is None:
            continue
        if found.action == Action.ALIAS_SET and found.version is not None:
            return found.version
        if found.action == Action.MODEL_RENAMED and _FROM in _details(found.details):
            # Nothing was said of the alias under this name by then; what it meant, it meant already under the former.
            continue
        break
    raise AliasMeantNothing(model, alias)


def verify(session: Session, *, after: Link = FIRST, limit: int) -> Link | Break:
    """Look at *limit* entries after *after*: the last of them, if the chain holds, else where it doesn't."""
    if after != FIRST and session.scalar(select(HistoryRow.hash).where(HistoryRow.seq == after.seq)) != after.hash:
        return Break(after.seq, "isn't what was noted")
    # From the very first row on, whatever number somebody has given it.
    asked = [] if after == FIRST else [HistoryRow.seq > after.seq]
    query = select(_TABLE).where(*asked).order_by(HistoryRow.seq).limit(limit)
    return follow(map(_entry, session.connection().execute(query).all()), after)


class _Span(msgspec.Struct, frozen=True):
    """A model under one of its names."""

    name: str
    before_seq: int | None = None
    """The entry of its renaming; None: it has this name still, or had it last."""


def _is_of(span: _Span) -> ColumnElement[bool]:
    own = HistoryRow.model == span.name
    return own if span.before_seq is None else and_(own, HistoryRow.seq < span.before_seq)


def _spans(session: Session, model: str) -> Iterator[_Span]:
    """*model*, then the names that it had before."""
    span, row = _Span(model), HistoryRow
    for _ in range(_NAMES_MAX):
        yield span
        renamed = (
            select(row.seq, row.details)
            .where(_is_of(span), row.action == Action.MODEL_RENAMED)
            .order_by(row.seq.desc())
        )
        # Other models may have had this name and left it: those entries say to where, and not from where.
        taken = ((each.seq, _details(each.details)) for each in session.execute(renamed))
        begun = next(((seq, details[_FROM]) for seq, details in taken if _FROM in details), None)
        if begun is None or not may_see(session, begun[1]):
            return
        span = _Span(begun[1], begun[0])


def _entry(row: Row[Any]) -> HistoryEntry:
    return HistoryEntry(
        seq=row.seq,
        at_ms=row.at_ms,
        author=row.author,
        action=row.action,
        model=row.model,
        alias=row.alias,
        version=row.version,
        reason=row.reason,
        details=_details(row.details),
        hash=row.hash,
    )


def _details(text: str) -> dict[str, Any]:
    """What an entry says besides. What somebody has made unreadable stays so, for `verify` to name the entry."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return {"unreadable": text}
