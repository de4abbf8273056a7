"""The Open Inference Protocol against a real server: bodies that are none, and what every protocol shares."""

import json
import subprocess

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gateway.test_open_inference import anything, binary_body, maybe, requests

pytestmark = pytest.mark.e2e

PATH = "/v2/models/petal/infer"


# Runs with KServe's own Python, and says what its client made of the answers.
_KSERVE = """
import asyncio, json, sys
import numpy as np
from kserve import InferInput, InferRequest, InferenceRESTClient, RESTConfig

def asked(row, binary):
    tensor = InferInput("input-0", [1, 4], "FP64")
    tensor.set_data_from_numpy(np.array([row]), binary_data=binary)
    return InferRequest("petal", [tensor])

async def main(url, row):
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    ready = [
        await client.is_server_live(url), await client.is_server_ready(url),
        await client.is_model_ready(url, "petal"), await client.is_model_ready(url, "nothing"),
    ]
    answers = [await client.infer(url, asked(row, binary), model_name="petal") for binary in (True, False)]
    print(json.dumps([ready, [answer.outputs[0].as_numpy().tolist() for answer in answers]]))

asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
"""


def matrix(rows):
    return {"name": "input-0", "shape": [len(rows), 4], "datatype": "FP64", "data": rows}


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(document=maybe(requests) | anything, tail=st.binary(max_size=16), off=st.sampled_from([None, 0, 1, -1]))
def test_any_body_is_answered_or_is_the_callers_fault(served, document, tail, off):
    head = json.dumps(document).encode()
    headers = {} if off is None else {"Inference-Header-Content-Length": str(max(0, len(head) + off))}
    answer = served.post(PATH, content=head + tail, headers=headers)
    assert answer.status_code == 200 or 400 <= answer.status_code < 500, answer.text
    assert answer.status_code == 200 or list(answer.json()) == ["error"]


def test_single_rows_are_answered_as_by_mlflows_protocol_to_the_last_bit(served):
    for row, expected in zip(served.ROWS, served.expected, strict=True):
        as_json = served.post(PATH, json={"inputs": [matrix([row])]}).json()
        assert [as_json["outputs"][0]["data"]] == [expected]
        by_column = {
            "inputs": [
                {"name": name, "shape": [1, 1], "datatype": "FP64", "data": [[value]]}
                for name, value in zip(served.COLUMNS, row, strict=True)
            ]
        }
        assert served.post(PATH, json=by_column).json()["outputs"] == as_json["outputs"]


def test_kserves_client_asks_in_binary_and_in_json(served, kserve_python):
    done = subprocess.run(
        [kserve_python, "-c", _KSERVE, served.url, json.dumps(served.ROWS[0])],
        check=False, capture_output=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout) == [[True, True, True, False], [served.expected[0]] * 2]


def test_an_answer_says_who_gave_it_and_heeds_the_headers_of_all_protocols(served):
    asked = {"inputs": [matrix(served.ROWS)]}
    answer = served.post("/v2/models/iris/infer", json=asked, headers={"X-Titlebout-Arm": "challenger"})
    assert answer.headers["X-Titlebout-Version"] == answer.json()["model_version"] == "2"
    wrong = served.post(PATH, json=asked, headers={"X-Titlebout-Deadline-Ms": "soon"})
    assert wrong.status_code == 400
    assert list(wrong.json()) == ["error"]
    assert served.get(PATH).status_code == 405
    assert list(served.get(PATH).json()) == ["error"]


def test_a_large_binary_input_is_answered_row_for_row(served):
    rows = served.ROWS * 5_000

    body, length = binary_body(("input-0", "FP64", [len(rows), 4], np.array(rows).tobytes()))
    answer = served.post(PATH, content=body, headers={"Inference-Header-Content-Length": str(length)})
    (output,) = answer.json()["outputs"]
    assert output["shape"] == [len(rows)]
    np.testing.assert_allclose(output["data"], np.ravel(served.mlflow(served.ROWS)).tolist() * 5_000, rtol=1e-12)
