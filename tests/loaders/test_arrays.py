"""Typed arrays mean to a signature what the same values mean as JSON, and never come to be written into."""

import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from loaders.base import Form
from loaders.columns import ColumnSpec, ColumnType
from loaders.errors import BadInput
from loaders.payload import Arrays, Nested
from loaders.signature import Signature, enforce
from loaders.tensors import TensorSpec

NUMBERS = ["bool", "int8", "int32", "int64", "uint8", "uint64", "float16", "float32", "float64", ">f8", ">i4"]
EDGES = [0, 1, -1, 2**31, -(2**31) - 1, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64 - 1]


def objects(*values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def read_only(array):
    array.flags.writeable = False
    return array


def numbers(dtype, shape):
    """Arrays of *dtype* in which whole numbers and those at the ends of types are not rare."""
    kind = np.dtype(dtype).kind
    elements = hnp.from_dtype(np.dtype(dtype))
    if kind == "f":
        most = float(np.finfo(dtype).max)
        elements |= st.sampled_from([float(edge) for edge in EDGES if abs(edge) <= most] + [np.nan, np.inf])
    elif kind in "iu":
        limits = np.iinfo(dtype)
        elements |= st.sampled_from([edge for edge in EDGES if limits.min <= edge <= limits.max])
    return hnp.arrays(dtype, shape, elements=elements)


def texts(shape):
    return hnp.arrays(object, shape, elements=st.none() | st.text(max_size=3) | st.binary(max_size=3))


@st.composite
def arrays_of(draw, shape):
    source = draw(st.sampled_from([*NUMBERS, "text"]))
    return draw(texts(shape) if source == "text" else numbers(source, shape))


def as_json(value, type_):
    """What MLflow's client would send for *value*."""
    match value:
        case list():
            return [as_json(item, type_) for item in value]
        # Null is a missing text as well. A NaN isn't.
        case float() if np.isnan(value) and type_ not in {"string", "str", "datetime", "binary"}:
            return None
        case bytes() if type_ == "binary":
            return base64.b64encode(value).decode()
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                return object()  # What no JSON has, and nothing takes.
    return value


def outcome(signature, data):
    """The batch, or None if it is refused."""
    try:
        return enforce(signature, data)[0]
    except BadInput:
        return None


def assert_same(typed, listed):
    assert (typed is None) == (listed is None)
    if typed is None:
        return
    assert typed.form is listed.form
    assert list(typed.columns) == list(listed.columns)
    for name, array in listed.columns.items():
        assert typed.columns[name].dtype == array.dtype
        np.testing.assert_array_equal(typed.columns[name], array)


@st.composite
def tables(draw):
    types = draw(st.lists(st.sampled_from([type_ for type_ in ColumnType if type_ is not ColumnType.JSON]), min_size=1))
    rows = draw(st.integers(0, 3))
    signature = Signature(tuple(ColumnSpec(f"c{place}", type_) for place, type_ in enumerate(types)))
    given = [draw(arrays_of((rows,))) for _ in types]
    return signature, {spec.name: array for spec, array in zip(signature.columns, given, strict=True)}


@given(tables())
def test_columns_are_taken_and_refused_as_their_lists_are(table):
    signature, by_name = table
    listed = {spec.name: as_json(by_name[spec.name].tolist(), spec.type) for spec in signature.columns}
    backwards = {name: read_only(by_name[name]) for name in reversed(by_name)}
    expected = outcome(signature, Nested(listed))
    assert_same(outcome(signature, Arrays(backwards)), expected)
    upright = {name: array.reshape(-1, 1) for name, array in backwards.items()}
    assert_same(outcome(signature, Arrays(upright)), expected)


@given(st.data())
def test_a_matrix_is_taken_and_refused_as_its_rows_are(data):
    type_ = data.draw(st.sampled_from([ColumnType.DOUBLE, ColumnType.FLOAT, ColumnType.LONG, ColumnType.STRING]))
    width = data.draw(st.integers(1, 3))
    signature = Signature(tuple(ColumnSpec(f"c{place}", type_) for place in range(width)))
    matrix = data.draw(arrays_of((data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)))))
    rows = Nested(as_json(matrix.tolist(), type_))
    for name in ("", "input-0"):
        assert_same(outcome(signature, Arrays({name: read_only(matrix)})), outcome(signature, rows))


