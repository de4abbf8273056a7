"""Pages that stay right while rows are being added: each goes on after the last row given, not after a number of rows.

A page token holds the place in the order where the page ended. An order is a list of terms that no two rows share in
whole; what can't be ordered by one statement comes in turns, one statement after the other.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import msgspec
from sqlalchemy import Boolean, ColumnElement, FromClause, Row, and_, literal, or_, select
from sqlalchemy.orm import Session

from tracking.errors import InvalidParameter
from tracking.filters import InvalidPageToken, page_token, read_page_token
from tracking.names import is_storable
from tracking.search import ValueType

PAGE_SIZE_MAX = 50_000

Item = TypeVar("Item")


class Page(msgspec.Struct, Generic[Item], frozen=True):
    """Some of what was found, and the token that the rest is asked for with; None: there is no rest."""

    items: list[Item]
    next_page_token: str | None = None


class Term(NamedTuple):
    """One step of an order. Where it is NULL, a term before it must tell those rows from the others."""

    expression: ColumnElement[Any]
    type: ValueType
    ascending: bool = True


class Turn(NamedTuple):
    """One of the statements that, one after the other, give everything in order."""

    source: FromClause
    conditions: Sequence[ColumnElement[bool]]
    terms: Sequence[Term]


_Value: TypeAlias = bool | str | int | float | None


class _Place(msgspec.Struct, array_like=True):
    search: str
    turn: int
    values: list[_Value]


def check_page_size(max_results: int, at_most: int = PAGE_SIZE_MAX) -> None:
    if not 1 <= max_results <= at_most:
        raise InvalidParameter(
            f"Invalid value {max_results} for parameter 'max_results' supplied. It must be between 1 and {at_most}."
        )


def read_page(
    session: Session,
    columns: Sequence[ColumnElement[Any]],
    turns: Sequence[Turn],
    *,
    search_key: object,
    max_results: int | None,
    token: str | None,
) -> Page[Row[Any]]:
    """The next *max_results* rows (None: all) of *columns* after where *token* says, in the search of *search_key*.

    Raises:
        InvalidPageToken: if the token isn't from the same search.
    """
    search = _fingerprint(search_key)
    place = _read_place(token, search, turns) if token else None
    connection = session.connection()
    found: list[Row[Any]] = []
    last_turn = 0
    for number, turn in enumerate(turns):
        if place is not None and number < place.turn:
            continue
        after = place.values if place is not None and number == place.turn else None
        # One row more than asked for tells whether there is a next page.
        limit = None if max_results is None else max_results + 1 - len(found)
        some = connection.execute(_statement(columns, turn, after).limit(limit)).all()
        # The turn of the last row that is given out: that one row more may be all that a turn gave.
        if max_results is None or len(found) < max_results <= len(found) + len(some):
            last_turn = number
        found += some
        if max_results is not None and len(found) > max_results:
            break
    if max_results is None or len(found) <= max_results:
        return Page(found)
    # The order's values come after the columns that were asked for.
    last = found[max_results - 1]
    return Page(found[:max_results], page_token(_Place(search, last_turn, list(last[len(columns) :]))))


def _statement(columns: Sequence[ColumnElement[Any]], turn: Turn, after: Sequence[_Value] | None) -> Any:
    values = [term.expression.label(f"order_{place}") for place, term in enumerate(turn.terms)]
    statement = select(*columns, *values).select_from(turn.source).where(*turn.conditions)
    if after is not None:
        statement = statement.where(*_comes_after(turn.terms, after))
    return statement.order_by(
        *(term.expression.asc() if term.ascending else term.expression.desc() for term in turn.terms)
    )


def _comes_after(terms: Sequence[Term], values: Sequence[_Value]) -> list[ColumnElement[bool]]:
    """Conditions for rows beyond *values*: greater in the first term, or equal in it and beyond in the rest.

    Rows that are NULL in a term are alike in it, since a term before told them from the others.
    """
    compared = [
        (term, literal(value, term.expression.type))
        for term, value in zip(terms, values, strict=True)
        if value is not None
    ]
    ways = []
    for place, (term, value) in enumerate(compared):
        equal = [one.expression == same for one, same in compared[:place]]
        ways.append(and_(*equal, term.expression > value if term.ascending else term.expression < value))
    # Implied by the rest, but a range that an index can start from.
    first, bound = compared[0]
    return [first.expression >= bound if first.ascending else first.expression <= bound, or_(*ways)]


def _fingerprint(search_key: object) -> str:
    return hashlib.sha256(repr(search_key).encode(errors="replace")).hexdigest()[:16]


def _read_place(token: str, search: str, turns: Sequence[Turn]) -> _Place:
    place = read_page_token(token, _Place)
    if place.search != search or not 0 <= place.turn < len(turns):
        raise InvalidPageToken
    terms = turns[place.turn].terms
    if len(terms) != len(place.values) or place.values[-1] is None or not all(map(_fits, terms, place.values)):
        raise InvalidPageToken
    return place


def _fits(term: Term, value: _Value) -> bool:
    # A token can be forged, and a value of another kind would be an error of the database's.
    match value:
        case None:
            return True
        case bool():
            return isinstance(term.expression.type, Boolean)
        case _ if isinstance(term.expression.type, Boolean):
            return False
        case str():
            return term.type is ValueType.TEXT and is_storable(value)
        case int():
            return term.type is ValueType.NUMBER and -(2**63) <= value < 2**63
        case float():
            return term.type is ValueType.NUMBER
