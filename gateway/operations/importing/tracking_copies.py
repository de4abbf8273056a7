"""Copies experiments, runs and logged models."""

from collections.abc import Iterator, Mapping

import msgspec

from gateway.operations.artifact_copies import several_at_once
from gateway.operations.importing.artifacts import copy_files
from gateway.operations.importing.books import Books, Done
from gateway.operations.importing.choices import fingerprint
from gateway.operations.importing.counts import Counts
from gateway.operations.importing.mlflow_server import MlflowServer
from gateway.operations.importing.mlflow_wire import Experiment, LoggedModel, Run
from gateway.operations.tables import continue_sequences, sequence_positions
from tracking import adoption
from tracking.artifact_paths import ArtifactPath
from tracking.artifact_uris import parse_artifact_uri
from tracking.entities import LifecycleStage, LoggedModelStatus, RunStatus
from tracking.experiments import DEFAULT_ARTIFACT_ROOT, default_artifact_location, get_experiment
from tracking.imports import Kind

# Points in one transaction, during which an embedded database's other writers wait.
_POINTS_AT_ONCE = 5_000

_SETTLED_RUNS = frozenset({RunStatus.FINISHED, RunStatus.FAILED, RunStatus.KILLED})


class Place(msgspec.Struct, frozen=True):
    """Where an experiment of the other server is here."""

    experiment_id: str
    location: str

    def run_uri(self, run_id: str) -> str:
        return f"{self.location}/{run_id}/artifacts"

    def model_uri(self, model_id: str) -> str:
        return f"{self.location}/models/{model_id}/artifacts"


def copy_experiments(server: MlflowServer, books: Books) -> dict[str, Place]:
    """Copy all of them, and say where each is."""
    books.progress.begin("experiments")
    places = {}
    for experiment in server.experiments():
        books.progress.expect(1)
        one = Counts(experiments=1)
        done = books.attempt(f"Experiment {experiment.name!r}", one, lambda: _copy_experiment(experiment, books))  # noqa: B023  (called at once)
        books.add(done)
        known = books.known(Kind.EXPERIMENT, experiment.experiment_id)
        if known is not None:
            places[experiment.experiment_id] = _place(books, known.local_id)
    return places


def _copy_experiment(experiment: Experiment, books: Books) -> Done:
    counts, found = Counts(experiments=1), fingerprint(experiment)
    if books.unchanged(Kind.EXPERIMENT, experiment.experiment_id, found):
        return Done(counts=counts)
    with books.target.database.writing() as session:
        local_id = adoption.adopt_experiment(session, experiment.entity())
        # Its number may be beyond what the sequence has given.
        connection, tables = session.connection(), [adoption.EXPERIMENTS]
        continue_sequences(connection, tables, sequence_positions(connection, tables))
    books.record(Kind.EXPERIMENT, experiment.experiment_id, found, local_id=local_id)
    return Done(counts=counts, copied=True)


def _place(books: Books, experiment_id: str) -> Place:
    with books.target.database.reading() as session:
        location = get_experiment(session, experiment_id).artifact_location
    if books.target.store.locate(parse_artifact_uri(location)) is None:
        # It was here before, and keeps its artifacts where we can't put any.
        location = default_artifact_location(DEFAULT_ARTIFACT_ROOT, experiment_id)
    return Place(experiment_id, location)


def copy_runs(server: MlflowServer, books: Books, places: Mapping[str, Place]) -> None:
    """Copy the runs of all *places*, with their whole histories and artifacts."""

    def copy(found: tuple[Run, Place]) -> Done:
        run, place = found
        counts = Counts(runs=1, params=len(run.data.params), tags=len(run.data.tags))
        return books.attempt(f"Run {run.info.run_id}", counts, lambda: _copy_run(server, books, run, place, counts))

    books.progress.begin("runs")
    for done in several_at_once(copy, _runs(server, books, places)):
        books.add(done)


def _runs(server: MlflowServer, books: Books, places: Mapping[str, Place]) -> Iterator[tuple[Run, Place]]:
    for experiment_id, place in places.items():
        for page in server.runs(experiment_id):
            books.progress.expect(len(page))
            yield from ((run, place) for run in page)


