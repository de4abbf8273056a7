"""Tools that log by themselves: scikit-learn, Lightning, Optuna, and projects that MLflow starts."""

import os
import sys
from pathlib import Path

import mlflow
import mlflow.pytorch
import mlflow.sklearn
import optuna
import pytest
import pytorch_lightning as lightning
import torch
from mlflow.tracking import MlflowClient
from optuna_integration.mlflow import MLflowCallback
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from tests.guide.blocks import X_train, y_train

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    # The tools warn of their own future and of their dependencies'; what they do is tested, not what they say.
    pytest.mark.filterwarnings("ignore"),
]


def test_a_grid_search_logs_a_run_and_one_below_it_for_each_candidate(url):
    mlflow.set_experiment("grid")
    mlflow.sklearn.autolog(log_models=False, silent=True)
    search = GridSearchCV(LogisticRegression(max_iter=200), {"C": [0.01, 1.0]}, cv=2)
    search.fit(X_train, y_train)

    runs = mlflow.search_runs(experiment_names=["grid"], output_format="list")
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert parent.data.params["best_C"] == str(search.best_params_["C"])
    assert parent.data.metrics["best_cv_score"] == search.best_score_
    assert {file.path for file in MlflowClient().list_artifacts(parent.info.run_id)} >= {"cv_results.csv"}
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    scores = {run.data.params["C"]: run.data.metrics["mean_test_score"] for run in children}
    expected = zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True)
    assert scores == {str(params["C"]): score for params, score in expected}


class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        return self.layer(x)

    def training_step(self, batch, _):
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("train_loss", loss, on_epoch=True, on_step=False)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.05)


def test_lightning_logs_its_params_losses_checkpoint_and_model(url, tmp_path):
    mlflow.set_experiment("lightning")
    mlflow.pytorch.autolog(silent=True, checkpoint_monitor="train_loss")
    torch.manual_seed(0)
    rows = TensorDataset(torch.FloatTensor(X_train), torch.LongTensor(y_train))
    model = Classifier()
    trainer = lightning.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=True, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(model, DataLoader(rows, batch_size=32))
    mlflow.pytorch.autolog(disable=True)

    (run,) = mlflow.search_runs(experiment_names=["lightning"], output_format="list")
    assert (run.info.status, run.data.params["optimizer_name"], run.data.params["lr"]) == ("FINISHED", "Adam", "0.05")
    history = MlflowClient().get_metric_history(run.info.run_id, "train_loss")
    assert len(history) == 3
    assert history[-1].value == pytest.approx(trainer.callback_metrics["train_loss"].item())
    restored = mlflow.pytorch.load_checkpoint(Classifier, run.info.run_id)
    assert torch.equal(restored.layer.weight, model.layer.weight)
    (output,) = run.outputs.model_outputs
    logged = mlflow.pytorch.load_model(f"models:/{output.model_id}")
    assert torch.equal(logged.layer.weight, model.layer.weight)


def test_optuna_logs_each_trial_and_the_best_is_found_by_search(url):
    study = optuna.create_study(
        study_name="tuning", direction="minimize", sampler=optuna.samplers.RandomSampler(seed=0)
    )
    callback = MLflowCallback(tracking_uri=url, metric_name="loss", mlflow_kwargs={"nested": True})

    @callback.track_in_mlflow()
    def loss(trial):
        x = trial.suggest_float("x", -1, 1)
        mlflow.log_metric("doubled", 2 * x)
        return x * x

    study.optimize(loss, n_trials=5, callbacks=[callback])
    frame = mlflow.search_runs(experiment_names=["tuning"], order_by=["metrics.loss ASC"])
    assert frame["metrics.loss"].tolist() == sorted(trial.value for trial in study.trials)
    assert frame["params.x"][0] == str(study.best_params["x"])
    assert frame["metrics.doubled"][0] == 2 * study.best_params["x"]
    assert frame["tags.direction"].unique().tolist() == ["MINIMIZE"]
    assert set(frame["tags.number"]) == {"0", "1", "2", "3", "4"}


_PROJECT = """
name: doubler
entry_points:
  main:
    parameters:
      x: {type: float, default: 1}
    command: "python train.py {x}"
"""
_TRAIN = """
import sys, mlflow
with mlflow.start_run():
    mlflow.log_metric("doubled", 2 * float(sys.argv[1]))
    mlflow.log_text("done", "report.txt")
"""


def test_a_project_is_run_with_its_params_in_a_run_of_its_own(url, tmp_path, monkeypatch):
    # Its command names `python`, which is to be this one.
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    (tmp_path / "MLproject").write_text(_PROJECT)
    (tmp_path / "train.py").write_text(_TRAIN)
    submitted = mlflow.projects.run(
        str(tmp_path), parameters={"x": 21}, experiment_name="projects", env_manager="local", run_name="answer"
    )
    run = MlflowClient().get_run(submitted.run_id)
    assert (run.info.run_name, run.info.status) == ("answer", "FINISHED")
    assert run.data.params == {"x": "21"}
    assert run.data.metrics == {"doubled": 42.0}
    assert run.data.tags["mlflow.project.entryPoint"] == "main"
    assert run.data.tags["mlflow.source.type"] == "PROJECT"
    assert mlflow.artifacts.load_text(f"runs:/{submitted.run_id}/report.txt") == "done"
