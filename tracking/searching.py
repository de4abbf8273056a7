"""From the search language to pages of rows, for everything that has attributes, params, tags or metrics.

An order by a metric, param or tag is answered in turns: first the things that have it, read in order from the index
of its values; then, for metrics, those where it is NaN; last those without it. A single statement with an outer join
would have to visit everything before it could give the first row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, FromClause, Row, Table, and_, case, false, literal, or_, select, true
from sqlalchemy.orm import Session

from tracking.among import among
from tracking.filters import compares
from tracking.paging import Page, Term, Turn, read_page
from tracking.search import (
    Comparator,
    Comparison,
    Entity,
    Ordering,
    ValueType,
    Vocabulary,
    parse_filter,
    parse_order_by,
)

# How much of a value the indices hold (tracking.schema).
_HEAD_LENGTH = 200


class Child(NamedTuple):
    """A table of keys and values that belong to what is searched."""

    table: Table
    owner: str
    """The column that names what a row belongs to."""
    has_head: bool = False
    has_nan: bool = False
    has_partition: bool = False


@dataclass(frozen=True, eq=False)
class Searchable:
    """How one kind of thing is searched. Each is equal to itself alone, so that searches can be remembered by it."""

    table: Table
    identity: ColumnElement[Any]
    vocabulary: Vocabulary
    columns: Mapping[str, ColumnElement[Any]]
    default_order: Sequence[Term]
    """The order among equals; it ends in what no two rows share."""
    children: Mapping[Entity, Child] = field(default_factory=dict)
    partition: str | None = None
    """The column by which things are apart from each other, such that a search is always within some of it."""
    dataset_condition: Callable[[Comparison], ColumnElement[bool]] | None = None


def search_page(
    session: Session,
    searchable: Searchable,
    *,
    scope: Sequence[ColumnElement[bool]],
    scope_key: object,
    within: Sequence[int] = (),
    filter_text: str | None,
    order_by: Sequence[str],
    max_results: int,
    token: str | None,
) -> Page[Row[Any]]:
    """A page of rows of *searchable*'s table that are in *scope* and match the filter.

    They are *within* these values of the table's partition, if it has one. *scope_key* says which scope it all is.

    Raises:
        SearchSyntaxError: if the filter or the order isn't in the grammar.
        InvalidPageToken: if the token is not from this search.
    """
    plan = _plan_of(searchable, filter_text, tuple(order_by), tuple(within))
    few = _few(session, searchable, plan.comparisons, within)
    turns = [turn._replace(conditions=[*scope, *few, *turn.conditions]) for turn in plan.turns]
    return read_page(
        session,
        list(searchable.table.columns),
        turns,
        search_key=(scope_key, filter_text or "", list(order_by)),
        max_results=max_results,
        token=token,
    )


class _Plan(NamedTuple):
    comparisons: Sequence[Comparison]
    turns: Sequence[Turn]


def _plan(searchable: Searchable, filter_text: str | None, order_by: tuple[str, ...], within: tuple[int, ...]) -> _Plan:
    comparisons = parse_filter(filter_text, searchable.vocabulary)
    orderings = _without_repetition(parse_order_by(order_by, searchable.vocabulary))
    return _Plan(comparisons, _turns(searchable, comparisons, orderings, within))


# The same search comes again for every page and from every dashboard, and building its statements takes longer than
# running them. Long ones are forgotten, so that what is remembered stays small.
_remembered_plan = lru_cache(maxsize=256)(_plan)
_REMEMBERED_LENGTH_MAX = 2_000
_REMEMBERED_WITHIN_MAX = 20


def _plan_of(
    searchable: Searchable, filter_text: str | None, order_by: tuple[str, ...], within: tuple[int, ...]
) -> _Plan:
    length = len(filter_text or "") + sum(map(len, order_by))
    short = length <= _REMEMBERED_LENGTH_MAX and len(within) <= _REMEMBERED_WITHIN_MAX
    return (_remembered_plan if short else _plan)(searchable, filter_text, order_by, within)


def _without_repetition(orderings: Sequence[Ordering]) -> list[Ordering]:
    return list({ordering.field: ordering for ordering in reversed(orderings)}.values())[::-1]


def _few(
    session: Session, searchable: Searchable, comparisons: Sequence[Comparison], within: Sequence[int]
) -> list[ColumnElement[bool]]:
    """Of the comparisons that an index answers the first that few things meet, as the list of these things; else none.

    It changes nothing in what is found, but much in how fast: no database knows how many runs have a param's value.
    """
    # An equation is met by fewer than a range, most often.
    for comparison in sorted(comparisons, key=lambda one: one.comparator is not Comparator.EQUAL):
        child = searchable.children.get(comparison.field.entity)
        if child is None or comparison.comparator not in _BY_INDEX:
            continue
        conditions = [child.table.c.key == comparison.field.key, _value_condition(child, child.table, comparison)]
        if child.has_partition:
            conditions.append(_within(child.table, searchable, within))
        found = select(child.table.c[child.owner]).where(*conditions).limit(_FEW + 1)
        owners = session.scalars(found).all()
        if len(owners) <= _FEW:
            return [among(searchable.identity, owners)]
    return []


def _within(source: Any, searchable: Searchable, within: Sequence[int]) -> ColumnElement[bool]:
    if searchable.partition is None:
        return true()
    column: ColumnElement[int] = source.c[searchable.partition]
    # One value as an equation: an index then gives the order by itself, which an IN would hide.
    return column == within[0] if len(within) == 1 else column.in_(within)


def _turns(
    searchable: Searchable, comparisons: Sequence[Comparison], orderings: Sequence[Ordering], within: Sequence[int]
) -> list[Turn]:
    if not orderings or orderings[0].field.entity not in searchable.children:
        here = [_within(searchable.table, searchable, within)]
        return [_turn(searchable, searchable.table, comparisons, here, orderings)]
    return _turns_by_child(searchable, comparisons, orderings[0], orderings[1:], within)


def _turns_by_child(
    searchable: Searchable,
    comparisons: Sequence[Comparison],
    first: Ordering,
    rest: Sequence[Ordering],
    within: Sequence[int],
) -> list[Turn]:
    child = searchable.children[first.field.entity]
    leading = child.table.alias("leading")
    # The children come first: their index gives the order.
    joined = leading.join(searchable.table, leading.c[child.owner] == searchable.identity)
    own = [one for one in comparisons if one.field == first.field and one.comparator not in _PRESENCE]
    others = [one for one in comparisons if one not in own]
    here = _within(leading if child.has_partition else searchable.table, searchable, within)
    has_key = [here, leading.c.key == first.field.key]
    has_it = [*has_key, *([leading.c.is_nan == false()] if child.has_nan else [])]
    has_it += [_value_condition(child, leading, one) for one in own]
    # Values in the order of their heads, then of themselves, are in their own order; but heads are in the index.
    names = ("value_head", "value") if child.has_head else ("value",)
    by_value = [Term(leading.c[name], first.field.type, first.ascending) for name in names]
    turns = [_turn(searchable, joined, others, has_it, rest, lead=by_value)]
    demanded = {one.field for one in comparisons if one.comparator is not Comparator.IS_NULL}
    if child.has_nan and all(one.comparator is Comparator.NOT_EQUAL for one in own):
        turns.append(_turn(searchable, joined, others, [*has_key, leading.c.is_nan == true()], rest))
    if first.field not in demanded:
        lacks_it = [_within(searchable.table, searchable, within), ~_has(searchable, child, first.field.key)]
        turns.append(_turn(searchable, searchable.table, comparisons, lacks_it, rest))
    return turns


# Comparisons that a range of an index of values answers.
_BY_INDEX = frozenset(
    {
        Comparator.EQUAL,
        Comparator.LESS,
        Comparator.LESS_EQUAL,
        Comparator.GREATER,
        Comparator.GREATER_EQUAL,
    }
)
# So few that looking at each is cheaper than any other way to go about a search.
_FEW = 1_000
_PRESENCE = frozenset({Comparator.IS_NULL, Comparator.IS_NOT_NULL})


def _turn(
    searchable: Searchable,
    source: Any,
    comparisons: Sequence[Comparison],
    conditions: Sequence[ColumnElement[bool]],
    orderings: Sequence[Ordering],
    lead: Sequence[Term] = (),
) -> Turn:
    terms = list(lead)
    for number, ordering in enumerate(orderings):
        child = searchable.children.get(ordering.field.entity)
        if child is None:
            terms += _attribute_terms(searchable, ordering)
        else:
            beside = child.table.alias(f"beside_{number}")
            same = and_(beside.c[child.owner] == searchable.identity, beside.c.key == ordering.field.key)
            source = source.outerjoin(beside, same)
            terms += _child_terms(child, beside, ordering)
    ordered_by = {id(term.expression) for term in terms}
    terms += [term for term in searchable.default_order if id(term.expression) not in ordered_by]
    return Turn(source, [*conditions, *(_condition(searchable, one) for one in comparisons)], terms)


def _attribute_terms(searchable: Searchable, ordering: Ordering) -> list[Term]:
    column = searchable.columns[ordering.field.key]
    by_value = Term(column, ordering.field.type, ordering.ascending)
    if not getattr(column, "nullable", False):
        return [by_value]
    return [_rank(case((column.is_(None), 1), else_=0)), by_value]


def _child_terms(child: Child, beside: Any, ordering: Ordering) -> list[Term]:
    ranks = [(beside.c.value.is_(None), 2)]
    if child.has_nan:
        ranks.append((beside.c.is_nan == true(), 1))
    return [_rank(case(*ranks, else_=0)), Term(beside.c.value, ordering.field.type, ordering.ascending)]


def _rank(expression: ColumnElement[int]) -> Term:
    return Term(expression, ValueType.NUMBER)


def _condition(searchable: Searchable, comparison: Comparison) -> ColumnElement[bool]:
    field = comparison.field
    if field.entity is Entity.ATTRIBUTE:
        return compares(searchable.columns[field.key], comparison)
    if field.entity is Entity.DATASET:
        assert searchable.dataset_condition is not None  # noqa: S101  (a vocabulary with datasets has one)
        return searchable.dataset_condition(comparison)
    child = searchable.children[field.entity]
    if comparison.comparator is Comparator.IS_NULL:
        return ~_has(searchable, child, field.key)
    if comparison.comparator is Comparator.IS_NOT_NULL:
        return _has(searchable, child, field.key)
    return _has(searchable, child, field.key, comparison)


@cache
def _inner(table: Table) -> FromClause:
    # One for all: each EXISTS is a scope of its own, and making an alias copies the table's columns.
    return table.alias("inner_one")


def _has(searchable: Searchable, child: Child, key: str, comparison: Comparison | None = None) -> ColumnElement[bool]:
    table = _inner(child.table)
    conditions = [table.c[child.owner] == searchable.identity, table.c.key == key]
    if comparison is not None:
        conditions.append(_value_condition(child, table, comparison))
    return select(literal(1)).select_from(table).where(*conditions).exists()


def _value_condition(child: Child, table: Any, comparison: Comparison) -> ColumnElement[bool]:
    matches = compares(table.c.value, comparison)
    if child.has_nan:
        # NaN is unequal to everything and comparable with nothing.
        is_nan = table.c.is_nan
        unequal = comparison.comparator is Comparator.NOT_EQUAL
        return or_(is_nan == true(), matches) if unequal else and_(is_nan == false(), matches)
    if child.has_head and comparison.comparator is Comparator.EQUAL and isinstance(comparison.value, str):
        return and_(table.c.value_head == comparison.value[:_HEAD_LENGTH], matches)
    return matches