def _copy_run(server: MlflowServer, books: Books, run: Run, place: Place, counts: Counts) -> Done:
    run_id, found = run.info.run_id, fingerprint(run)
    # Nobody logs to a run that is deleted.
    settled = run.info.status in _SETTLED_RUNS or run.info.lifecycle_stage is LifecycleStage.DELETED
    copied = books.unchanged(Kind.RUN, run_id, found, settled=settled)
    if copied is None:
        resuming = books.known(Kind.RUN, run_id) is None
        with books.target.database.writing() as session:
            entity = run.entity(experiment_id=place.experiment_id, artifact_uri=place.run_uri(run_id))
            adoption.adopt_run(session, entity, now_ms=books.target.database.now_ms(session))
        points = sum(_copy_history(server, books, entity.info.run_id, place, one.key) for one in run.data.metrics)
        files, size = copy_files(
            books.target,
            server.run_files(run_id),
            lambda path: server.read_run_file(run_id, path),
            _located(books, place.run_uri(run_id)),
            resuming=resuming,
        )
        done = books.record(Kind.RUN, run_id, found, points=points, files=files, size=size)
    else:
        done = copied
    held = msgspec.structs.replace(counts, points=done.points, files=done.files, size=done.size)
    return Done(counts=held, copied=copied is None)


def _copy_history(server: MlflowServer, books: Books, run_id: str, place: Place, key: str) -> int:
    copied = 0
    for page in server.points(run_id, key):
        points = [metric.entity() for metric in page]
        for start in range(0, len(points), _POINTS_AT_ONCE):
            with books.target.database.writing() as session:
                some = points[start : start + _POINTS_AT_ONCE]
                adoption.adopt_points(session, run_id, place.experiment_id, some)
        copied += len(points)
    return copied


def copy_logged_models(server: MlflowServer, books: Books, places: Mapping[str, Place]) -> None:
    """Copy the logged models of all *places*, with their artifacts."""

    def copy(found: tuple[LoggedModel, Place]) -> Done:
        model, place = found
        counts = Counts(logged_models=1)
        return books.attempt(
            f"Logged model {model.info.model_id}", counts, lambda: _copy_logged_model(server, books, model, place)
        )

    books.progress.begin("logged models")
    for done in several_at_once(copy, _logged_models(server, books, places)):
        books.add(done)


def _logged_models(
    server: MlflowServer, books: Books, places: Mapping[str, Place]
) -> Iterator[tuple[LoggedModel, Place]]:
    for experiment_id, place in places.items():
        for model in server.logged_models(experiment_id):
            books.progress.expect(1)
            yield model, place


def _copy_logged_model(server: MlflowServer, books: Books, model: LoggedModel, place: Place) -> Done:
    model_id, found = model.info.model_id, fingerprint(model)
    settled = model.info.status is not LoggedModelStatus.PENDING
    copied = books.unchanged(Kind.LOGGED_MODEL, model_id, found, settled=settled)
    if copied is None:
        resuming = books.known(Kind.LOGGED_MODEL, model_id) is None
        with books.target.database.writing() as session:
            entity = model.entity(experiment_id=place.experiment_id, artifact_uri=place.model_uri(model_id))
            adoption.adopt_logged_model(session, entity)
        files, size = copy_files(
            books.target,
            server.model_files(model_id),
            lambda path: server.read_model_file(model_id, path),
            _located(books, place.model_uri(model_id)),
            resuming=resuming,
        )
        done = books.record(Kind.LOGGED_MODEL, model_id, found, files=files, size=size)
    else:
        done = copied
    return Done(counts=Counts(logged_models=1, files=done.files, size=done.size), copied=copied is None)


def _located(books: Books, uri: str) -> ArtifactPath:
    """The folder in the store at *uri*, which a `Place` made and so lies there."""
    parsed = parse_artifact_uri(uri)
    folder = books.target.store.locate(parsed)
    if folder is None:
        raise ValueError(uri)
    return folder
