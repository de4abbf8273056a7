"""Trains models and registers them in this order: ``python -m loadtests.chaos.training URL NAME=KIND[:WORD]…``.

A program of its own, because the client and the models' libraries have no place beside what is measured. Prints a line
of JSON for each version.
"""

import sys
import warnings
from random import Random
from typing import Any

import mlflow
import msgspec
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from loadtests.answers import draw_rows
from loadtests.chaos.models import KINDS
from loadtests.chaos.stage import Registered

_EXAMPLE_ROWS = 20
_WORDS = ModelSignature(inputs=Schema([ColSpec("string")]))


def main() -> None:
    url, *wishes = sys.argv[1:]
    warnings.simplefilter("ignore")
    mlflow.set_tracking_uri(url)
    mlflow.set_experiment("chaos")
    for wish in wishes:
        name, _, made = wish.partition("=")
        kind, _, word = made.partition(":")
        with mlflow.start_run():
            registered = _trained(name, int(word)) if kind == "trained" else _written(name, kind, word)
        print(msgspec.json.encode(registered).decode())


def _trained(name: str, steps: int) -> Registered:
    """A logistic regression on iris after so many steps of training, and what it says of some rows offline."""
    features, labels = load_iris(return_X_y=True)
    estimator = LogisticRegression(max_iter=steps).fit(features, labels)
    rows = draw_rows(Random(0), _EXAMPLE_ROWS)
    logged = mlflow.sklearn.log_model(
        estimator,
        name="model",
        registered_model_name=name,
        input_example=features[:2],
        pip_requirements=["scikit-learn", "skops"],
    )
    return _registered(name, logged, rows, estimator.predict(np.array(rows)).tolist())


def _written(name: str, kind: str, word: str) -> Registered:
    # A signature and no example: a row to warm up with comes of it, and MLflow doesn't try the model here and now.
    signature = _WORDS if kind in {"obedient", "steady", "unloadable"} else None
    logged = mlflow.pyfunc.log_model(
        name="model",
        python_model=KINDS[kind](word),
        registered_model_name=name,
        pip_requirements=["mlflow-skinny"],
        signature=signature,
    )
    return _registered(name, logged, [], [])


def _registered(name: str, logged: Any, rows: list[list[float]], predictions: list[Any]) -> Registered:
    return Registered(name, int(logged.registered_model_version), rows, predictions)


if __name__ == "__main__":
    main()
