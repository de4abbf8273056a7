from concurrent.futures import ThreadPoolExecutor

import pytest

from registry import aliases, endpoints, epochs, models, serving, versions
from registry.entities import SlotStatus
from registry.errors import AliasNotFound, ModelVersionNotFound, RegisteredModelNotFound
from registry.search import Query, search_versions
from tracking.errors import Conflict, InvalidParameter

NOW_MS = 1_700_000_000_000


@pytest.fixture
def two_versions(iris, add_version):
    add_version()
    add_version()
    return iris


def set_alias(database, name, alias, version):
    with database.writing() as session:
        aliases.set_alias(session, name, alias, version, author="me", now_ms=NOW_MS)


def test_an_alias_means_the_version_it_was_last_set_to(database, two_versions):
    set_alias(database, two_versions, "champion", 1)
    set_alias(database, two_versions, "champion", 2)
    with database.reading() as session:
        found = aliases.get_version_by_alias(session, two_versions, "champion")
    assert (found.version, found.aliases) == (2, ("champion",))


def test_latest_always_means_the_highest_number(database, two_versions):
    with database.reading() as session:
        assert aliases.get_version_by_alias(session, two_versions, "LATEST").version == 2


def test_latest_of_a_model_without_versions_is_not_found(database, iris):
    with database.reading() as session, pytest.raises(ModelVersionNotFound):
        aliases.get_version_by_alias(session, iris, "latest")


def test_an_unknown_alias_and_an_unknown_model_are_told_apart(database, iris):
    with database.reading() as session:
        with pytest.raises(AliasNotFound, match="Registered model alias champion not found"):
            aliases.get_version_by_alias(session, iris, "champion")
        with pytest.raises(RegisteredModelNotFound):
            aliases.get_version_by_alias(session, "nobody", "champion")


def test_an_alias_of_a_version_that_isnt_there_is_refused(database, iris):
    with pytest.raises(ModelVersionNotFound):
        set_alias(database, iris, "champion", 1)
    with pytest.raises(ModelVersionNotFound):
        set_alias(database, iris, "champion", 9_999_999_999)


def test_an_alias_that_cant_be_is_refused(database, two_versions):
    for alias in ("latest", "Latest", "v1", "V22", "", "a b", "a.b", "a@b", "a\0", "x" * 256):
        with pytest.raises(InvalidParameter):
            set_alias(database, two_versions, alias, 1)


def test_deleting_an_alias_that_isnt_there_is_no_error(database, iris):
    with database.writing() as session:
        aliases.delete_alias(session, iris, "champion", author="me", now_ms=NOW_MS)


def test_a_deleted_alias_is_gone(database, two_versions):
    set_alias(database, two_versions, "canary", 1)
    with database.writing() as session:
        aliases.delete_alias(session, two_versions, "canary", author="me", now_ms=NOW_MS)
    with database.reading() as session, pytest.raises(AliasNotFound):
        aliases.get_version_by_alias(session, two_versions, "canary")


def test_the_first_champion_makes_the_endpoint_and_every_write_raises_the_generation(database, two_versions):
    with database.reading() as session:
        before = serving.generation(session)
    set_alias(database, two_versions, "champion", 1)
    with database.reading() as session:
        assert endpoints.get_endpoint(session, two_versions).model == two_versions
        assert serving.generation(session) > before


def test_a_prompts_alias_routes_nothing(database, add_version):
    with database.writing() as session:
        models.create_model(session, "greeting", tags={models.PROMPT_TAG: "true"}, now_ms=NOW_MS)
    add_version("greeting", source="prompt-template", tags={models.PROMPT_TAG: "true"})
    set_alias(database, "greeting", "champion", 1)
    with database.reading() as session:
        assert endpoints.list_endpoints(session) == []


def test_concurrent_sets_of_one_alias_meet_no_error(database, two_versions):
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: set_alias(database, two_versions, "champion", number % 2 + 1), range(24)))
    with database.reading() as session:
        assert aliases.get_version_by_alias(session, two_versions, "champion").version in {1, 2}
        assert len(endpoints.list_endpoints(session)) == 1


def test_alias_writes_and_commits_of_epochs_never_lock_each_other_out(database, two_versions):
    slots = [SlotStatus(model=two_versions, version=version, state="READY") for version in (1, 2)]
    with database.writing() as session:
        serving.heartbeat(session, "a", slots=slots, epoch=0, now_ms=NOW_MS, lease_ms=5_000)

    def flip(number):
        set_alias(database, two_versions, "champion", number % 2 + 1)
        with database.writing() as session:
            epochs.commit_epoch(session, now_ms=NOW_MS, lead_ms=0)

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(flip, range(24)))
    with database.reading() as session:
        (route,) = serving.newest_table(session).routes
        assert route.arms["champion"] == aliases.get_version_by_alias(session, two_versions, "champion").version


def test_no_epoch_names_a_version_that_was_deleted_while_it_was_committed(database, iris, add_version):
    for _ in range(6):
        add_version()
    slots = [SlotStatus(model=iris, version=version, state="READY") for version in range(1, 7)]
    with database.writing() as session:
        serving.heartbeat(session, "a", slots=slots, epoch=0, now_ms=NOW_MS, lease_ms=5_000)

    def point(version):
        set_alias(database, iris, "champion", version)

    def commit(_):
        with database.writing() as session:
            epochs.commit_epoch(session, now_ms=NOW_MS, lead_ms=0)

    def delete(version):
        with database.writing() as session:
            versions.delete_version(session, iris, version, author="me", now_ms=NOW_MS)

    with ThreadPoolExecutor(6) as threads:
        for version in range(1, 7):
            point(version)
            racing = [threads.submit(commit, None), threads.submit(delete, version), threads.submit(commit, None)]
            refused = [isinstance(one.exception(), Conflict) for one in racing]
            with database.reading() as session:
                served = [route.arms["champion"] for route in serving.newest_table(session).routes]
                there = [one.version for one in search_versions(session, Query(max_results=10)).items]
            assert set(served) <= set(there)
            assert refused[1] == (version in there)
