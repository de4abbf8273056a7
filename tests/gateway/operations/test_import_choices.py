"""What an import decides without asking anybody."""

import io

import msgspec
import pytest
from rich.console import Console

from gateway.cli.import_ import _table
from gateway.operations.importing.choices import fingerprint, follow, is_unchanged, logged_model_in, run_in
from gateway.operations.importing.copying import Report
from gateway.operations.importing.counts import Counts
from gateway.operations.importing.mlflow_wire import KeyValue, Metric, Run, RunData, RunInfo

RUN, MODEL = "0123456789abcdef" * 2, "m-" + "0123456789abcdef" * 2


def run(*, metrics=(), tags=(), **info):
    data = RunData(metrics=list(metrics), tags=[KeyValue(*tag) for tag in tags])
    return Run(RunInfo(run_id=RUN, experiment_id="1", **info), data)


def test_a_description_is_the_same_in_any_order():
    one = run(metrics=[Metric("a", 1.0), Metric("b", "NaN")], tags=[("x", "1"), ("y", "2")])
    other = run(metrics=[Metric("b", "NaN"), Metric("a", 1.0)], tags=[("y", "2"), ("x", "1")])
    assert fingerprint(one) == fingerprint(other)
    for changed in (run(tags=[("x", "1"), ("y", "3")]), run(end_time=5), run(metrics=[Metric("a", 1.5)])):
        assert fingerprint(changed) not in {fingerprint(one), fingerprint(run())}


@pytest.mark.parametrize(
    ("known", "found", "settled", "unchanged"),
    [("a", "a", True, True), ("a", "b", True, False), ("a", "a", False, False)],
)
def test_only_what_is_settled_and_described_alike_is_unchanged(known, found, settled, unchanged):
    assert is_unchanged(known, found, settled=settled) is unchanged


@pytest.mark.parametrize(
    ("uri", "model_id", "run_id"),
    [
        (f"mlflow-artifacts:/1/models/{MODEL}/artifacts", MODEL, None),
        (f"models:/{MODEL}", MODEL, None),
        (f"s3://bucket/1/{RUN}/artifacts/model", None, RUN),
        (f"runs:/{RUN}/model", None, RUN),
        ("models:/iris/1", None, None),
        (f"s3://bucket/{RUN}0/model", None, None),
    ],
)
def test_owners_are_read_from_where_folders_lie(uri, model_id, run_id):
    assert (logged_model_in(uri), run_in(uri)) == (model_id, run_id)


def test_a_folder_is_followed_to_where_its_root_went():
    roots = {"s3://bucket/1/run/artifacts": "mlflow-artifacts:/7/run/artifacts"}
    assert follow("s3://bucket/1/run/artifacts/model/data", roots) == "mlflow-artifacts:/7/run/artifacts/model/data"
    assert follow("s3://bucket/1/run/artifacts", roots) == "mlflow-artifacts:/7/run/artifacts"
    assert follow("s3://bucket/1/run/artifacts-2", roots) is None


def test_older_servers_write_numbers_as_strings():
    old = {"info": {"run_id": RUN, "experiment_id": "1", "start_time": "17", "unknown": 1}, "data": {}}
    assert msgspec.convert(old, Run, strict=False).info.start_time == 17


def test_the_summary_has_both_sides_and_what_came_now_beside_each_other():
    report = Report(
        there=Counts(runs=1_200, versions=4), here=Counts(runs=1_200, versions=3), copied=Counts(runs=7), problems=()
    )
    shown = Console(width=100, record=True, file=io.StringIO())
    shown.print(_table(report))
    rows = {line.split()[0]: line.split()[-3:] for line in shown.export_text().splitlines()[1:]}
    assert rows["runs"] == ["1,200", "1,200", "7"]
    assert rows["versions"] == ["4", "3", "0"]
