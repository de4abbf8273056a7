"""The same request, the same answer as from MLflow's own scoring server, where that one gives an answer."""

import json
import warnings

import numpy as np
import pytest

from loaders import catalog
from loaders.base import Batch, Form, JsonAnswer
from loaders.catalog import CodePolicy
from loaders.mlmodel import read_mlmodel
from loaders.payload import read_csv, read_document
from loaders.signature import Signature, enforce

pytest.importorskip("loaders.pyfunc")

ROW = {"colour": "red", "size": 1.5, "count": 3, "flag": True, "when": "2024-01-01T00:00:00", "maybe": None}
SPLIT = {"columns": list(ROW), "data": [list(ROW.values())]}
CSV = "colour,size,count,flag,when,maybe\nred,1.5,3,True,2024-01-01T00:00:00,\n"

MODEL = """
import mlflow

class Described(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return [f"{name} {column.dtype.kind} {column.tolist()}" for name, column in model_input.items()]

mlflow.models.set_model(Described())
"""


def mlflows(path, body, content_type):
    import mlflow.pyfunc
    from mlflow.pyfunc import scoring_server

    with warnings.catch_warnings(record=True):
        model = mlflow.pyfunc.load_model(str(path), suppress_warnings=True)
        answer = scoring_server.invocations(body, content_type, model, model.metadata.get_input_schema())
    assert answer.status == 200
    return json.loads(answer.response)["predictions"]


def ours(path, data, params=None):
    model = catalog.load(path, CodePolicy.ALLOW, verified=False)
    answer = model.predict(*enforce(Signature.from_mlmodel(read_mlmodel(path)), data, params))
    if isinstance(answer, JsonAnswer):
        return json.loads(answer.text)
    if answer.form is Form.TENSOR:
        return answer.columns[""].tolist()
    return rows_of(answer)


def rows_of(table: Batch):
    columns = [column.tolist() for column in table.columns.values()]
    return [dict(zip(table.columns, row, strict=True)) for row in zip(*columns, strict=True)]


@pytest.fixture
def described(save, tmp_path):
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, Schema

    code = tmp_path / "described.py"
    code.write_text(MODEL)
    types = {
        "colour": "string",
        "size": "double",
        "count": "long",
        "flag": "boolean",
        "when": "datetime",
        "maybe": "double",
    }
    schema = Schema([ColSpec(type_, name) for name, type_ in types.items()])
    return save("pyfunc", python_model=str(code), signature=ModelSignature(schema))


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({"dataframe_split": SPLIT}, id="split"),
        pytest.param({"dataframe_records": [ROW]}, id="records"),
        pytest.param(
            {"dataframe_split": {"columns": [*reversed(ROW), "x"], "data": [[*reversed(ROW.values()), 1]]}},
            id="mixed up",
        ),
        pytest.param(
            {"inputs": {name: [value] for name, value in ROW.items() if name != "maybe"} | {"maybe": [1]}}, id="inputs"
        ),
    ],
)
def test_a_custom_model_sees_the_frame_that_mlflow_would_give_it(described, document):
    body = json.dumps(document)
    assert ours(described, *read_document(document)) == mlflows(described, body, "application/json")


def test_a_custom_model_sees_the_same_frame_of_csv(described):
    assert ours(described, read_csv(CSV)) == ours(described, *read_document({"dataframe_split": SPLIT}))


@pytest.mark.parametrize(
    "document",
    [
        {"inputs": [[5.1, 3.5, 1.4, 0.2]]},
        {"instances": [[5, 3, 1, 0], [6.1, 2.8, 4.7, 1.2]]},
        {"dataframe_split": {"data": [[5.1, 3.5, 1.4, 0.2]]}},
    ],
)
@pytest.mark.parametrize("signed", [False, True])
def test_an_estimator_answers_as_with_mlflow(save, iris, document, signed):
    from mlflow.models import infer_signature
    from sklearn.linear_model import LogisticRegression

    features, labels = iris
    estimator = LogisticRegression(max_iter=500).fit(features, np.array(["a", "b", "c"])[labels])
    path = save("sklearn", estimator, signature=infer_signature(features) if signed else None)
    assert ours(path, *read_document(document)) == mlflows(path, json.dumps(document), "application/json")
