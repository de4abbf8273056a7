import os
import subprocess
import sys
import warnings
from pathlib import Path

import msgspec
import numpy as np
import pytest

from loaders import catalog, signature
from loaders.base import Batch, Form, JsonAnswer
from loaders.catalog import CodePolicy
from loaders.errors import BadInput, CodeNotAllowed, LibraryNotInstalled
from loaders.mlmodel import read_mlmodel
from loaders.payload import Nested, Table

# It imports MLflow, keeping to itself what that warns of.
pytest.importorskip("loaders.pyfunc")
import mlflow.pyfunc

MODEL_FROM_CODE = """
from pathlib import Path
import mlflow
from mlflow.pyfunc import PythonModel

class Scaled(PythonModel):
    def load_context(self, context):
        self.factor = float(Path(context.artifacts["factor"]).read_text())

    def predict(self, context, model_input, params=None):
        return model_input["x"] * self.factor + (params or {}).get("offset", 0)

mlflow.models.set_model(Scaled())
"""


with warnings.catch_warnings(record=True):
    # MLflow advises whoever writes a model without type hints; this one is without on purpose.
    class Echo(mlflow.pyfunc.PythonModel):
        """Answers with what *answer* makes of its input."""

        def __init__(self, answer):
            self.answer = answer

        def predict(self, context, model_input, params=None):
            return self.answer(model_input)


def load(path, policy=CodePolicy.ALLOW, *, verified=False):
    return catalog.load(path, policy, verified=verified)


def predict(path, data, params=None):
    enforced = signature.Signature.from_mlmodel(read_mlmodel(path))
    return load(path).predict(*signature.enforce(enforced, data, params))


@pytest.fixture
def from_code(save, tmp_path):
    import pandas as pd
    from mlflow.models import infer_signature

    code = tmp_path / "scaled_model.py"
    code.write_text(MODEL_FROM_CODE)
    (tmp_path / "factor.txt").write_text("2.5")
    frame = pd.DataFrame({"x": [1.0, 2.0]})
    return save(
        "pyfunc", python_model=str(code), artifacts={"factor": str(tmp_path / "factor.txt")},
        signature=infer_signature(frame, frame["x"], params={"offset": 1.0}),
    )  # fmt: skip


def test_a_model_from_code_loads_its_context_and_takes_params(from_code):
    answer = predict(from_code, Table(["x"], [[1, 4]]), {"offset": 10})
    assert answer.form is Form.TABLE
    np.testing.assert_array_equal(answer.columns["x"], [12.5, 20.0])


def test_loading_leaves_the_model_folder_as_it_was(from_code):
    before = sorted(from_code.rglob("*"))
    load(from_code)
    assert sorted(from_code.rglob("*")) == before


@pytest.mark.parametrize(("policy", "verified"), [(CodePolicy.DENY, True), (CodePolicy.REGISTERED, False)])
def test_no_code_of_a_custom_model_runs_where_the_policy_forbids_it(from_code, tmp_path, policy, verified):
    (from_code / "scaled_model.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(CodeNotAllowed, match=r"TITLEBOUT_CODE_POLICY"):
        load(from_code, policy, verified=verified)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(lambda rows: rows * 2, Batch(Form.TENSOR, {"": np.array([[2, 4]])}), id="array"),
        pytest.param(lambda rows: [0.5, 1.5], Batch(Form.TENSOR, {"": np.array([0.5, 1.5])}), id="list of numbers"),
        pytest.param(lambda rows: ["a"], Batch(Form.TENSOR, {"": np.array(["a"], dtype=object)}), id="texts"),
        pytest.param(lambda rows: [1, 2.5], JsonAnswer(b"[1,2.5]"), id="mixed list"),
        pytest.param(lambda rows: {"a": [1], "b": {"c": None}}, JsonAnswer(b'{"a":[1],"b":{"c":null}}'), id="dict"),
        pytest.param(lambda rows: "text", JsonAnswer(b'"text"'), id="text"),
        pytest.param(lambda rows: {"mean": rows.mean()}, JsonAnswer(b'{"mean":1.5}'), id="numpy scalar in a dict"),
    ],
)
def test_answers_keep_their_form(save, answer, expected):
    got = predict(save("pyfunc", python_model=Echo(answer)), Nested([[1, 2]]))
    assert type(got) is type(expected)
    if isinstance(expected, JsonAnswer):
        assert got == expected
    else:
        np.testing.assert_array_equal(got.columns[""], expected.columns[""])


