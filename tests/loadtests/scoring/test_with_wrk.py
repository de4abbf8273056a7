"""A real wrk on a real server, the smallest there is."""

import json
import shutil

import msgspec
import pytest

from loadtests.effort import Effort
from loadtests.scoring import measuring
from loadtests.scoring.models import EXAMPLES, LOGISTIC, Examples
from loadtests.scoring.servers import ECHO, Echo, ScoringServer, WrongAnswer
from loadtests.scoring.work import Work

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk isn't installed (Debian's package wrk)"),
]


class Parrot(Echo):
    """Says the row itself for its prediction."""

    check = ScoringServer.check

    def predictions(self, answer):
        return json.loads(answer)["inputs"]


ONE_ROW = Work("logistic", LOGISTIC, rows=1, connections=4, goals=())


@pytest.fixture
def echo(tmp_path):
    files = tmp_path / "files"
    files.mkdir()
    rows = [[5.1, 3.5, 1.4, 0.2 + number / 10] for number in range(8)]
    (files / EXAMPLES).write_bytes(msgspec.json.encode(Examples(rows, [0] * len(rows))))
    server = Echo(tmp_path / "echo", LOGISTIC, files)
    yield server
    server.stop()


def test_a_server_is_started_loaded_and_stopped(echo):
    told = []
    (start,) = measuring.starts([echo], 1, told.append).values()
    assert start.start_s > 0
    assert start.memory_mib > 1
    echo.start()
    found = measuring.rates(ONE_ROW, [echo], Effort(2, 1), told.append)[ECHO]
    assert found.per_s_least <= found.per_s <= found.per_s_most
    assert found.per_s > 100
    assert 0 < found.p50_ms <= found.p99_ms
    assert 1 < found.processor_us < 10_000
    assert found.errors == 0
    assert told[-1] == "logistic regression, 1 row, 4 connections: echo, round 2 of 2"


def test_a_server_that_answers_otherwise_than_offline_is_not_measured(echo):
    parrot = Parrot(echo.folder / "parrot", LOGISTIC, echo.files)
    try:
        parrot.start()
        with pytest.raises(WrongAnswer, match=r"echo answered \[\[5.1, .*; offline the model says \[0\]"):
            measuring.rates(ONE_ROW, [parrot], Effort(1, 1), print)
    finally:
        parrot.stop()
