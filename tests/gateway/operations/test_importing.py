"""An import from a genuine MLflow server: everything it has is here afterwards, as it was there."""

import uuid
import warnings

import httpx
import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric as ClientMetric
from mlflow.entities import ViewType

from gateway.operations.importing.books import Target
from gateway.operations.importing.copying import import_store
from gateway.operations.importing.mlflow_server import MlflowServer
from gateway.operations.progress import Silent
from registry import aliases, manifests, models, versions
from registry.sources import SourcePolicy
from tests.gateway.test_cli import titlebout
from tests.gateway.test_serving import wait_until_served
from tests.servers import running_mlflow
from tests.training import ROW, constant_classifier, register
from tracking import artifact_records, experiments, metrics, runs
from tracking.artifact_paths import ArtifactPath
from tracking.artifact_stores import open_store
from tracking.artifacts import StoreUnavailable, manifest_by_reading
from tracking.database import Database
from tracking.folder_artifacts import FolderArtifactStore

# The first test waits for the server, and perhaps for its installation.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]


class Genuine:
    """A genuine server with a bit of everything."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = MlflowClient(tracking_uri=url)
        register(url, "iris", constant_classifier(0))
        self._log_a_run()
        self._register_more()
        dead = self.client.create_experiment("gone")
        self.client.create_run(dead)
        self.client.delete_experiment(dead)
        deleted = self.client.create_run("0", run_name="deleted").info.run_id
        self.client.delete_run(deleted)

    def _log_a_run(self):
        self.experiment_id = self.client.create_experiment("irises ☘", tags={"team": "bees"})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = mlflow.data.from_numpy(np.arange(6.0).reshape(3, 2), name="six")
            mlflow.set_tracking_uri(self.url)
            mlflow.set_experiment("irises ☘")
            with mlflow.start_run(run_name="first", tags={"t": "日本"}) as run:
                self.run_id = run.info.run_id
                mlflow.log_params({"depth": 3, "long": "x" * 3_000})
                points = [ClientMetric("curve", 1 / (n + 1), 1_000 + n, n) for n in range(2_500)]
                for start in range(0, len(points), 1_000):
                    self.client.log_batch(self.run_id, metrics=points[start : start + 1_000])
                mlflow.log_metric("odd", float("nan"))
                mlflow.log_metric("big", float("inf"))
                mlflow.log_input(dataset, context="training")
                mlflow.log_text("hello", "notes/a b.txt")
                mlflow.log_text("日本", "日本.txt")
                mlflow.log_text("flavors: {}\n", "old-style/MLmodel")

    def _register_more(self):
        root = f"mlflow-artifacts:/{self.experiment_id}/{self.run_id}/artifacts"
        create = self.client.create_model_version
        create("iris", f"runs:/{self.run_id}/old-style", run_id=self.run_id, tags={"t": "1"}, description="second")
        create("iris", f"{root}/old-style", run_id=self.run_id)
        create("iris", "models:/iris/1")
        create("iris", f"{root}/old-style", run_id=self.run_id)
        # A hole, and a number that is free no more.
        self.client.delete_model_version("iris", "2")
        self.client.delete_model_version("iris", "5")
        self.client.set_registered_model_alias("iris", "champion", "1")
        self.client.set_registered_model_alias("iris", "old", "3")
        self.client.set_registered_model_tag("iris", "k", "v")
        self.client.update_registered_model("iris", "flowers")
        self.client.set_model_version_tag("iris", "4", "copied", "yes")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.client.transition_model_version_stage("iris", "3", "Production")
            self.client.create_registered_model("empty")
            mlflow.genai.register_prompt("greet", "Hello {{name}}")


@pytest.fixture(scope="module")
def genuine():
    with running_mlflow() as url:
        yield Genuine(url)


def target_of(database, store, *prefixes):
    return Target(database, store, SourcePolicy(locate=store.locate, prefixes=prefixes))


def imported(genuine, target):
    with MlflowServer(genuine.url) as server:
        return import_store(server, target, Silent())


def seen(client):
    """All that MLflow's client can see of a store, but for what names a server's own places."""
    found = {}
    for experiment in client.search_experiments(view_type=ViewType.ALL):
        found["experiment", experiment.experiment_id] = {
            **dict(experiment),
            "workspace": None,
        }
        for run in client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL):
            run_id = run.info.run_id
            files = sorted(file for file, _ in walk(client, run_id))
            described = run.to_dictionary()
            described["data"]["metrics"] = {
                key: [(p.step, p.timestamp, repr(p.value)) for p in client.get_metric_history(run_id, key)]
                for key in run.data.metrics
            }
            found["run", run_id] = (described, files)
    for model in client.search_registered_models():
        found["model", model.name] = {**dict(model), "latest_versions": None, "workspace": None}
        for version in client.search_model_versions(f"name='{model.name}'"):
            # The genuine server leaves aliases out here; the model's own are compared above.
            shown = {**dict(version), "aliases": None, "metrics": None, "params": None}
            found["version", model.name, version.version] = shown
    return found


def walk(client, run_id, path=None):
    for file in client.list_artifacts(run_id, path):
        if file.is_dir:
            yield from walk(client, run_id, file.path)
        else:
            yield file.path, file.file_size


def test_all_that_a_client_sees_is_the_same_on_both_sides_and_is_served(genuine, serve, tmp_path):
    done = titlebout("import", genuine.url, "--data", str(tmp_path / "server"), timeout_s=300)
    assert done.returncode == 0, done.stderr
    assert "From MLflow 3.17.2" in done.stdout
    server = serve()
    here = MlflowClient(tracking_uri=server.url)
    there, mine = seen(genuine.client), seen(here)
    assert mine.keys() == there.keys()
    for key, described in there.items():
        assert mine[key] == described, key
    assert here.get_run(genuine.run_id).inputs.dataset_inputs[0].dataset.name == "six"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.set_tracking_uri(server.url)
        assert mlflow.genai.load_prompt("greet", version=1).template == "Hello {{name}}"
    # The alias is the route here too.
    wait_until_served(server.url, "iris", champion=1)
    assert httpx.post(f"{server.url}/invocations", json={"inputs": [ROW]}).json() == {"predictions": [0]}
    # Numbers go on behind those that were given.
    source = f"runs:/{genuine.run_id}/old-style"
    assert int(here.create_model_version("iris", source, run_id=genuine.run_id).version) > 4
    assert int(here.create_experiment("new")) > int(genuine.experiment_id)


def test_either_database_and_either_store_take_it_and_a_second_time_takes_nothing(genuine, database, store):
    target = target_of(database, store)
    report = imported(genuine, target)
    assert report.problems == ()
    assert report.there == report.here == report.copied
    assert report.there.points > 2_500
    assert report.there.versions == 4  # 1, 3 and 4 of iris, and the prompt's.
    with database.reading() as session:
        champion = aliases.get_version_by_alias(session, "iris", "champion")
        manifest = manifests.find_manifest(session, champion)
        run = runs.get_run(session, genuine.run_id)
        curve = metrics.metric_history(session, genuine.run_id, "curve").items
        assert versions.get_version(session, "iris", 3).stage == "Production"
        assert versions.get_version(session, "iris", 4).digest == champion.digest == manifest.digest
    assert manifest_by_reading(store, manifests.folder_of(champion.artifact_uri)) == manifest
    assert run.dataset_inputs[0].tags == {"mlflow.data.context": "training"}
    assert [point.step for point in curve] == list(range(2_500))
    again = imported(genuine, target)
    assert again.here == report.here
    assert again.copied == type(again.copied)()


def test_a_server_that_only_names_a_place_for_artifacts_hands_them_over_too(tmp_path):
    place = tmp_path / "place"
    with running_mlflow("--no-serve-artifacts", "--default-artifact-root", str(place)) as url:
        client = MlflowClient(tracking_uri=url)
        run = client.create_run("0")
        assert run.info.artifact_uri.startswith(str(place))
        client.log_text(run.info.run_id, "flavors: {}\n", "model/MLmodel")
        client.create_registered_model("iris")
        client.create_model_version("iris", f"{run.info.artifact_uri}/model", run_id=run.info.run_id)
        done = titlebout("import", url, "--data", str(tmp_path / "here"))
    assert done.returncode == 0, done.stderr
    database, store = Database(f"sqlite:///{tmp_path}/here/titlebout.db"), open_store(str(tmp_path / "here/artifacts"))
    with database.reading() as session:
        version = versions.get_version(session, "iris", 1)
    assert version.source == version.artifact_uri == f"mlflow-artifacts:/0/{run.info.run_id}/artifacts/model"
    assert manifest_by_reading(store, manifests.folder_of(version.artifact_uri)).digest == version.digest
    database.dispose()


class BreakingStore(FolderArtifactStore):
    """Goes away after so many uploads."""

    uploads_left = 5
    uploads = 0

    def upload(self, path):
        if self.uploads_left == 0:
            raise StoreUnavailable
        self.uploads_left -= 1
        self.uploads += 1
        return super().upload(path)


def test_an_import_that_broke_off_goes_on_where_it_stopped(genuine, database, tmp_path):
    store = BreakingStore(tmp_path / "artifacts")
    with pytest.raises(StoreUnavailable):
        imported(genuine, target_of(database, store))
    store.uploads_left = 1_000
    report = imported(genuine, target_of(database, store))
    assert report.problems == ()
    assert report.there == report.here
    # No file was fetched twice.
    assert store.uploads == report.there.files


def test_a_second_import_copies_what_is_new_and_leaves_what_was_changed_here(genuine, database, tmp_path):
    target = target_of(database, open_store(str(tmp_path / "artifacts")))
    imported(genuine, target)
    client = genuine.client
    running = client.create_run(genuine.experiment_id, run_name="later").info.run_id
    client.log_metric(running, "loss", 1.0, timestamp=1, step=1)
    assert imported(genuine, target).copied.runs == 1
    with database.writing() as session:
        aliases.set_alias(session, "iris", "champion", 4, author="me", now_ms=1)
        aliases.set_alias(session, "iris", "old", 1, author="me", now_ms=1)
    client.log_metric(running, "loss", 0.5, timestamp=2, step=2)
    client.log_text(running, "more", "more.txt")
    client.set_terminated(running)
    client.set_registered_model_alias("iris", "old", "4")
    tag = uuid.uuid4().hex
    client.set_model_version_tag("iris", "4", "copied", tag)
    report = imported(genuine, target)
    assert report.problems == ()
    assert report.there == report.here
    copied = report.copied
    assert (copied.runs, copied.files, copied.points, copied.versions, copied.aliases) == (1, 1, 2, 1, 1)
    with database.reading() as session:
        assert aliases.get_version_by_alias(session, "iris", "champion").version == 4
        assert aliases.get_version_by_alias(session, "iris", "old").version == 4
        assert versions.get_version(session, "iris", 4).tags == {"copied": tag}
    client.set_registered_model_alias("iris", "old", "3")


def test_what_stands_in_the_way_is_said_and_all_else_is_copied(genuine, database, tmp_path):
    store = open_store(str(tmp_path / "artifacts"))
    with database.writing() as session:
        # Number 1 is taken by another experiment, and the model's name by another model.
        experiments.ensure_default_experiment(session, now_ms=0)
        taken = experiments.create_experiment(session, "mine", now_ms=0)
        run = runs.create_run(session, taken, start_time_ms=0)
        models.create_model(session, "iris", now_ms=0)
        with store.upload(ArtifactPath.parse(f"{taken}/{run.info.run_id}/artifacts/MLmodel")) as upload:
            upload.write(b"mine")
            upload.finish()
            artifact_records.publish_upload(session, upload, 0)
        claim = versions.Claim(source=f"runs:/{run.info.run_id}", run_id=run.info.run_id)
        versions.create_version(session, "iris", claim, policy=SourcePolicy(locate=store.locate), now_ms=0)
    name = f"elsewhere-{uuid.uuid4().hex[:8]}"
    genuine.client.create_registered_model(name)
    genuine.client.create_model_version(name, "s3://another-bucket/model")
    try:
        report = imported(genuine, target_of(database, store))
        assert len(report.problems) == 2
        assert any("Version 1 of 'iris' is here already" in problem for problem in report.problems)
        assert any("s3://another-bucket/model" in problem for problem in report.problems)
        assert report.here.runs == report.there.runs
        assert report.here.versions == report.there.versions - 2
        with database.reading() as session:
            assert experiments.get_experiment_by_name(session, "mine").experiment_id == taken
            info = runs.get_run_info(session, genuine.run_id)
            assert experiments.get_experiment(session, info.experiment_id).name == "irises ☘"
        allowed = imported(genuine, target_of(database, store, "s3://another-bucket"))
        assert len(allowed.problems) == 1
    finally:
        genuine.client.delete_registered_model(name)
