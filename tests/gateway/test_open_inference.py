"""Open Inference Protocol v2 at the edge: tensors in, tensors out, and whatever isn't a request refused in words."""

import gzip
import json
import struct
import zlib

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gateway.api.open_inference.names import describe_inputs, describe_outputs
from gateway.api.open_inference.scoring import OpenInference
from gateway.api.request_body import BodyTooLarge, UnknownEncoding
from gateway.api.scoring.bodies import decode_json
from gateway.errors import status_of
from gateway.routing_table import Choice
from gateway.scoring.batching import Asked, Deadline
from gateway.scoring.inference import Prediction
from loaders.base import Batch, Form, JsonAnswer
from loaders.columns import ColumnSpec, ColumnType
from loaders.errors import BadInput
from loaders.signature import Signature, enforce
from loaders.tensors import TensorSpec
from tracking.errors import BadRequest, InvalidParameter, ServingError

DATATYPES = {
    "BOOL": "?", "UINT8": "u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "INT8": "i1", "INT16": "<i2",
    "INT32": "<i4", "INT64": "<i8", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8",
}  # fmt: skip
PATH = "/v2/models/iris/infer"
BODY_BYTES_MAX = 32 * 1024**2


def columns(*types, outputs=()):
    return Signature(
        tuple(ColumnSpec(f"c{place}", ColumnType(type_)) for place, type_ in enumerate(types)), (), outputs
    )


def tensors(*specs, outputs=()):
    return Signature((), tuple(TensorSpec(*spec) for spec in specs), outputs)


def objects(*values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def elements(*values):
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def asked(path=PATH, **headers):
    dialect = OpenInference(BODY_BYTES_MAX)
    named = {name.replace("_", "-").encode(): str(value).encode() for name, value in headers.items()}
    return dialect.ask(dialect.paths.fullmatch(path), named)


def tensor(name, array, datatype=None, **parameters):
    """An input as it goes into the JSON, with its data there."""
    datatype = datatype or next(key for key, dtype in DATATYPES.items() if np.dtype(dtype) == array.dtype)
    described = {"name": name, "shape": list(array.shape), "datatype": datatype}
    return described | ({"parameters": parameters} if parameters else {"data": array.reshape(-1).tolist()})


def binary_body(*inputs, **more):
    """A body whose inputs, (name, datatype, shape, bytes), follow the JSON; and the length of that."""
    described = [
        {"name": name, "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": len(data)}}
        for name, datatype, shape, data in inputs
    ]
    head = json.dumps({"inputs": described, **more}).encode()
    return head + b"".join(data for *_, data in inputs), len(head)


def read(body, **headers):
    return asked(**headers).read(body if isinstance(body, bytes) else json.dumps(body).encode())()


def batch(signature, body, **headers):
    return enforce(signature, *read(body, **headers))[0]


def answered(answer, body=None, signature=None):
    ask = asked()
    ask.read(json.dumps(body or {"inputs": [tensor("x", np.zeros((1, 1)))]}).encode())()
    # Only what was answered matters here, not when.
    asked_model = Asked(answer, {}, Deadline(0, 0), answer=None, entered_s=0, rows=1)
    reply = ask.reply(Prediction(Choice("iris", "iris", 3, "champion", 7), answer, 1, signature, asked_model))
    headers = dict(reply.headers)
    length = int(headers.get(b"inference-header-content-length", len(reply.content)))
    return msgspec.json.decode(reply.content[:length]), reply.content[length:], reply.content_type


def assert_same(one, other):
    assert one.form is other.form
    assert list(one.columns) == list(other.columns)
    for name, array in one.columns.items():
        assert array.dtype == other.columns[name].dtype
        np.testing.assert_array_equal(array, other.columns[name])


# --- what comes in


