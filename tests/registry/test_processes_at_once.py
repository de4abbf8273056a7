"""Writers in several processes: as with several workers, or several replicas."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
from sqlalchemy import text

from tests.registry import writers
from tracking import experiments, runs

NOW_MS = 1_700_000_000_000

# Whatever refers to something that isn't there. The first column names it.
ORPHANS = """
SELECT 'version', v.name FROM model_versions v LEFT JOIN registered_models m ON m.name = v.name WHERE m.name IS NULL
UNION ALL
SELECT 'alias', a.name FROM aliases a
LEFT JOIN model_versions v ON v.name = a.name AND v.version = a.version WHERE v.name IS NULL
UNION ALL
SELECT 'tag', t.name FROM registered_model_tags t
LEFT JOIN registered_models m ON m.name = t.name WHERE m.name IS NULL
UNION ALL
SELECT 'tag of a version', t.name FROM model_version_tags t
LEFT JOIN model_versions v ON v.name = t.name AND v.version = t.version WHERE v.name IS NULL
UNION ALL
SELECT 'number', m.name FROM registered_models m JOIN model_versions v ON v.name = m.name
WHERE v.version > m.latest_version
"""


@pytest.fixture(scope="module")
def processes():
    # Spawned, not forked: a fork would share the parent's connections.
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        yield pool


@pytest.fixture
def url(database):
    return database.url.render_as_string(hide_password=False)


def test_fifty_threads_in_four_processes_draw_the_numbers_from_1_to_50(processes, database, url, iris):
    counts = (13, 13, 12, 12)
    working = [processes.submit(writers.register_versions, url, iris, count) for count in counts]
    numbers = [number for one in working for number in one.result(60)]
    assert sorted(numbers) == list(range(1, 51))


def test_an_alias_that_processes_set_at_once_has_one_winner_a_moment(processes, database, url, iris):
    for _ in range(2):
        writers._register(database, iris)
    working = [processes.submit(writers.point, url, iris, "champion", 12) for _ in range(4)]
    # Until it is committed a write is its writer's alone.
    assert [one.result(60) for one in working] == [0] * 4
    with database.reading() as session:
        assert session.execute(text("SELECT count(*), max(version) FROM aliases")).one() in {(1, 1), (1, 2)}


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_eight_writers_never_find_sqlite_locked(processes, database, url, iris):
    with database.writing() as session:
        experiment_id = experiments.create_experiment(session, "flowers", now_ms=NOW_MS)
        run_id = runs.create_run(session, experiment_id, start_time_ms=NOW_MS).info.run_id
    working = [processes.submit(writers.write_a_lot, url, run_id, iris, 15) for _ in range(4)]
    assert sum(one.result(60) for one in working) == 8 * 45
    with database.reading() as session:
        assert session.scalar(text("SELECT latest_version FROM registered_models")) == 8 * 15


def test_making_renaming_and_deleting_at_once_leaves_no_orphan(processes, database, url):
    working = [processes.submit(writers.stir, url, seed, 40) for seed in range(4)]
    refused = set().union(*(one.result(60) for one in working))
    # They did meet: each found something gone, or there already, that it had not looked for.
    assert len(refused) > 1
    with database.reading() as session:
        assert session.execute(text(ORPHANS)).all() == []
