"""The load test itself is tested against a stand-in that speaks the scoring answer, rightly or wrongly."""

import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from gateway.cli.server_process import free_port
from tests.loadtests.stand_in import Answer, standing_in

pytestmark = pytest.mark.e2e

_ROOT = Path(__file__).parents[2]


def right_answer(rows: list[object], unit: str | None) -> Answer:
    share = sha256(unit.encode()).digest()[0] if unit else os.urandom(1)[0]
    arm = "champion" if share < 205 else "challenger"
    headers = {
        "X-Titlebout-Arm": arm,
        "X-Titlebout-Version": "1" if arm == "champion" else "2",
        "X-Titlebout-Epoch": "1",
    }
    return 200, headers, {"predictions": [0] * len(rows)}


def one_row_short(rows: list[object], unit: str | None) -> Answer:
    status, headers, _ = right_answer(rows, unit)
    # The first question, of one row, is answered rightly: the fault must be found under load.
    return status, headers, {"predictions": [0] * max(1, len(rows) - 1)}


def forgetful_of_units(rows: list[object], _unit: str | None) -> Answer:
    return right_answer(rows, None)


def hanging_for_units(released: threading.Event) -> Callable[[list[object], str | None], Answer]:
    def answer(rows: list[object], unit: str | None) -> Answer:
        if unit:
            released.wait(30)
        return right_answer(rows, unit)

    return answer


def loading_at_first() -> Callable[[list[object], str | None], Answer]:
    asked = itertools.count()

    def answer(rows: list[object], unit: str | None) -> Answer:
        if next(asked) < 2:
            return 503, {}, {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "version 1 is LOADING"}
        return right_answer(rows, unit)

    return answer


def no_endpoint(_rows: list[object], _unit: str | None) -> Answer:
    return 404, {}, {"error_code": "ENDPOINT_NOT_FOUND", "message": "There is no endpoint; there are: churn."}


def loadtest(url: str, *options: str, timeout_s: float = 10) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "loadtests.run", "--url", url, "--users", "8", "--duration-s", "1", *options]
    environment = {**os.environ, "LOADTEST_TIMEOUT_S": str(timeout_s)}
    return subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_right_answers_within_the_slo_pass_and_show_the_figures():
    with standing_in(right_answer) as url:
        done = loadtest(url, "--slo", "p99=5s", "--slo", "failures=0")
    assert done.returncode == 0, done.stdout + done.stderr
    for figure in ("requests", "p50", "p95", "p99", "champion", "challenger", "SLO kept"):
        assert figure in done.stdout


def test_a_server_that_is_still_loading_is_waited_for():
    with standing_in(loading_at_first()) as url:
        done = loadtest(url, "--slo", "p99=5s", "--slo", "failures=0")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_breached_slo_fails():
    with standing_in(right_answer) as url:
        done = loadtest(url, "--slo", "p99=0.001ms")
    assert done.returncode == 1
    assert "SLO BREACHED: p99 " in done.stderr


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        pytest.param(one_row_short, "predictions for", id="a prediction short"),
        pytest.param(forgetful_of_units, "a unit moved from", id="units that don't keep their arm"),
    ],
)
def test_wrong_answers_fail_although_their_status_is_200(answer, what):
    with standing_in(answer) as url:
        done = loadtest(url, "--slo", "p99=5s", "--slo", "failures=0")
    assert done.returncode == 1
    assert what in done.stdout
    assert "SLO BREACHED: failures" in done.stderr


def test_requests_that_hang_to_the_end_are_failures_and_not_forgotten():
    released = threading.Event()
    with standing_in(hanging_for_units(released)) as url:
        done = loadtest(url, "--slo", "p99=5s", "--slo", "failures=0", timeout_s=1.5)
        released.set()
    assert done.returncode == 1
    assert "no answer:" in done.stdout


def test_a_server_that_is_not_there_is_one_clear_sentence():
    done = loadtest(f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 2
    assert "make serve" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_endpoint_is_told_in_the_servers_own_words():
    with standing_in(no_endpoint) as url:
        done = loadtest(url)
    assert done.returncode == 2
    assert "there are: churn" in done.stderr
