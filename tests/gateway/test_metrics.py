"""What processes count, what becomes of it when they end, and what Prometheus reads of it."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.observability import change_metrics
from gateway.observability.change_metrics import ChangesFollower
from gateway.observability.exposition import AllMetrics
from gateway.observability.metrics import Family, Kind, Metrics, MetricsFolder, worker_name
from gateway.observability.prediction_metrics import ArmMetrics, BatchMetrics
from gateway.observability.replica_metrics import ReplicaMetrics
from gateway.pool.version_policy import SlotState
from gateway.routing_table import Choice
from registry import aliases, approvals, models, versions
from registry.entities import Route, RoutingTable, SlotStatus
from registry.sources import Claim, SourcePolicy

REQUESTS = Family("asked", "Requests.", Kind.COUNTER, ("model", "version"))
SECONDS = Family("seconds", "Times.", Kind.HISTOGRAM, ("model", "version"), (0.1, 1.0))


@pytest.fixture
def folder(tmp_path):
    return MetricsFolder(tmp_path)


@pytest.fixture
def replica(folder):
    return ReplicaMetrics(folder, statuses=list, host_pids=dict, table=RoutingTable, epoch=lambda: 7, clock=lambda: 0.0)


def read(folder, name, by="le"):
    """The samples *name* of the text, by their label *by*."""
    text = AllMetrics(folder, lambda: None).text().decode()
    return {
        sample.labels.get(by): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    }


def counted(times, seconds=()):
    metrics = Metrics()
    metrics.number(REQUESTS, "iris", "1").add(times)
    for value in seconds:
        metrics.distribution(SECONDS, "iris", "1").observe(value)
    return metrics


def test_all_processes_are_read_as_one(folder):
    folder.write("worker-1", counted(2, [0.05, 0.1, 0.5]).snapshot())
    folder.write("worker-2", counted(3, [5.0]).snapshot())
    assert read(folder, "asked_total", "model") == {"iris": 5}
    # A value on a bound is within it, as Prometheus has it.
    assert read(folder, "seconds_bucket") == {"0.1": 2, "1.0": 3, "+Inf": 4}
    assert read(folder, "seconds_sum", "version") == {"1": pytest.approx(5.65)}


def test_what_a_worker_counted_outlives_it_and_counts_once(folder, replica):
    folder.write(worker_name(11), counted(2).snapshot())
    folder.write(worker_name(12), counted(3).snapshot())
    replica.worker_ended(11)
    assert read(folder, "asked_total", "model") == {"iris": 5}
    # As if the file were still there for a moment after its counts were taken over.
    folder.write(worker_name(11), counted(2).snapshot())
    assert read(folder, "asked_total", "model") == {"iris": 5}
    replica.worker_ended(13)  # It never got as far as to count.
    assert read(folder, "asked_total", "model") == {"iris": 5}


def test_a_version_is_forgotten_ten_minutes_after_it_left_memory():
    metrics, forgotten = counted(1, [1.0]), []
    metrics.when_forgotten = lambda: forgotten.append(True)
    metrics.number(REQUESTS, "", "").add()
    for now_s, held in ((0, []), (500, [("iris", "1")]), (1000, []), (1599, [])):
        metrics.forget_gone(held, now_s)
        assert not forgotten
    metrics.forget_gone([], 1600)
    left = [sample.labels for part in metrics.snapshot().families for sample in part.samples]
    # What never got as far as a version stays.
    assert (left, forgotten) == ([("", "")], [True])


def test_a_replica_says_which_versions_it_has_and_what_answers(folder):
    statuses = [
        SlotStatus(
            model="iris", version=1, state="READY", flavor="sklearn", predictor="sklearn", predictor_reason="no"
        ),
        SlotStatus(model="iris", version=2, state="FAILED"),
    ]
    replica = ReplicaMetrics(
        folder, statuses=lambda: statuses, host_pids=dict, table=RoutingTable, epoch=lambda: 7, clock=lambda: 0.0
    )
    for state, now_s in ((SlotState.FETCHING, 10.0), (SlotState.LOADING, 11.0), (SlotState.READY, 10.2)):
        replica.slot_changed(("iris", 1), state, now_s)
    replica._look()
    replica._write()
    assert read(folder, "gateway_epoch") == {None: 7}
    assert read(folder, "gateway_slots", "state") == {state: float(state in {"READY", "FAILED"}) for state in SlotState}
    assert read(folder, "gateway_predictor_info", "reason") == {"no": 1}
    loads = read(folder, "gateway_load_seconds_bucket")
    assert (loads["0.1"], loads["0.25"]) == (0, 1)


def test_requests_are_counted_by_who_answered(folder):
    metrics = Metrics()
    arm = ArmMetrics(metrics, Choice("flowers", "iris", 3, "champion", 9))
    arm.answered(200, 0.003)
    arm.answered(200, 0.003)
    arm.answered(400, 0.001)
    arm.failed("INVALID_PARAMETER_VALUE", 0.001)
    arm.queue.observe(0.002)
    BatchMetrics(metrics, "iris", 3).sent(2, 64)
    ArmMetrics(metrics, None).answered(404, 0.001)
    folder.write("worker-1", metrics.snapshot())
    assert read(folder, "gateway_requests_total", "status") == {"200": 2, "400": 1, "404": 1}
    assert read(folder, "gateway_requests_total", "arm") == {"champion": 1, "": 1}
    assert read(folder, "gateway_failures_total", "code") == {"INVALID_PARAMETER_VALUE": 1}
    assert read(folder, "gateway_failure_seconds_total", "arm") == {"champion": 0.001}
    assert read(folder, "gateway_request_seconds_count", "endpoint") == {"flowers": 3, "": 1}
    assert read(folder, "gateway_phase_seconds_count", "phase") == {"decode": 0, "queue": 1, "compute": 0, "encode": 0}
    assert read(folder, "gateway_batch_rows_sum", "version") == {"3": 64}
    assert read(folder, "gateway_batch_requests_bucket")["1.0"] == 0
    assert read(folder, "gateway_batch_requests_bucket")["2.0"] == 1


def test_the_split_in_force_is_told_with_arms_in_the_dark(folder):
    route = Route(
        id="e",
        name="flowers",
        model="iris",
        salt="s",
        fallback=False,
        period=1,
        arms={"champion": 1, "challenger": 2, "canary": 3},
        owners=(("challenger", 1_500), ("champion", 8_000), ("challenger", 500)),
    )
    table = RoutingTable(epoch=7, routes=(route,))
    replica = ReplicaMetrics(
        folder, statuses=list, host_pids=dict, table=lambda: table, epoch=lambda: 7, clock=lambda: 0.0
    )
    replica._look()
    replica._write()
    assert read(folder, "gateway_split_share", "arm") == {"champion": 0.8, "challenger": 0.2, "canary": 0.0}
    assert set(read(folder, "gateway_split_share", "version")) == {"1", "2", "3"}
    table = RoutingTable(epoch=8)
    replica._look()
    replica._write()
    assert read(folder, "gateway_split_share", "arm") == {}


def test_what_is_done_is_counted_from_the_start_on(folder, database):
    def set_alias(version):
        with database.writing() as session:
            aliases.set_alias(session, "iris", "champion", version, author="ann", now_ms=1)

    policy = SourcePolicy(locate=lambda _: None, prefixes=("s3://models",))
    with database.writing() as session:
        models.create_model(session, "iris", now_ms=1)
        for _ in range(2):
            versions.create_version(session, "iris", Claim(source="s3://models/iris"), policy=policy, now_ms=1)
    metrics, follower = Metrics(), ChangesFollower(database, counted=lambda _: None)
    set_alias(1)
    assert follower.look() == {}
    for version in (2, 1):
        set_alias(version)
    with database.writing() as session:
        approvals.approve(session, "iris", 2, author="bob", now_ms=1)
    change_metrics.add(metrics, follower.look())
    change_metrics.add(metrics, follower.look())
    folder.write("supervisor", metrics.snapshot())
    assert read(folder, "gateway_changes_total", "action") == {"alias_set": 2, "approved": 1}