@given(st.data())
def test_tensors_are_taken_and_refused_as_their_lists_are(data):
    dtype = data.draw(st.sampled_from(["float32", "float64", "float16", "int32", "int64", "uint8", "bool", "str"]))
    name = data.draw(st.sampled_from([None, "x"]))
    shape = data.draw(st.sampled_from([(-1,), (-1, 1), (-1, 2), (2, 2), (-1, 2, -1)]))
    array = data.draw(arrays_of(data.draw(hnp.array_shapes(max_dims=3, max_side=3))))
    signature = Signature(tensors=(TensorSpec(name, dtype, shape),))
    listed = as_json(array.tolist(), dtype)
    expected = outcome(signature, Nested(listed if name is None else {"x": listed}))
    assert_same(outcome(signature, Arrays({name or "": read_only(array)})), expected)


@given(st.data())
def test_without_signature_arrays_stay_what_they_are(data):
    shape = data.draw(hnp.array_shapes(max_dims=3, max_side=3))
    array = data.draw(st.one_of(numbers(dtype, shape) for dtype in NUMBERS))
    got = outcome(None, Arrays({"input-0": read_only(array)}, Form.TENSOR))
    assert got.form is Form.TENSOR
    np.testing.assert_array_equal(got.columns[""], array)
    assert got.columns[""].dtype == array.dtype.newbyteorder("=")


# --- what the properties don't say


def columns(**types):
    return Signature(tuple(ColumnSpec(name, ColumnType(type_)) for name, type_ in types.items()))


def tensors(*specs):
    return Signature(tensors=tuple(TensorSpec(*spec) for spec in specs))


def test_nothing_is_copied_where_the_type_is_right():
    body = np.arange(8, dtype=np.float64).tobytes()
    matrix = np.frombuffer(body).reshape(2, 4)
    for signature in (columns(a="double", b="double", c="double", d="double"), tensors((None, "float64", (-1, 4)))):
        got = enforce(signature, Arrays({"": matrix}))[0]
        assert all(np.shares_memory(array, matrix) for array in got.columns.values())


