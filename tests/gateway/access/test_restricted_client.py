"""MLflow's own client as somebody who is granted an experiment, or a model, and nothing else."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException

from gateway.access.gatekeeper import Gatekeeper
from gateway.settings import Settings
from tests.conftest import running_api
from tests.gateway.access.tracking_world import let_in
from tracking.access.grants import Grant

# The client warns of its own future and of its dependencies'; what it does is tested, not what it says of itself.
pytestmark = pytest.mark.filterwarnings("ignore")

MODEL = {
    "MLmodel": "flavors:\n  python_function:\n    loader_module: a_restricted_model\n    code: code\n",
    "code/a_restricted_model.py": "class Model:\n    def predict(self, data): return 'predicted'\n\n"
    "def _load_pyfunc(path): return Model()\n",
}


class Server(NamedTuple):
    gate: Gatekeeper
    be: Callable[[str], MlflowClient]
    """The client, as this one."""


@pytest.fixture
def server(tmp_path, monkeypatch) -> Iterator[Server]:
    gate = Gatekeeper(is_open=False, clock=lambda: 0.0)
    let_in(
        gate,
        admin=[Grant("admin")],
        ann=[Grant.parse("publisher:experiment:ann*"), Grant.parse("publisher:model:churn")],
        bob=[Grant.parse("viewer:model:churn")],
    )
    with running_api(Settings(data=str(tmp_path / "data")), gate) as url:
        mlflow.set_tracking_uri(url)

        def be(name: str) -> MlflowClient:
            monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", name)
            return MlflowClient(url, url)

        yield Server(gate, be)


def model_folder(folder: Path) -> Path:
    for name, content in MODEL.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return folder


def refused(status: int) -> "pytest.RaisesExc[MlflowException]":
    return pytest.raises(MlflowException, check=lambda error: error.get_http_status_code() == status)


def test_an_experiment_of_ones_own_is_all_there_is(server, tmp_path):
    admin = server.be("admin")
    others = admin.create_experiment("others")
    other_run = admin.create_run(others).info.run_id
    admin.log_text(other_run, "secret", "notes.txt")
    ann = server.be("ann")
    own = ann.create_experiment("ann's")
    run = ann.create_run(own).info.run_id
    ann.log_metric(run, "loss", 0.5)
    ann.log_param(run, "depth", "3")
    ann.log_text(run, "notes", "notes.txt")
    assert [one.name for one in ann.search_experiments()] == ["ann's"]
    assert [one.info.run_id for one in ann.search_runs([own, others, "0"])] == [run]
    assert [one.path for one in ann.list_artifacts(run)] == ["notes.txt"]
    assert Path(download_artifacts(f"runs:/{run}/notes.txt", dst_path=str(tmp_path))).read_text() == "notes"
    for ask in (
        lambda: ann.get_run(other_run),
        lambda: ann.log_metric(other_run, "loss", 0.0),
        lambda: ann.create_run(others),
        lambda: ann.list_artifacts(other_run),
        lambda: ann.get_experiment(others),
    ):
        with refused(404):
            ask()
    with refused(403):
        ann.create_experiment("others too")
    assert ann.get_experiment_by_name("others") is None
    let_in(server.gate, ann=[Grant.parse("publisher:experiment:ann*"), Grant.parse("viewer:experiment:others")])
    assert ann.get_run(other_run).data.metrics == {}
    with refused(403):
        ann.log_metric(other_run, "loss", 0.0)
    with pytest.raises(Exception, match="403"):
        ann.log_text(other_run, "changed", "notes.txt")
    assert download_artifacts(f"runs:/{other_run}/notes.txt", dst_path=str(tmp_path / "others"))


def test_who_may_read_a_model_may_read_its_files(server, tmp_path):
    from mlflow import pyfunc

    ann = server.be("ann")
    run = ann.create_run(ann.create_experiment("ann's")).info.run_id
    ann.log_artifacts(run, str(model_folder(tmp_path / "model")), "model")
    ann.log_text(run, "not a part of it", "notes.txt")
    ann.create_registered_model("churn")
    ann.create_model_version("churn", f"runs:/{run}/model", run)
    bob = server.be("bob")
    assert pyfunc.load_model("models:/churn/1").predict([1]) == "predicted"
    files = Path(download_artifacts("models:/churn/1", dst_path=str(tmp_path / "bobs")))
    assert (files / "MLmodel").read_text() == MODEL["MLmodel"]
    for ask in (
        lambda: bob.get_run(run),
        lambda: bob.list_artifacts(run),
    ):
        with refused(404):
            ask()
    assert bob.search_experiments() == []
    with pytest.raises(Exception, match="404"):
        download_artifacts(f"mlflow-artifacts:/1/{run}/artifacts/notes.txt", dst_path=str(tmp_path / "bobs"))
    # Who may read the model may not make the next version of it.
    with refused(403):
        bob.create_model_version("churn", f"runs:/{run}/model", run)
