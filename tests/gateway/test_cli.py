"""The command line as a person uses it: help to work from, sentences instead of stack traces, honest exit statuses."""

import subprocess
import sys

import pytest
from click.testing import CliRunner

from gateway.cli import _VERBS, cli
from gateway.cli.split import _basis_points
from tests.gateway.test_serving import wait_until_served
from tests.training import constant_classifier, register, set_alias

# Seconds of processes and clocks.
pytestmark = pytest.mark.slow


def titlebout(*arguments, environment=None, timeout_s=120):
    return subprocess.run(
        [sys.executable, "-m", "gateway.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env={"PATH": "/usr/bin:/bin", "COLUMNS": "200", **(environment or {})},
        check=False,
    )


def test_help_lists_every_verb_and_each_verb_has_help():
    runner = CliRunner()
    listed = runner.invoke(cli, ["--help"]).output
    for verb in _VERBS:
        assert f"  {verb} " in listed
        shown = runner.invoke(cli, [verb, "--help"])
        assert shown.exit_code == 0
        assert "Usage: cli" in shown.output


def test_a_port_that_is_taken_is_said_in_a_sentence(api_server, tmp_path):
    done = titlebout("serve", "--port", api_server.rsplit(":", 1)[1], "--data", str(tmp_path))
    assert done.returncode == 1
    assert "try --port" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(("--data", "/dev/null/data"), "can't be written: Not a directory", id="no folder"),
        pytest.param(("--host", "nobody.invalid"), "Can't listen on nobody.invalid", id="no such host"),
        pytest.param(("--host", "ü" * 80), "Can't listen on", id="a host that is no name"),
        pytest.param(("--model", "models:/iris/Production"), "names a stage", id="a stage"),
        pytest.param(("--model", "models:/@"), "Not a proper models:/ URI", id="no model"),
    ],
)
def test_what_would_keep_it_from_serving_is_said_in_a_sentence_at_the_start(tmp_path, options, said):
    done = titlebout("serve", "--port", "0", "--data", str(tmp_path), *options)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_is_not_there_is_said_in_a_sentence():
    done = titlebout("status", "--server", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert "titlebout serve" in done.stderr


def test_doctor_checks_a_line_each_and_fails_with_the_part_that_failed(tmp_path):
    healthy = titlebout("db", "upgrade", "--data", str(tmp_path))
    assert healthy.returncode == 0, healthy.stderr
    healthy = titlebout("doctor", "--data", str(tmp_path))
    assert healthy.returncode == 0, healthy.stdout
    assert all(line.startswith("ok") for line in healthy.stdout.strip().splitlines())
    broken = titlebout("doctor", "--data", str(tmp_path), "--database-url", "postgresql://me:secret@127.0.0.1:1/none")
    assert broken.returncode == 1
    assert "FAIL" in broken.stdout
    assert "secret" not in broken.stdout + broken.stderr


def test_db_upgrade_makes_the_tables_and_db_current_says_where_they_are(tmp_path):
    empty = titlebout("db", "current", "--data", str(tmp_path))
    assert empty.returncode == 1
    assert "titlebout db upgrade" in empty.stderr
    assert "went from empty to" in titlebout("db", "upgrade", "--data", str(tmp_path)).stdout
    assert "was up to date" in titlebout("db", "upgrade", "--data", str(tmp_path)).stdout
    assert "as this program needs it" in titlebout("db", "current", "--data", str(tmp_path)).stdout


@pytest.mark.parametrize(
    ("shares", "points"),
    [
        (("champion=90", "challenger=10"), {"champion": 9_000, "challenger": 1_000}),
        (("champion=99.75%", "challenger=0.25%"), {"champion": 9_975, "challenger": 25}),
        (("a=b=50", "c=50"), {"a=b": 5_000, "c": 5_000}),
    ],
)
def test_percentages_become_basis_points(shares, points):
    assert _basis_points(shares) == points


@pytest.mark.parametrize(
    "share", ["champion", "champion=", "=5", "champion=ten", "champion=0.001", "champion=101", "a=NaN"]
)
def test_a_share_that_is_none_is_named(share):
    shown = CliRunner().invoke(cli, ["split", "iris", share])
    assert shown.exit_code == 2
    assert "champion=90" in shown.output


@pytest.mark.e2e
def test_promote_split_resolve_and_status_drive_a_running_server(serve):
    server = serve()
    register(server.url, "iris", constant_classifier(0))
    register(server.url, "iris", constant_classifier(1))
    set_alias(server.url, "iris", "champion", 1)
    set_alias(server.url, "iris", "challenger", 2)
    wait_until_served(server.url, "iris", champion=1, challenger=2)
    at = {"TITLEBOUT_URL": server.url}

    said = titlebout("split", "iris", "champion=80", "challenger=20", environment=at)
    assert said.stdout == "iris: champion 80 %, challenger 20 % (period 3)\n"
    resolved = titlebout("resolve", "models:/iris@challenger", environment=at).stdout
    assert resolved.startswith("version 2\nsource  models:/m-")
    shown = titlebout("status", environment=at).stdout
    assert "iris" in shown
    assert "READY" in shown
    assert titlebout("promote", "iris", "champion", "2", environment=at).stdout == "iris@champion is version 2.\n"
    wait_until_served(server.url, "iris", champion=2, challenger=2)
    refused = titlebout("promote", "iris", "champion", "9", environment=at)
    assert refused.returncode == 1
    assert "9" in refused.stderr
