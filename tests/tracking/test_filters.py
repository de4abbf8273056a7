"""The same comparison means the same on both databases."""

import pytest
from sqlalchemy import Column, Float, Integer, MetaData, Table, Text, insert, select

from tracking.filters import InvalidPageToken, compares, page_token, read_page_token
from tracking.search import ValueType, Vocabulary, parse_filter

THINGS = Table(
    "things", MetaData(), Column("id", Integer, primary_key=True), Column("name", Text), Column("size", Float)
)
WORDS = Vocabulary(attributes={"name": ValueType.TEXT, "id": ValueType.NUMBER, "size": ValueType.NUMBER})
NAMES = ["Iris", "iris", "100%", "a_b", "axb", "C:\\x", "it's", None]


@pytest.fixture
def things(database):
    THINGS.metadata.create_all(database.engine)
    with database.writing() as session:
        rows = [{"id": place, "name": name, "size": place / 2} for place, name in enumerate(NAMES)]
        session.execute(insert(THINGS), rows)
    yield database
    # The next test may find the same PostgreSQL.
    THINGS.metadata.drop_all(database.engine)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("name = 'iris'", [1]),
        ("name != 'iris'", [0, 2, 3, 4, 5, 6]),
        ("name LIKE 'i%'", [1, 6]),
        ("name ILIKE 'i%'", [0, 1, 6]),
        ("name ILIKE 'IRIS'", [0, 1]),
        ("name LIKE 'a_b'", [3, 4]),
        ("name LIKE 'C:\\_'", [5]),
        ("name LIKE '%\\x'", [5]),
        ("name = 'it''s'", [6]),
        ("name IN ('iris', '100%', 'none')", [1, 2]),
        ("name NOT IN ('iris', '100%')", [0, 3, 4, 5, 6]),
        ("id > 1.5 AND id < 3.5", [2, 3]),
        ("size >= 3", [6, 7]),
        ("size <= 0.5", [0, 1]),
        ("id < 1e400 AND id != 2", [0, 1, 3, 4, 5, 6, 7]),
    ],
)
def test_a_comparison_means_the_same_on_both_databases(things, text, found):
    conditions = [compares(THINGS.c[one.field.key], one) for one in parse_filter(text, WORDS)]
    with things.reading() as session:
        assert list(session.scalars(select(THINGS.c.id).where(*conditions).order_by(THINGS.c.id))) == found


def test_a_page_token_comes_back_as_it_went():
    assert read_page_token(page_token(["ü", 1.5, None]), list[str | float | None]) == ["ü", 1.5, None]


@pytest.mark.parametrize("token", ["x", "%%%", "e30", page_token({"offset": 3}), "日本", "\ud800"])
def test_a_token_from_elsewhere_is_refused(token):
    with pytest.raises(InvalidPageToken):
        read_page_token(token, list[str])
