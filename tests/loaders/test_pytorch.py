import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from loaders import catalog, signature
from loaders.base import Batch, Form
from loaders.catalog import CodePolicy
from loaders.errors import BadInput, CodeNotAllowed, InvalidArtifact
from loaders.mlmodel import read_mlmodel
from loaders.payload import Nested, Table

torch = pytest.importorskip("torch")

from loaders import pt2_archive  # noqa: E402  (it imports torch)

pytestmark = pytest.mark.slow  # torch.export takes seconds to import

ROWS = np.linspace(-1, 1, 20).reshape(5, 4).astype(np.float32)


class RunsOnLoad:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()


def expected(net, rows=ROWS):
    with torch.inference_mode():
        return net(torch.from_numpy(rows)).numpy()


def save_exported(save, net, rows=2, **arguments):
    return save("pytorch", net, input_example=ROWS[:rows], pip_requirements=["torch"], **arguments)


def save_pickled(save, net, **arguments):
    return save("pytorch", net, serialization_format="pickle", pip_requirements=["torch"], **arguments)


def load(path, policy=CodePolicy.DENY, *, verified=False):
    return catalog.load(path, policy, verified=verified, device="cpu")


def predict(path, data, policy=CodePolicy.DENY):
    enforced = signature.Signature.from_mlmodel(read_mlmodel(path))
    return load(path, policy).predict(*signature.enforce(enforced, data))


@pytest.mark.parametrize("saved_rows", [1, 2, 3])
@pytest.mark.parametrize("rows", [1, 2, 5])
def test_an_exported_module_takes_any_number_of_rows_though_no_code_may_run(save, net, saved_rows, rows):
    answer = predict(save_exported(save, net, saved_rows), Nested(ROWS[:rows].tolist()))
    assert answer.form is Form.TENSOR
    assert answer.columns[""].dtype == np.float32
    np.testing.assert_allclose(answer.columns[""], expected(net, ROWS[:rows]), rtol=1e-5, atol=1e-6)


def test_a_pickled_module_answers_as_it_did(save, net):
    path = save_pickled(save, net)
    with pytest.raises(CodeNotAllowed, match=r"model\.pth"):
        load(path)
    answer = predict(path, Nested(ROWS.tolist()), CodePolicy.ALLOW)
    np.testing.assert_allclose(answer.columns[""], expected(net), rtol=1e-5, atol=1e-6)


def test_no_gradients_are_kept_of_a_prediction(save, net):
    model = load(save_pickled(save, net), CodePolicy.ALLOW)
    seen = []
    model._module.register_forward_hook(
        lambda _module, _inputs, output: seen.append((torch.is_inference_mode_enabled(), output.requires_grad))
    )
    model.predict(Batch(Form.TENSOR, {"": ROWS}), {})
    assert seen == [(True, False)]


def test_whole_numbers_reach_a_module_of_floats_as_floats(save, net):
    answer = predict(save_pickled(save, net), Nested([[1, 2, 3, 4]]), CodePolicy.ALLOW)
    np.testing.assert_allclose(answer.columns[""], expected(net, np.array([[1, 2, 3, 4]], np.float32)), rtol=1e-5)


def test_whole_numbers_reach_an_embedding_as_they_are(save):
    net = torch.nn.Sequential(torch.nn.Embedding(10, 3), torch.nn.Flatten())
    answer = predict(save_pickled(save, net), Nested([[1, 2]]), CodePolicy.ALLOW)
    assert answer.columns[""].shape == (1, 6)


def test_a_table_is_answered_by_a_table(save, net):
    path = save_pickled(save, net)
    answer = predict(path, Table(list("abcd"), ROWS.T.tolist()), CodePolicy.ALLOW)
    assert answer.form is Form.TABLE
    np.testing.assert_allclose(np.column_stack(list(answer.columns.values())), expected(net), rtol=1e-5, atol=1e-6)


def test_rows_that_do_not_fit_are_bad_input_where_no_signature_said_so_before(save, net):
    with pytest.raises(BadInput, match="The model refuses"):
        predict(save_pickled(save, net), Nested([[1.0, 2.0]]), CodePolicy.ALLOW)
    with pytest.raises(BadInput, match="shape"):
        predict(save_exported(save, net, name="exported"), Nested([[1.0, 2.0]]))


def test_dropout_that_was_exported_at_work_is_a_warning(save, net):
    net = torch.nn.Sequential(net, torch.nn.Dropout()).train()
    assert any("training mode" in warning for warning in load(save_exported(save, net)).warnings)


