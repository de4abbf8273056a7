"""What people write of gates is read, and written back the same."""

import pytest

from registry import gate_words
from registry.entities import (
    ApprovalNeeded,
    Gate,
    LoadTestNeeded,
    MetricNeeded,
    SignatureNeeded,
    VerdictNeeded,
)


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("accuracy >= 0.9", MetricNeeded("accuracy", ">=", 0.9)),
        ("val loss < 1e-05", MetricNeeded("val loss", "<", 1e-5)),
        ("accuracy >= 0.9123456789", MetricNeeded("accuracy", ">=", 0.9123456789)),
        ("loss < 1", MetricNeeded("loss", "<", 1)),
        ("1 approval", ApprovalNeeded()),
        ("3 approvals", ApprovalNeeded(3)),
        ("signature", SignatureNeeded()),
        ("load test within 14d", LoadTestNeeded(14)),
        ("accuracy better", VerdictNeeded("accuracy")),
        ("log loss not worse", VerdictNeeded("log loss", "not_worse")),
        ("accuracy better within 48h", VerdictNeeded("accuracy", "better", 48)),
    ],
)
def test_each_kind_is_read_as_it_is_written(text, needs):
    assert gate_words.read(f" {text} ") == needs
    assert gate_words.words(needs) == text


def test_what_is_left_out_has_a_default():
    assert gate_words.read("approval") == ApprovalNeeded(1)
    assert gate_words.read("load test") == LoadTestNeeded()
    assert gate_words.read("accuracy>=0.9") == MetricNeeded("accuracy", ">=", 0.9)


@pytest.mark.parametrize(
    "text", ["", "luck", "accuracy >= ", "accuracy >= 1e", "better", "load test within 14", "no >", "loss < 1e999"]
)
def test_what_says_nothing_is_none(text):
    assert gate_words.read(text) is None


def test_a_gate_says_what_it_stands_before():
    gate = Gate(name="g", needs=ApprovalNeeded(), aliases=("champion", "prod"), share_over_bp=1_050)
    assert gate_words.before(gate) == "champion moves, or prod moves, or a version has over 10.5 %"