@given(st.data())
def test_a_tensor_is_the_same_in_json_and_in_binary(data):
    datatype = data.draw(st.sampled_from(list(DATATYPES)))
    # JSON has no infinities, and a NaN in it is null.
    shape = data.draw(hnp.array_shapes(max_dims=3, max_side=3))
    elements_ = hnp.from_dtype(np.dtype(DATATYPES[datatype]), allow_infinity=False)
    array = data.draw(hnp.arrays(DATATYPES[datatype], shape, elements=elements_))
    body, length = binary_body(("x", datatype, list(array.shape), array.tobytes()))
    binary = batch(None, body, inference_header_content_length=length)
    np.testing.assert_array_equal(binary.columns[""], array)
    flat = {"inputs": [tensor("x", array)]}
    nested = {"inputs": [flat["inputs"][0] | {"data": array.tolist()}]}
    for sent in (flat, nested):
        assert_same(batch(None, msgspec.json.encode(sent)), binary)


def test_texts_are_the_same_in_json_and_in_binary():
    body, length = binary_body(("c0", "BYTES", [2], elements(b"\xc3\xa9", b"")))
    sent = {"inputs": [tensor("c0", objects("é", ""), "BYTES")]}
    for signature in (columns("string"), tensors(("c0", "str", (-1,))), None):
        assert_same(batch(signature, sent), batch(signature, body, inference_header_content_length=length))


def test_binary_inputs_stand_in_the_order_of_the_json_and_may_be_mixed_with_json():
    body, length = binary_body(
        ("c1", "INT64", [2, 1], np.array([3, 4]).tobytes()),
        ("c2", "BYTES", [2], elements(b"a", b"bc")),
        ("c3", "BOOL", [2], b"\x01\x00"),
    )
    document = json.loads(body[:length])
    document["inputs"].insert(1, tensor("c0", np.array([0.5, 1.5])))
    head = json.dumps(document).encode()
    got = batch(
        columns("double", "double", "string", "boolean"),
        head + body[length:],
        inference_header_content_length=len(head),
    )
    assert {name: column.tolist() for name, column in got.columns.items()} == {
        "c0": [0.5, 1.5], "c1": [3.0, 4.0], "c2": ["a", "bc"], "c3": [True, False],
    }  # fmt: skip


MLFLOW_TWINS = [
    pytest.param(
        columns("double", "double"),
        {"inputs": [tensor("c1", np.array([2.0])), tensor("c0", np.array([[1.0]])), tensor("more", np.array([9.0]))]},
        {"dataframe_split": {"columns": ["c0", "c1", "more"], "data": [[1.0, 2.0, 9.0]]}},
        id="a tensor a column, matched by name, others dropped",
    ),
    pytest.param(
        columns("double", "float"),
        {"inputs": [tensor("input-0", np.array([[1.5, 2.5], [3.5, 4.5]]))]},
        {"inputs": [[1.5, 2.5], [3.5, 4.5]]},
        id="one matrix, by place",
    ),
    pytest.param(
        columns("string", "datetime", "binary", "long"),
        {
            "inputs": [
                tensor("c0", objects("a"), "BYTES"),
                tensor("c1", objects("2026-01-02T03:04:05Z"), "BYTES"),
                tensor("c2", objects("AP8="), "BYTES"),
                tensor("c3", np.array([7], np.int16)),
            ]
        },
        {"dataframe_records": [{"c0": "a", "c1": "2026-01-02T03:04:05Z", "c2": "AP8=", "c3": 7}]},
        id="texts, times, bytes and integers",
    ),
    pytest.param(
        tensors((None, "float32", (-1, 2))),
        {"inputs": [tensor("whatever", np.array([[1.5, 2.5]], np.float32))]},
        {"inputs": [[1.5, 2.5]]},
        id="the only tensor needs no name",
    ),
    pytest.param(
        tensors(("a", "float32", (-1, 2)), ("b", "int64", (-1,))),
        {"inputs": [tensor("b", np.array([1])), tensor("a", np.array([[1.5, 2.5]], np.float32))]},
        {"inputs": {"a": [[1.5, 2.5]], "b": [1]}},
        id="tensors by name",
    ),
    pytest.param(
        None,
        {"inputs": [tensor("input-0", np.array([[1.5, 2.5]]))]},
        {"inputs": [[1.5, 2.5]]},
        id="no signature, one tensor",
    ),
    pytest.param(
        None,
        {"inputs": [tensor("a", np.array([1])), tensor("b", np.array([0.5]))]},
        {"inputs": {"a": [1], "b": [0.5]}},
        id="no signature, several",
    ),
]


