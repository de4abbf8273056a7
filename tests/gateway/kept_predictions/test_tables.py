"""Kept predictions as rows of a table. Reading what was written is tested where files are shipped."""

import math

import numpy as np
import pytest

from gateway.api.scoring.json_answers import plain
from gateway.kept_predictions.records import KeptPrediction, pack
from loaders.base import Batch, Form, JsonAnswer

THREE = Batch(Form.TABLE, {"a": np.array([1.0, 2.0, 3.0])})


def rows_of(answer, rows, asked=None, **whose):
    from gateway.kept_predictions.tables import table_of

    given = {"arm": "champion", "period": 1, "bucket": 5, **whose}
    kept = KeptPrediction(
        prediction_id="an-id",
        at_ms=1_700_000_000_500,
        endpoint_id="ab" * 16,
        endpoint="iris",
        model="iris-model",
        version=3,
        rows=rows,
        answer=pack(answer),
        input=None if asked is None else pack(asked),
        **given,
    )
    return table_of([kept], plain).to_pylist()


def typed(row):
    return {name: row[name] for name in ("label", "value", "numbers") if row[name] is not None}


def test_each_row_says_whose_it_is_and_which():
    first, second = rows_of(Batch(Form.TENSOR, {"": np.array([2, 0])}), 2)
    assert (first["row"], first["prediction"], second["row"], second["prediction"]) == (0, "2", 1, "0")
    assert first["at"].isoformat() == "2023-11-14T22:13:20.500000+00:00"
    whose = ("prediction_id", "endpoint", "model", "version", "arm", "period", "bucket", "input")
    assert [first[name] for name in whose] == ["an-id", "iris", "iris-model", 3, "champion", 1, 5, None]


def test_what_the_split_did_not_choose_has_no_bucket_and_a_version_by_number_no_arm():
    [row] = rows_of(Batch(Form.TENSOR, {"": np.array([2])}), 1, arm="", bucket=None)
    assert (row["arm"], row["bucket"]) == (None, None)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([2]), {"label": "2"}),
        (np.array([True]), {"label": "True"}),
        (np.array(["setosa"], dtype=object), {"label": "setosa"}),
        (np.array([0.25]), {"value": 0.25}),
        (np.array([[0.25]]), {"value": 0.25}),
        (np.array([[0.2, 0.8]]), {"numbers": [0.2, 0.8]}),
        (np.array([[1, 2]]), {}),
        (np.array([[[0.5, 0.5]]]), {}),
        (np.array([None], dtype=object), {}),
    ],
)
def test_one_class_one_number_and_several_numbers_have_columns_of_their_types(values, expected):
    [row] = rows_of(Batch(Form.TENSOR, {"": values}), 1)
    assert typed(row) == expected


def test_a_wide_table_is_an_object_a_row_and_its_numbers_are_in_order():
    answer = Batch(Form.TABLE, {"no": np.array([0.1, 0.6]), "yes": np.array([0.9, 0.4])})
    first, second = rows_of(answer, 2)
    assert (first["prediction"], first["numbers"]) == ('{"no":0.1,"yes":0.9}', [0.1, 0.9])
    assert second["numbers"] == [0.6, 0.4]
    mixed = Batch(Form.TABLE, {"class": np.array(["a"], dtype=object), "score": np.array([0.5])})
    [row] = rows_of(mixed, 1)
    assert (row["prediction"], typed(row)) == ('{"class":"a","score":0.5}', {})


def test_named_tensors_are_taken_apart_row_by_row():
    answer = Batch(Form.TENSORS, {"logits": np.array([[0.1, 0.9], [0.6, 0.4]]), "class": np.array([1, 0])})
    assert [row["prediction"] for row in rows_of(answer, 2)] == [
        '{"logits":[0.1,0.9],"class":1}',
        '{"logits":[0.6,0.4],"class":0}',
    ]


def test_a_missing_number_is_null_as_json_and_nan_as_a_number():
    [row] = rows_of(Batch(Form.TENSOR, {"": np.array([math.nan])}), 1)
    assert row["prediction"] == "null"
    assert math.isnan(row["value"])


def test_an_answer_that_is_not_row_for_row_is_kept_whole():
    [row] = rows_of(JsonAnswer(b'{"text": "hello", "tokens": 5}'), 3, asked=THREE)
    assert (row["row"], row["prediction"], row["input"]) == (
        None,
        '{"text":"hello","tokens":5}',
        '[{"a":1.0},{"a":2.0},{"a":3.0}]',
    )
    assert [row["row"] for row in rows_of(JsonAnswer(b'["x", "y"]'), 2)] == [0, 1]


@pytest.mark.parametrize(
    ("answer", "prediction", "row"),
    [
        pytest.param(JsonAnswer(b'[{"score": NaN}]'), '{"score":null}', 0, id="NaN, as Python writes it"),
        pytest.param(JsonAnswer(b'["\\ud83d"]'), "null", None, id="half a surrogate pair"),
        pytest.param(JsonAnswer(b"["), "null", None, id="no JSON"),
        pytest.param(JsonAnswer(b"[" * 5_000 + b"]" * 5_000), "null", None, id="too deep"),
        pytest.param(JsonAnswer(b"[" + b"9" * 5_000 + b"]"), "null", None, id="a number of 5,000 digits"),
        pytest.param(Batch(Form.TENSOR, {"": np.array(1.0)}), "null", None, id="no rows at all"),
    ],
)
def test_an_answer_that_cannot_be_said_leaves_the_others_of_its_file_alone(answer, prediction, row):
    [said] = rows_of(answer, 1)
    assert (said["prediction_id"], said["prediction"], said["row"]) == ("an-id", prediction, row)


def test_inputs_of_several_lengths_are_kept_whole_for_each_row():
    asked = Batch(Form.TENSORS, {"a": np.array([1.0, 2.0]), "threshold": np.array([0.5])})
    rows = rows_of(Batch(Form.TENSOR, {"": np.array([2, 0])}), 2, asked=asked)
    assert [row["input"] for row in rows] == ['[{"a":[1.0,2.0],"threshold":[0.5]}]'] * 2


def test_each_row_has_what_was_asked():
    asked = Batch(Form.TABLE, {"a": np.array([1.0, 2.0]), "b": np.array(["x", None], dtype=object)})
    answer = Batch(Form.TENSOR, {"": np.array([2, 0])})
    assert [row["input"] for row in rows_of(answer, 2, asked=asked)] == ['{"a":1.0,"b":"x"}', '{"a":2.0,"b":null}']
