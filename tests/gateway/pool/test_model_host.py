"""A host, forked from a real warm parent, finds and keeps a faster predictor while it loads, and gives way so long."""

import asyncio
import os
from functools import partial

import joblib
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

from gateway.pool.hosts import warm_parents
from gateway.pool.messages import Restraints, Spawn
from gateway.pool.scheduling import can_come_back
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


def note_way(host, ways, _=None):
    ways.append(os.sched_getscheduler(host.pid))


async def described(model_dir, tmp_path, **wishes):
    """What hosts say of themselves, one after the other, for each of *wishes*, and how they were scheduled."""
    descriptions, ways = [], []
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
            descriptions.append(await host.until_ready(partial(note_way, host, ways)))
            note_way(host, ways)
            await host.stop(5)
    return descriptions, ways


def test_a_host_says_what_answers_and_why_it_is_nothing_faster(forest, tmp_path):
    (first, second, plain), ways = asyncio.run(described(forest, tmp_path, first=True, second=True, plain=False))
    # Loading, warming, ready: whoever couldn't come back doesn't give way.
    loading = os.SCHED_IDLE if can_come_back() else os.SCHED_OTHER
    assert ways == [loading, loading, os.SCHED_OTHER] * 3
    assert (first.predictor, first.predictor_reason) == ("onnxruntime", "")
    assert (tmp_path / "converted/outcome.json").exists()
    assert second == first
    assert (plain.predictor, plain.predictor_reason) == ("sklearn", "acceleration is switched off")