@pytest.mark.parametrize(("signature", "v2", "mlflow"), MLFLOW_TWINS)
def test_a_request_means_what_its_twin_of_mlflow_means(signature, v2, mlflow):
    twin = enforce(signature, *decode_json(json.dumps(mlflow).encode()))[0]
    assert_same(batch(signature, v2), twin)


def test_content_types_of_mlserver_say_what_texts_hold():
    base64 = tensor("c0", objects("AP8="), "BYTES") | {"parameters": {"content_type": "base64"}}
    assert batch(None, {"inputs": [base64]}).columns[""].tolist() == [b"\x00\xff"]
    documents = tensor("c0", objects('{"a": [1]}', "2"), "BYTES") | {"parameters": {"content_type": "pd_json"}}
    assert batch(columns("json"), {"inputs": [documents]}).columns["c0"].tolist() == [{"a": [1]}, 2]
    body, length = binary_body(("c0", "BYTES", [1], elements(b"[1]")))
    document = json.loads(body[:length])
    document["inputs"][0]["parameters"]["content_type"] = "pd_json"
    head = json.dumps(document).encode()
    got = batch(columns("json"), head + body[length:], inference_header_content_length=len(head))
    assert got.columns["c0"].tolist() == [[1]]


def test_parameters_of_the_request_are_params_unless_the_protocol_has_them_for_itself():
    given_ = {"sequence_id": 1, "priority": 2, "binary_data_output": True, "temperature": 0.5}
    _, params = read({"inputs": [tensor("x", np.zeros(1))], "parameters": given_})
    assert params == {"temperature": 0.5}


def test_null_is_what_was_not_said():
    sent = {
        "id": None, "parameters": None, "outputs": None,
        "inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "parameters": None, "data": [1.0]}],
    }  # fmt: skip
    assert batch(None, sent).columns[""].tolist() == [1.0]
    assert "id" not in answered(Batch(Form.TENSOR, {"": np.array([1])}), sent)[0]


def test_names_are_unquoted_once():
    assert asked("/v2/models/iris%40champion/infer").target.endpoint == "iris@champion"
    assert asked("/v2/models/models:%2Firis%40challenger/versions/2/infer").target.endpoint == "models:/iris@challenger"
    assert asked("/v2/models/100%2525/versions/2/infer").target.version == 2
    assert asked("/v2/models/100%2525/infer").target.endpoint == "100%25"
    with pytest.raises(InvalidParameter):
        asked("/v2/models/iris/versions/x/infer")
    assert OpenInference(BODY_BYTES_MAX).paths.fullmatch("/v2/models/iris/ready") is None


ONE = {"name": "x", "shape": [1], "datatype": "FP64", "data": [1.0]}


def body_of(**changed):
    """A request whose one input differs; what is None is left out."""
    given_ = {**ONE, **changed}
    return {"inputs": [{name: value for name, value in given_.items() if value is not None}]}


