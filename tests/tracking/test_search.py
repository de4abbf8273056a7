"""The grammar of filters and orders: what is read, and what is refused with its position."""

import pytest

from tracking.search import (
    Comparator,
    Comparison,
    Entity,
    Field,
    Ordering,
    ValueType,
    Vocabulary,
    parse_filter,
    parse_order_by,
)
from tracking.search_tokens import SearchSyntaxError

RUNS = Vocabulary(
    attributes={"run_id": ValueType.TEXT, "run_name": ValueType.TEXT, "start_time": ValueType.NUMBER},
    aliases={"created": "start_time", "run name": "run_name"},
    entities=frozenset({Entity.METRIC, Entity.PARAM, Entity.TAG, Entity.DATASET}),
)
NAMES = Vocabulary(attributes={"name": ValueType.TEXT}, entities=frozenset({Entity.TAG}))


def metric(key: str) -> Field:
    return Field(Entity.METRIC, key, ValueType.NUMBER)


def param(key: str) -> Field:
    return Field(Entity.PARAM, key, ValueType.TEXT)


RUN_NAME = Field(Entity.ATTRIBUTE, "run_name", ValueType.TEXT)


@pytest.mark.parametrize(
    ("text", "comparisons"),
    [
        ("", ()),
        ("  \n ", ()),
        ("metrics.accuracy > 0.9", [Comparison(metric("accuracy"), Comparator.GREATER, 0.9)]),
        ("metric.a>=-1e-3", [Comparison(metric("a"), Comparator.GREATER_EQUAL, -0.001)]),
        ("metrics.`val loss` < 5", [Comparison(metric("val loss"), Comparator.LESS, 5)]),
        ('metrics."val loss" != .5', [Comparison(metric("val loss"), Comparator.NOT_EQUAL, 0.5)]),
        ("`metrics`.`a.b` = 1", [Comparison(metric("a.b"), Comparator.EQUAL, 1)]),
        ("metrics.val/loss.1-x<=2", [Comparison(metric("val/loss.1-x"), Comparator.LESS_EQUAL, 2)]),
        ("params.n = 'it''s'", [Comparison(param("n"), Comparator.EQUAL, "it's")]),
        ('parameters.n = "say ""hi"""', [Comparison(param("n"), Comparator.EQUAL, 'say "hi"')]),
        ("parameter.größe LIKE '%日本%'", [Comparison(param("größe"), Comparator.LIKE, "%日本%")]),
        ("params.n not  In ('a', 'b',)", [Comparison(param("n"), Comparator.NOT_IN, ("a", "b"))]),
        ("param.n is not null", [Comparison(param("n"), Comparator.IS_NOT_NULL)]),
        ("tags.mlflow.source.name IS NULL", [
            Comparison(Field(Entity.TAG, "mlflow.source.name", ValueType.TEXT), Comparator.IS_NULL)
        ]),
        ("attributes.run_name ilike 'A%'", [Comparison(RUN_NAME, Comparator.ILIKE, "A%")]),
        ("run_name = 'AND'", [Comparison(RUN_NAME, Comparator.EQUAL, "AND")]),
        ("Run name = 'x'", [Comparison(RUN_NAME, Comparator.EQUAL, "x")]),
        ("attr.`Run Name` = 'x'", [Comparison(RUN_NAME, Comparator.EQUAL, "x")]),
        ("Created > 17", [Comparison(Field(Entity.ATTRIBUTE, "start_time", ValueType.NUMBER), Comparator.GREATER, 17)]),
        ("datasets.name = 'd'", [Comparison(Field(Entity.DATASET, "name", ValueType.TEXT), Comparator.EQUAL, "d")]),
        ("metrics.a > 1 and params.b = 'x' AND metrics.`and` < 2", [
            Comparison(metric("a"), Comparator.GREATER, 1),
            Comparison(param("b"), Comparator.EQUAL, "x"),
            Comparison(metric("and"), Comparator.LESS, 2),
        ]),
    ],
)  # fmt: skip
def test_a_filter_is_read(text, comparisons):
    assert parse_filter(text, RUNS) == tuple(comparisons)


@pytest.mark.parametrize(
    ("words", "entity"),
    [
        (("metric", "metrics"), Entity.METRIC),
        (("param", "params", "parameter", "parameters"), Entity.PARAM),
        (("tag", "tags"), Entity.TAG),
        (("dataset", "datasets"), Entity.DATASET),
        (("attr", "attribute", "attributes", "run"), Entity.ATTRIBUTE),
    ],
)
def test_each_kind_of_field_goes_by_all_of_its_names(words, entity):
    key = {Entity.DATASET: "name", Entity.ATTRIBUTE: "run_name"}.get(entity, "a")
    value = "1" if entity is Entity.METRIC else "'x'"
    read = [parse_filter(f"{word}.{key} = {value}", RUNS)[0].field for word in words]
    assert [(field.entity, field.key) for field in read] == [(entity, key)] * len(words)
    assert [parse_order_by([f"{word}.{key}"], RUNS)[0].field for word in words] == read


