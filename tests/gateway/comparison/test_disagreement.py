"""How far a shadow's answers lie from those that were given: what agrees, what differs most, and sums that merge."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.comparison.disagreement import (
    ANSWERERS_MAX,
    OUTPUTS_MAX,
    PairSums,
    ShadowSums,
    Worst,
    compare,
    laid_end_to_end,
    latency_counts,
    merged,
)
from gateway.comparison.latency_counts import bucket_of
from gateway.comparison.sums import UnreadableSums
from loaders.base import Batch, Form, JsonAnswer

CHAMPION = ("champion", 1)


def answer(*values, name=""):
    return Batch(Form.TENSOR, {name: np.array(values)})


def objects(*values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return Batch(Form.TENSOR, {"": array})


def outputs(**columns):
    return Batch(Form.TENSORS, {name: np.array(values) for name, values in columns.items()})


@pytest.mark.parametrize(
    ("one", "other", "agrees"),
    [
        pytest.param(answer(1, 2), answer(1, 3), [True, False], id="labels"),
        pytest.param(answer("a", "b"), answer("a", "c"), [True, False], id="texts"),
        pytest.param(objects("a", None, [1]), objects("a", None, [2]), [True, True, False], id="objects"),
        pytest.param(answer("1"), answer(1), [False], id="a text and a number"),
        pytest.param(answer(1.0, 1.0), answer(1.0 + 1e-7, 1.0 + 1e-5), [True, False], id="numbers"),
        pytest.param(answer(1, 2), answer(1.0, 2.5), [True, False], id="whole numbers and others"),
        pytest.param(answer(0.0), answer(1e-300), [False], id="nothing is within a share of zero"),
        pytest.param(answer(np.nan, np.inf), answer(np.nan, np.inf), [True, True], id="not finite, alike"),
        pytest.param(answer(1.0, np.inf), answer(np.nan, -np.inf), [False, False], id="not finite, not alike"),
        pytest.param(answer([1.0, 2.0], [3.0, 4.0]), answer([1.0, 2.0], [3.0, 5.0]), [True, False], id="wide"),
        pytest.param(answer([1.0, 2.0]), answer(1.0), [False], id="other shapes"),
        pytest.param(answer(1.0, name="a"), answer(1.0, name="b"), [False], id="other outputs"),
        pytest.param(answer(1.0), answer(1.0, 2.0), [False], id="other rows"),
        pytest.param(outputs(label=[1, 1], p=[0.5, 0.5]), outputs(label=[1, 2], p=[0.5, 0.5]), [True, False], id="one"),
        pytest.param(JsonAnswer(b'{"a":[1,2.0]}'), JsonAnswer(b'{"a":[1.0,2]}'), [True], id="JSON"),
        pytest.param(JsonAnswer(b'{"a":1}'), JsonAnswer(b'{"a":"1"}'), [False], id="other JSON"),
        pytest.param(JsonAnswer(b"1"), answer(1), [False], id="JSON and an array"),
        pytest.param(JsonAnswer(b"[NaN]"), JsonAnswer(b"[NaN]"), [True], id="the same that is no JSON"),
        pytest.param(JsonAnswer(b"[NaN]"), JsonAnswer(b"[1.0]"), [False], id="what is no JSON, and JSON"),
        pytest.param(JsonAnswer(b"1" + b"0" * 400), JsonAnswer(b"1.0"), [False], id="a number beyond all floats"),
        pytest.param(JsonAnswer(b"[" * 5_000), JsonAnswer(b"[1]"), [False], id="nested too deep"),
    ],
)
def test_labels_agree_where_they_are_equal_and_numbers_where_they_are_near(one, other, agrees):
    for first, second in ((one, other), (other, one)):
        assert compare(first, second, rows=len(agrees), tolerance=1e-6).agrees.tolist() == agrees


def test_a_tolerance_is_relative_to_the_larger_number():
    for tolerance, agrees in ((0.1, True), (0.09, False)):
        assert compare(answer(100.0), answer(90.0), rows=1, tolerance=tolerance).agrees.all() == agrees


def test_a_label_that_differs_counts_more_than_any_number():
    comparison = compare(
        outputs(label=[1, 1, 1, 1], p=[0.1, 0.2, 0.3, np.inf]),
        outputs(label=[1, 2, 1, 1], p=[0.9, 0.2, 0.3, 0.0]),
        rows=4,
        tolerance=1e-6,
    )
    assert comparison.worst(2) == [Worst(True, 0.0, 1), Worst(False, math.inf, 3)]
    assert [worst.row for worst in comparison.worst(9)] == [1, 3, 0]


def test_requests_that_were_asked_together_agree_each_by_itself():
    parts = [answer(1), answer(2, 3), answer(4, 5, 6)]
    whole = laid_end_to_end(parts)
    pair = PairSums()
    assert pair.add(compare(whole, answer(1, 2, 0, 4, 5, 6), rows=6, tolerance=0), [1, 2, 3]) == 2
    assert (pair.compared, pair.agreed, pair.rows, pair.rows_agreeing) == (3, 2, 6, 5)
    assert laid_end_to_end([answer(1), answer("a")]) is None
    assert laid_end_to_end([answer(1), JsonAnswer(b"1")]) is None


def test_differences_are_summed_by_output():
    pair = PairSums()
    pair.add(
        compare(outputs(a=[1.0, 2.0], b=["x", "y"]), outputs(a=[2.0, 0.0], b=["x", "z"]), rows=2, tolerance=0), [2]
    )
    numbers, labels = pair.outputs["a"], pair.outputs["b"]
    assert (numbers.agreeing, labels.agreeing) == (0, 1)
    assert (numbers.differences.mean, numbers.mean_absolute, numbers.largest) == (-0.5, 1.5, 2.0)
    assert numbers.differences.histogram() == [(-4.0, -2.0, 1), (1.0, 2.0, 1)]
    assert not labels.differences.numbers


def test_answers_with_many_outputs_are_counted_in_rows_and_kept_in_bounds():
    names = [f"o{number:03d}" for number in range(OUTPUTS_MAX + 10)]
    many = Batch(Form.TENSORS, {name: np.array([1.0]) for name in names})
    pair = PairSums()
    pair.add(compare(many, many, rows=1, tolerance=0), [1])
    assert list(pair.outputs) == names[:OUTPUTS_MAX]
    sums = ShadowSums()
    for version in range(2 * ANSWERERS_MAX):
        other = ShadowSums()
        other.beside(("champion", version)).dropped = 1
        sums.merge(other)
    assert [version for _, version in sums.pairs] == list(range(ANSWERERS_MAX, 2 * ANSWERERS_MAX))


def test_sums_that_are_damaged_or_of_another_release_are_refused():
    for content in (b"", b"\xff", ShadowSums().to_bytes()[:-1], b"\x92\x02\x90"):
        with pytest.raises(UnreadableSums):
            ShadowSums.from_bytes(content)


# --- what was counted apart and merged is what was counted together

VALUES = st.sampled_from([0.0, 1.0, 2.0, -0.5, 1024.0])
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("compared"), VALUES, VALUES),
        st.tuples(st.just("failed"), st.sampled_from(["INTERNAL_ERROR", "BAD_REQUEST"])),
        st.tuples(st.just("dropped")),
        st.tuples(st.just("timed"), st.sampled_from([0.001, 0.1]), st.sampled_from([0.002, 99.0])),
    ),
    max_size=12,
)


def counted(events):
    sums = ShadowSums()
    pair = sums.beside(CHAMPION)
    for event, *said in events:
        match event:
            case "compared":
                pair.add(compare(answer(said[0]), answer(said[1]), rows=1, tolerance=1e-6), [1])
            case "failed":
                pair.add_failure(said[0])
            case "dropped":
                pair.dropped += 1
            case "timed":
                pair.add_latency(*said)
    return sums


@settings(max_examples=50, deadline=None)
@given(first=EVENTS, second=EVENTS, third=EVENTS)
def test_sums_merge_in_any_order_to_what_was_counted_in_one_place(first, second, third):
    one, two, three = (counted(events).to_bytes() for events in (first, second, third))
    whole = counted([*first, *second, *third]).pairs
    assert ShadowSums.from_bytes(merged(merged(one, two), three)).pairs == whole
    assert ShadowSums.from_bytes(merged(three, merged(two, one))).pairs == whole


def test_latencies_are_read_from_the_counts():
    counts = latency_counts({bucket_of(0.001): 2, 10_000: 1})
    assert counts.sum() == counts[bucket_of(0.001)] == 2
