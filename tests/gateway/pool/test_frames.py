"""Frames carry every kind of array there and back, and refuse whatever doesn't add up."""

import contextlib

import numpy as np
import pytest
from hypothesis import example, given
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


@given(st.lists(st.sampled_from(["<f8", "<f4", "<i8", "|b1", "<M8[ns]"]), min_size=1, max_size=4), st.integers(0, 3))
def test_columns_arrive_each_in_its_own_type_whether_they_share_it_or_not(dtypes, rows):
    columns = {f"c{place}": np.arange(rows).astype(dtype) for place, dtype in enumerate(dtypes)}
    after = there_and_back(columns).columns
    assert list(after) == list(columns)
    for name, values in columns.items():
        assert after[name].dtype == values.dtype
        assert after[name].shape == values.shape
        assert np.array_equal(after[name], values)


@pytest.mark.parametrize(
    ("names", "shape"),
    [
        pytest.param(("a",), (2, 1), id="fewer than columns"),
        pytest.param(("a", "b", "c"), (2, 1), id="more than columns"),
        pytest.param(("a", "a"), (2, 1), id="one of them twice"),
        pytest.param(("a", "b"), (2,), id="of no columns at all"),
    ],
)
def test_names_that_do_not_add_up_are_refused(names, shape):
    header = frames.PredictHeader(1, Form.TABLE, [frames._Column("", "<f8", shape, 16)], {}, names=names)
    with pytest.raises(frames.BrokenFrame):
        frames.decode_batch(header, bytearray(16))


def test_times_arrive_as_they_were():
    times = np.array(["2026-01-02T03:04:05.000006", "NaT"], dtype="datetime64[us]")
    after = there_and_back({"t": times}).columns["t"]
    assert after.dtype == times.dtype
    assert np.array_equal(after, times, equal_nan=True)


@given(hnp.arrays(st.one_of(hnp.datetime64_dtypes(), hnp.timedelta64_dtypes()), hnp.array_shapes(min_side=0)))
def test_times_and_durations_of_any_unit_arrive_as_they_were(times):
    after = there_and_back({"t": times}).columns["t"]
    assert after.dtype == times.dtype
    assert np.array_equal(after.view(np.int64), times.view(np.int64))


def test_lists_in_a_column_stay_lists():
    column = np.empty(3, dtype=object)
    column[:] = [[1, 2], [3, 4], None]
    column[2] = [5.0, None]
    after = there_and_back({"l": column}).columns["l"]
    assert after.shape == (3,)
    assert after.tolist() == [[1, 2], [3, 4], [5.0, None]]


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
        pytest.param("<f9", (1,), 9, bytes(9), id="a width that no number has"),
        pytest.param("<M8[7parsecs]", (1,), 8, bytes(8), id="a unit that no time has"),
        pytest.param("f8,f8", (1,), 16, bytes(16), id="a type made of several"),
        pytest.param("<f8", (1,) * 65, 8, bytes(8), id="more axes than an array has"),
        pytest.param("O", (1,) * 65, 2, b"\x91\xc0", id="more axes for objects"),
        pytest.param("<f8", (1 << 62, 0, 1 << 62), 0, b"", id="nothing, in a shape without end"),
        pytest.param("O", (1,), 8, bytes(8), id="objects that are no list"),
        pytest.param("O", (5,), 1, b"\x90", id="fewer objects than rows"),
        pytest.param("O", (1,), 3, b"\x91\xa1\xff", id="a text that is none"),
        pytest.param("<f8", (1,), 8, bytes(16), id="bytes left over"),
    ],
)
def test_columns_that_do_not_add_up_are_refused(dtype, shape, nbytes, body):
    with pytest.raises(frames.BrokenFrame):
        frames.decode_batch(*forged(dtype, shape, nbytes, body))


forged_columns = st.builds(
    frames._Column,
    st.text(max_size=3),
    st.one_of(
        st.just("O"),
        st.text(max_size=8),
        st.from_regex(r"[<>|=]?[a-zA-Z]\d{0,2}(\[\w{0,4}\])?([,/]\d+)?", fullmatch=True),
    ),
    st.lists(st.integers(-1, 1 << 62), max_size=70).map(tuple),
    st.integers(-16, 32),
)


@given(st.lists(forged_columns, max_size=3), st.binary(max_size=32))
def test_no_column_whatever_it_says_does_more_than_be_refused(columns, body):
    with contextlib.suppress(frames.BrokenFrame):
        frames.decode_batch(frames.AnswerHeader(1, Form.TABLE, columns), bytearray(body))


@example(frames._encode_header(frames.FailureHeader(1, callers_fault=True, message="x")).replace(b"x", b"\xff"))
@given(st.binary(max_size=200))
def test_no_header_whatever_its_bytes_does_more_than_be_refused(data):
    try:
        header = frames.decode_header(data)
        if isinstance(header, frames.PredictHeader | frames.AnswerHeader):
            frames.decode_batch(header, bytearray(b"x" * 16))
    except frames.BrokenFrame:
        pass
