import json

import numpy as np
import pytest

from loaders.base import Form
from loaders.mlmodel import MLmodel, read_mlmodel
from loaders.signature import Signature
from loaders.warmup import warm_up_batch


def signed(inputs):
    mlmodel = MLmodel(flavors={"sklearn": {}}, signature={"inputs": json.dumps(inputs)})
    return mlmodel, Signature.from_mlmodel(mlmodel)


def test_the_saved_example_comes_first(save, iris):
    from mlflow.models import infer_signature
    from sklearn.linear_model import LogisticRegression

    features, labels = iris
    estimator = LogisticRegression(max_iter=500).fit(features, labels)
    path = save("sklearn", estimator, signature=infer_signature(features), input_example=features[:3])
    mlmodel = read_mlmodel(path)
    batch = warm_up_batch(path, mlmodel, Signature.from_mlmodel(mlmodel))
    np.testing.assert_array_equal(batch.columns[""], features[:3])


@pytest.mark.parametrize("content", [None, "no JSON", '{"inputs": [["a"]]}', "{}"])
def test_without_a_usable_example_a_row_is_made_from_the_signature(tmp_path, content):
    if content is not None:
        (tmp_path / "serving_input_example.json").write_text(content)
    types = ["boolean", "integer", "long", "float", "double", "string", "binary", "datetime"]
    batch = warm_up_batch(tmp_path, *signed([{"name": type_, "type": type_} for type_ in types]))
    assert batch.form is Form.TABLE
    assert list(batch.columns) == types
    assert batch.rows == 1


def test_tensors_get_a_row_of_zeros(tmp_path):
    spec = {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2, -1]}}
    assert warm_up_batch(tmp_path, *signed([spec])).columns[""].shape == (1, 2, 1)
    named = [{**spec, "name": "x"}, {"name": "t", "type": "tensor", "tensor-spec": {"dtype": "str", "shape": [-1]}}]
    assert warm_up_batch(tmp_path, *signed(named)).columns["t"].tolist() == ["text"]


def test_nothing_is_guessed_where_nothing_is_known(tmp_path):
    assert warm_up_batch(tmp_path, MLmodel(flavors={"sklearn": {}}), None) is None
    assert warm_up_batch(tmp_path, *signed([{"name": "x", "type": "object", "properties": {}}])) is None


def test_an_example_without_signature_is_used_as_it_is(tmp_path):
    (tmp_path / "serving_input_example.json").write_text('{"inputs": [[1.5, 2]]}')
    batch = warm_up_batch(tmp_path, MLmodel(flavors={"sklearn": {}}), None)
    assert batch.columns[""].tolist() == [[1.5, 2.0]]
