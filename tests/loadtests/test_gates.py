"""No sequence of calls gets round the gates; and the search for one would find it."""

import shutil

import pytest

from loadtests.gates.checks import without
from loadtests.gates.sequences import Counts, search
from registry import gates
from registry.reach import Reach
from tracking.database import Database


@pytest.fixture
def session(migrated_sqlite, tmp_path):
    shutil.copy(migrated_sqlite, tmp_path / "titlebout.db")
    database = Database(f"sqlite:///{tmp_path}/titlebout.db")
    with database.writing() as session:
        yield session
        session.rollback()
    database.dispose()


def test_no_sequence_of_calls_gets_round_a_gate(session):
    counts = Counts()
    assert search(session, 40, seed="tests", counts=counts) is None
    assert counts.refused_by_gates


@pytest.mark.parametrize(
    ("check", "seed"),  # By which it is found soon; `python -m loadtests.gates --without each` tries them all.
    [("gates go with a renamed model", "tests0"), ("gates outlive a deleted model", "tests2")],
)
def test_the_way_that_a_check_closes_is_found_without_it(session, check, seed):
    with without(check):
        assert search(session, 400, seed=seed, counts=Counts()) is not None


def test_a_way_round_would_be_found(session, monkeypatch):
    monkeypatch.setattr(gates, "_is_passed", lambda *_: False)
    monkeypatch.setattr(Reach, "most_bp", lambda *_: 0)
    found = search(session, 100, seed="tests", counts=Counts())
    assert found is not None
    assert found.what
