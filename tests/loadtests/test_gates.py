"""No sequence of calls gets round the gates; and the search for one would find it."""

import shutil

import pytest

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


def test_a_way_round_would_be_found(session, monkeypatch):
    monkeypatch.setattr(gates, "_is_passed", lambda *_: False)
    monkeypatch.setattr(Reach, "most_bp", lambda *_: 0)
    found = search(session, 100, seed="tests", counts=Counts())
    assert found is not None
    assert found.what
