import json
import math

import numpy as np
import pytest

from loaders.base import Form
from loaders.errors import BadInput, InvalidArtifact
from loaders.mlmodel import MLmodel
from loaders.payload import Nested, Table, read_csv, read_document
from loaders.signature import Signature, enforce


def signature(inputs=None, params=None, outputs=None):
    written = {
        side: None if specs is None else json.dumps(specs)
        for side, specs in (("inputs", inputs), ("outputs", outputs), ("params", params))
    }
    return Signature.from_mlmodel(MLmodel(flavors={"sklearn": {}}, signature=written))


def columns(**types):
    return signature([
        {"name": name, "type": type_.rstrip("?"), "required": not type_.endswith("?")} for name, type_ in types.items()
    ])  # fmt: skip


def tensors(*specs):
    return signature([
        {"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": shape}} | ({"name": name} if name else {})
        for name, dtype, shape in specs
    ])  # fmt: skip


def batch(signature_, document):
    return enforce(signature_, *read_document(document))[0]


def listed(batch_):
    return {name: column.tolist() for name, column in batch_.columns.items()}


IRIS = columns(a="double", b="double", c="double", d="double")
ROW = [5.1, 3.5, 1.4, 0.2]


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({"inputs": [ROW]}, id="the guide's own, by place"),
        pytest.param({"instances": [ROW]}, id="instances by place"),
        pytest.param({"dataframe_split": {"columns": list("abcd"), "data": [ROW]}}, id="split"),
        pytest.param({"dataframe_split": {"data": [ROW]}}, id="split without names"),
        pytest.param(
            {"dataframe_split": {"columns": list("dxabc"), "data": [[0.2, "x", 5.1, 3.5, 1.4]]}}, id="reordered"
        ),
        pytest.param({"dataframe_records": [dict(zip("abcd", ROW, strict=True))]}, id="records"),
        pytest.param({"instances": [dict(zip("abcd", ROW, strict=True))]}, id="instances of objects"),
        pytest.param({"inputs": {name: [value] for name, value in zip("abcd", ROW, strict=True)}}, id="columns"),
        pytest.param({"inputs": dict(zip("abcd", ROW, strict=True))}, id="one object"),
        pytest.param({"inputs": [ROW], "signature_name": "x", "params": None}, id="other keys are ignored"),
    ],
)
def test_one_row_in_each_form_is_the_same_table(document):
    got = batch(IRIS, document)
    assert got.form is Form.TABLE
    assert listed(got) == {name: [value] for name, value in zip("abcd", ROW, strict=True)}
    assert all(column.dtype == np.float64 for column in got.columns.values())


def test_one_row_and_many_rows_take_two_ways_to_one_answer():
    rows = [[1, 2.5, None, float("inf")], ROW]
    many = batch(IRIS, {"dataframe_split": {"columns": list("abcd"), "data": rows}})
    for place, row in enumerate(rows):
        one = batch(IRIS, {"dataframe_split": {"columns": list("abcd"), "data": [row]}})
        for name in "abcd":
            np.testing.assert_array_equal(one.columns[name], many.columns[name][place : place + 1])


@pytest.mark.parametrize(
    ("type_", "values", "expected"),
    [
        ("double", [1, 2.5], [1.0, 2.5]),
        ("double", [None, math.inf], [math.nan, math.inf]),
        ("float", [1, 2.5], [1.0, 2.5]),
        ("long", [1, 2**62], [1, 2**62]),
        ("long", [3.0], [3]),
        ("integer", [-(2**31), 2**31 - 1], [-(2**31), 2**31 - 1]),
        ("boolean", [True, False], [True, False]),
        ("string", ["a", None], ["a", None]),
        ("binary", ["aGk=", None], [b"hi", None]),
        ("array", [[1, 2], []], [[1, 2], []]),
        ("object", [{"a": 1}, None], [{"a": 1}, None]),
    ],
)
@pytest.mark.parametrize("repeated", [1, 1000])
def test_safe_conversions_are_made(type_, values, expected, repeated):
    (column,) = batch(columns(x=type_), {"inputs": {"x": values * repeated}}).columns.values()
    assert len(column) == len(values) * repeated
    if type_ in {"double", "float"}:
        np.testing.assert_array_equal(column, np.array(expected * repeated, dtype=column.dtype))
    else:
        assert column.tolist() == expected * repeated


@pytest.mark.parametrize(
    ("type_", "dtype"),
    [("double", "float64"), ("float", "float32"), ("long", "int64"), ("integer", "int32"), ("boolean", "bool")],
)
def test_dtypes_are_mlflows(type_, dtype):
    (column,) = batch(columns(x=type_), {"inputs": {"x": []}}).columns.values()
    assert column.dtype == dtype


