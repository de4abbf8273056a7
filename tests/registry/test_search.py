import pytest

from registry import models
from registry.search import Query, search_models, search_versions
from tracking.errors import InvalidParameter

NOW_MS = 1_700_000_000_000


@pytest.fixture
def named(database):
    """Five models, two of them prompts, made one second after the other."""
    tags = {
        "ant": {"team": "red"},
        "bee": {"team": "Blue"},
        "cat": {},
        "hello": {models.PROMPT_TAG: "true", "team": "red"},
        "world": {models.PROMPT_TAG: "True"},
    }
    with database.writing() as session:
        for number, (name, of_name) in enumerate(tags.items()):
            models.create_model(session, name, tags=of_name, now_ms=NOW_MS + number * 1000)


def found(database, filter=None, **asked):
    with database.reading() as session:
        return [model.name for model in search_models(session, Query(filter=filter, **asked)).items]


MATCHES = {
    None: ["ant", "bee", "cat"],
    "": ["ant", "bee", "cat"],
    "name = 'bee'": ["bee"],
    "name != 'bee'": ["ant", "cat"],
    "name LIKE '%a%'": ["ant", "cat"],
    "name LIKE 'A%'": [],
    "name ILIKE 'B%'": ["bee"],
    "name IN ('ant', 'cat')": ["ant", "cat"],
    "name NOT IN ('ant')": ["bee", "cat"],
    "tags.team = 'red'": ["ant"],
    "tag.`team` != 'red'": ["bee"],  # A tag that isn't there is unequal to nothing.
    "tags.team ILIKE 'b%'": ["bee"],
    "tags.team IS NULL": ["cat"],
    "tags.team IS NOT NULL AND name = 'ant'": ["ant"],
    f"tags.`{models.PROMPT_TAG}` = 'true'": ["hello", "world"],
    f"tags.`{models.PROMPT_TAG}` = 'true' AND tags.team = 'red'": ["hello"],
    f"tags.`{models.PROMPT_TAG}` != 'false'": ["hello", "world"],
    f"tags.`{models.PROMPT_TAG}` = 'false'": ["ant", "bee", "cat"],
    f"name = 'ant' AND tags.`{models.PROMPT_TAG}` != 'true'": ["ant"],
}


def test_a_filter_finds_what_matches_and_prompts_only_when_asked(database, named):
    assert {text: found(database, text) for text in MATCHES} == MATCHES


def test_a_filter_that_cant_be_is_refused(database, named):
    for text in ("name = bee", "name =", "team = 'red'", "params.x = '1'", "name = 'a' OR name = 'b'", "x IS NULL"):
        with pytest.raises(InvalidParameter):
            found(database, text)


def test_models_are_ordered_as_asked(database, named):
    assert found(database, order_by=["name DESC"]) == ["cat", "bee", "ant"]
    assert found(database, order_by=["last_updated_timestamp DESC"]) == ["cat", "bee", "ant"]
    assert found(database, order_by=["timestamp ASC", "name"]) == ["ant", "bee", "cat"]


def test_an_order_that_cant_be_is_refused(database, named):
    for order_by in (["nonsense"], ["tags.team"], ["name", "name DESC"], ["name SIDEWAYS"]):
        with pytest.raises(InvalidParameter):
            found(database, order_by=order_by)


def test_pages_have_a_bound(database, named):
    for max_results in (0, -1, 1001):
        with pytest.raises(InvalidParameter, match="max_results"):
            found(database, max_results=max_results)


def test_a_token_that_isnt_ours_is_refused(database, named):
    for token in ("nonsense", "e30", "eyJvZmZzZXQiOiAxfQ=="):
        with pytest.raises(InvalidParameter, match="page token"):
            found(database, page_token=token)


def test_pages_show_each_model_once_while_others_are_made(database, named):
    shown, token = [], None
    while True:
        query = Query(order_by=["last_updated_timestamp DESC"], max_results=1, page_token=token)
        with database.writing() as session:
            page = search_models(session, query)
            models.create_model(session, f"new-{len(shown)}", now_ms=NOW_MS + 60_000)
        shown += [model.name for model in page.items]
        token = page.next_page_token
        if token is None:
            break
    assert shown == ["cat", "bee", "ant"]


