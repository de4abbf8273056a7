"""`titlebout loadtest` on a running server: the report is kept with the version, shown, and the exit status tells."""

import json
import signal
import subprocess
import sys

import httpx
import psutil
import pytest
from click.testing import CliRunner

from gateway.cli import cli
from gateway.cli.client import Client
from gateway.cli.server_process import free_port, server_process
from tests.gateway.test_serving import wait_until, wait_until_served
from tests.training import constant_classifier, register, set_alias

pytestmark = pytest.mark.e2e

VERSIONS = "/api/1.0/titlebout/models/iris/versions"


@pytest.fixture(scope="module")
def iris(tmp_path_factory):
    """A champion, and a version that nothing means."""
    with server_process(tmp_path_factory.mktemp("load-tested"), "--workers", "2", port=free_port()) as server:
        register(server.url, "iris", constant_classifier(0))
        register(server.url, "iris", constant_classifier(1))
        set_alias(server.url, "iris", "champion", 1)
        wait_until_served(server.url, "iris", champion=1)
        yield server.url


def loadtest(url, *arguments):
    # In this process, but for the load: what is loaded has processes of its own, and so has Locust.
    return CliRunner().invoke(cli, ["loadtest", "iris", *arguments, "--users", "4", "--server", url])


def newest(url, version):
    found = httpx.get(f"{url}{VERSIONS}/{version}/load-tests").json()["load_tests"][0]
    return found, httpx.get(f"{url}{VERSIONS}/{version}/load-tests/{found['number']}").json()["report"]


def test_a_version_takes_turns_with_the_champion_and_its_report_is_shown_with_it(iris, tmp_path):
    bodies = tmp_path / "bodies.jsonl"
    bodies.write_text('{"inputs": [[5.1, 3.5, 1.4, 0.2]]}\n{"inputs": [[6.0, 2.9, 4.5, 1.5]]}\n')
    done = loadtest(iris, "2", "--for", "3s", "--slo", "failures=0", "--slo", "p99=30s", "--input", str(bodies))
    # Whether two versions that are the same come out so is for other tests, which aren't in a hurry.
    assert done.exit_code in {0, 1}, done.output
    assert "Version 2 is no arm of iris: pinned until the end of the test." in done.output
    found, report = newest(iris, 2)
    assert found["digest"] == Client(iris).resolve("models:/iris/2")["digest"]
    assert found["passed"] is (done.exit_code == 0)
    assert found["against"] == 1
    assert report["asked"]["input"] == "given"
    assert report["tested"]["failed"] == report["comparison"]["baseline"]["failed"] == 0
    for figures in (report["tested"], report["comparison"]["baseline"]):
        assert figures["requests"] > 0
        assert figures["processor_ms"] > 0
        assert figures["p50_ms"] <= figures["p99_ms"] <= figures["max_ms"]
    assert report["comparison"]["processor"]["pairs"] >= 12
    assert sum(point[1] for point in report["series"]) == report["tested"]["requests"]
    # It is unpinned, and the pin was all that kept it there.
    wait_until(lambda: all(slot["version"] != 2 for slot in Client(iris).status()["replicas"][0]["slots"]))
    log = CliRunner().invoke(cli, ["log", "iris", "--server", iris]).output
    assert "version 2 load tested" in log