def test_times_come_from_iso_8601_and_offsets_are_turned_to_utc():
    values = ["2024-02-29T12:00:00", "2024-02-29", "2024-02-29T12:00:00Z", "2024-02-29T12:00:00.5+02:00", None]
    (column,) = batch(columns(x="datetime"), {"inputs": {"x": values}}).columns.values()
    assert column.dtype == "datetime64[ns]"
    assert [str(time)[:21] for time in column] == [
        "2024-02-29T12:00:00.0", "2024-02-29T00:00:00.0", "2024-02-29T12:00:00.0", "2024-02-29T10:00:00.5", "NaT",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("type_", "value", "expected"),
    [
        ("double", True, "a number, got true"),
        ("double", "5.1", "a number, got the string '5.1'"),
        ("double", [1], "a number, got a list of 1"),
        ("double", 2**63, "an integer of 64 bits, got the number 9223372036854775808"),
        ("double", 10**400, "an integer of 64 bits, got an integer of more than 60 digits"),
        ("float", 1e300, "a number within float32"),
        ("long", None, "an integer column can't hold missing values"),
        ("long", 1.5, "a whole number"),
        ("long", True, "a whole number"),
        ("long", 2**63, "a whole number within int64"),
        ("integer", 2**31, "a whole number within int32"),
        ("boolean", 1, "true or false"),
        ("boolean", None, "true or false"),
        ("string", 5, "a string"),
        ("datetime", "today", "a time in ISO 8601"),
        ("datetime", 1700000000, "a time in ISO 8601"),
        ("datetime", "1500-01-01", "a time between 1678 and 2261"),
        ("binary", "not base64!", "bytes in base64"),
    ],
)
@pytest.mark.parametrize("before", [0, 700])
def test_unsafe_conversions_are_refused_with_column_row_and_type(type_, value, expected, before):
    fine = {"string": "a", "boolean": True, "datetime": "2024-01-01", "binary": ""}.get(type_, 1)
    with pytest.raises(BadInput) as refusal:
        batch(columns(x=type_), {"inputs": {"x": [fine] * before + [value]}})
    assert str(refusal.value).startswith(f"Column 'x' ({type_}), row {before}: expected ")
    assert expected in str(refusal.value)


