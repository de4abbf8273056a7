"""The real ``tritonclient[http]`` against a real server: all it can ask, answered as by MLflow's own protocol."""

import json
import subprocess
import warnings
from pathlib import Path

import httpx
import numpy as np
import pytest
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema, TensorSpec
from sklearn.linear_model import LogisticRegression

from gateway.cli.server_process import free_port, server_process
from tests.gateway.test_serving import wait_until, wait_until_served
from tests.training import IRIS, ROW, constant_classifier, mlflow, register, register_function, set_alias

pytestmark = pytest.mark.e2e

CALLS = Path(__file__).with_name("triton_calls.py")
NAMES = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
MATRIX = {"input-0": ["FP64", [ROW, ROW]]}


@pytest.fixture(scope="module")
def triton(tmp_path_factory, triton_python):
    """Makes calls, ``[METHOD, {ARGUMENTS}]``, of a server with some models; gives their results."""
    with server_process(tmp_path_factory.mktemp("server"), "--workers", "2", port=free_port()) as server:
        register_models(server.url)

        def call(*calls):
            done = subprocess.run(
                [triton_python, "-W", "error", CALLS, server.url.removeprefix("http://")],
                input=json.dumps(calls), capture_output=True, text=True, timeout=120, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout)

        call.url = server.url
        yield call


def register_models(url):
    register(url, "iris", constant_classifier(0))
    register(url, "iris", constant_classifier(1))
    register_function(url, "words", words(), signature=WORDS)
    # Without a signature, and with names for labels.
    register(url, "open", species(), input_example=None)
    register_net(url)
    set_alias(url, "iris", "challenger", 2)
    for name in ("iris", "words", "net", "open"):
        set_alias(url, name, "champion", 1)
    for name in ("words", "net", "open"):
        wait_until_served(url, name, champion=1)
    wait_until_served(url, "iris", champion=1, challenger=2)


WORDS = ModelSignature(
    inputs=Schema([ColSpec("string", "text"), ColSpec("long", "times")]),
    outputs=Schema([ColSpec("string", "said"), ColSpec("double", "half")]),
)


def words():
    class Words(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            import pandas as pd

            said = [text * times for text, times in zip(model_input["text"], model_input["times"], strict=True)]
            return pd.DataFrame({"said": said, "half": model_input["times"] / 2})

    return Words()


def species():
    return LogisticRegression(max_iter=200).fit(IRIS.data.to_numpy(), IRIS.target_names[IRIS.target])


def register_net(url):
    import torch

    torch.manual_seed(0)
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype("float32"), (-1, 4))]),
        outputs=Schema([TensorSpec(np.dtype("float32"), (-1, 3))]),
    )
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.set_tracking_uri(url)
        mlflow.set_experiment("tests")
        mlflow.pytorch.log_model(
            net,
            name="model",
            registered_model_name="net",
            signature=signature,
            serialization_format="pickle",
            pip_requirements=["torch"],
        )


def ask_mlflow(url, name, document):
    answer = httpx.post(f"{url}/endpoints/{name}/invocations", json=document)
    assert answer.is_success, answer.text
    return answer.json()["predictions"]


def columns_of(matrix):
    return {name: ["FP64", [[row[place]] for row in matrix]] for place, name in enumerate(NAMES)}


def test_the_server_and_its_models_are_described(triton):
    live, ready, server, iris, net = triton(
        ["is_server_live", {}],
        ["is_server_ready", {}],
        ["get_server_metadata", {}],
        ["get_model_metadata", {"model_name": "iris"}],
        ["get_model_metadata", {"model_name": "net", "model_version": "1"}],
    )
    assert (live, ready) == (True, True)
    assert server["extensions"] == ["binary_tensor_data", "model_repository", "statistics"]
    assert (iris["name"], iris["versions"], iris["platform"]) == ("iris", ["1", "2"], "mlflow_sklearn")
    assert iris["inputs"] == [{"name": name, "datatype": "FP64", "shape": [-1, 1]} for name in NAMES]
    assert iris["outputs"] == [{"name": "output-0", "datatype": "INT64", "shape": [-1]}]
    assert net["inputs"] == [{"name": "input-0", "datatype": "FP32", "shape": [-1, 4]}]
    assert net["outputs"] == [{"name": "output-0", "datatype": "FP32", "shape": [-1, 3]}]


def test_readiness_is_asked_by_every_name_a_model_has(triton):
    names = ["iris", "iris@champion", "iris@challenger", "models:/iris@challenger"]
    by_name = triton(*(["is_model_ready", {"model_name": name}] for name in names[:3]))
    by_version = triton(
        *(["is_model_ready", {"model_name": "iris", "model_version": version}] for version in ("1", "2", "3")),
        ["is_model_ready", {"model_name": "nobody"}],
        ["is_model_ready", {"model_name": "iris@nobody"}],
    )
    assert by_name == [True] * 3
    assert by_version == [True, True, False, False, False]
    assert httpx.get(f"{triton.url}/v2/models/models:%2Firis%40challenger/ready").status_code == 200


