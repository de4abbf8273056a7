"""Runs by the hundred thousand, alike in both servers: written by SQL into each one's own tables.

The values follow from a run's number, so that both databases hold the same; the ids are scattered, as real ones are.
"""

import sqlite3
from collections.abc import Sequence

import psycopg
from sqlalchemy.engine import make_url

METRICS_PER_RUN = 10
PARAMS_PER_RUN = 10
_BEGAN_MS = 1_760_000_000_000

# 2654435761 is odd, and so takes each of the 2³² numbers to another one.
_SCATTERED = "(i * 2654435761) % 4294967296"
_METRIC = "((i * 7919 + k * 104729) % 100003) / 100003.0"
_PARAM = "'v' || ((i * 31 + k * 17) % 10)"
_RUNS = "WITH RECURSIVE n(i) AS (SELECT CAST({first} AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < {last})"
_KEYS = ", keys(k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM keys WHERE k < {last_key})"

_TITLEBOUT = {
    "runs": """INSERT INTO runs (run_id, experiment_id, name, user_id, status, start_time_ms, artifact_uri,
        lifecycle_stage) {runs} SELECT {id}, {experiment}, 'run ' || i, 'someone', 'FINISHED', {began} + i,
        'mlflow-artifacts:/{experiment}/' || {id} || '/artifacts', 'active' FROM n""",
    "metrics": """INSERT INTO metrics (run_id, key, timestamp_ms, step, value, is_nan)
        {runs}{metric_keys} SELECT {id}, 'm' || k, {began} + i, 0, {metric}, FALSE FROM n, keys""",
    "latest": """INSERT INTO latest_metrics (run_id, key, experiment_id, value, is_nan, timestamp_ms, step)
        {runs}{metric_keys} SELECT {id}, 'm' || k, {experiment}, {metric}, FALSE, {began} + i, 0 FROM n, keys""",
    "params": """INSERT INTO params (run_id, key, value)
        {runs}{param_keys} SELECT {id}, 'p' || k, {param} FROM n, keys""",
    "names": """INSERT INTO run_tags (run_id, key, value) {runs} SELECT {id}, 'mlflow.runName', 'run ' || i FROM n""",
    "users": """INSERT INTO run_tags (run_id, key, value) {runs} SELECT {id}, 'mlflow.user', 'someone' FROM n""",
    "history": """INSERT INTO metrics (run_id, key, timestamp_ms, step, value, is_nan)
        {runs} SELECT '{run_id}', 'loss', {began} + i, i, 1.0 / (i + 1), FALSE FROM n""",
}

_GENUINE = {
    "runs": """INSERT INTO runs (run_uuid, experiment_id, name, user_id, status, start_time, artifact_uri,
        lifecycle_stage, source_type, source_name, entry_point_name, source_version)
        {runs} SELECT {id}, {experiment}, 'run ' || i, 'someone', 'FINISHED', {began} + i,
        'mlflow-artifacts:/{experiment}/' || {id} || '/artifacts', 'active', 'UNKNOWN', '', '', '' FROM n""",
    "metrics": """INSERT INTO metrics (run_uuid, key, timestamp, step, value, is_nan)
        {runs}{metric_keys} SELECT {id}, 'm' || k, {began} + i, 0, {metric}, FALSE FROM n, keys""",
    "latest": """INSERT INTO latest_metrics (run_uuid, key, value, is_nan, timestamp, step)
        {runs}{metric_keys} SELECT {id}, 'm' || k, {metric}, FALSE, {began} + i, 0 FROM n, keys""",
    "params": """INSERT INTO params (run_uuid, key, value)
        {runs}{param_keys} SELECT {id}, 'p' || k, {param} FROM n, keys""",
    "names": """INSERT INTO tags (run_uuid, key, value) {runs} SELECT {id}, 'mlflow.runName', 'run ' || i FROM n""",
    "users": """INSERT INTO tags (run_uuid, key, value) {runs} SELECT {id}, 'mlflow.user', 'someone' FROM n""",
    "history": """INSERT INTO metrics (run_uuid, key, timestamp, step, value, is_nan)
        {runs} SELECT '{run_id}', 'loss', {began} + i, i, 1.0 / (i + 1), FALSE FROM n""",
}

_STATEMENTS = {"Titlebout": _TITLEBOUT, "mlflow server": _GENUINE}


def add_runs(server: str, database_url: str, experiment_id: str, first: int, last: int) -> None:
    """Runs number *first* to *last*, with their metrics, params and tags, into *server*'s tables."""
    statements = _STATEMENTS[server]
    tables = ("runs", "metrics", "latest", "params", "names", "users")
    _execute(database_url, [_filled(statements[table], database_url, first, last, experiment_id) for table in tables])


def add_history(server: str, database_url: str, run_id: str, points: int) -> None:
    """*points* points of the metric ``loss``."""
    statement = _filled(_STATEMENTS[server]["history"], database_url, 0, points - 1, "0", run_id)
    _execute(database_url, [statement])


def _filled(statement: str, database_url: str, first: int, last: int, experiment_id: str, run_id: str = "") -> str:
    def keys(count: int) -> str:
        return _KEYS.format(last_key=count - 1)

    return statement.format(
        runs=_RUNS.format(first=first, last=last),
        metric_keys=keys(METRICS_PER_RUN),
        param_keys=keys(PARAMS_PER_RUN),
        id=_run_id(database_url),
        experiment=int(experiment_id),
        began=_BEGAN_MS,
        metric=_METRIC,
        param=_PARAM,
        run_id=run_id,
    )


def _run_id(database_url: str) -> str:
    if database_url.startswith("sqlite"):
        return f"printf('%08x%024x', {_SCATTERED}, i)"
    return f"lpad(to_hex({_SCATTERED}), 8, '0') || lpad(to_hex(i), 24, '0')"


def _execute(database_url: str, statements: Sequence[str]) -> None:
    if database_url.startswith("sqlite"):
        connection = sqlite3.connect(make_url(database_url).database or "", timeout=60)
        with connection:
            for statement in statements:
                connection.execute(statement)
        # Where there is a log: else all of it would be read from the log for as long as nobody writes.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        return
    with psycopg.connect(database_url, autocommit=True) as session:
        for statement in statements:
            session.execute(statement)
        # PostgreSQL would do so by itself a minute later, for either.
        session.execute("VACUUM ANALYZE")