def test_a_long_string_is_not_repeated_in_the_refusal():
    with pytest.raises(BadInput) as refusal:
        batch(columns(x="double"), {"inputs": {"x": ["5" * 10_000]}})
    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"inputs": [[1, 2, 3]]}, "takes 4 columns"),
        ({"inputs": [[1, 2, 3, 4, 5]]}, "takes 4 columns"),
        ({"inputs": [1, 2, 3, 4]}, r"write \[\[\.\.\.\]\]"),
        ({"inputs": [[1, 2, 3, 4], [1, 2, 3]]}, "row 1 has 3"),
        ({"inputs": [[1, 2, 3, 4], 5]}, "row 1 is the number 5"),
        ({"inputs": 5}, "rows of 4 columns"),
        ({"inputs": {"a": [1], "b": [1, 2], "c": [1], "d": [1]}}, "expected 1 values as in the others"),
        ({"inputs": {"a": [1], "b": [1], "c": [1]}}, r"Model is missing inputs \['d'\]"),
        ({"dataframe_records": [{"a": 1, "x": 2}]}, r"missing inputs \['b', 'c', 'd'\].*extra inputs: \['x'\]"),
        ({"dataframe_records": [5]}, "row 0 is the number 5"),
        ({"dataframe_records": {"a": 1}}, "must be a list of objects"),
        ({"dataframe_split": [1]}, "'columns' and 'data'"),
        ({"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}, "'a' is there twice"),
        ({"dataframe_split": {"columns": ["a"], "data": [1]}}, "row 0 is the number 1"),
        ({"inputs": [[1]], "instances": [[1]]}, "inputs and instances"),
        ({}, "none of them"),
        ([1], "must be an object"),
        ({"inputs": [[1, 2, 3, 4]], "params": [1]}, "'params' must be an object"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_in_words(document, message):
    with pytest.raises(BadInput, match=message):
        batch(IRIS, document)


def test_an_optional_column_may_be_missing():
    assert listed(batch(columns(a="double", b="string?"), {"dataframe_records": [{"a": 1}]})) == {"a": [1.0]}


def test_a_key_that_a_record_lacks_is_null_there():
    got = batch(columns(a="double", b="string"), {"dataframe_records": [{"a": 1, "b": "x"}, {}]})
    np.testing.assert_array_equal(got.columns["a"], [1.0, np.nan])
    assert got.columns["b"].tolist() == ["x", None]


def test_a_column_without_name_takes_a_list_of_texts():
    unnamed = signature([{"type": "string", "required": True}])
    assert listed(batch(unnamed, {"inputs": ["a", "b"]})) == {"0": ["a", "b"]}
    assert listed(batch(unnamed, {"inputs": "a"})) == {"0": ["a"]}
    assert listed(batch(unnamed, {"inputs": [["a"], ["b"]]})) == {"0": ["a", "b"]}


def test_csv_cells_become_what_the_signature_says():
    types = columns(a="double", b="long", c="boolean", d="string", e="datetime")
    table = read_csv("a,b,c,d,e\r\n5.1,3,true,7,2024-01-01\r\n,4,False,,\r\n")
    got = enforce(types, table)[0]
    np.testing.assert_array_equal(got.columns["a"], [5.1, np.nan])
    assert got.columns["b"].tolist() == [3, 4]
    assert got.columns["c"].tolist() == [True, False]
    assert got.columns["d"].tolist() == ["7", None]
    assert np.isnat(got.columns["e"]).tolist() == [False, True]
    with pytest.raises(BadInput, match=r"Column 'a' \(double\), row 0: expected a number, got the string 'x'"):
        enforce(columns(a="double"), read_csv("a\nx\n"))


def test_csv_without_header_is_matched_by_place():
    assert listed(enforce(IRIS, read_csv("1,2,3,4\n", header=False))[0]) == {"a": [1], "b": [2], "c": [3], "d": [4]}


@pytest.mark.parametrize("text", ["", "a,b\n1\n", "a,a\n1,2\n", 'a\n"1\n'])
def test_broken_csv_is_refused(text):
    with pytest.raises(BadInput):
        read_csv(text)


def test_a_tensor_takes_lists_of_its_shape_and_dtype():
    image = tensors((None, "float32", [-1, 2, 2]))
    got = batch(image, {"inputs": [[[1, 2], [3, 4.5]]]})
    assert got.form is Form.TENSOR
    assert got.columns[""].dtype == np.float32
    assert got.columns[""].tolist() == [[[1, 2], [3, 4.5]]]
    assert batch(image, {"inputs": []}).columns[""].shape == (0, 2, 2)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[[1, 2], [3]]], "equal length, row 0"),
        ([[[1, 2], [3, [4]]]], "equal depth"),
        ([[1, 2]], r"shape \(-1, 2, 2\), got \(1, 2\)"),
        ([[[1, 2], [3, True]]], "row 0: expected a number, got true"),
        ([[[1, 2], [3, 4]], [[1, 2], [3, "x"]]], "row 1: expected a number, got the string 'x'"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(value, message):
    with pytest.raises(BadInput, match=message):
        batch(tensors((None, "float32", [-1, 2, 2])), {"inputs": value})


def test_fractions_never_become_integers_in_a_tensor():
    spec = tensors((None, "uint8", [-1, 2]))
    assert batch(spec, {"inputs": [[0, 255.0]]}).columns[""].tolist() == [[0, 255]]
    for value in (1.5, 256, -1, None):
        with pytest.raises(BadInput, match="a whole number"):
            batch(spec, {"inputs": [[0, value]]})


def test_named_tensors_come_by_name():
    two = tensors(("x", "float32", [-1, 2]), ("n", "int64", [-1]))
    got = batch(two, {"inputs": {"n": [1], "x": [[1, 2]], "extra": [0]}})
    assert got.form is Form.TENSORS
    assert listed(got) == {"x": [[1.0, 2.0]], "n": [1]}
    rows = batch(two, {"instances": [{"x": [1, 2], "n": 1}, {"x": [3, 4], "n": 2}]})
    assert listed(rows) == {"x": [[1, 2], [3, 4]], "n": [1, 2]}
    with pytest.raises(BadInput, match=r"missing inputs \['n'\]"):
        batch(two, {"inputs": {"x": [[1, 2]]}})
    with pytest.raises(BadInput, match="same number of rows"):
        batch(two, {"inputs": {"x": [[1, 2]], "n": [1, 2]}})


def test_one_named_tensor_needs_no_name():
    assert listed(batch(tensors(("x", "float32", [-1, 2])), {"inputs": [[1, 2]]})) == {"x": [[1.0, 2.0]]}


def test_a_table_fills_a_tensor_by_its_columns():
    spec = tensors((None, "float64", [-1, 2]))
    assert batch(spec, {"dataframe_split": {"columns": ["p", "q"], "data": [[1, 2]]}}).columns[""].tolist() == [[1, 2]]
    assert enforce(spec, read_csv("p,q\n1,2.5\n"))[0].columns[""].tolist() == [[1, 2.5]]


def test_without_signature_arrays_are_the_narrowest_that_hold_the_values():
    def dtype(value):
        return enforce(None, Nested(value))[0].columns[""].dtype

    assert [dtype(value) for value in ([[1, 2]], [[1, 2.5]], [[1, None]], [True], ["a"], [1, "a"])] == [
        "int64", "float64", "float64", "bool", "object", "object",
    ]  # fmt: skip
    with pytest.raises(BadInput, match="equal length"):
        dtype([[1, 2], [3]])
    with pytest.raises(BadInput, match="within int64"):
        dtype([[2**64]])
    table = enforce(None, Table(["a", "b"], [[1, None], ["x", None]]))[0]
    np.testing.assert_array_equal(table.columns["a"], [1.0, np.nan])
    assert table.columns["b"].tolist() == ["x", None]


def test_the_signature_that_mlflow_writes_for_want_of_a_better_one_asks_for_nothing():
    anything = signature([{"type": "any", "required": True}])
    assert listed(batch(anything, {"inputs": [[1, 2]]})) == {"": [[1, 2]]}


PARAMS = signature(
    [{"name": "x", "type": "double"}],
    params=[
        {"name": "temperature", "type": "double", "default": 0.5, "shape": None},
        {"name": "words", "type": "string", "default": ["a"], "shape": [-1]},
        {"name": "n", "type": "long", "default": 3, "shape": None},
    ],
)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        (None, {"temperature": 0.5, "words": ["a"], "n": 3}),
        ({"temperature": 1, "unknown": 5}, {"temperature": 1, "words": ["a"], "n": 3}),
        ({"words": [], "n": None}, {"temperature": 0.5, "words": [], "n": None}),
    ],
)
def test_params_are_completed_and_unknown_ones_dropped(params, expected):
    assert enforce(PARAMS, Nested([1.0]), params)[1] == expected


