"""From labels that are given to metrics that are told: each is what scikit-learn makes of the same predictions."""

import time
from functools import partial
from itertools import count

import httpx
import numpy as np
import pytest
from mlflow import MlflowClient
from sklearn import metrics

from gateway.comparison import kept_sums
from gateway.feedback.prediction_ids import Answered
from gateway.settings import Settings
from registry import endpoints, prediction_keys
from registry.tallies import Kind
from tests.gateway.comparison.made_up import even_traffic
from tests.gateway.made_ids import made_id
from tracking.database import Database

OURS = "/api/1.0/titlebout"
LABELS = 60
VERSIONS = {"champion": 1, "challenger": 2}
numbers = count(1)


@pytest.fixture
def makers(api_server, shared_api):
    """What makes the ids of both arms' answers, in a period in which each has half of the traffic."""
    client = MlflowClient(api_server, registry_uri=api_server)
    client.create_registered_model("iris")
    run = client.create_run("0")
    for arm, version in VERSIONS.items():
        client.create_model_version("iris", f"{run.info.artifact_uri}/model", run.info.run_id)
        client.set_registered_model_alias("iris", arm, version)
    shares = {"shares_bp": dict.fromkeys(VERSIONS, 5_000)}
    period = httpx.put(f"{api_server}{OURS}/endpoints/iris/split", json=shares).json()["period"]
    database = Database(Settings(data=str(shared_api.data)).database)
    with database.writing() as session:
        key = prediction_keys.ensure_key(session, now_ms=1)
        endpoint_id = endpoints.get_endpoint(session, "iris").id
        kept_sums.add(session, endpoint_id, Kind.SERVING, even_traffic([period]))
    database.dispose()
    return {
        arm: partial(made_id, key, Answered(endpoint_id, period, arm, version)) for arm, version in VERSIONS.items()
    }


def give(url, make_id, predictions, **said):
    """Labels or rewards, for as many predictions."""
    [(kind, values)] = said.items()
    at_ms = int(time.time() * 1000)
    made = partial(make_id, at_ms=at_ms)
    items = [
        {"prediction_id": made(count=number, bucket=97 * number % 10_000, prediction=prediction), kind: value}
        for number, prediction, value in zip(numbers, predictions, values.tolist())  # noqa: B905  (numbers are endless)
    ]
    answer = httpx.post(f"{url}/feedback", json={"feedback": items}, timeout=30).json()
    assert (answer["accepted"], answer["errors"]) == (len(items), [])


def expected_error(probabilities, truth, bins=15):
    """The mean distance of what was predicted from what came true, bin by bin."""
    place = np.minimum((probabilities * bins).astype(int), bins - 1)
    each = [
        abs(probabilities[place == one].mean() - truth[place == one].mean()) * (place == one).sum()
        for one in set(place)
    ]
    return sum(each) / len(truth)


def test_each_metric_is_that_of_the_predictions_and_labels_of_its_arm(api_server, makers):
    rng, expected, calibration = np.random.default_rng(5), {}, {}
    for arm, make_id in makers.items():
        probabilities, truth = rng.uniform(0.02, 0.98, LABELS), rng.random(LABELS) < 0.4
        numbers_said, numbers_true = 10 * rng.standard_normal((2, LABELS))
        rewards = rng.standard_normal(LABELS)
        give(api_server, make_id, probabilities.tolist(), label=truth)
        give(api_server, make_id, numbers_said.tolist(), label=numbers_true)
        give(api_server, make_id, ["any"] * LABELS, reward=rewards)
        expected[arm] = {
            "accuracy": metrics.accuracy_score(truth, probabilities >= 0.5),
            "f1": metrics.f1_score(truth, probabilities >= 0.5),
            "log_loss": metrics.log_loss(truth, probabilities),
            # Over both classes, which is twice that of one.
            "brier": 2 * metrics.brier_score_loss(truth, probabilities),
            "mae": metrics.mean_absolute_error(numbers_true, numbers_said),
            "rmse": metrics.root_mean_squared_error(numbers_true, numbers_said),
            "reward": rewards.mean(),
        }
        calibration[arm] = expected_error(probabilities, truth)
    told = httpx.get(f"{api_server}{OURS}/endpoints/iris/comparison").json()
    figures = {each["metric"]: each for each in told["metrics"]}
    for arm in VERSIONS:
        said = {name: figures[name][arm] for name in expected[arm]}
        assert said == pytest.approx(expected[arm])
        assert told[arm]["calibration"]["ece"] == pytest.approx(calibration[arm])
        # F1 leaves out what is right of the class that isn't looked for.
        assert {figures[name][f"{arm}_n"] for name in expected[arm] if name != "f1"} == {LABELS}
