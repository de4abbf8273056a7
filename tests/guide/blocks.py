"""The guide's own steps, near to the letter, as functions that several tests run on several set-ups."""

from pathlib import Path

import matplotlib.pyplot as plt
import mlflow
import mlflow.sklearn
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import ConfusionMatrixDisplay, accuracy_score, f1_score, precision_score, recall_score
from sklearn.model_selection import train_test_split

EXPERIMENT = "iris-classification"
MODEL = "iris-classifier"
PARAMS = {"n_estimators": 100, "max_depth": 5, "min_samples_split": 2, "random_state": 42}
# One stump tells two of the three flowers apart, so that it is the worse of two models by a sure margin.
POOR_PARAMS = {"n_estimators": 1, "max_depth": 1, "min_samples_split": 2, "random_state": 42}

_iris = load_iris()
X_train, X_test, y_train, y_test = train_test_split(_iris.data, _iris.target, test_size=0.2, random_state=42)

# Corrections of what fails with the newest client against any server: it doesn't trust scikit-learn's own trees.
# The requirements are given because finding them out takes it half a minute.
LOG_MODEL = {"skops_trusted_types": ["sklearn.tree._tree.Tree"], "pip_requirements": ["scikit-learn", "skops"]}


def log_forest(run_name, params=PARAMS, **log_model):
    """Basic experiment logging: a run with params, metrics and a model. Gives run, fitted model and metrics."""
    mlflow.set_experiment(EXPERIMENT)
    with mlflow.start_run(run_name=run_name) as run:
        mlflow.log_params(params)
        model = RandomForestClassifier(**params)
        model.fit(X_train, y_train)
        y_pred = model.predict(X_test)
        metrics = {
            "accuracy": accuracy_score(y_test, y_pred),
            "f1_macro": f1_score(y_test, y_pred, average="macro"),
            "precision_macro": precision_score(y_test, y_pred, average="macro", zero_division=0),
            "recall_macro": recall_score(y_test, y_pred, average="macro"),
        }
        mlflow.log_metrics(metrics)
        mlflow.sklearn.log_model(model, **{"artifact_path": "model", **LOG_MODEL, **log_model})
    return run, model, metrics


def draw_confusion_matrix(model, path: Path) -> Path:
    fig, ax = plt.subplots(figsize=(8, 6))
    ConfusionMatrixDisplay.from_predictions(y_test, model.predict(X_test), ax=ax)
    fig.savefig(path)
    plt.close(fig)
    return path


def search_good_runs(client: MlflowClient) -> list[Run]:
    """The search API example."""
    experiment = client.get_experiment_by_name(EXPERIMENT)
    return client.search_runs(
        experiment_ids=[experiment.experiment_id],
        filter_string="metrics.accuracy > 0.9 AND params.n_estimators = '100'",
        order_by=["metrics.f1_macro DESC"],
        max_results=10,
    )


def register(client: MlflowClient, run: Run, description: str):
    """Registration from a run, with a description and a tag."""
    result = mlflow.register_model(model_uri=f"runs:/{run.info.run_id}/model", name=MODEL)
    client.update_model_version(name=MODEL, version=result.version, description=description)
    client.set_model_version_tag(name=MODEL, version=result.version, key="validation_status", value="approved")
    return result


def promote_the_better(client: MlflowClient):
    """The comparison of champion and challenger. Gives the two loaded models."""
    champion = mlflow.pyfunc.load_model(f"models:/{MODEL}@champion")
    challenger = mlflow.pyfunc.load_model(f"models:/{MODEL}@challenger")
    if accuracy_score(y_test, challenger.predict(X_test)) > accuracy_score(y_test, champion.predict(X_test)):
        better = client.get_model_version_by_alias(MODEL, "challenger")
        client.set_registered_model_alias(name=MODEL, alias="champion", version=better.version)
    return champion, challenger