@pytest.mark.parametrize(
    "params", [{"temperature": "hot"}, {"temperature": [1]}, {"words": "a"}, {"words": [1]}, {"n": 1.5}, {"n": True}]
)
def test_params_of_a_wrong_type_are_named(params):
    with pytest.raises(BadInput, match=rf"Invalid parameters found: '{next(iter(params))}'"):
        enforce(PARAMS, Nested([1.0]), params)


def test_params_of_a_model_that_takes_none_are_dropped():
    assert enforce(IRIS, Nested([ROW]), {"temperature": 1})[1] == {}


@pytest.mark.parametrize(
    "inputs",
    [
        "no JSON", "{}", '[{"type": "quaternion"}]', '[{"type": "tensor"}]', "[5]", 7,
        '[{"type": "tensor", "tensor-spec": {"dtype": "float99", "shape": [-1]}}]',
        '[{"type": "double"}, {"type": "double", "name": "b"}]',
        '[{"type": "double"}, {"type": "tensor", "tensor-spec": {"dtype": "str", "shape": [-1]}}]',
    ],
)  # fmt: skip
def test_a_signature_that_cannot_be_read_is_an_invalid_artifact(inputs):
    with pytest.raises(InvalidArtifact, match="MLmodel"):
        Signature.from_mlmodel(MLmodel(flavors={"sklearn": {}}, signature={"inputs": inputs}))


def test_a_signature_written_by_mlflow_is_read_whole():
    from mlflow.models import ModelSignature
    from mlflow.types.schema import (
        Array,
        ColSpec,
        DataType,
        Object,
        ParamSchema,
        ParamSpec,
        Property,
        Schema,
        TensorSpec,
    )

    types = {"d": "double", "f": "float", "i": "integer", "l": "long", "b": "boolean", "s": "string", "t": "datetime",
             "y": "binary", "a": Array(DataType.long), "o": Object([Property("k", DataType.long)])}  # fmt: skip
    written = ModelSignature(
        Schema([ColSpec(type_, name) for name, type_ in types.items()]),
        Schema([TensorSpec(np.dtype("float64"), (-1, 1))]),
        ParamSchema([ParamSpec("n", "long", 1), ParamSpec("when", "string", "x")]),
    ).to_dict()
    got = Signature.from_mlmodel(MLmodel(flavors={"sklearn": {}}, signature=written))
    assert {spec.name: str(spec.type) for spec in got.columns} == {
        "d": "double", "f": "float", "i": "integer", "l": "long", "b": "boolean", "s": "string", "t": "datetime",
        "y": "binary", "a": "json", "o": "json",
    }  # fmt: skip
    assert [(spec.dtype, spec.shape) for spec in got.outputs] == [("float64", (-1, 1))]
    assert [(spec.name, str(spec.type), spec.default) for spec in got.params] == [
        ("n", "long", 1),
        ("when", "string", "x"),
    ]