@pytest.mark.parametrize(
    ("text", "position", "expected"),
    [
        ("AND AND", 1, "a field"),
        ("AND", 1, "a field"),
        ("metrics.a > 1 AND", 18, "a field"),
        ("metrics.a > 1 AND AND metrics.b > 1", 19, "a field"),
        ("metrics.a > 1 OR metrics.b > 1", 15, "there is no OR"),
        ("(metrics.a > 1)", 1, "a field"),
        ("metrics.a > 1 metrics.b > 1", 15, "AND or the end"),
        ("metrics.a", 10, "a comparator of metric 'a'"),
        ("metrics.a >", 12, "a number"),
        ("metrics.a > 'x'", 13, "a number"),
        ("metrics.a > 5abc", 13, "a number"),
        ("metrics.a > 99999999999999999999", 13, "64 bits"),
        ("metrics.a > 9223372036854775808", 13, "64 bits"),
        ("metrics.a LIKE 'x'", 11, "a comparator of metric"),
        ("metrics.a == 1", 11, "a comparator of metric"),
        ("metrics.a <> 1", 11, "a comparator of metric"),
        ("metrics.a IS NULL", 11, "a comparator of metric"),
        ("params.a = 5", 12, "single quotes"),
        ("params.a > '5'", 10, "a comparator of param"),
        ("params.a = 'x", 12, "closing quote"),
        ("params.a IN ()", 14, "single quotes"),
        ("params.a IN 'x'", 13, "'('"),
        ("params.a IN ('x' 'y')", 18, "',' or ')'"),
        ("params.a NOT LIKE 'x'", 14, "IN"),
        ("params.a IS 'x'", 13, "NULL or NOT NULL"),
        ("params. `a` = 'x'", 9, "right after the dot"),
        ("tags.`a = 'x'", 6, "a closing quote"),
        ("nonsense.a = 'x'", 1, "one of attribute, dataset, metric, param, tag"),
        ("colour = 'x'", 1, "an attribute (run_id, run_name, start_time)"),
        ("datasets.size = 'x'", 1, "a dataset's context, digest, name"),
        ("'a' = 'a'", 1, "a field"),
        ("metrics.a > 1; DROP TABLE runs", 14, "a field, a comparator or a value"),
    ],
)
def test_what_is_not_in_the_grammar_is_refused_with_its_position(text, position, expected):
    with pytest.raises(SearchSyntaxError) as refused:
        parse_filter(text, RUNS)
    assert f"at position {position}:" in refused.value.message
    assert expected in refused.value.message


def test_each_kind_of_thing_has_its_own_vocabulary():
    assert parse_filter("name ILIKE 'x' AND tags.k = 'v'", NAMES)[1].field.key == "k"
    with pytest.raises(SearchSyntaxError, match="one of attribute, tag"):
        parse_filter("metrics.a > 1", NAMES)


@pytest.mark.parametrize(
    ("clause", "ordering"),
    [
        ("metrics.a", Ordering(metric("a"))),
        ("metrics.`a b` desc", Ordering(metric("a b"), ascending=False)),
        ("params.x ASC", Ordering(param("x"))),
        ("start_time DESC", Ordering(Field(Entity.ATTRIBUTE, "start_time", ValueType.NUMBER), ascending=False)),
    ],
)
def test_an_order_is_read(clause, ordering):
    assert parse_order_by([clause], RUNS) == (ordering,)


@pytest.mark.parametrize("clause", ["", "metrics.a down", "metrics.a DESC, metrics.b", "ACS", "DESC"])
def test_an_order_outside_the_grammar_is_refused(clause):
    with pytest.raises(SearchSyntaxError):
        parse_order_by([clause], RUNS)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("name = 'a\0b'", id="NUL"),
        pytest.param("name = '\ud800'", id="lone surrogate"),
        pytest.param("name = '" + "x" * 200_000 + "'", id="too long"),
        pytest.param(" AND ".join(["name = 'x'"] * 201), id="too many comparisons"),
        pytest.param("name LIKE '" + "%" * 10_001 + "'", id="pattern too long"),
        pytest.param("(" * 10_000, id="deep"),
        pytest.param("'" * 9_999, id="quotes"),
    ],
)
def test_what_no_store_could_answer_is_refused(text):
    from tracking.errors import InvalidParameter

    with pytest.raises(InvalidParameter) as refused:
        parse_filter(text, NAMES)
    assert len(refused.value.message) < 1_000
