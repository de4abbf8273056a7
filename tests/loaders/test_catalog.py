import subprocess
import sys
from pathlib import Path

import pytest

from loaders.catalog import Flavor, preload, required_flavor
from loaders.errors import FlavorNotInstalled
from loaders.mlmodel import MLmodel

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("flavors", "flavor"),
    [
        ({"sklearn": {}, "python_function": {"loader_module": "mlflow.sklearn"}}, Flavor.SKLEARN),
        ({"sklearn": {}}, Flavor.SKLEARN),
        ({"pytorch": {}, "python_function": {"loader_module": "mlflow.pytorch"}}, Flavor.PYTORCH),
        ({"python_function": {"loader_module": "mlflow.pyfunc.model"}}, Flavor.PYTHON_FUNCTION),
        ({"xgboost": {}, "python_function": {"loader_module": "mlflow.xgboost"}}, Flavor.PYTHON_FUNCTION),
        ({"sklearn": {}, "python_function": {"loader_module": "my.loader"}}, Flavor.PYTHON_FUNCTION),
    ],
)
def test_the_flavor_that_loads_a_model_is_told_from_its_mlmodel(flavors, flavor):
    assert required_flavor(MLmodel(flavors=flavors)) is flavor


def test_a_flavor_that_is_not_installed_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torch" else object())
    with pytest.raises(FlavorNotInstalled, match=r"install titlebout\[torch\]"):
        preload(Flavor.PYTORCH)


def test_workers_get_nothing_heavier_than_numpy():
    script = (
        "import sys\n"
        "import loaders.catalog, loaders.warmup, loaders.cache, loaders.payload, loaders.signature\n"
        "heavy = {'pandas', 'sklearn', 'scipy', 'skops', 'joblib', 'torch', 'transformers', 'mlflow', 'cloudpickle'}\n"
        "print(*sorted(heavy & sys.modules.keys()))\n"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, check=True, text=True)
    assert result.stdout == "\n"


def test_a_scikit_learn_parent_brings_along_nothing_that_most_models_have_no_use_for():
    script = (
        "import sys; from loaders import catalog; catalog.preload(catalog.Flavor.SKLEARN); "
        "assert not {'torch', 'pandas', 'pytest'} & sys.modules.keys(); import torch, pandas"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
