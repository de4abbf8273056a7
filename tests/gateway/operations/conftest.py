"""Stores to back up, clear and fill: both databases, both kinds of artifact store, with a bit of everything in them."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from registry import aliases, models, versions
from registry.sources import Claim, SourcePolicy
from tracking import artifact_records, experiments, logged_models, runs
from tracking.artifact_paths import ArtifactPath
from tracking.artifact_stores import open_store
from tracking.artifacts import ArtifactStore
from tracking.database import Database
from tracking.entities import Dataset, DatasetInput, LoggedModelStatus, Metric, ModelOutput


def upload(database: Database, store: ArtifactStore, path: str, content: bytes, now_ms: int = 1_000) -> None:
    """As the server does it."""
    with store.upload(ArtifactPath.parse(path)) as upload:
        upload.write(content)
        upload.finish()
        with database.writing() as session:
            artifact_records.publish_upload(session, upload, now_ms)


def path_of(uri: str, name: str) -> str:
    return f"{uri.removeprefix('mlflow-artifacts:/')}/{name}"


class Filled:
    """A store with an experiment, a run, a logged model and a registered version of it."""

    def __init__(self, database: Database, store: ArtifactStore) -> None:
        self.database, self.store = database, store
        with database.writing() as session:
            experiments.ensure_default_experiment(session, now_ms=0)
            self.experiment_id = experiments.create_experiment(session, "irises ☘", now_ms=1, tags={"team": "bees"})
            run = runs.create_run(session, self.experiment_id, start_time_ms=10, name="first")
            self.run_id, self.run_uri = run.info.run_id, run.info.artifact_uri
            model = logged_models.create_logged_model(
                session, self.experiment_id, name="model", source_run_id=self.run_id, params={"a": "b"}, now_ms=11
            )
            self.model_id, self.model_uri = model.model_id, model.artifact_uri
            points = [Metric(key="loss", value=1 / (n + 1), timestamp_ms=100 + n, step=n) for n in range(50)]
            odd = [
                Metric(key="odd", value=value, timestamp_ms=at, step=at, model_id=self.model_id)
                for at, value in enumerate((float("nan"), float("inf"), -0.0, 1e-320, 3.0))
            ]
            text = 'line\nbreak,"quote"\u2028\\'
            runs.log_batch(session, self.run_id, metrics=points + odd, params=[("text", text)], tags=[("t", "日本")])
            dataset = Dataset(name="six", digest="abc", source_type="code", source="{}")
            runs.log_inputs(session, self.run_id, datasets=[DatasetInput(dataset=dataset, tags={"k": "v"})])
            runs.log_outputs(session, self.run_id, [ModelOutput(model_id=self.model_id, step=3)])
        self.upload("notes/a b.txt", b"hello")
        self.upload("large.bin", bytes(range(256)) * 9_000)
        for name, content in (("MLmodel", b"flavors: {}\n"), ("data/weights", b"1234")):
            upload(database, store, path_of(self.model_uri, name), content)
        with database.writing() as session:
            logged_models.finalize_logged_model(session, self.model_id, LoggedModelStatus.READY, now_ms=12)
            models.create_model(session, "iris", now_ms=20, tags={"k": "v"}, description="flowers")
            versions.create_version(
                session,
                "iris",
                Claim(source=f"models:/{self.model_id}", model_id=self.model_id),
                policy=SourcePolicy(locate=store.locate),
                now_ms=21,
            )
            aliases.set_alias(session, "iris", "champion", 1, author="tests", now_ms=22)

    def upload(self, name: str, content: bytes) -> None:
        upload(self.database, self.store, path_of(self.run_uri, name), content)


@pytest.fixture(params=["folder", pytest.param("s3", marks=pytest.mark.e2e)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    if request.param == "folder":
        return open_store(str(tmp_path / "artifacts"))
    environment = request.getfixturevalue("s3_environment")
    return open_store(f"s3://titlebout-test/{uuid.uuid4().hex}", environment)


@pytest.fixture
def filled(database: Database, store: ArtifactStore) -> Filled:
    return Filled(database, store)


@pytest.fixture
def empty_database(postgres_database_url: str, tmp_path: Path) -> Iterator[Callable[[str], Database]]:
    """Makes databases without tables; one PostgreSQL at most, and never the one of the fixture `database`."""
    made: list[Database] = []
    fresh = f"empty_{uuid.uuid4().hex[:12]}"

    def make(kind: str) -> Database:
        if kind == "sqlite":
            url = f"sqlite:///{tmp_path}/empty-{len(made)}.db"
        else:
            import psycopg

            server, _, _ = postgres_database_url.rpartition("/")
            with psycopg.connect(postgres_database_url, autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {fresh}")
            url = f"{server}/{fresh}"
        made.append(Database(url))
        return made[-1]

    yield make
    for database in made:
        database.dispose()
        if not database.is_sqlite:
            import psycopg

            with psycopg.connect(postgres_database_url, autocommit=True) as connection:
                connection.execute(f"DROP DATABASE {fresh} WITH (FORCE)")
