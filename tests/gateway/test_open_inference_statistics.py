"""Statistics out of the counters of several workers."""

import msgspec
import pytest

from gateway.access.identity import Identity
from gateway.api.open_inference.statistics import read_statistics
from gateway.observability.exposition import AllMetrics
from gateway.observability.metrics import Metrics, MetricsFolder
from gateway.observability.prediction_metrics import ArmMetrics, BatchMetrics
from gateway.routing_table import Choice
from tracking.access.caller import CALLER, PROGRAM
from tracking.access.grants import Grant
from tracking.access.permissions import Permission


@pytest.fixture(autouse=True)
def caller():
    """Whoever may see everything, unless a test says otherwise."""
    before = CALLER.set(PROGRAM)
    yield
    CALLER.reset(before)


@pytest.fixture
def counted(tmp_path):
    """Two workers that answered twice for iris 1, once as champion and once by number, and refused one request."""
    folder = MetricsFolder(tmp_path)
    for worker, arm in (("worker-1", "champion"), ("worker-2", "")):
        metrics = Metrics()
        asked = ArmMetrics(metrics, Choice("flowers", "iris", 1, arm, 9))
        asked.answered(200, 0.004)
        for phase, took_s in ((asked.decode, 0.001), (asked.queue, 0.0), (asked.compute, 0.002), (asked.encode, 0.001)):
            phase.observe(took_s)
        BatchMetrics(metrics, "iris", 1).sent(1, 64)
        if arm:
            asked.answered(400, 0.5)
            asked.failed("INVALID_PARAMETER_VALUE", 0.5)
            ArmMetrics(metrics, Choice("flowers", "iris", 2, "challenger", 9)).answered(200, 0.25)
            ArmMetrics(metrics, Choice("other", "other", 1, "champion", 9)).answered(200, 0.25)
            ArmMetrics(metrics, None).answered(404, 0.1)
        folder.write(worker, metrics.snapshot())
    return AllMetrics(folder, lambda: None)


def test_figures_are_summed_over_workers_and_arms(counted):
    (iris,) = read_statistics(counted, "iris", {1})
    stats = msgspec.to_builtins(iris.inference_stats)
    assert (iris.name, iris.version, iris.inference_count, iris.execution_count) == ("iris", "1", 128, 2)
    assert {name: one["count"] for name, one in stats.items()} == {
        "success": 2, "fail": 1, "queue": 2, "compute_input": 2, "compute_infer": 2, "compute_output": 2,
    }  # fmt: skip
    assert {name: pytest.approx(one["ns"], abs=2) for name, one in stats.items()} == {
        "success": 8_000_000, "fail": 500_000_000, "queue": 0,
        "compute_input": 2_000_000, "compute_infer": 4_000_000, "compute_output": 2_000_000,
    }  # fmt: skip


def test_they_are_of_models_that_the_caller_may_see(counted):
    identity = Identity("ann", (Grant.parse("observe:model:o*"),), _callers={})
    CALLER.set(identity.caller(Permission.OBSERVE))
    assert [one.name for one in read_statistics(counted)] == ["other"]
    assert read_statistics(counted, "iris") == []


def test_they_are_of_one_version_of_a_model_or_of_all(counted):
    def names(*asked):
        return [(one.name, one.version) for one in read_statistics(counted, *asked)]

    assert names() == [("iris", "1"), ("iris", "2"), ("other", "1")]
    assert names("iris") == [("iris", "1"), ("iris", "2")]
    assert names("iris", {2}) == [("iris", "2")]
    assert names("nobody") == []