@pytest.mark.parametrize("binary", [True, False])
def test_answers_are_those_of_mlflows_protocol_to_the_last_bit(triton, binary):
    rng = np.random.default_rng(0)
    matrix = rng.normal(3, 2, (5, 4)).tolist()
    singles = rng.normal(3, 2, (5, 4)).astype(np.float32).tolist()
    texts, times = ["a", "né", "日本"], [1, 2, 0]
    cases = {
        "iris": ("iris", columns_of(matrix), {"dataframe_split": {"columns": NAMES, "data": matrix}}, ["output-0"]),
        "iris, one matrix": ("iris", {"input-0": ["FP64", matrix]}, {"inputs": matrix}, ["output-0"]),
        "net": ("net", {"input-0": ["FP32", singles]}, {"inputs": singles}, ["output-0"]),
        "open": ("open", {"anything": ["FP64", matrix]}, {"inputs": matrix}, ["output-0"]),
        "words": (
            "words",
            {"times": ["INT64", times], "text": ["BYTES", texts]},
            {"dataframe_split": {"columns": ["text", "times"], "data": list(zip(texts, times, strict=True))}},
            ["said", "half"],
        ),
    }
    answers = triton(
        *(
            ["infer", {"model": model, "inputs": inputs, "binary": binary, "outputs": outputs}]
            for model, inputs, _, outputs in cases.values()
        )
    )
    for (case, (model, _, document, outputs)), answer in zip(cases.items(), answers, strict=True):
        predictions = ask_mlflow(triton.url, model, document)
        assert "values" in answer, (case, answer)
        values = answer["values"]
        if outputs == ["output-0"]:
            assert values["output-0"] == predictions, case
        else:
            assert [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)] == predictions


def test_arms_and_versions_are_asked_by_name(triton):
    asked = {
        "iris@champion": 0, "iris@challenger": 1, "iris": 0,
    }  # fmt: skip
    answers = triton(*(["infer", {"model": name, "inputs": MATRIX}] for name in asked))
    assert [answer["values"]["output-0"] for answer in answers] == [[value] * 2 for value in asked.values()]
    assert [answer["model_version"] for answer in answers] == ["1", "2", "1"]
    (by_version,) = triton(["infer", {"model": "iris", "model_version": "2", "inputs": MATRIX, "request_id": "mine"}])
    assert by_version["values"]["output-0"] == [1, 1]
    assert (by_version["id"], by_version["model_name"], by_version["model_version"]) == ("mine", "iris", "2")


def test_a_request_may_be_compressed(triton):
    asking = {"model": "iris", "inputs": MATRIX, "response_compression_algorithm": "gzip"}
    answers = triton(
        *(["infer", {**asking, "request_compression_algorithm": how}] for how in ("gzip", "deflate")),
        ["infer", {**asking, "request_compression_algorithm": "gzip", "binary": False, "outputs": ["output-0"]}],
    )
    assert [answer["values"]["output-0"] for answer in answers] == [[0, 0]] * 3


def test_faults_are_told_in_the_protocols_words(triton):
    short = {"input-0": ["FP64", [ROW[:3]]]}
    results = triton(
        ["infer", {"model": "iris", "inputs": short}],
        ["infer", {"model": "iris", "inputs": {"text": ["BYTES", ["a"]]}}],
        ["infer", {"model": "iris", "inputs": MATRIX, "outputs": ["nothing"]}],
        ["infer", {"model": "nobody", "inputs": MATRIX}],
        ["infer", {"model": "iris", "model_version": "9", "inputs": MATRIX}],
        ["load_model", {"model_name": "nobody"}],
        ["get_model_config", {"model_name": "iris"}],
    )
    expected = [
        ("400", "takes 4 columns"), ("400", "missing inputs"), ("400", "no output 'nothing'"), ("404", "nobody"),
        ("404", "not in memory"), ("404", "nobody"), ("404", "nothing at"),
    ]  # fmt: skip
    for result, (status, words_) in zip(results, expected, strict=True):
        assert result["status"] == status, result
        assert words_ in result["error"]


def test_the_repository_is_listed_and_a_version_is_kept_by_a_load(triton):
    (index,) = triton(["get_model_repository_index", {}])
    assert {(entry["name"], entry.get("version"), entry["state"]) for entry in index} == {
        ("iris", "1", "READY"), ("iris", "2", "READY"), ("words", "1", "READY"), ("net", "1", "READY"),
        ("open", "1", "READY"),
    }  # fmt: skip
    version = register(triton.url, "iris", constant_classifier(2))
    asking = {"model": "iris", "model_version": str(version), "inputs": MATRIX}
    before, loaded, after = triton(
        ["infer", asking],
        # Triton has no versions in its paths for this; its client leaves slashes as they are.
        ["load_model", {"model_name": f"iris/versions/{version}"}],
        ["infer", asking],
    )
    assert before["status"] == "404"
    assert loaded is None
    assert after["values"]["output-0"] == [2, 2]
    assert triton(["load_model", {"model_name": "iris"}], ["unload_model", {"model_name": "iris"}]) == [None, None]
    wait_until(lambda: triton(["infer", asking])[0].get("status") == "404")
    assert triton(["infer", {"model": "iris", "inputs": MATRIX}])[0]["values"]["output-0"] == [0, 0]


def test_statistics_count_what_was_asked_of_all_workers(triton):
    register(triton.url, "counted", constant_classifier(0))
    set_alias(triton.url, "counted", "champion", 1)
    wait_until_served(triton.url, "counted", champion=1)
    wrong = {"text": ["BYTES", ["a"]]}
    calls = [["infer", {"model": "counted", "inputs": inputs}] for inputs in [MATRIX] * 10 + [wrong]]
    triton(*calls)

    def counted(what):
        (said,) = triton(["get_inference_statistics", {"model_name": "counted", "model_version": "1"}])
        return next((model["inference_stats"][what] for model in said["model_stats"]), {"count": 0})

    # A worker tells the others once a second what it has counted.
    wait_until(lambda: counted("success")["count"] == 10 and counted("fail")["count"] == 1)
    for what in ("success", "compute_input", "compute_infer", "compute_output"):
        figures = counted(what)
        assert figures["count"] == 10
        assert figures["ns"] > 0
    (everything,) = triton(["get_inference_statistics", {}])
    (model,) = [one for one in everything["model_stats"] if one["name"] == "counted"]
    assert (model["version"], model["inference_count"], model["execution_count"]) == ("1", 20, 10)
