"""A host, forked from a real warm parent, finds and keeps a faster predictor while it loads."""

import asyncio
import os

import joblib
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

from gateway.pool.hosts import warm_parents
from gateway.pool.messages import Restraints, Spawn
from gateway.settings import Confinement

pytestmark = pytest.mark.e2e


MLMODEL = """
flavors:
  sklearn: {pickled_model: model.pkl, serialization_format: pickle}
  python_function: {loader_module: mlflow.sklearn}
"""


@pytest.fixture
def forest(tmp_path):
    features, labels = load_iris(return_X_y=True)
    path = tmp_path / "forest"
    path.mkdir()
    joblib.dump(RandomForestClassifier(10, random_state=0).fit(features, labels), path / "model.pkl")
    (path / "MLmodel").write_text(MLMODEL)
    return path


async def described(model_dir, tmp_path, **wishes):
    """What hosts say of themselves, one after the other, for each of *wishes*."""
    descriptions = []
    (tmp_path / "converted").mkdir()
    restraints = Restraints(confinement=Confinement.AUTO, hidden=(str(tmp_path),))
    async with warm_parents(
        tmp_path, log_level="INFO", log_format="text", environment=os.environ, restraints=restraints
    ) as parents:
        for name, acceleration in wishes.items():
            spawn = Spawn(
                model="forest",
                version=3,
                model_dir=str(model_dir),
                socket=str(tmp_path / name),
                code_policy="allow",
                verified=True,
                frame_bytes_max=2**20,
                acceleration=acceleration,
                acceleration_timeout_s=60,
                converted_dir=str(tmp_path / "converted"),
            )
            host = await parents.spawn("sklearn", spawn)
            descriptions.append(await host.until_ready(lambda state: None))
            await host.stop(5)
    return descriptions


def test_a_host_says_what_answers_and_why_it_is_nothing_faster(forest, tmp_path):
    first, second, plain = asyncio.run(described(forest, tmp_path, first=True, second=True, plain=False))
    assert (first.predictor, first.predictor_reason) == ("onnxruntime", "")
    assert (tmp_path / "converted/outcome.json").exists()
    assert second == first
    assert (plain.predictor, plain.predictor_reason) == ("sklearn", "acceleration is switched off")