@pytest.mark.parametrize(
    ("signature", "arrays", "message"),
    [
        (columns(a="double", b="double"), {"a": np.zeros(2)}, r"missing inputs \['b'\]"),
        (columns(a="double"), {"x": np.zeros(2)}, r"missing inputs \['a'\].*extra inputs: \['x'\]"),
        (columns(a="double", b="double"), {"a": np.zeros(2), "b": np.zeros(3)}, "same number of rows"),
        (columns(a="double"), {"a": np.zeros((2, 2))}, r"shape \(rows,\) or \(rows, 1\), got \(2, 2\)"),
        (columns(a="double", b="double"), {"a": np.zeros((1, 2))}, r"missing inputs \['b'\]"),
        (columns(a="double", b="double"), {"": np.zeros(2)}, r"rows of 2 values each, got an array of shape \(2,\)"),
        (columns(a="double", b="double"), {"": np.zeros((2, 3))}, "takes 2 columns"),
        (columns(a="double"), {"": np.array(1.0)}, "got an array of shape"),
        (columns(a="double"), {"a": np.array(1.0)}, "an axis of rows"),
        (columns(a="double"), {}, "missing inputs"),
        (columns(a="double"), {"a": np.zeros(2, complex)}, "numbers, booleans, times, text or bytes"),
        (columns(a="double"), {"a": np.array(["2026"], "M8[D]")}, "expected a number, got the string '2026-01-01'"),
        (columns(a="long"), {"a": np.array([1, np.nan])}, "row 1: expected a whole number .an integer column can't"),
        (columns(a="string"), {"a": objects(b"\xff")}, "a string in UTF-8"),
        (columns(a="string"), {"a": objects(np.float64(1))}, "text, bytes or a JSON value"),
        (columns(a="datetime"), {"a": np.array(["3000-01-01"], "M8[s]")}, "between 1678 and 2261"),
        (tensors(("x", "float32", (-1, 2))), {"x": np.zeros((1, 3))}, r"expected shape \(-1, 2\), got \(1, 3\)"),
        (tensors(("x", "float32", (-1, 2))), {"y": np.zeros((1, 2))}, r"missing inputs \['x'\]"),
        (tensors(("x", "int64", (-1, 2))), {"x": np.array([[1, 2], [3, 1.5]])}, "row 1: expected a whole number"),
        (tensors((None, "float32", (-1,))), {"x": np.zeros(2), "y": np.zeros(2)}, "one tensor without a name"),
        (tensors(("x", "float64", (-1,)), ("y", "float64", (-1,))), {"": np.zeros(2)}, "missing inputs"),
        (None, {"x": np.zeros(2), "y": np.zeros(1)}, "same number of rows"),
        (None, {"x": np.array(1)}, "an axis of rows"),
        (None, {"x": np.zeros(1, "V4")}, "numbers, booleans, times, text or bytes"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_in_words(signature, arrays, message):
    with pytest.raises(BadInput, match=message):
        enforce(signature, Arrays(arrays))


def test_one_row_is_the_first_of_many():
    signature = columns(a="double", b="double")
    rows = np.array([[1.5, np.nan], [2.5, 3.5]])
    for many, one in [
        ({"x": rows}, {"x": rows[:1]}),
        ({"b": rows[:, 1], "a": rows[:, :1]}, {"b": rows[:1, 1], "a": rows[:1, :1]}),
    ]:
        got, expected = enforce(signature, Arrays(one))[0], enforce(signature, Arrays(many))[0]
        assert list(got.columns) == list(expected.columns)
        for name, column in got.columns.items():
            np.testing.assert_array_equal(column, expected.columns[name][:1])


def test_times_are_taken_in_any_unit():
    times = np.array(["2026-01-02T03:04:05", "NaT"], "M8[ms]")
    (column,) = enforce(columns(a="datetime"), Arrays({"a": times}))[0].columns.values()
    assert column.dtype == "datetime64[ns]"
    np.testing.assert_array_equal(column, times.astype("M8[ns]"))
    texts = objects("2026-01-02T03:04:05", None)
    np.testing.assert_array_equal(enforce(columns(a="datetime"), Arrays({"a": texts}))[0].columns["a"], column)


def test_a_column_of_any_json_takes_rows_of_lists():
    (column,) = enforce(columns(a="json"), Arrays({"a": np.array([[1, 2], [3, 4]])}))[0].columns.values()
    assert column.tolist() == [[1, 2], [3, 4]]
    times = np.array(["2026-01-02", "NaT"], "M8[D]")
    assert enforce(columns(a="json"), Arrays({"a": times}))[0].columns["a"].tolist() == ["2026-01-02", None]


def test_a_table_stays_one_without_signature_and_is_a_matrix_to_a_tensor():
    table = Arrays({"a": np.array([1, 2]), "b": np.array([0.5, 1.5])}, Form.TABLE)
    got = enforce(None, table)[0]
    assert got.form is Form.TABLE
    assert got.columns["a"].dtype == np.int64
    matrix = enforce(tensors((None, "float32", (-1, 2))), table)[0].columns[""]
    np.testing.assert_array_equal(matrix, np.array([[1, 0.5], [2, 1.5]], np.float32))
    lists = Arrays({"a": np.array([[1], [2]])}, Form.TABLE)
    assert enforce(None, lists)[0].columns["a"].tolist() == [[1], [2]]


def test_bytes_are_text_to_a_model_without_signature_where_the_protocol_knows_no_text():
    def sent(*values, text_is_bytes):
        given = Arrays({"x": objects(*values)}, Form.TENSOR, text_is_bytes=text_is_bytes)
        return enforce(None, given)[0].columns[""].tolist()

    assert sent("é".encode(), b"b", text_is_bytes=True) == ["é", "b"]
    assert sent("é".encode(), b"b", text_is_bytes=False) == ["é".encode(), b"b"]
    assert sent(b"a", b"\xff", text_is_bytes=True) == [b"a", b"\xff"]


def test_fixed_width_text_becomes_text():
    (column,) = enforce(columns(a="string"), Arrays({"a": np.array(["ab", "c"])}))[0].columns.values()
    assert column.dtype == object
    assert column.tolist() == ["ab", "c"]
    (column,) = enforce(columns(a="binary"), Arrays({"a": np.array([b"ab", b"c"])}))[0].columns.values()
    assert column.tolist() == [b"ab", b"c"]