def size_of(size):
    return body_of(data=None, parameters={"binary_data_size": size})


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"\xff{}", "not valid JSON"),
        (b"[" * 100_000, "nested too deeply|must be"),
        ({}, "missing required field `inputs`"),
        ({"inputs": []}, "length >= 1"),
        ({"inputs": [1]}, r"inputs\[0\]"),
        ({"inputs": [ONE, ONE]}, "'x' is there twice"),
        ({"inputs": [ONE], "id": 5}, "id"),
        (body_of(name=None), "`name`"),
        (body_of(name="x" * 1_001), "length <= 1000"),
        (body_of(datatype="FP8"), "expected one of BOOL, .* as datatype, got the string 'FP8'"),
        (body_of(datatype="BF16"), "as datatype"),
        (body_of(shape=[-1]), ">= 0"),
        (body_of(shape=[1.5]), "shape"),
        (body_of(shape=[2**70]), "shape"),
        (body_of(shape=[]), "1 to 32 axes, got 0"),
        (body_of(shape=[1] * 33), "1 to 32 axes, got 33"),
        (body_of(shape=[2**31, 2**31, 2**31]), "is over 2147483647 elements"),
        (body_of(shape=[0, 2**31, 2**31], data=[]), "is over 2147483647 elements"),
        (body_of(shape=[2]), "of 2 values, got 1"),
        (body_of(shape=[4], data=[[1, 2], [3, 4]]), r"shape is \[4\], but data is nested as \[2, 2\]"),
        (body_of(shape=[2, 2], data=[[1, 2], [3]]), "lists of equal length"),
        (body_of(data=None), "expected data, .* or binary_data_size; got null"),
        (body_of(data=1), "a list of values, or binary_data_size; got the number 1"),
        (body_of(data=["1"]), "value 0: expected a number, got the string '1'"),
        (body_of(data=[True]), "value 0: expected a number, got true"),
        (body_of(datatype="FP16", data=[1e5]), "within float16"),
        (body_of(datatype="INT8", data=[128]), "within int8"),
        (body_of(datatype="INT8", data=[1.5]), "a whole number"),
        (body_of(datatype="UINT64", data=[-1]), "within uint64"),
        (body_of(datatype="BOOL", data=[1]), "true or false"),
        (body_of(datatype="BYTES", data=[1]), "a string"),
        (body_of(datatype="BYTES", data=["{"], parameters={"content_type": "pd_json"}), "JSON"),
        (body_of(datatype="BYTES", data=["?"], parameters={"content_type": "base64"}), "base64"),
        (size_of(8), "of 8 bytes, got 0"),
        (size_of(-1), "to be a number of bytes"),
        (size_of(True), "to be a number of bytes"),
        (size_of("8"), "to be a number of bytes"),
        (size_of(2**80), "."),
        (body_of(parameters={"binary_data_size": 8}), "both data and binary_data_size"),
        (body_of(parameters={"shared_memory_region": "r"}), "shared memory"),
        ({"inputs": [ONE], "outputs": [{"name": "y", "parameters": {"classification": 3}}]}, "classification"),
        ({"inputs": [ONE], "outputs": [{"name": "y", "parameters": {"shared_memory_region": "r"}}]}, "shared memory"),
    ],
)
def test_what_is_no_request_is_refused_in_words(body, message):
    with pytest.raises(ServingError, match=message) as refusal:
        read(body)
    assert 400 <= status_of(refusal.value) < 500
    assert len(refusal.value.message) < 500


@pytest.mark.parametrize(
    ("inputs", "cut", "message"),
    [
        ([("x", "FP64", [1], b"\0" * 8)], -1, "of 8 bytes, got 7"),
        ([("x", "FP64", [1], b"\0" * 8)], None, "add up to 8; 9 bytes follow"),
        ([("x", "FP64", [2], b"\0" * 8)], 0, "of 16 bytes, got 8"),
        ([("x", "BOOL", [2], b"\x01\x02")], 0, "0 or 1"),
        ([("x", "BYTES", [1], b"\x05\0\0\0abc")], 0, "element 0 ends after the tensor"),
        ([("x", "BYTES", [2], elements(b"a") + b"\1\0")], 0, "element 1 ends after the tensor"),
        ([("x", "BYTES", [2], elements(b"a"))], 0, "2 elements"),
        ([("x", "BYTES", [1], elements(b"a", b"b"))], 0, "1 elements"),
        ([("x", "BYTES", [1], b"\xff\xff\xff\xffabc")], 0, "ends after"),
    ],
)
def test_sizes_that_do_not_add_up_are_refused_in_words(inputs, cut, message):
    body, length = binary_body(*inputs)
    body = body + b"\0" if cut is None else body[: len(body) + cut]
    with pytest.raises(BadInput, match=message):
        read(body, inference_header_content_length=length)