def test_the_champion_is_tested_alone_and_its_page_shows_the_newest(iris):
    assert "None yet" in httpx.get(f"{iris}/endpoints/iris/docs").text
    broken = loadtest(iris, "champion", "--for", "1s", "--slo", "p99=0.001ms")
    assert broken.exit_code == 1
    assert "BROKEN     p99=0.001ms" in broken.output
    kept = loadtest(iris, "@champion", "--for", "1s")
    assert kept.exit_code == 0, kept.output
    assert "kept       failures=0" in kept.output
    found, report = newest(iris, 1)
    assert (found["number"], found["passed"], found["against"]) == (2, True, None)
    assert report["asked"]["input"] == "example"
    listed = loadtest(iris, "1", "--list").output
    assert [line.split()[0] for line in listed.splitlines()] == ["NUMBER", "2", "1"]
    page = httpx.get(f"{iris}/endpoints/iris/docs").text
    assert "Passed, " in page
    assert "Number 2 of version 1" in page
    assert "<svg" in page
    wait_until(lambda: "gateway_host_cpu_seconds" in httpx.get(f"{iris}/metrics").text)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["9"], "version 9", id="no such version"),
        pytest.param(["nobody"], "nobody", id="no such alias"),
        pytest.param(["1", "--slo", "p98=1ms"], "'p98' isn't measured", id="an SLO that is none"),
        pytest.param(["1", "--for", "soon"], "as in 30s", id="a time that is none"),
        pytest.param(["1", "--for", "2d"], "to 900 s", id="too long"),
        pytest.param(["2", "--alone", "--against", "1"], "contrary", id="both ways"),
        pytest.param(["1", "--against", "champion"], "with itself", id="beside itself"),
    ],
)
def test_what_could_not_be_run_is_status_2_and_keeps_nothing(iris, arguments, said):
    before = httpx.get(f"{iris}{VERSIONS}/1/load-tests").json()
    done = loadtest(iris, *arguments)
    assert done.exit_code == 2
    assert said in done.output
    assert httpx.get(f"{iris}{VERSIONS}/1/load-tests").json() == before


def test_an_input_that_the_model_refuses_is_found_before_the_load(iris, tmp_path):
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps({"inputs": [[1, 2]]}))
    done = loadtest(iris, "1", "--input", str(wrong))
    assert done.exit_code == 2
    assert "Version 1 doesn't answer" in done.output


def test_a_version_behind_a_bound_is_put_under_load_and_asked_by_nobody_else(iris):
    set_alias(iris, "iris", "challenger", 2)
    wait_until_served(iris, "iris", champion=1, challenger=2)
    gate = f"{iris}/api/1.0/titlebout/models/iris/gates/better"
    needs = {"kind": "comparison", "metric": "accuracy"}
    httpx.put(gate, json={"needs": needs, "aliases": [], "share_over_bp": 1000}).raise_for_status()

    def is_refused():
        body = {"inputs": [[5.1, 3.5, 1.4, 0.2]]}
        return httpx.post(f"{iris}/endpoints/iris/versions/2/invocations", json=body).status_code == 403

    wait_until(is_refused)
    done = loadtest(iris, "challenger", "--for", "1s")
    assert done.exit_code in {0, 1}, done.output
    _, report = newest(iris, 2)
    assert report["tested"]["requests"] > report["tested"]["failed"] == 0
    wait_until(is_refused)
    httpx.delete(gate).raise_for_status()


@pytest.mark.parametrize("ends", [signal.SIGINT, signal.SIGKILL])
def test_the_load_ends_with_whoever_ordered_it_and_nothing_is_kept(iris, ends):
    before = httpx.get(f"{iris}{VERSIONS}/1/load-tests").json()
    spent_s = spent(iris)
    command = [sys.executable, "-m", "gateway.cli", "loadtest", "iris", "1", "--for", "5m", "--server", iris]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as ordering:
        wait_until(lambda: spent(iris) > spent_s + 0.1)
        [load] = psutil.Process(ordering.pid).children()
        ordering.send_signal(ends)
        said, _ = ordering.communicate(timeout=60)
    wait_until(lambda: not load.is_running() or load.status() == psutil.STATUS_ZOMBIE)
    assert ordering.returncode == {signal.SIGINT: 2, signal.SIGKILL: -9}[ends]
    assert ends == signal.SIGKILL or b"nothing was kept" in said
    assert httpx.get(f"{iris}{VERSIONS}/1/load-tests").json() == before


def spent(url):
    """Processor seconds of version 1."""
    return httpx.get(f"{url}/api/1.0/titlebout/endpoints/iris/versions/1/processor-time").json()["processor_s"]