@pytest.mark.parametrize(
    ("policy", "verified", "runs"),
    [(CodePolicy.DENY, True, False), (CodePolicy.REGISTERED, False, False), (CodePolicy.ALLOW, False, True)],
)
def test_a_pickle_in_place_of_a_module_runs_only_where_it_may(save, net, tmp_path, policy, verified, runs):
    path = save_pickled(save, net)
    torch.save(RunsOnLoad(tmp_path / "ran"), path / "data" / "model.pth")
    with pytest.raises(InvalidArtifact if runs else CodeNotAllowed):
        load(path, policy, verified=verified)
    assert (tmp_path / "ran").exists() is runs


def rewritten(path, change):
    """Write the archive at *path* anew, each record as *change* gives it."""
    with zipfile.ZipFile(path) as source:
        records = {info.filename: source.read(info) for info in source.infolist()}
    with zipfile.ZipFile(path, "w") as target:
        for name, content in records.items():
            for new_name, new_content in change(name, content).items():
                target.writestr(new_name, new_content)


def graph_with(text, new):
    def change(name, content):
        return {name: content.replace(text.encode(), new.encode()) if name.endswith("model.json") else content}

    return change


def marked(config):
    entry = next(iter(config["config"].values()))
    entry["use_pickle"] = True
    return json.dumps(config).encode()


CALLS = "__import__('pathlib').Path('ran').touch()"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(graph_with("Symbol('s", f"{CALLS} or Symbol('s"), id="code in a shape"),
        pytest.param(graph_with("Symbol('s", "parse_expr('s"), id="a parser in a shape"),
        pytest.param(graph_with('"guards_code": []', f'"guards_code": ["{CALLS}"]'), id="code in a guard"),
        pytest.param(
            graph_with("torch.ops.aten.relu.default", "torch.utils.cpp_extension.load"), id="a function of torch"
        ),
        pytest.param(graph_with("builtins.tuple", "collections.defaultdict"), id="a type that imports"),
        pytest.param(
            lambda name, content: {
                name: pickle.dumps(RunsOnLoad(Path("ran"))) if name.endswith("model.pt") else content
            },
            id="a pickle as sample input",
        ),
        pytest.param(
            lambda name, content: {
                name: marked(json.loads(content)) if name.endswith("weights_config.json") else content
            },
            id="a pickle as weights",
        ),
        pytest.param(
            lambda name, content: (
                {name: content}
                | ({"model/data/aotinductor/model/x.so": b"\x7fELF"} if name.endswith("byteorder") else {})
            ),
            id="a library",
        ),
        pytest.param(
            lambda name, content: {name: content, name.replace("models/model", "models/Model"): content}, id="a twin"
        ),
        pytest.param(lambda name, content: {name: content, "another" + name: content}, id="two archives"),
    ],
)
def test_an_archive_that_could_run_code_is_refused_without_leave(save, net, monkeypatch, tmp_path, change):
    monkeypatch.chdir(tmp_path)
    path = save_exported(save, net)
    archive = path / "data" / "model.pt2"
    before = archive.read_bytes()
    rewritten(archive, change)
    assert archive.read_bytes() != before
    with pytest.raises(CodeNotAllowed, match=r"model\.pt2"):
        load(path)
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "net",
    [
        pytest.param(lambda: torch.nn.Sequential(torch.nn.Conv1d(4, 2, 2), torch.nn.BatchNorm1d(2)), id="convolution"),
        pytest.param(lambda: torch.nn.LSTM(3, 2, batch_first=True), id="recurrent"),
        pytest.param(lambda: torch.nn.TransformerEncoderLayer(3, 1, 4, batch_first=True), id="attention"),
    ],
)
@pytest.mark.filterwarnings("ignore:The tensor attributes:UserWarning")  # torch, of its own LSTM
def test_ordinary_modules_count_as_free_of_code(tmp_path, net):
    program = torch.export.export(
        net().eval(), (torch.ones(2, 4, 3),), dynamic_shapes=[{0: torch.export.Dim.AUTO}],
    )  # fmt: skip
    torch.export.save(program, tmp_path / "model.pt2")
    assert pt2_archive.find_code(tmp_path / "model.pt2") is None


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut", b"no archive"])
def test_a_truncated_file_is_refused_by_name(save, net, content):
    path = save_exported(save, net)
    (path / "data" / "model.pt2").write_bytes(content)
    with pytest.raises(InvalidArtifact, match=r"model\.pt2"):
        load(path)


def test_texts_are_refused(save, net):
    model = load(save_exported(save, net))
    with pytest.raises(BadInput, match="numbers"):
        model.predict(Batch(Form.TENSOR, {"": np.array([["a"]], dtype=object)}), {})