@pytest.mark.parametrize("length", ["-1", "x", "1" * 30, "10000"])
def test_a_header_length_that_is_none_is_refused(length):
    with pytest.raises(ServingError, match="Inference-Header-Content-Length"):
        read(b"{}", inference_header_content_length=length)


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_a_compressed_body_is_read_within_its_bound(encoding, compress):
    plain, length = binary_body(("x", "FP64", [1], b"\0" * 8))
    headers = {"content_encoding": encoding, "inference_header_content_length": length}
    assert batch(None, compress(plain), **headers).columns[""].tolist() == [0.0]
    for wrong in (plain, compress(plain)[:-1], compress(plain) + b"x"):
        with pytest.raises(BadRequest, match=encoding):
            read(wrong, **headers)
    with pytest.raises(BodyTooLarge):
        read(compress(b" " * (BODY_BYTES_MAX + 1)), **headers)
    with pytest.raises(UnknownEncoding, match="br"):
        read(plain, content_encoding="br")


def test_an_empty_array_may_claim_any_width_and_costs_nothing():
    body = {"inputs": [{"name": "x", "shape": [0, 2**31 - 1], "datatype": "FP64", "data": []}]}
    with pytest.raises(BadInput, match="takes 2 columns"):
        batch(columns("double", "double"), body)
    assert batch(None, body).rows == 0


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def maybe(strategy):
    return strategy | anything


inputs = st.fixed_dictionaries(
    {
        "name": maybe(st.sampled_from(["c0", "c1", ""])),
        "shape": maybe(st.lists(st.integers(0, 3) | st.sampled_from([2**31, 2**63]), max_size=3)),
        "datatype": maybe(st.sampled_from([*DATATYPES, "BYTES"])),
    },
    optional={
        "data": maybe(st.lists(st.integers(-2, 2) | st.text(max_size=2) | st.booleans(), max_size=4)),
        "parameters": maybe(st.fixed_dictionaries({"binary_data_size": maybe(st.integers(0, 16))})),
    },
)
requests = st.fixed_dictionaries(
    {"inputs": maybe(st.lists(maybe(inputs), max_size=2))},
    optional={"id": anything, "parameters": anything, "outputs": maybe(st.lists(anything, max_size=2))},
)


@given(maybe(requests), st.binary(max_size=16), st.sampled_from([None, 0, 1, -1]))
def test_any_body_is_a_batch_or_the_callers_fault(document, tail, off):
    head = json.dumps(document).encode()
    headers = {} if off is None else {"inference_header_content_length": max(0, len(head) + off)}
    signatures = (None, columns("double", "string"), tensors(("c0", "float32", (-1, 2))))
    for signature in signatures:
        refusal = None
        try:
            assert isinstance(batch(signature, head + tail, **headers), Batch)
        except ServingError as error:
            refusal = error
        assert refusal is None or 400 <= status_of(refusal) < 500


# --- what goes out


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("datatype", DATATYPES)
def test_an_answer_keeps_its_type_shape_and_values(datatype, binary):
    array = np.array([[0, 1], [1, 0]]).astype(DATATYPES[datatype])
    asking = {"inputs": [ONE], "id": "mine", "parameters": {"binary_data_output": binary}}
    head, tail, content_type = answered(Batch(Form.TENSOR, {"": array}), asking)
    (output,) = head.pop("outputs")
    assert head == {"model_name": "iris", "model_version": "3", "id": "mine"}
    assert (output["name"], output["datatype"], output["shape"]) == ("output-0", datatype, [2, 2])
    if binary:
        assert content_type == "application/octet-stream"
        assert output["parameters"] == {"binary_data_size": len(tail)}
        np.testing.assert_array_equal(np.frombuffer(tail, DATATYPES[datatype]).reshape(2, 2), array)
    else:
        assert content_type == "application/json"
        assert output["data"] == array.reshape(-1).tolist()


