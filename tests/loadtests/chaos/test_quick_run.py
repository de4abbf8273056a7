"""A quick run of the scenarios that no other test plays: an overload, and five hundred requests for a cold model."""

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def chaos(*options):
    return subprocess.run(
        [sys.executable, "-m", "loadtests.chaos", *options], capture_output=True, text=True, check=False, timeout=280
    )


def test_an_overload_and_a_cold_model_cost_no_more_than_they_must():
    done = chaos("--quick", "--only", "overload", "cold", "--seed", "7")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("seed 7, ")
    assert [line.split(" | ")[-1] for line in lines if line.startswith("| ")][2:] == ["yes |"] * 3


def test_a_small_soak_shows_what_each_process_holds():
    # So few requests show nothing of growth, but that it is looked for in the right places.
    done = chaos("--quick", "--soak", "--requests", "3000", "--flips", "3")
    (line,) = [line for line in done.stdout.splitlines() if "3 flips under requests" in line]
    assert " | 0 | " in line, line
    for process in ("gateway.cli", "gateway.worker", "gateway.pool.warm_parent"):
        assert f"{process} " in line
