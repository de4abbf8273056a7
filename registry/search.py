"""Search for registered models and versions: MLflow's filters and orders over our tables.

Why not `tracking.searching`: there a row's tags belong to one column, and a version is named by two.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, FromClause, Row, exists, func
from sqlalchemy.orm import Session

from registry.entities import ModelVersion, RegisteredModel
from registry.granted import in_sight
from registry.models import PROMPT_TAG
from registry.rows import to_models, to_versions
from registry.schema import ModelVersionRow, ModelVersionTagRow, RegisteredModelRow, RegisteredModelTagRow
from tracking.errors import InvalidParameter
from tracking.filters import compares
from tracking.paging import Page, Term, Turn, check_page_size, read_page
from tracking.search import (
    Comparator,
    Comparison,
    Entity,
    ValueType,
    Vocabulary,
    parse_filter,
    parse_order_by,
)

MODELS_MAX = 1_000
VERSIONS_MAX = 200_000


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asks for: all of it optional."""

    filter: str | None = None
    order_by: Sequence[str] = ()
    max_results: int = 100
    page_token: str | None = None


class _Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One of the two things that are searched for, and where its fields are."""

    table: FromClause
    tag: Any
    is_tag_of: ColumnElement[bool]
    columns: Mapping[str, Any]
    vocabulary: Vocabulary
    default_order: tuple[str, ...]
    tie_breakers: tuple[str, ...]
    """Together they tell any two rows apart, so that each row has one place in every order."""
    results_max: int


_MODELS = _Kind(
    table=RegisteredModelRow.__table__,
    tag=RegisteredModelTagRow,
    is_tag_of=RegisteredModelTagRow.name == RegisteredModelRow.name,
    columns={
        "name": RegisteredModelRow.name,
        "creation_timestamp": RegisteredModelRow.created_ms,
        "last_updated_timestamp": RegisteredModelRow.updated_ms,
    },
    vocabulary=Vocabulary(
        attributes={
            "name": ValueType.TEXT,
            "creation_timestamp": ValueType.NUMBER,
            "last_updated_timestamp": ValueType.NUMBER,
        },
        aliases={"timestamp": "last_updated_timestamp"},
        entities=frozenset({Entity.TAG}),
    ),
    default_order=(),
    tie_breakers=("name",),
    results_max=MODELS_MAX,
)

_VERSIONS = _Kind(
    table=ModelVersionRow.__table__,
    tag=ModelVersionTagRow,
    is_tag_of=(ModelVersionTagRow.name == ModelVersionRow.name)
    & (ModelVersionTagRow.version == ModelVersionRow.version),
    columns={
        "name": ModelVersionRow.name,
        "version_number": ModelVersionRow.version,
        "run_id": ModelVersionRow.run_id,
        "source_path": ModelVersionRow.source,
        "creation_timestamp": ModelVersionRow.created_ms,
        "last_updated_timestamp": ModelVersionRow.updated_ms,
    },
    vocabulary=Vocabulary(
        attributes={
            "name": ValueType.TEXT,
            "version_number": ValueType.NUMBER,
            "run_id": ValueType.TEXT,
            "source_path": ValueType.TEXT,
            "creation_timestamp": ValueType.NUMBER,
            "last_updated_timestamp": ValueType.NUMBER,
        },
        entities=frozenset({Entity.TAG}),
    ),
    default_order=("last_updated_timestamp DESC",),
    tie_breakers=("name", "version_number DESC"),
    results_max=VERSIONS_MAX,
)

# Versions without a run have no place in an order by run, and MLflow offers neither.
_NOT_TO_ORDER_BY = frozenset({"run_id", "source_path"})


def search_models(session: Session, query: Query) -> Page[RegisteredModel]:
    """Registered models that match and may be seen, by name unless told otherwise; prompts only when asked for.

    Raises:
        InvalidParameter: for a filter, an order, a token or a number of results that can't be.
    """
    page = _search(session, _MODELS, query)
    return Page(to_models(session, page.items), page.next_page_token)


def search_versions(session: Session, query: Query) -> Page[ModelVersion]:
    """Versions that match and may be seen, the last changed first unless told otherwise; prompts' only if asked for.

    Raises:
        InvalidParameter: for a filter, an order, a token or a number of results that can't be.
    """
    page = _search(session, _VERSIONS, query)
    return Page(to_versions(session, page.items), page.next_page_token)


def _search(session: Session, kind: _Kind, query: Query) -> Page[Row[Any]]:
    check_page_size(query.max_results, kind.results_max)
    conditions = _conditions(kind, parse_filter(query.filter, kind.vocabulary))
    conditions += in_sight(session, kind.columns["name"])
    turn = Turn(kind.table, conditions, _terms(kind, query.order_by))
    return read_page(
        session,
        list(kind.table.columns),
        [turn],
        search_key=(kind.default_order, kind.tie_breakers, query.filter or "", list(query.order_by)),
        max_results=query.max_results,
        token=query.page_token,
    )


# --- filters


def _conditions(kind: _Kind, comparisons: Sequence[Comparison]) -> list[ColumnElement[bool]]:
    is_prompt = _has_tag(kind, PROMPT_TAG, func.lower(kind.tag.value) == "true")
    asked_for_prompts = any(_asks_for_prompts(comparison) for comparison in comparisons)
    conditions = [is_prompt if asked_for_prompts else ~is_prompt]
    # A model has no tag that says it is no prompt, so what tells the two apart isn't compared with tags once more.
    conditions += [_condition(kind, comparison) for comparison in comparisons if not _tells_prompts_apart(comparison)]
    return conditions


def _condition(kind: _Kind, comparison: Comparison) -> ColumnElement[bool]:
    key = comparison.field.key
    if comparison.field.entity is Entity.ATTRIBUTE:
        return compares(kind.columns[key], comparison)
    match comparison.comparator:
        case Comparator.IS_NULL:
            return ~_has_tag(kind, key)
        case Comparator.IS_NOT_NULL:
            return _has_tag(kind, key)
        case _:
            return _has_tag(kind, key, compares(kind.tag.value, comparison))


def _has_tag(kind: _Kind, key: str, *conditions: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists().where(kind.is_tag_of, kind.tag.key == key, *conditions)


def _tells_prompts_apart(comparison: Comparison) -> bool:
    return (
        comparison.field.entity is Entity.TAG
        and comparison.field.key == PROMPT_TAG
        and comparison.comparator in {Comparator.EQUAL, Comparator.NOT_EQUAL}
    )


def _asks_for_prompts(comparison: Comparison) -> bool:
    wanted = "true" if comparison.comparator is Comparator.EQUAL else "false"
    return _tells_prompts_apart(comparison) and str(comparison.value).lower() == wanted


# --- orders


def _terms(kind: _Kind, clauses: Sequence[str]) -> list[Term]:
    asked = parse_order_by(clauses or kind.default_order, kind.vocabulary)
    keys = [one.field.key for one in asked]
    if len(set(keys)) < len(keys):
        raise InvalidParameter(f"`order_by` contains duplicate fields: {', '.join(keys)}")
    for one in asked:
        if one.field.entity is not Entity.ATTRIBUTE or one.field.key in _NOT_TO_ORDER_BY:
            known = ", ".join(sorted(set(kind.columns) - _NOT_TO_ORDER_BY))
            raise InvalidParameter(f"Invalid order by key '{one.field.key}' specified. Valid keys are {known}")
    rest = [one for one in parse_order_by(kind.tie_breakers, kind.vocabulary) if one.field.key not in keys]
    return [Term(kind.columns[one.field.key], one.field.type, one.ascending) for one in (*asked, *rest)]
