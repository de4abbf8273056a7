"""Load tests beside their version: of its own bytes, numbered, the newest kept."""

import pytest

from registry import aliases, endpoints, gates, history, load_tests, models, pins, serving, versions
from registry.entities import Action, Gate, LoadTest, LoadTestNeeded
from registry.errors import GatesNotMet, LoadTestNotFound, ModelVersionNotFound, OtherBytesTested
from registry.load_tests import LOAD_TESTS_MAX, REPORT_LENGTH_MAX
from registry.schema import ModelVersionRow
from tracking.errors import InvalidParameter

DIGEST = "d" * 64


@pytest.fixture
def tested(database, iris, add_version):
    """A version of known bytes."""
    version = add_version(iris).version
    with database.writing() as session:
        session.get_one(ModelVersionRow, (iris, version)).digest = DIGEST
    return iris, version


def keep(database, tested, **given):
    said = {"digest": DIGEST, "passed": True, "report": '{"requests": 1}', "author": "ann", "now_ms": 7, **given}
    with database.writing() as session:
        return load_tests.keep(session, *tested, **said)


def test_a_load_test_is_kept_with_its_report_and_told_of(database, tested):
    kept = keep(database, tested, passed=False, against=1, report="{}")
    assert kept == LoadTest(
        model="iris", version=1, number=1, digest=DIGEST, at_ms=7, author="ann", passed=False, against=1
    )
    with database.reading() as session:
        assert load_tests.latest(session, *tested) == kept
        assert load_tests.list_of(session, *tested) == [kept]
        assert load_tests.get_report(session, *tested, 1) == "{}"
        entry = history.list_history(session, "iris").items[0]
    assert (entry.action, entry.author, entry.version) == (Action.LOAD_TESTED, "ann", 1)
    assert entry.details == {"number": 1, "digest": DIGEST, "passed": False, "against": 1}


def test_the_newest_is_the_latest_and_the_oldest_go(database, tested):
    for at_ms in range(LOAD_TESTS_MAX + 2):
        keep(database, tested, now_ms=at_ms)
    with database.reading() as session:
        kept = load_tests.list_of(session, *tested)
        assert [test.number for test in kept] == list(range(LOAD_TESTS_MAX + 2, 2, -1))
        assert load_tests.latest(session, *tested) == kept[0]
        with pytest.raises(LoadTestNotFound):
            load_tests.get(session, *tested, 2)


def test_what_was_never_tested_has_none(database, tested):
    with database.reading() as session:
        assert load_tests.latest(session, *tested) is None
        assert load_tests.list_of(session, *tested) == []
        for number in (0, 1, 2**31, 2**70):
            with pytest.raises(LoadTestNotFound):
                load_tests.get_report(session, *tested, number)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        pytest.param({"digest": "e" * 64}, OtherBytesTested, id="other bytes than the version's"),
        pytest.param({"report": "x" * (REPORT_LENGTH_MAX + 1)}, InvalidParameter, id="too long a report"),
        pytest.param({"report": "\0"}, InvalidParameter, id="what no database holds"),
    ],
)
def test_what_cannot_be_believed_or_kept_is_refused(database, tested, given, error):
    with pytest.raises(error):
        keep(database, tested, **given)
    with database.reading() as session:
        assert load_tests.latest(session, *tested) is None


def test_a_version_that_nobody_has_read_yet_has_no_load_test(database, iris, add_version):
    version = add_version(iris).version
    with pytest.raises(OtherBytesTested, match="has not been loaded yet"):
        keep(database, (iris, version))
    with pytest.raises(ModelVersionNotFound):
        keep(database, (iris, version + 1))


def test_a_gate_that_asks_for_a_load_test_lets_it_be_run(database, tested, add_version):
    challenger = add_version("iris").version
    gate = Gate(name="loaded", needs=LoadTestNeeded(), aliases=(), share_over_bp=0)
    with database.writing() as session:
        aliases.set_alias(session, "iris", "champion", 1, author="ann", now_ms=7)
        gates.set_gate(session, "iris", gate, author="boss", now_ms=7)
        pins.pin(session, "iris", challenger, author="ann", now_ms=7)
        # To all but the load test itself.
        assert gates.open_by_name(session, "iris", now_ms=7) == (1,)
        aliases.set_alias(session, "iris", "challenger", challenger, author="ann", now_ms=7)
        shares = {"champion": 9_000, "challenger": 1_000}
        with pytest.raises(GatesNotMet, match="titlebout loadtest iris 2"):
            endpoints.change_split(session, "iris", shares, author="ann", now_ms=7, reason="try it")
        session.get_one(ModelVersionRow, ("iris", challenger)).digest = DIGEST
        before = serving.generation(session)
        load_tests.keep(session, "iris", challenger, digest=DIGEST, passed=True, report="{}", author="ann", now_ms=8)
        # The next table has it among those that may be asked.
        assert serving.generation(session) > before
        assert gates.open_by_name(session, "iris", now_ms=8) == (1, challenger)
        endpoints.change_split(session, "iris", shares, author="ann", now_ms=8, reason="try it")


def test_load_tests_follow_a_rename_and_go_with_the_version(database, tested):
    keep(database, tested)
    with database.writing() as session:
        models.rename_model(session, "iris", "flowers", author="ann", now_ms=8)
        assert [test.model for test in load_tests.list_of(session, "flowers", 1)] == ["flowers"]
        versions.delete_version(session, "flowers", 1, author="ann", now_ms=9)
        assert load_tests.latest(session, "flowers", 1) is None
