import numpy as np
import pytest

from gateway.kept_predictions.keeping import PredictionKeeper
from gateway.kept_predictions.records import read_records, unpack
from gateway.kept_predictions.sampling import is_sampled, threshold_of
from gateway.kept_predictions.spool import SpoolWriter, spools_in
from gateway.observability.metrics import Metrics
from gateway.observability.prediction_metrics import KEPT_PREDICTIONS, LOST_PREDICTIONS
from gateway.routing_table import Choice
from loaders.base import Batch, DoubleRow, Form
from tests.gateway.kept_predictions.test_sampling import ids

CHOICE = Choice("iris", "iris", 3, "challenger", 9, "ab" * 16, 2)
ASKED = DoubleRow(("a", "b"), [1.5, None])
ANSWER = Batch(Form.TENSOR, {"": np.array([7])})


@pytest.fixture
def keeper_of(tmp_path):
    def make(**options):
        spool = SpoolWriter(tmp_path, file_bytes_max=10**6, file_s=60, folder_bytes_max=10**6, clock=lambda: 0.0)
        settings = {"share": 1.0, "with_inputs": False, "bytes_max": 10**6, "metrics": Metrics(), **options}
        return PredictionKeeper(spool, **settings, clock=lambda: 1_700_000_000.5)

    return make


def kept_in(folder):
    return [one for path in spools_in(folder) for one in read_records(path.read_bytes())]


def test_a_kept_prediction_says_who_answered_what_and_not_what_was_asked(keeper_of, tmp_path):
    keeper = keeper_of()
    keeper.keep(ids(1)[0], CHOICE, 17, 1, ASKED, ANSWER)
    keeper.close()
    [one] = kept_in(tmp_path)
    assert one.prediction_id == ids(1)[0].decode()
    assert (one.at_ms, one.endpoint_id, one.version, one.arm, one.period) == (
        1_700_000_000_500, "ab" * 16, 3, "challenger", 2,
    )  # fmt: skip
    assert (one.bucket, one.rows, one.input) == (17, 1, None)
    assert unpack(one.answer).columns[""].tolist() == [7]


def test_what_was_asked_is_kept_where_that_is_wanted(keeper_of, tmp_path):
    keeper = keeper_of(with_inputs=True)
    keeper.keep(ids(1)[0], CHOICE, None, 1, ASKED, ANSWER)
    keeper.close()
    [one] = kept_in(tmp_path)
    asked = unpack(one.input).columns
    assert asked["a"].tolist() == [1.5]
    assert np.isnan(asked["b"]).all()


def test_those_are_kept_whose_ids_are_drawn_and_no_others(keeper_of, tmp_path):
    keeper = keeper_of(share=0.25)
    for one in ids(400):
        keeper.keep(one, CHOICE, 17, 1, ASKED, ANSWER)
    keeper.close()
    expected = [one.decode() for one in ids(400) if is_sampled(one, threshold_of(0.25))]
    assert [one.prediction_id for one in kept_in(tmp_path)] == expected
    assert 60 < len(expected) < 140


def test_over_the_bound_on_memory_samples_are_let_go_and_counted(keeper_of, tmp_path):
    metrics = Metrics()
    keeper = keeper_of(bytes_max=1_000, metrics=metrics)
    for one in ids(100):
        keeper.keep(one, CHOICE, 17, 1, ASKED, ANSWER)
    keeper.close()
    written = len(kept_in(tmp_path))
    assert 0 < written < 10
    assert metrics.number(KEPT_PREDICTIONS).value == written
    assert metrics.number(LOST_PREDICTIONS).value == 100 - written
