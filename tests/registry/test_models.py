from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from registry import aliases, endpoints, models, versions
from registry.errors import NameTaken, RegisteredModelNotFound
from registry.schema import AliasRow, ModelVersionRow, ModelVersionTagRow, RegisteredModelTagRow
from tracking.errors import InvalidParameter

NOW_MS = 1_700_000_000_000


def test_a_new_model_has_what_it_was_given(database):
    with database.writing() as session:
        made = models.create_model(session, "iris", description="flowers", tags={"team": "a"}, now_ms=NOW_MS)
    with database.reading() as session:
        assert models.get_model(session, "iris") == made
    assert (made.description, made.tags, made.created_ms) == ("flowers", {"team": "a"}, NOW_MS)
    assert made.aliases == {}
    assert made.latest_versions == ()


def test_a_name_is_taken_once(database, iris):
    with database.writing() as session, pytest.raises(NameTaken, match=r"Registered Model .* already exists"):
        models.create_model(session, iris, now_ms=NOW_MS)


def test_a_prompt_and_a_model_share_one_space_of_names(database, iris):
    with database.writing() as session, pytest.raises(NameTaken, match="already taken by a registered model"):
        models.create_model(session, iris, tags={models.PROMPT_TAG: "true"}, now_ms=NOW_MS)


def test_of_concurrent_creates_of_one_name_one_wins_and_the_others_are_told(database):
    def create(_):
        try:
            with database.writing() as session:
                models.create_model(session, "contested", tags={"a": "b"}, now_ms=NOW_MS)
        except NameTaken:
            return "taken"
        return "made"

    with ThreadPoolExecutor(6) as threads:
        outcomes = list(threads.map(create, range(12)))
    assert sorted(outcomes) == ["made"] + ["taken"] * 11


def test_a_name_that_cant_be_is_refused(database):
    for name in ("", "  ", "a/b", "a:b", ".", "..", "x\0y", "x\ud800y", "n" * 257):
        with database.writing() as session, pytest.raises(InvalidParameter):
            models.create_model(session, name, now_ms=NOW_MS)


def test_asking_for_a_name_that_cant_be_is_a_bad_request_and_not_a_crash(database):
    with database.reading() as session, pytest.raises(InvalidParameter):
        models.get_model(session, "x\0y")


def test_an_unknown_model_is_not_found(database):
    with database.reading() as session, pytest.raises(RegisteredModelNotFound):
        models.get_model(session, "nobody")


def test_a_description_can_be_changed(database, iris):
    with database.writing() as session:
        models.describe_model(session, iris, "new", now_ms=NOW_MS + 5)
    with database.reading() as session:
        found = models.get_model(session, iris)
    assert (found.description, found.created_ms, found.updated_ms) == ("new", NOW_MS, NOW_MS + 5)


def test_tags_are_set_overwritten_and_deleted(database, iris):
    with database.writing() as session:
        models.set_tag(session, iris, "team", "a")
        models.set_tag(session, iris, "team", "b")
        models.set_tag(session, iris, "other", "")
        models.delete_tag(session, iris, "other")
        models.delete_tag(session, iris, "never set")
    with database.reading() as session:
        assert models.get_model(session, iris).tags == {"team": "b"}


def test_a_tag_that_cant_be_is_refused(database, iris):
    for key, value in (("", "v"), ("a\0", "v"), ("a!", "v"), ("..", "v"), ("k", "v" * 100_001), ("k", "\0")):
        with database.writing() as session, pytest.raises(InvalidParameter):
            models.set_tag(session, iris, key, value)


def test_concurrent_writers_of_one_tag_meet_no_error(database, iris):
    def tag(number):
        with database.writing() as session:
            models.set_tag(session, iris, "last", str(number))

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(tag, range(18)))
    with database.reading() as session:
        assert models.get_model(session, iris).tags["last"].isdigit()


def test_a_rename_takes_versions_tags_and_aliases_along(database, iris, add_version):
    add_version(tags={"stage": "first"})
    with database.writing() as session:
        models.set_tag(session, iris, "team", "a")
        aliases.set_alias(session, iris, "champion", 1, author="me", now_ms=NOW_MS)
        models.rename_model(session, iris, "lilies", author="me", now_ms=NOW_MS + 5)
    with database.reading() as session:
        found = models.get_model(session, "lilies")
        version = versions.get_version(session, "lilies", 1)
        endpoint = endpoints.get_endpoint(session, "iris")
        with pytest.raises(RegisteredModelNotFound):
            models.get_model(session, iris)
    assert (found.tags, found.aliases, found.updated_ms) == ({"team": "a"}, {"champion": 1}, NOW_MS + 5)
    assert (version.tags, version.aliases, version.updated_ms) == ({"stage": "first"}, ("champion",), NOW_MS + 5)
    assert endpoint.model == "lilies"


def test_a_renamed_model_goes_on_counting(database, iris, add_version):
    add_version()
    with database.writing() as session:
        models.rename_model(session, iris, "lilies", author="me", now_ms=NOW_MS)
    assert add_version("lilies").version == 2


def test_a_rename_to_a_taken_name_changes_nothing(database, iris):
    with database.writing() as session:
        models.create_model(session, "lilies", now_ms=NOW_MS)
    with pytest.raises(NameTaken), database.writing() as session:
        models.rename_model(session, iris, "lilies", author="me", now_ms=NOW_MS + 5)
    with database.reading() as session:
        assert models.get_model(session, iris).updated_ms == NOW_MS


def test_a_rename_to_its_own_name_is_fine(database, iris):
    with database.writing() as session:
        assert models.rename_model(session, iris, iris, author="me", now_ms=NOW_MS + 5).updated_ms == NOW_MS + 5


def test_a_deleted_model_leaves_nothing_behind(database, iris, add_version):
    add_version(tags={"a": "b"})
    with database.writing() as session:
        models.set_tag(session, iris, "team", "a")
        aliases.set_alias(session, iris, "champion", 1, author="me", now_ms=NOW_MS)
    with database.writing() as session:
        models.delete_model(session, iris, author="me", now_ms=1)
    with database.reading() as session:
        left = [session.scalars(select(row)).all() for row in _ROWS_OF_A_MODEL]
        assert endpoints.list_endpoints(session) == []
    assert left == [[], [], [], []]


_ROWS_OF_A_MODEL = (RegisteredModelTagRow, ModelVersionRow, ModelVersionTagRow, AliasRow)


def test_the_newest_version_of_each_stage_is_listed(database, iris, add_version):
    for _ in range(4):
        add_version()
    with database.writing() as session:
        versions.transition_stage(session, iris, 1, "production", archive_existing=False, now_ms=NOW_MS)
        versions.transition_stage(session, iris, 2, "Production", archive_existing=False, now_ms=NOW_MS)
        versions.transition_stage(session, iris, 3, "STAGING", archive_existing=False, now_ms=NOW_MS)
    with database.reading() as session:
        every = models.get_latest_versions(session, iris)
        some = models.get_latest_versions(session, iris, ["production", "archived"])
        listed = models.get_model(session, iris).latest_versions
    assert [(one.version, one.stage) for one in every] == [(2, "Production"), (3, "Staging"), (4, "None")]
    assert [one.version for one in some] == [2]
    assert listed == tuple(every)


def test_an_unknown_stage_is_refused(database, iris):
    with database.reading() as session, pytest.raises(InvalidParameter, match="None, Staging, Production, Archived"):
        models.get_latest_versions(session, iris, ["Prod"])
