"""A served model's OpenAPI document and example requests, from whatever signature it has."""

import jsonschema
import msgspec
import pytest

from gateway.api.example_requests import example_requests
from gateway.api.model_openapi import openapi_document
from gateway.scoring.served_models import ServedModel
from loaders.columns import ColumnSpec, ColumnType
from loaders.params import ParamSpec
from loaders.payload import read_document
from loaders.signature import Signature, enforce
from loaders.tensors import TensorSpec

COLUMNS = Signature(
    columns=(
        ColumnSpec("width", ColumnType.DOUBLE),
        ColumnSpec("count", ColumnType.LONG),
        ColumnSpec("ok", ColumnType.BOOLEAN),
        ColumnSpec("name", ColumnType.STRING, required=False),
        ColumnSpec("photo", ColumnType.BINARY),
        ColumnSpec("taken", ColumnType.DATETIME),
    ),
    outputs=(ColumnSpec("label", ColumnType.STRING), ColumnSpec("score", ColumnType.DOUBLE)),
    params=(ParamSpec("limit", ColumnType.DOUBLE, 0.5), ParamSpec("words", ColumnType.STRING, ["a"], is_list=True)),
)
UNNAMED_COLUMNS = Signature(columns=(ColumnSpec(None, ColumnType.DOUBLE), ColumnSpec(None, ColumnType.DOUBLE)))
TENSOR = Signature(tensors=(TensorSpec(None, "float32", (-1, 2, 3)),), outputs=(TensorSpec(None, "int64", (-1,)),))
TENSORS = Signature(tensors=(TensorSpec("a", "float32", (-1, 2)), TensorSpec("b", "str", (-1,))))
ANYTHING = Signature(columns=(ColumnSpec("messages", ColumnType.JSON),))
SAVED = '{"dataframe_split": {"columns": ["width"], "data": [[1.5]]}, "params": {"limit": 1}}'


def served(signature=None, example=""):
    return ServedModel(
        endpoint="iris & co",
        model="iris",
        version=3,
        arms={"champion": 3, "challenger": 4},
        flavor="sklearn",
        signature=signature,
        example=example,
        in_memory=(3, 4),
    )


CASES = [
    pytest.param(COLUMNS, "", 5, id="columns"),
    pytest.param(UNNAMED_COLUMNS, "", 5, id="columns without names"),
    pytest.param(TENSOR, "", 5, id="a tensor"),
    pytest.param(TENSORS, "", 5, id="tensors"),
    pytest.param(ANYTHING, "", 0, id="what no row can be made for"),
    pytest.param(None, "", 0, id="nothing known"),
    pytest.param(None, SAVED, 5, id="an example alone"),
    pytest.param(Signature(columns=COLUMNS.columns[:1], params=COLUMNS.params), SAVED, 5, id="both"),
    pytest.param(ANYTHING, '{"inputs": {"messages": [{"role": "user"}]}}', 4, id="an example of JSON values"),
    pytest.param(None, '{"messages": []}', 0, id="an example that is no input of ours"),
]


@pytest.mark.parametrize(("signature", "example", "count"), CASES)
def test_each_example_fits_the_schema_that_it_is_given_under(signature, example, count):
    model = served(signature, example)
    document = openapi_document(model)
    msgspec.json.encode(document)
    assert len(example_requests(model)) == count
    examples = 0
    for path in document["paths"].values():
        content = path["post"]["requestBody"]["content"]["application/json"]
        schema = {**content["schema"], "components": document["components"]}
        jsonschema.Draft202012Validator.check_schema(schema)
        if "example" in content:
            examples += 1
            jsonschema.validate(content["example"], schema, jsonschema.Draft202012Validator)
    # SageMaker's and MLflow's are one path.
    assert examples == max(0, count - 1)


@pytest.mark.parametrize("signature", [COLUMNS, UNNAMED_COLUMNS, TENSOR, TENSORS])
def test_an_example_made_of_the_signature_is_what_the_signature_takes(signature):
    for request in example_requests(served(signature)):
        if not request.path.endswith("/infer"):
            batch, _ = enforce(signature, *read_document(request.body))
            assert batch.rows == 1


def test_a_document_names_the_model_its_arms_and_its_params():
    document = openapi_document(served(COLUMNS))
    assert document["info"] == {
        "title": "iris & co",
        "version": "3",
        "description": "Model iris, flavor sklearn: challenger is version 4, champion is version 3. "
        "Inputs and outputs are those of version 3.",
    }
    path = document["paths"]["/endpoints/iris%20%26%20co/invocations"]
    assert path["parameters"][0]["schema"]["enum"] == ["challenger", "champion"]
    request = document["components"]["schemas"]["Request"]
    assert request["properties"]["params"]["properties"] == {
        "limit": {"type": ["number", "null"], "format": "double", "default": 0.5},
        "words": {"type": "array", "items": {"type": ["string", "null"]}, "default": ["a"]},
    }
    row = document["components"]["schemas"]["Row"]
    assert row["required"] == ["width", "count", "ok", "photo", "taken"]
    assert row["properties"]["photo"]["contentEncoding"] == "base64"