@pytest.mark.parametrize(
    ("array", "data", "raw"),
    [
        (objects("é", "b"), ["é", "b"], elements("é".encode(), b"b")),
        (objects("a", None), ["a", None], elements(b"a", b"")),
        (objects(b"\x00\xff"), ["AP8="], elements(b"\x00\xff")),
        (objects({"a": 1}, [2], 3), ['{"a":1}', "[2]", "3"], elements(b'{"a":1}', b"[2]", b"3")),
        (np.array(["2026-01-02", "NaT"], "M8[h]"), ["2026-01-02T00", None], elements(b"2026-01-02T00", b"")),
        (np.array([0.5, np.nan]), [0.5, None], np.array([0.5, np.nan]).tobytes()),
        (np.array([0.5], ">f8"), [0.5], np.array([0.5]).tobytes()),
        (np.array([[1, 2], [3, 4]]).T, [1, 3, 2, 4], np.array([1, 3, 2, 4]).tobytes()),
        (np.array([7], "m8[s]"), [7], np.array([7]).tobytes()),
        (np.empty((0, 3)), [], b""),
    ],
)  # fmt: skip
def test_what_is_no_plain_number_has_a_form_too(array, data, raw):
    (output,) = answered(Batch(Form.TENSOR, {"": array}))[0]["outputs"]
    assert output["data"] == data
    asking = {"inputs": [ONE], "parameters": {"binary_data_output": True}}
    assert answered(Batch(Form.TENSOR, {"": array}), asking)[1] == raw


def test_outputs_are_named_by_the_signature_or_by_the_answer():
    label = (ColumnSpec("label", ColumnType.LONG),)
    unnamed = (TensorSpec(None, "int64", (-1,)),)

    def names(answer, outputs):
        return [output["name"] for output in answered(answer, signature=Signature(outputs=outputs))[0]["outputs"]]

    one = Batch(Form.TENSOR, {"": np.array([1])})
    assert names(one, label) == ["label"]
    assert names(one, unnamed) == names(one, ()) == ["output-0"]
    assert names(Batch(Form.TABLE, {"a": np.array([1]), "b": objects("x")}), label) == ["a", "b"]


def test_an_answer_without_array_form_is_json_texts_one_a_row():
    (output,) = answered(JsonAnswer(b'[{"a":[1,{}]},2]'))[0]["outputs"]
    assert (output["datatype"], output["shape"], output["data"]) == ("BYTES", [2], ['{"a":[1,{}]}', "2"])
    assert answered(JsonAnswer(b'{"a":1}'))[0]["outputs"][0]["data"] == ['{"a":1}']


def test_outputs_come_as_they_are_asked_for():
    table = Batch(Form.TABLE, {"a": np.array([1]), "b": np.array([0.5]), "c": np.array([True])})
    asking = {
        "inputs": [ONE],
        "outputs": [{"name": "b", "parameters": {"binary_data": False}}, {"name": "a"}],
        "parameters": {"binary_data_output": True},
    }
    head, tail, _ = answered(table, asking)
    first, second = head["outputs"]
    assert (first["name"], first["data"]) == ("b", [0.5])
    assert (second["name"], second["parameters"]) == ("a", {"binary_data_size": 8})
    assert tail == np.array([1]).tobytes()
    with pytest.raises(BadInput, match="no output 'd'; its outputs are: a, b, c"):
        answered(table, {"inputs": [ONE], "outputs": [{"name": "d"}]})


def test_errors_are_the_protocols():
    assert OpenInference(BODY_BYTES_MAX).encode_error("BAD_REQUEST", "no") == b'{"error":"no"}'


def test_metadata_says_what_can_be_sent():
    signature = columns("double", "string", "json", outputs=(TensorSpec(None, "float32", (-1, 3)),))
    described = [msgspec.to_builtins(tensor_) for tensor_ in describe_inputs(signature)]
    assert described == [
        {"name": "c0", "datatype": "FP64", "shape": [-1, 1]},
        {"name": "c1", "datatype": "BYTES", "shape": [-1, 1], "parameters": {"content_type": "str"}},
        {"name": "c2", "datatype": "BYTES", "shape": [-1, 1], "parameters": {"content_type": "pd_json"}},
    ]
    assert [msgspec.to_builtins(tensor_) for tensor_ in describe_outputs(signature)] == [
        {"name": "output-0", "datatype": "FP32", "shape": [-1, 3]}
    ]
    assert [tensor_.name for tensor_ in describe_inputs(tensors((None, "str", (-1,))))] == ["input-0"]
    assert describe_inputs(None) == describe_outputs(None) == []
