"""numpy's file format as a body."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, scalar_dtypes

from loaders.base import Form
from loaders.errors import BadInput, DecodedTooLarge
from loaders.npy import read_npy, write_npy

BYTES_MAX = 1_000_000


def npy(array, **options):
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def with_header(header, data=b"", version=(1, 0)):
    text = header.encode() + b"\n"
    return b"\x93NUMPY" + bytes(version) + len(text).to_bytes(2, "little") + text + data


@pytest.mark.parametrize(
    "array",
    [
        np.array([[5.1, 3.5], [1.4, np.nan]]),
        np.asfortranarray([[1, 2, 3], [4, 5, 6]]),
        np.array([[1, 2]], dtype=">i2"),
        np.array([True, False]),
        np.array(["a", "日本"]),
        np.array(["a", "b"]).astype(">U1"),
        np.array([b"a", b"\xff"]),
        np.array(["2026-01-02", "NaT"], dtype="datetime64[D]"),
        np.empty((0, 4)),
    ],
)
def test_an_array_comes_back_as_it_was(array):
    data = read_npy(npy(array), BYTES_MAX)
    assert data.form is Form.TENSOR
    np.testing.assert_array_equal(data.by_name[""], array)
    assert data.by_name[""].dtype == array.dtype


def test_the_fields_of_a_structured_array_are_columns():
    data = read_npy(npy(np.array([(1, 0.5), (2, 1.5)], dtype=[("a", "i8"), ("b", "f4")])), BYTES_MAX)
    assert data.form is Form.TABLE
    assert {name: array.tolist() for name, array in data.by_name.items()} == {"a": [1, 2], "b": [0.5, 1.5]}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        pytest.param(b"", "no npy", id="empty"),
        pytest.param(b"\x93NUMPY\x09\x00", "no npy", id="version"),
        pytest.param(npy(np.zeros(3))[:-1], "it has 23", id="cut"),
        pytest.param(npy(np.zeros(3)) + b"x", "it has 25", id="longer"),
        pytest.param(npy(np.array([{}], dtype=object), allow_pickle=True), "O", id="a pickle"),
        pytest.param(npy(np.zeros(1, complex)), "c16", id="complex"),
        pytest.param(npy(np.zeros(1, np.longdouble)), "f16", id="too wide"),
        pytest.param(npy(np.zeros(1, "V3")), "V3", id="raw"),
        pytest.param(npy(np.zeros(1, [("a", "f8", 2)])), "one value each", id="a field of several"),
        pytest.param(with_header("(" * 5_000), "no npy", id="nested"),
        pytest.param(with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}"), "no npy", id="negative"),
        pytest.param(with_header("{'descr': '<f8', 'fortran_order': False, 'shape': (True,)}"), "no npy", id="bool"),
        pytest.param(npy(np.array([0x110000], np.uint32).view("U1")), "Unicode", id="no code point"),
        pytest.param(npy(np.array([0xD800], np.uint32).view("U1")), "Unicode", id="half a surrogate"),
    ],
)
def test_what_is_no_array_for_a_model_is_refused(body, words):
    with pytest.raises(BadInput, match=words):
        read_npy(body, BYTES_MAX)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [("(1000, 1000)", "<f8"), ("(0, 10**18)".replace("10**18", "1" + "0" * 18), "<f8"), ("(10000000,)", "<U0")],
)
def test_a_header_that_promises_more_than_the_bound_is_refused_before_memory_is_taken(shape, dtype):
    body = with_header(f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}}}")
    with pytest.raises(DecodedTooLarge):
        read_npy(body, BYTES_MAX)


def test_an_answer_is_written_as_numpy_reads_it():
    array = np.array([[0.1, 0.2]])
    np.testing.assert_array_equal(np.load(io.BytesIO(write_npy(array)), allow_pickle=False), array)


@given(arrays(scalar_dtypes(), array_shapes(max_dims=3, max_side=3)), st.data())
@settings(max_examples=100, deadline=None)
def test_nothing_but_a_refusal_comes_of_a_damaged_body(array, data):
    body = bytearray(npy(array))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BadInput, DecodedTooLarge):
        read_npy(bytes(body[: data.draw(st.integers(0, len(body)))]), BYTES_MAX)
