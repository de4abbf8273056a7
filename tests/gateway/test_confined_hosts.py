"""A model's code, in a real host: it reaches nobody, sees no secret, and takes with it what it started."""

import os
import socket
from pathlib import Path

import httpx
import psutil
import pytest
from click.testing import CliRunner

from gateway.cli import cli
from gateway.cli.client import Client
from gateway.pool.confinement import landlock
from tests.gateway.test_serving import wait_until, wait_until_served
from tests.training import mlflow, register_function, set_alias

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(landlock.find_abi() == 0, reason="this kernel has no Landlock"),
]


def curious():
    """A model that tries what its input says. A class of a function, so that it is pickled by value."""

    class Curious(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            import numpy as np

            wish, argument = map(str, np.asarray(model_input).ravel())
            try:
                return [str(getattr(self, wish)(argument))]
            except OSError as error:
                return [type(error).__name__]

        def connect(self, port):
            import socket

            return socket.create_connection(("127.0.0.1", int(port)))

        def read(self, path):
            from pathlib import Path

            return len(Path(path).read_bytes())

        def write(self, path):
            from pathlib import Path

            return Path(path).write_text("x")

        def find_variable(self, name):
            import os

            return os.environ.get(name)

        def write_to_scratch(self, _):
            import tempfile
            from pathlib import Path

            Path("here").write_text("x")
            with tempfile.NamedTemporaryFile() as file:
                return file.name

        def own_pid(self, _):
            import os

            return os.getpid()

        def end_process(self, pid):
            import os

            return os.kill(int(pid), 9)

        def start_process(self, group):
            import os
            import time

            pid = os.fork()
            if pid == 0:
                if group == "of its own":
                    os.setsid()
                time.sleep(600)
            return pid

        def work_in_parallel(self, _):
            from joblib import Parallel, delayed

            return sum(Parallel(n_jobs=2)(delayed(abs)(-number) for number in range(4)))

    return Curious()


def test_a_models_code_reaches_nobody_sees_no_secret_and_takes_with_it_what_it_started(serve):
    server = serve(environment={"AWS_SECRET_ACCESS_KEY": "planted-secret", "TITLEBOUT_HOST_THREADS": "2"})
    register_function(server.url, "curious", curious())
    set_alias(server.url, "curious", "champion", 1)
    wait_until_served(server.url, "curious", champion=1)

    def tries(wish, argument=""):
        body = {"inputs": [wish, str(argument)]}
        answer = httpx.post(f"{server.url}/endpoints/curious/invocations", json=body, timeout=60)
        return answer.json()["predictions"][0]

    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert tries("connect", listener.getsockname()[1]) == "PermissionError"
    assert tries("write", server.data / "new") == "PermissionError"
    assert tries("write", "/tmp/not-scratch") == "PermissionError"
    assert tries("read", server.data / "titlebout.db") == "PermissionError"
    assert tries("read", f"/proc/{server.process.pid}/environ") == "PermissionError"
    assert tries("find_variable", "AWS_SECRET_ACCESS_KEY") == "None"
    assert tries("find_variable", "OMP_NUM_THREADS") == "2"
    if landlock.find_abi() >= 6:
        assert tries("end_process", server.process.pid) == "PermissionError"

    # Its lines to the supervisor and to the worker, and where it listens; nothing of its parent's or of other hosts'.
    opened = [str(path.readlink()).partition(":")[0] for path in Path(f"/proc/{tries('own_pid')}/fd").iterdir()]
    assert opened.count("socket") == 3, opened
    assert "pipe" not in opened, opened

    # What models do need.
    assert int(tries("read", os.__file__)) > 0
    assert "/scratch/host-" in tries("write_to_scratch")
    assert tries("work_in_parallel") == "6"

    started = [int(tries("start_process", group)) for group in ("its host's", "of its own")]
    assert all(map(psutil.pid_exists, started))
    assert server.log.count('"host_confined"') == 1

    (replica,) = Client(server.url).status()["replicas"]
    held_to = replica["slots"][0]["confinement"]
    assert held_to["files"] == f"landlock ABI {landlock.find_abi()}"
    assert (held_to["network"], held_to["threads"]) == ("seccomp", "2")
    assert held_to["memory"].endswith("iB")
    shown = CliRunner().invoke(cli, ["status", "--server", server.url]).output
    assert "network: seccomp" in shown

    os.kill(int(tries("own_pid")), 9)
    wait_until(lambda: not any(map(psutil.pid_exists, started)), timeout_s=30)


def test_a_host_reaches_out_where_confinement_is_off(serve):
    server = serve(environment={"TITLEBOUT_HOST_CONFINEMENT": "off"})
    register_function(server.url, "curious", curious())
    set_alias(server.url, "curious", "champion", 1)
    wait_until_served(server.url, "curious", champion=1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        body = {"inputs": ["connect", str(listener.getsockname()[1])]}
        answer = httpx.post(f"{server.url}/endpoints/curious/invocations", json=body, timeout=60)
    assert "socket.socket" in answer.json()["predictions"][0]
    (replica,) = Client(server.url).status()["replicas"]
    assert replica["slots"][0]["confinement"]["network"] == "open"
