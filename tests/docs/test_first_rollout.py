"""The page that goes from nothing to a finished rollout: each of its files and commands, in order, on a real server."""

import os
import re
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from tests.deployment.tools import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

PAGE = (ROOT / "docs" / "first-rollout.md").read_text()
SERVER = "http://127.0.0.1:8080"
BLOCK = re.compile(r"(?ms)^```(?:python (?P<file>\S+)|sh)\n(?P<text>.*?)^```")
TIMEOUT_S = 240


class Reader:
    """Somebody who does what the page says, in a folder of their own, at another port."""

    def __init__(self, url, folder):
        self.url = url
        self._folder = folder
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("TITLEBOUT_", "MLFLOW_"))},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TITLEBOUT_URL": url,
        }
        self.beside = []
        self.said = {}
        """What each command printed."""

    def write(self, name, text):
        (self._folder / name).write_text(text.replace(SERVER, self.url))

    def type(self, command):
        """Run a line to its end, or beside the others if it says so."""
        options = {"cwd": self._folder, "env": self._environment, "text": True, "stderr": subprocess.STDOUT}
        if command.endswith("&"):
            arguments = command.removesuffix("&").split()
            self.beside.append(subprocess.Popen(arguments, stdout=subprocess.DEVNULL, **options))
            return
        shell = ["bash", "-c", command]
        done = subprocess.run(shell, stdout=subprocess.PIPE, timeout=TIMEOUT_S, check=False, **options)
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        self.said[command] = done.stdout

    def leave(self):
        for process in self.beside:
            process.terminate()
            process.wait()


@pytest.fixture
def reader(serve, tmp_path):
    reader = Reader(serve().url, tmp_path)
    yield reader
    reader.leave()


def test_the_page_leads_from_nothing_to_a_finished_rollout(reader):
    blocks = [(match["file"], match["text"]) for match in BLOCK.finditer(PAGE)]
    assert blocks[0] == (None, "titlebout serve --port 8080\n")
    for name, text in blocks[1:]:
        if name is None:
            for command in text.splitlines():
                reader.type(command)
        else:
            reader.write(name, text)
    assert all(process.poll() is None for process in reader.beside), "the callers met an error"
    said = {command.split(" --")[0]: words for command, words in reader.said.items()}
    assert "tested" in said["python refused.py"]
    # How sure it is depends on how much was asked meanwhile.
    assert "accuracy" in said["titlebout compare digits"]
    assert "fewer digits misread" in said["titlebout log digits"]
    client = mlflow.MlflowClient(reader.url)
    assert client.get_model_version_by_alias("digits", "champion").version == "2"
