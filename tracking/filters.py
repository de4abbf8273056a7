"""Comparisons of the search language as SQL over a column, and page tokens: what every searchable package shares.

Values are always bound parameters. LIKE minds case on both databases (`tracking.database` tells SQLite so), ILIKE
doesn't; ``%`` and ``_`` are the only wildcards, a backslash is an ordinary sign.
"""

import base64
import binascii
import operator
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec
from sqlalchemy import ColumnElement, Float, func, literal
from sqlalchemy.orm import InstrumentedAttribute

from tracking.errors import InvalidParameter
from tracking.search import Comparator, Comparison

Place = TypeVar("Place")


class InvalidPageToken(InvalidParameter):
    """A page token that didn't come from here, or belongs to another search."""

    def __init__(self) -> None:
        super().__init__("Invalid page token: expected the next_page_token of the same search's previous answer.")


def _like(column: Any, pattern: Any) -> ColumnElement[bool]:
    matches: ColumnElement[bool] = column.like(pattern, escape="\\")
    return matches


_OPERATORS: Mapping[Comparator, Callable[[Any, Any], ColumnElement[bool]]] = {
    Comparator.EQUAL: operator.eq,
    Comparator.NOT_EQUAL: operator.ne,
    Comparator.LESS: operator.lt,
    Comparator.LESS_EQUAL: operator.le,
    Comparator.GREATER: operator.gt,
    Comparator.GREATER_EQUAL: operator.ge,
    Comparator.LIKE: _like,
    Comparator.ILIKE: lambda column, pattern: _like(func.lower(column), func.lower(pattern)),
    Comparator.IN: lambda column, values: column.in_(values),
    Comparator.NOT_IN: lambda column, values: column.not_in(values),
    Comparator.IS_NULL: lambda column, _: column.is_(None),
    Comparator.IS_NOT_NULL: lambda column, _: column.is_not(None),
}


def compares(column: ColumnElement[Any] | InstrumentedAttribute[Any], comparison: Comparison) -> ColumnElement[bool]:
    """The condition that *column* compares as *comparison* says; a NULL compares as nothing."""
    value: Any = comparison.value
    if isinstance(value, float):
        # Said to be a float, or PostgreSQL would cast 1.5 to the integer type of the column beside it.
        value = literal(value, Float)
    elif comparison.comparator in {Comparator.LIKE, Comparator.ILIKE}:
        value = value.replace("\\", "\\\\")
    return _OPERATORS[comparison.comparator](column, value)


def page_token(place: Any) -> str:
    """An opaque token for *place*: whatever JSON the search needs to go on after it."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def read_page_token(token: str, place_type: type[Place]) -> Place:
    """What `page_token` was given.

    Raises:
        InvalidPageToken: if it isn't one of ours.
    """
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(text, type=place_type)
    except (ValueError, binascii.Error, msgspec.MsgspecError, RecursionError) as error:
        raise InvalidPageToken from error
