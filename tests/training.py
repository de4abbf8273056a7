"""Models for tests, logged and registered by the real MLflow client as a user's script would."""

import warnings
from typing import Any

import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

with warnings.catch_warnings():
    # MLflow's own imports warn about its dependencies; its behaviour is what we test, not its imports.
    warnings.simplefilter("ignore")
    import mlflow
    import mlflow.pyfunc
    import mlflow.sklearn

IRIS = load_iris(as_frame=True)
ROW = [5.1, 3.5, 1.4, 0.2]


def constant_classifier(answer: int) -> LogisticRegression:
    """A classifier of iris that always answers *answer*, so that an answer tells who gave it."""
    model = LogisticRegression(max_iter=5)
    labels = np.arange(len(IRIS.data)) % 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(IRIS.data, labels)
    model.coef_ = np.zeros_like(model.coef_)
    model.intercept_ = np.where(np.arange(3) == answer, 10.0, 0.0)
    return model


def register(url: str, name: str, model: Any, **options: Any) -> int:
    """Log *model* in a run of its own and register it as the next version of *name*."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.set_tracking_uri(url)
        mlflow.set_experiment("tests")
        with mlflow.start_run():
            logged = mlflow.sklearn.log_model(
                model,
                name="model",
                registered_model_name=name,
                pip_requirements=["scikit-learn"],
                **{"input_example": IRIS.data.head(2), **options},
            )
    return int(logged.registered_model_version)


def set_alias(url: str, name: str, alias: str, version: int) -> None:
    mlflow.MlflowClient(url).set_registered_model_alias(name, alias, str(version))


def register_function(url: str, name: str, function: Any, **options: Any) -> int:
    """The same for an ``mlflow.pyfunc.PythonModel``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.set_tracking_uri(url)
        mlflow.set_experiment("tests")
        with mlflow.start_run():
            logged = mlflow.pyfunc.log_model(
                python_model=function,
                name="model",
                registered_model_name=name,
                pip_requirements=["mlflow-skinny"],
                **options,
            )
    return int(logged.registered_model_version)
