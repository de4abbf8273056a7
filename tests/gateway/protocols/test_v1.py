"""The V1 protocol as TensorFlow Serving documents it, and as KServe's own client speaks it."""

import json
import subprocess

import pytest

pytestmark = pytest.mark.e2e

# Runs with KServe's own Python, and says what its client made of the answers.
_KSERVE = """
import asyncio, json, sys
from kserve import InferenceRESTClient, RESTConfig

async def main(url, row):
    client = InferenceRESTClient(RESTConfig(protocol="v1"))
    headers = {}
    said = {
        "predictions": await client.infer(url, {"instances": [row]}, model_name="petal", response_headers=headers),
        "outputs": await client.infer(url, {"inputs": [row]}, model_name="petal"),
        "arm": await client.infer(url, {"instances": [row]}, model_name="iris%40challenger"),
        "version": headers["x-titlebout-version"],
        "ready": [await client.is_model_ready(url, "petal"), await client.is_model_ready(url, "iris")],
    }
    for name, data in [("nothing", {"instances": [row]}), ("petal", {"instances": [["x"] * 4]})]:
        try:
            await client.infer(url, data, model_name=name)
        except Exception as error:
            said[name] = [type(error).__name__, str(error)]
    try:
        await client.is_model_ready(url, "nothing")
    except Exception as error:
        said["not ready"] = [type(error).__name__, str(error)]
    print(json.dumps(said))

asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
"""


def test_kserves_client_predicts_and_reads_errors(served, kserve_python):
    row = json.dumps(served.ROWS[0])
    process = subprocess.run(
        [kserve_python, "-c", _KSERVE, served.url, row], check=False, capture_output=True, timeout=120
    )
    assert process.returncode == 0, process.stderr.decode()
    said = json.loads(process.stdout.splitlines()[-1])
    assert said["predictions"] == {"predictions": served.expected[0]}
    assert said["outputs"] == {"outputs": served.expected[0]}
    assert said["arm"] == {"predictions": [1]}
    assert said["version"] == "1"
    assert said["ready"] == [True, True]
    for name, words in [("nothing", "no endpoint 'nothing'"), ("petal", "expected a number"), ("not ready", "404")]:
        assert said[name][0] == "HTTPStatusError"
        assert words in said[name][1]


def test_rows_are_answered_as_predictions_and_columns_as_outputs(served):
    columns = {name: [row[place] for row in served.ROWS] for place, name in enumerate(served.COLUMNS)}
    both = served.mlflow(served.ROWS)
    for body, answer in [
        ({"instances": served.ROWS}, {"predictions": both}),
        ({"instances": served.RECORDS}, {"predictions": both}),
        ({"inputs": columns}, {"outputs": both}),
        ({"inputs": served.ROWS, "signature_name": "serving_default"}, {"outputs": both}),
    ]:
        assert served.post("/v1/models/petal:predict", json=body).json() == answer


def test_a_version_is_named_by_number_and_an_arm_by_label(served):
    body = {"instances": served.ROWS[:1]}
    for path, label in [
        ("iris", 0),
        ("iris/versions/1", 0),
        ("iris/versions/2", 1),
        ("iris/labels/champion", 0),
        ("iris/labels/challenger", 1),
        ("models:%2Firis%40challenger", 1),
    ]:
        answer = served.post(f"/v1/models/{path}:predict", json=body)
        assert answer.json() == {"predictions": [label]}, path
        assert answer.headers["x-titlebout-version"] == str(label + 1)


def test_a_models_status_and_metadata_are_those_of_tensorflow_serving(served):
    assert served.get("/v1/models").json() == {"models": ["iris", "petal"]}
    available = [
        {"version": version, "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        for version in ("2", "1")
    ]
    status = {"name": "iris", "ready": True}
    for path, versions in [
        ("iris", available),
        ("iris/versions/1", available[1:]),
        ("iris/labels/challenger", available[:1]),
    ]:
        assert served.get(f"/v1/models/{path}").json() == {**status, "model_version_status": versions}
    metadata = served.get("/v1/models/petal/metadata").json()
    assert metadata["model_spec"] == {"name": "petal", "signature_name": "", "version": "1"}
    signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert list(signature["inputs"]) == served.COLUMNS
    assert signature["inputs"][served.COLUMNS[0]] == {
        "dtype": "DT_DOUBLE",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False},
        "name": served.COLUMNS[0],
    }
    assert served.get("/v1/models/iris/labels/challenger/metadata").json()["model_spec"]["version"] == "2"
    for path, status, words in [
        ("nothing", 404, "nothing"),
        ("iris/versions/9", 404, "9"),
        ("iris/labels/nobody", 400, "nobody"),
        ("iris/else/where", 404, "nothing at"),
    ]:
        answer = served.get(f"/v1/models/{path}")
        assert answer.status_code == status, answer.text
        assert words in answer.json()["error"]


def test_what_is_wrong_is_said_under_error(served):
    for path, options, status, words in [
        ("petal:predict", {"json": {}}, 400, "instances, inputs"),
        ("petal:predict", {"json": {"instances": [[1]], "inputs": [[1]]}}, 400, "instances and inputs"),
        ("petal:predict", {"json": {"dataframe_records": []}}, 400, "none of them"),
        ("petal:predict", {"content": b"{"}, 400, "JSON"),
        ("petal:predict", {"content": b"[" * 100_000 + b'"b64"'}, 400, "nested"),
        ("petal:predict", {"content": b"a,b", "headers": {"Content-Type": "text/csv"}}, 415, "JSON"),
        ("petal:classify", {"json": {}}, 501, "classify"),
        ("petal/versions/9:predict", {"json": {"instances": [[1]]}}, 404, "9"),
        ("petal/versions/x:predict", {"json": {"instances": [[1]]}}, 400, "number"),
        ("petal/labels/nobody:predict", {"json": {"instances": [[1]]}}, 400, "nobody"),
        ("nothing:predict", {"json": {"instances": [[1]]}}, 404, "nothing"),
    ]:
        answer = served.post(f"/v1/models/{path}", **options)
        assert answer.status_code == status, answer.text
        assert list(answer.json()) == ["error"]
        assert words in answer.json()["error"]
    wrong = served.get("/v1/models/petal:predict")
    assert wrong.status_code == 405
    assert "POST" in wrong.json()["error"]