def test_a_search_lists_aliases_tags_and_newest_versions(database, iris, add_version):
    add_version()
    newest = add_version()
    with database.reading() as session:
        (model,) = search_models(session, Query()).items
    assert model.latest_versions == (newest,)


@pytest.fixture
def versions_of_two(database, iris, add_version):
    with database.writing() as session:
        models.create_model(session, "lily", now_ms=NOW_MS)
        models.create_model(session, "hello", tags={models.PROMPT_TAG: "true"}, now_ms=NOW_MS)
    add_version("iris", now_ms=NOW_MS, tags={"approved": "yes"})
    add_version("iris", now_ms=NOW_MS + 2, source="s3://shared-models/other")
    add_version("lily", now_ms=NOW_MS + 2)
    add_version("hello", source="dummy-source", tags={models.PROMPT_TAG: "true"})


def found_versions(database, filter=None, **asked):
    with database.reading() as session:
        page = search_versions(session, Query(filter=filter, **asked))
    return [(version.name, version.version) for version in page.items]


VERSION_MATCHES = {
    None: [("iris", 2), ("lily", 1), ("iris", 1)],
    "name = 'iris'": [("iris", 2), ("iris", 1)],
    "name = 'iris' and version_number > 1": [("iris", 2)],
    "tags.approved = 'yes'": [("iris", 1)],
    "source_path LIKE '%other'": [("iris", 2)],
    "run_id = 'nobody'": [],
    "run_id IN ('a','b')": [],
    f"name = 'hello' AND tag.`{models.PROMPT_TAG}` = 'true'": [("hello", 1)],
}


def test_a_filter_finds_versions_the_last_changed_first(database, versions_of_two):
    assert {text: found_versions(database, text) for text in VERSION_MATCHES} == VERSION_MATCHES


def test_versions_are_ordered_as_asked(database, versions_of_two):
    assert found_versions(database, order_by=["version_number DESC", "name DESC"]) == [
        ("iris", 2),
        ("lily", 1),
        ("iris", 1),
    ]
    assert found_versions(database, order_by=["creation_timestamp"]) == [("iris", 1), ("iris", 2), ("lily", 1)]
    with pytest.raises(InvalidParameter):
        found_versions(database, order_by=["run_id"])


def test_versions_come_in_pages(database, versions_of_two):
    with database.reading() as session:
        first = search_versions(session, Query(max_results=2))
        rest = search_versions(session, Query(max_results=2, page_token=first.next_page_token))
    assert [(one.name, one.version) for one in (*first.items, *rest.items)] == [("iris", 2), ("lily", 1), ("iris", 1)]
    assert rest.next_page_token is None


@pytest.mark.parametrize("order_by", [(), ("name DESC",), ("version_number ASC", "name ASC")])
def test_pages_show_each_version_once_while_others_are_made(database, versions_of_two, add_version, order_by):
    before = found_versions(database, order_by=order_by, max_results=10)
    shown, token = [], None
    while True:
        with database.reading() as session:
            page = search_versions(session, Query(order_by=order_by, max_results=1, page_token=token))
        shown += [(version.name, version.version) for version in page.items]
        token = page.next_page_token
        if token is None:
            break
        # As many as may come before and behind the page, but not without end.
        if len(shown) < 3:
            add_version("iris", now_ms=NOW_MS + 1 + len(shown))
            add_version("lily", now_ms=NOW_MS + 60_000)
    assert len(shown) == len(set(shown))
    assert [one for one in shown if one in before] == before


def test_pages_of_versions_have_a_bound(database, versions_of_two):
    assert len(found_versions(database, max_results=200_000)) == 3
    for max_results in (0, -1, 200_001):
        with pytest.raises(InvalidParameter, match="max_results"):
            found_versions(database, max_results=max_results)
