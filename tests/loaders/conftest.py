"""Models as MLflow itself saves them, small ones, made where they are needed."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="session")
def iris() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_iris

    return load_iris(return_X_y=True)


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """``save("sklearn", estimator, signature=…)`` by ``mlflow.sklearn.save_model``; gives the model's folder."""

    def save_model(flavor: str, model: Any = None, name: str = "model", **arguments: Any) -> Path:
        import importlib

        with warnings.catch_warnings(record=True):
            # What MLflow and its libraries warn of while saving is theirs. Recorded, since it undoes plain filters.
            warnings.simplefilter("ignore")
            module = importlib.import_module(f"mlflow.{flavor}")
            path = tmp_path / name
            arguments.setdefault("pip_requirements", ["scikit-learn"])
            if model is None:
                module.save_model(path=str(path), **arguments)
            else:
                module.save_model(model, str(path), **arguments)
        return path

    return save_model
