"""Frames carry every kind of array there and back, and refuse whatever doesn't add up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gateway.pool import frames
from loaders.base import Batch, Form, JsonAnswer

BOUND = 1 << 20


def split(buffers):
    data = bytearray(b"".join(bytes(buffer) for buffer in buffers))
    header_bytes, body_bytes = frames.frame_lengths(data[: frames.PREFIX_BYTES], BOUND)
    header = frames.decode_header(data[frames.PREFIX_BYTES : frames.PREFIX_BYTES + header_bytes])
    body = data[frames.PREFIX_BYTES + header_bytes :]
    assert len(body) == body_bytes
    return header, body


def there_and_back(columns, form=Form.TABLE):
    header, body = split(frames.encode_predict(7, Batch(form, columns), {"k": 1}))
    assert (header.id, header.params) == (7, {"k": 1})
    return frames.decode_batch(header, body)


numbers = st.one_of(
    hnp.floating_dtypes(sizes=(32, 64)), hnp.integer_dtypes(), hnp.unsigned_integer_dtypes(), hnp.boolean_dtypes()
)


@given(hnp.arrays(numbers, hnp.array_shapes(max_dims=3, max_side=4)))
def test_numbers_arrive_as_they_were(values):
    after = there_and_back({"x": values}).columns["x"]
    assert after.dtype == values.dtype
    assert np.array_equal(after, values, equal_nan=values.dtype.kind == "f")
    assert after.flags.writeable


@given(st.lists(st.one_of(st.none(), st.text(), st.binary())))
def test_strings_bytes_and_missing_values_arrive_as_they_were(values):
    column = np.empty(len(values), dtype=object)
    column[:] = values
    assert there_and_back({"s": column}).columns["s"].tolist() == values


def test_times_arrive_as_they_were():
    times = np.array(["2026-01-02T03:04:05.000006", "NaT"], dtype="datetime64[us]")
    after = there_and_back({"t": times}).columns["t"]
    assert after.dtype == times.dtype
    assert np.array_equal(after, times, equal_nan=True)


def test_several_columns_keep_their_order_and_a_view_is_sent_as_what_it_shows():
    matrix = np.arange(6, dtype=np.float64).reshape(3, 2)
    after = there_and_back({"b": matrix[:, 1], "a": matrix[:, 0]}).columns
    assert list(after) == ["b", "a"]
    assert after["b"].tolist() == [1, 3, 5]


def test_answers_failures_and_json_are_told_apart():
    header, body = split(frames.encode_answer(1, Batch(Form.TENSOR, {"": np.array([1, 2])})))
    assert frames.decode_batch(header, body).columns[""].tolist() == [1, 2]
    header, body = split(frames.encode_answer(2, JsonAnswer(b'{"a":1}')))
    assert isinstance(header, frames.JsonHeader)
    assert bytes(body) == b'{"a":1}'
    header, _ = split(frames.encode_failure(3, "no", callers_fault=True))
    assert header == frames.FailureHeader(3, callers_fault=True, message="no")


@pytest.mark.parametrize(
    "message",
    [pytest.param("x" * (5 << 20), id="longer than a header"), pytest.param("\udcff", id="half a surrogate pair")],
)
def test_a_failure_arrives_whatever_the_model_said(message):
    header, _ = split(frames.encode_failure(3, message, callers_fault=False))
    assert isinstance(header, frames.FailureHeader)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        pytest.param({"x" * (5 << 20): np.zeros(1)}, "names and params", id="header"),
        pytest.param({"x": np.zeros(BOUND)}, "TITLEBOUT_FRAME_BYTES_MAX", id="body"),
    ],
)
def test_a_frame_that_its_receiver_would_refuse_is_seen_before_it_is_sent(columns, said):
    frames.check_bounds(frames.encode_predict(1, Batch(Form.TABLE, {"x": np.zeros(1)}), {}), BOUND)
    with pytest.raises(frames.FrameTooLarge, match=said):
        frames.check_bounds(frames.encode_predict(1, Batch(Form.TABLE, columns), {}), BOUND)


@pytest.mark.parametrize(
    "prefix",
    [
        pytest.param(b"HTTP" + bytes(12), id="not a frame"),
        pytest.param(b"TBF1" + (5 << 20).to_bytes(4, "little") + bytes(8), id="a header over the bound"),
        pytest.param(b"TBF1" + bytes(4) + (BOUND + 1).to_bytes(8, "little"), id="a body over the bound"),
    ],
)
def test_a_prefix_that_is_wrong_or_announces_too_much_is_refused(prefix):
    with pytest.raises(frames.BrokenFrame):
        frames.frame_lengths(prefix, BOUND)


def forged(dtype, shape, nbytes, body):
    header = frames.PredictHeader(1, Form.TABLE, [frames._Column("x", dtype, shape, nbytes)], {})
    return header, bytearray(body)


@pytest.mark.parametrize(
    ("dtype", "shape", "nbytes", "body"),
    [
        pytest.param("<f8", (2,), 16, bytes(8), id="shorter than it says"),
        pytest.param("<f8", (1 << 40, 1 << 40), 8, bytes(8), id="a shape without end"),
        pytest.param("<f8", (-1,), 8, bytes(8), id="a negative side"),
        pytest.param("|V8", (1,), 8, bytes(8), id="a type that is no number"),
        pytest.param("nonsense", (1,), 8, bytes(8), id="no type"),
        pytest.param("O", (1,), 8, bytes(8), id="objects that are no list"),
        pytest.param("O", (5,), 1, b"\x90", id="fewer objects than rows"),
        pytest.param("<f8", (1,), 8, bytes(16), id="bytes left over"),
    ],
)
def test_columns_that_do_not_add_up_are_refused(dtype, shape, nbytes, body):
    with pytest.raises(frames.BrokenFrame):
        frames.decode_batch(*forged(dtype, shape, nbytes, body))


@given(st.binary(max_size=200))
def test_no_header_whatever_its_bytes_does_more_than_be_refused(data):
    try:
        header = frames.decode_header(data)
        if isinstance(header, frames.PredictHeader | frames.AnswerHeader):
            frames.decode_batch(header, bytearray(b"x" * 16))
    except frames.BrokenFrame:
        pass
