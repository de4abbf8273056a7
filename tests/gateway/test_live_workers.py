"""What each process of a running server imports and unpickles: models' libraries and pickles are the hosts' alone."""

import io
import pickle
import warnings
from pathlib import Path

import httpx
import numpy as np
import psutil
import pyarrow as pa
import pytest
from sklearn.linear_model import LinearRegression

from tests.gateway.test_serving import ask, descendants, hosts_of, wait_until_served
from tests.training import IRIS, ROW, mlflow, register, register_function, set_alias

# It takes seconds to import torch.
pytestmark = [pytest.mark.e2e, pytest.mark.slow]

LIBRARIES = {
    "cloudpickle",
    "joblib",
    "mlflow",
    "onnxruntime",
    "pandas",
    "pyarrow",
    "scipy",
    "skops",
    "sklearn",
    "torch",
}

# Each interpreter of the server runs it as it starts; a host has it from its warm parent, and the open file too, since
# it may open none itself.
_WATCHER = """
import os, sys

told = os.open({told!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
said = set()

def watch(event, arguments):
    match event:
        case "import":
            line = f"{{os.getpid()}} imports {{arguments[0].partition('.')[0]}}\\n"
        case "pickle.find_class":
            line = f"{{os.getpid()}} unpickles {{'.'.join(arguments)}}\\n"
        case _:
            return
    if line not in said:
        said.add(line)
        os.write(told, line.encode())

sys.addaudithook(watch)
"""


class Watch:
    """What each process has imported and unpickled so far."""

    def __init__(self, folder):
        self.folder = folder
        self._told = folder / "told"
        (folder / "sitecustomize.py").write_text(_WATCHER.format(told=str(self._told)))

    def done_by(self, pids, verb):
        lines = [line.split(maxsplit=2) for line in self._told.read_text().splitlines()]
        return {what for pid, did, what in lines if int(pid) in pids and did == verb}


def telltales():
    """A model of each flavor that answers with the id of the process that unpickled it.

    Classes of a function, so that they are pickled by value.
    """
    import torch

    class BornIn:
        def __reduce__(self):
            import os

            return os.getpid, ()

    class Estimator(LinearRegression):
        def predict(self, rows):
            import numpy as np

            return np.full(len(rows), self.born_in)

    class Net(torch.nn.Module):
        def forward(self, rows):
            import torch

            return torch.full((len(rows),), self.born_in)

    class Function(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return [self.born_in] * len(model_input)

    estimator, net, function = Estimator().fit(IRIS.data, IRIS.target), Net(), Function()
    for model in (estimator, net, function):
        model.born_in = BornIn()
    return estimator, net, function


def register_net(url, name, net):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mlflow.set_tracking_uri(url)
        with mlflow.start_run():
            mlflow.pytorch.log_model(
                net,
                name="model",
                registered_model_name=name,
                serialization_format="pickle",
                pip_requirements=["torch"],
            )


@pytest.fixture
def watched(serve, tmp_path):
    """A server of two workers with a pickled model of each of three flavors, and what its processes do."""
    watch = Watch(tmp_path)
    server = serve("--workers", "2", environment={"PYTHONPATH": str(watch.folder)})
    estimator, net, function = telltales()
    register(server.url, "estimator", estimator, input_example=None, serialization_format="cloudpickle")
    register_net(server.url, "net", net)
    register_function(server.url, "function", function)
    for name in ("estimator", "net", "function"):
        set_alias(server.url, name, "champion", 1)
    for name in ("estimator", "net", "function"):
        wait_until_served(server.url, name, champion=1)
    return server, watch


def stream(rows):
    table = pa.table({str(place): column for place, column in enumerate(np.transpose(rows))})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def npy(array):
    sink = io.BytesIO()
    np.save(sink, array, allow_pickle=True)
    return sink.getvalue()


def test_models_libraries_are_in_hosts_alone_and_so_is_all_unpickling(watched):
    server, watch = watched
    hosts = hosts_of(server)
    assert len(hosts) == 3
    # Each worker gets some of each form, an array of pickled objects among them.
    for name in ("estimator", "net", "function"):
        for _ in range(10):
            assert ask(server.url, name).json()["predictions"][0] in hosts
    for kind, body, status in [
        ("application/x-npy", npy(np.array([ROW], np.float64)), 200),
        ("application/vnd.apache.arrow.stream", stream([ROW]), 200),
        ("application/x-npy", npy(np.array([[Path(), 1, 2, 3]])), 400),
        ("application/x-npy", pickle.dumps(Path()), 400),
        ("application/vnd.apache.arrow.stream", pickle.dumps(Path()), 400),
    ]:
        for _ in range(10):
            answer = httpx.post(
                f"{server.url}/endpoints/estimator/invocations", content=body, headers={"Content-Type": kind}
            )
            assert answer.status_code == status, (kind, answer.text)

    workers = set(descendants(server, "gateway.worker"))
    warm_parents = set(descendants(server, "gateway.pool.warm_parent")) - hosts
    codecs = set(descendants(server, "gateway.columnar.codec_process"))
    assert (len(workers), len(warm_parents)) == (2, 3)
    assert codecs
    # Nobody but hosts, and those do: so the watch was kept.
    for pid in {server.process.pid, *workers, *warm_parents, *codecs}:
        assert watch.done_by({pid}, "imports")
        assert watch.done_by({pid}, "unpickles") == set()
    for pid in hosts:
        assert "posix.getpid" in watch.done_by({pid}, "unpickles")

    assert {"sklearn", "torch", "mlflow"} <= watch.done_by(warm_parents, "imports")
    assert watch.done_by(workers, "imports") & LIBRARIES == set()
    # The supervisor judges challengers, once there are some.
    assert watch.done_by({server.process.pid}, "imports") & LIBRARIES <= {"scipy"}
    for worker in workers:
        mapped = {part for region in psutil.Process(worker).memory_maps() for part in Path(region.path).parts}
        assert "numpy" in mapped
        assert mapped & LIBRARIES == set()