def test_a_frame_of_several_types_is_a_table(save):
    def answer(frame):
        return frame.assign(label="a", missing=None)

    got = predict(save("pyfunc", python_model=Echo(answer)), Table(["x"], [[1.5, 2.5]]))
    assert {name: column.tolist() for name, column in got.columns.items()} == {
        "x": [1.5, 2.5], "label": ["a", "a"], "missing": [None, None],
    }  # fmt: skip


def test_bytes_and_times_of_a_frame_are_a_table_too(save):
    def answer(frame):
        return frame.assign(photo=[b"\xff\x00", None], taken=np.array(["2026-01-02T03:04:05", "NaT"], "datetime64[us]"))

    got = predict(save("pyfunc", python_model=Echo(answer)), Table(["x"], [[1.5, 2.5]]))
    assert got.columns["photo"].tolist() == [b"\xff\x00", None]
    assert got.columns["taken"].dtype.kind == "M"
    assert np.isnat(got.columns["taken"]).tolist() == [False, True]


def test_times_beside_nested_cells_are_iso_8601(save):
    def answer(frame):
        return frame.assign(tags=[["a"], []], taken=np.array(["2026-01-02T03:04:05", "NaT"], "datetime64[us]"))

    got = predict(save("pyfunc", python_model=Echo(answer)), Table(["x"], [[1, 2]]))
    assert [row["taken"] for row in msgspec.json.decode(got.text)] == ["2026-01-02T03:04:05", None]


def test_nested_cells_make_json_records(save):
    got = predict(save("pyfunc", python_model=Echo(lambda frame: frame.assign(tags=[["a", "b"]]))), Table(["x"], [[1]]))
    assert msgspec.json.decode(got.text) == [{"x": 1, "tags": ["a", "b"]}]


def test_a_type_hint_gets_the_list_that_it_names(save, tmp_path):
    code = tmp_path / "hinted.py"
    code.write_text(
        "import mlflow\n"
        "class Upper(mlflow.pyfunc.PythonModel):\n"
        "    def predict(self, model_input: list[str]) -> list[str]:\n"
        "        return [text.upper() for text in model_input]\n"
        "mlflow.models.set_model(Upper())\n"
    )
    got = predict(save("pyfunc", python_model=str(code)), Nested(["a", "b"]))
    assert got.columns[""].tolist() == ["A", "B"]


def test_a_module_that_is_missing_is_named(from_code):
    (from_code / "scaled_model.py").write_text("import no_such_module_anywhere")
    with pytest.raises(LibraryNotInstalled, match="no_such_module_anywhere"):
        load(from_code)


def test_what_mlflow_refuses_is_bad_input(save):
    import pandas as pd
    from mlflow.models import infer_signature

    path = save("pyfunc", python_model=Echo(lambda rows: rows), signature=infer_signature(pd.DataFrame({"x": [1.0]})))
    with pytest.raises(BadInput, match="The model refuses"):
        load(path).predict(Batch(Form.TABLE, {"y": np.array([1.0])}), {})


def test_loading_writes_no_store_and_warns_of_nothing(from_code, tmp_path):
    home = tmp_path / "elsewhere"
    home.mkdir()
    script = (
        "import sys\nfrom pathlib import Path\nfrom loaders import catalog\n"
        "catalog.load(Path(sys.argv[1]), catalog.CodePolicy.ALLOW, verified=False)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    result = subprocess.run(
        [sys.executable, "-c", script, str(from_code)], cwd=home, env=environment, capture_output=True, check=True
    )
    assert (result.stdout, result.stderr) == (b"", b"")
    assert list(home.iterdir()) == []


@pytest.mark.parametrize(
    ("metadata", "batchable"),
    [
        pytest.param(None, False, id="nothing said"),
        pytest.param({"titlebout.batchable": True}, True, id="said so"),
        pytest.param({"titlebout.batchable": "false"}, False, id="a text is no yes"),
    ],
)
def test_rows_of_several_requests_share_a_call_only_where_the_models_author_says_so(save, metadata, batchable):
    assert load(save("pyfunc", python_model=Echo(len), metadata=metadata)).batchable is batchable
