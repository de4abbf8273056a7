"""What a process holds is seen from outside, children and all; what it asks for far beyond its bound it doesn't get."""

import asyncio
import os
import subprocess
import sys

import pytest

from gateway.pool import host_limits, machine, threads
from tests.gateway.pool.children import in_child

MIB = 1024**2
HOLD = "import os, sys; held = b'x' * {bytes}; print('ready', flush=True); sys.stdin.read()"
# Shared with a child, so that for each of the two half of it is the other's.
HOLD_WITH_A_CHILD = (
    "import os, sys; held = b'x' * {bytes}; pid = os.fork(); (print('ready', flush=True) if pid else None);"
    " sys.stdin.read()"
)


@pytest.fixture
def holding():
    """Starts a process that holds so many bytes, and says so."""
    started = []

    def hold(count, program=HOLD):
        process = subprocess.Popen(
            [sys.executable, "-SE", "-c", program.format(bytes=count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        started.append(process)
        assert process.stdout.readline() == b"ready\n"
        return process.pid

    yield hold
    for process in started:
        process.stdin.close()
        process.stdout.close()
        process.wait()


@pytest.mark.parametrize("program", [HOLD, HOLD_WITH_A_CHILD], ids=["by itself", "with a child"])
def test_what_a_process_holds_is_counted_once(holding, program):
    held = host_limits.held_bytes(holding(100 * MIB, program))
    assert 100 * MIB < held < 140 * MIB


def test_a_process_over_its_bound_is_noticed_and_one_within_is_left_alone(holding):
    pid = holding(100 * MIB)

    async def over(bytes_max):
        async with asyncio.timeout(1.5):
            return await host_limits.until_over(pid, bytes_max)

    assert asyncio.run(over(64 * MIB)) > 64 * MIB
    with pytest.raises(TimeoutError):
        asyncio.run(over(400 * MIB))


def test_a_process_that_is_gone_holds_nothing(holding):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    assert host_limits.held_bytes(pid) == 0


@pytest.mark.skipif(any(map(os.path.exists, host_limits._GPU_DRIVERS)), reason="beside a GPU's driver none is guarded")
def test_an_allocation_far_beyond_the_bound_fails_and_one_within_does_not():
    def allocate(count):
        host_limits.guard_memory(64 * MIB)
        return len(bytearray(count))

    assert in_child(lambda: allocate(32 * MIB)) == 32 * MIB
    assert in_child(lambda: allocate(4096 * MIB)) == "MemoryError"


def test_a_host_is_ended_before_others_and_leaves_no_image():
    def settings():
        import resource
        from pathlib import Path

        host_limits.spare_others()
        return [Path("/proc/self/oom_score_adj").read_text().strip(), resource.getrlimit(resource.RLIMIT_CORE)[0]]

    assert in_child(settings) == ["500", 0]


def test_what_is_set_for_one_library_stays_unless_the_setting_says_otherwise():
    given = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "4"}
    said = threads.variables("sklearn", 0, given)
    assert (said["OMP_NUM_THREADS"], said["OPENBLAS_NUM_THREADS"], said["MKL_NUM_THREADS"]) == ("2", "4", "2")
    assert set(threads.variables("sklearn", 3, given).values()) == {"3"}


@pytest.mark.parametrize(
    ("flavor", "wanted", "environment", "expected"),
    [
        pytest.param("sklearn", 0, {}, 1, id="scikit-learn by itself takes one"),
        pytest.param("sklearn", 3, {"OMP_NUM_THREADS": "2"}, 3, id="the setting comes first"),
        pytest.param("pytorch", 0, {"OMP_NUM_THREADS": "2,1"}, 2, id="then what OpenMP was told"),
        pytest.param("sklearn", 0, {"OMP_NUM_THREADS": "many"}, 1, id="unless that is no number"),
        pytest.param("pytorch", 0, {}, max(1, machine.usable_processors() // 2), id="others take half the machine"),
    ],
)
def test_a_prediction_takes_as_many_threads_as_was_said(flavor, wanted, environment, expected):
    assert threads.threads_for(flavor, wanted, environment) == expected
