"""Experiment tracking: logging by hand, autologging, search, and logging from one of several workers."""

import os
import threading
from pathlib import Path

import mlflow
import pytest
from mlflow.tracking import MlflowClient
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.model_selection import cross_val_score

from tests.guide.blocks import (
    EXPERIMENT,
    MODEL,
    PARAMS,
    POOR_PARAMS,
    X_test,
    X_train,
    draw_confusion_matrix,
    log_forest,
    search_good_runs,
    y_train,
)
from tests.guide.served import predictions, wait_until_served

pytestmark = [
    pytest.mark.e2e,
    # The client warns of its own future and of its dependencies'; what it does is tested, not what it says of itself.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.mark.parametrize("named_by", ["artifact_path", "name"])
def test_a_run_logged_by_hand_is_read_back_whole(url, tmp_path, named_by):
    other = {"artifact_path": None} if named_by == "name" else {}
    run, model, metrics = log_forest("rf-baseline-v1", registered_model_name=MODEL, **other, **{named_by: "model"})
    plot = draw_confusion_matrix(model, tmp_path / "confusion_matrix.png")
    with mlflow.start_run(run_id=run.info.run_id):
        mlflow.log_artifact(str(plot), "plots")

    client = MlflowClient()
    found = client.get_run(run.info.run_id)
    assert (found.info.run_name, found.info.status) == ("rf-baseline-v1", "FINISHED")
    assert found.data.params == {key: str(value) for key, value in PARAMS.items()}
    assert found.data.metrics == metrics
    assert [file.path for file in client.list_artifacts(run.info.run_id, "plots")] == ["plots/confusion_matrix.png"]
    fetched = client.download_artifacts(run.info.run_id, "plots/confusion_matrix.png", str(tmp_path / "fetched"))
    assert Path(fetched).read_bytes() == plot.read_bytes()

    version = client.get_model_version(MODEL, "1")
    assert (version.run_id, version.status) == (run.info.run_id, "READY")
    loaded = mlflow.sklearn.load_model(f"models:/{MODEL}/1")
    assert (loaded.predict_proba(X_test) == model.predict_proba(X_test)).all()
    (output,) = found.outputs.model_outputs
    logged = client.get_logged_model(output.model_id)
    assert (logged.name, logged.status, logged.source_run_id) == ("model", "READY", run.info.run_id)
    assert {metric.key: metric.value for metric in logged.metrics} == metrics


@pytest.mark.slow  # For each of the models the client finds out what it needs, in a process of its own.
def test_autologging_records_params_metrics_dataset_model_and_each_fold(url):
    mlflow.sklearn.autolog(
        log_input_examples=True, log_model_signatures=True, log_models=True, log_datasets=True, silent=False
    )
    mlflow.set_experiment("iris-autolog-experiment")
    with mlflow.start_run(run_name="gbc-autolog") as run:
        model = GradientBoostingClassifier(n_estimators=20, max_depth=3, learning_rate=0.1, random_state=42)
        model.fit(X_train, y_train)
        cv_scores = cross_val_score(model, X_train, y_train, cv=2)
        mlflow.log_metric("cv_mean_accuracy", cv_scores.mean())
        mlflow.log_metric("cv_std_accuracy", cv_scores.std())

    found = MlflowClient().get_run(run.info.run_id)
    assert found.data.params["n_estimators"] == "20"
    assert found.data.params["learning_rate"] == "0.1"
    assert found.data.metrics["cv_mean_accuracy"] == cv_scores.mean()
    assert found.data.metrics["training_accuracy_score"] == model.score(X_train, y_train)
    assert found.data.tags["estimator_name"] == "GradientBoostingClassifier"
    assert [used.dataset.name for used in found.inputs.dataset_inputs]
    assert found.outputs.model_outputs
    model_uri = f"models:/{found.outputs.model_outputs[0].model_id}"
    info = mlflow.models.get_model_info(model_uri)
    assert info.signature.inputs.input_types()
    assert info.saved_input_example_info
    assert (mlflow.sklearn.load_model(model_uri).predict(X_test) == model.predict(X_test)).all()

    mlflow.register_model(model_uri, MODEL)
    MlflowClient().set_registered_model_alias(MODEL, "champion", "1")
    wait_until_served(url, MODEL, champion=1)
    assert predictions(url, inputs=X_test.tolist()) == model.predict(X_test).tolist()


def test_runs_are_found_by_metric_and_param_best_first_and_compared(url):
    best, _, _ = log_forest("rf-100")
    shallow, _, _ = log_forest("rf-100-shallow", {**PARAMS, "max_depth": 1, "max_features": 1, "min_samples_split": 60})
    log_forest("rf-10", {**PARAMS, "n_estimators": 10})
    log_forest("rf-poor", POOR_PARAMS)

    client = MlflowClient(tracking_uri=url)
    runs = search_good_runs(client)
    found = [run.info.run_id for run in runs]
    assert found[0] == best.info.run_id
    assert set(found) <= {best.info.run_id, shallow.info.run_id}
    assert all(run.data.metrics["accuracy"] > 0.9 for run in runs)
    assert runs[0].data.params["n_estimators"] == "100"
    scores = [run.data.metrics["f1_macro"] for run in runs]
    assert scores == sorted(scores, reverse=True)

    experiment = client.get_experiment_by_name(EXPERIMENT)
    everything = client.search_runs([experiment.experiment_id], order_by=["metrics.accuracy ASC"])
    assert everything[0].info.run_name == "rf-poor"
    compared = {key: (everything[0].data.metrics[key], value) for key, value in everything[-1].data.metrics.items()}
    assert len(compared) == 4
    assert all(worse <= better for worse, better in compared.values())


def setup_mlflow_distributed(url):
    rank = int(os.environ.get("RANK", "0"))
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if rank == 0:
        mlflow.set_tracking_uri(url)
        mlflow.set_experiment("distributed-training")
        run = mlflow.start_run(run_name=f"dist-train-{world_size}gpu")
        mlflow.log_param("world_size", world_size)
        return run
    os.environ["MLFLOW_TRACKING_URI"] = ""
    return None


def log_distributed_metrics(metrics, step, rank=0):
    if rank == 0:
        mlflow.log_metrics(metrics, step=step)


def test_of_several_workers_only_rank_zero_logs(url, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert setup_mlflow_distributed(url) is None
    log_distributed_metrics({"loss": 9.0}, step=0, rank=1)
    monkeypatch.setenv("RANK", "0")
    run = setup_mlflow_distributed(url)
    for step in range(3):
        log_distributed_metrics({"loss": 1.0 / (step + 1)}, step=step)
    mlflow.end_run()

    client = MlflowClient(url)
    (found,) = client.search_runs([client.get_experiment_by_name("distributed-training").experiment_id])
    assert (found.info.run_id, found.info.run_name) == (run.info.run_id, "dist-train-2gpu")
    assert found.data.params == {"world_size": "2"}
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(point.step, point.value) for point in history] == [(0, 1.0), (1, 0.5), (2, 1 / 3)]


def test_workers_that_log_to_one_run_at_once_lose_nothing(url_on_both):
    client = MlflowClient(url_on_both)
    run = client.create_run(client.create_experiment("many-workers"))

    def log(rank):
        for step in range(10):
            client.log_metric(run.info.run_id, "loss", float(rank), step=10 * rank + step)
        client.log_param(run.info.run_id, f"rank_{rank}", rank)

    workers = [threading.Thread(target=log, args=(rank,)) for rank in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = client.get_run(run.info.run_id)
    assert found.data.params == {f"rank_{rank}": str(rank) for rank in range(4)}
    assert sorted(point.step for point in client.get_metric_history(run.info.run_id, "loss")) == list(range(40))
