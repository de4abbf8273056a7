"""Trains and registers the example models with the stock MLflow client: ``python -m gateway.cli.iris URL [NAME]``.

A program of its own, because MLflow and scikit-learn have no place in a process that serves. It is what a data
scientist's script looks like; nothing in it knows Titlebout.
"""

import sys
import warnings

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from sklearn.base import ClassifierMixin
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import train_test_split

# Given, so that MLflow doesn't spend half a minute finding out by itself what the model needs.
_REQUIREMENTS = ["scikit-learn", "skops"]


def train(model: ClassifierMixin, run_name: str, registered_name: str) -> str:
    """Log *model* trained on iris as a run and register it; gives the number of its version."""
    iris = load_iris(as_frame=True)
    rows_train, rows_test, labels_train, labels_test = train_test_split(
        iris.data, iris.target, test_size=0.2, random_state=42
    )
    with mlflow.start_run(run_name=run_name):
        model.fit(rows_train, labels_train)
        predicted = model.predict(rows_test)
        mlflow.log_params({name: value for name, value in model.get_params().items() if value is not None})
        mlflow.log_metrics(
            {
                "accuracy": accuracy_score(labels_test, predicted),
                "f1_macro": f1_score(labels_test, predicted, average="macro"),
            }
        )
        logged = mlflow.sklearn.log_model(
            model,
            name="model",
            registered_model_name=registered_name,
            input_example=rows_train.head(2),
            pip_requirements=_REQUIREMENTS,
            # What MLflow's own check asks for before it saves a tree; Titlebout has a list of its own.
            skops_trusted_types=["sklearn.tree._tree.Tree"],
        )
    return str(logged.registered_model_version)


def main() -> None:
    """Two versions, the first as champion, the second as challenger, unless the model is there already."""
    url, name = sys.argv[1], (sys.argv[2:] or ["iris-classifier"])[0]
    warnings.simplefilter("ignore")
    mlflow.set_tracking_uri(url)
    client = MlflowClient()
    try:
        client.get_registered_model(name)
    except MlflowException:
        pass
    else:
        print(f"{name} is registered already")  # noqa: T201  (a script for people)
        return
    mlflow.set_experiment("iris-classification")
    logistic = train(LogisticRegression(max_iter=200), "logistic-regression", name)
    print(f"version {logistic}: logistic regression")  # noqa: T201
    client.set_registered_model_alias(name, "champion", logistic)
    forest = train(RandomForestClassifier(n_estimators=100, max_depth=5, random_state=42), "random-forest", name)
    print(f"version {forest}: random forest of 100 trees")  # noqa: T201
    client.set_registered_model_alias(name, "challenger", forest)


if __name__ == "__main__":
    main()
