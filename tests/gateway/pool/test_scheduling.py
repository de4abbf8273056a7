"""A load gives way to predictions, and comes back with all that it started; where it couldn't, it doesn't go."""

import os
import threading
import time

import pytest

from gateway.pool import scheduling
from tests.gateway.pool.children import in_child

NOBODY = 65534

pytestmark = pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="there is no such policy here")


@pytest.fixture
def privileged():
    if not in_child(scheduling.can_come_back):
        pytest.skip("it takes CAP_SYS_NICE")


def policies(pid):
    return {os.sched_getscheduler(thread) for thread in scheduling._threads_of_family(pid)}


def test_who_gives_way_comes_back_with_its_threads_and_children(privileged):
    def work():
        scheduling.give_way()
        ended = threading.Event()
        thread = threading.Thread(target=ended.wait)
        thread.start()
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(0)
        gone = policies(os.getpid())
        scheduling.come_back(os.getpid())
        back = policies(os.getpid())
        os.kill(child, 9)
        ended.set()
        return [sorted(gone), sorted(back)]

    assert in_child(work) == [[os.SCHED_IDLE], [os.SCHED_OTHER]]


def test_it_gives_way_for_a_block_and_not_for_ever(privileged):
    def work():
        seen = []
        with scheduling.giving_way():
            seen.append(os.sched_getscheduler(0))
        seen.append(os.sched_getscheduler(0))
        with scheduling.giving_way(0.01):
            deadline_s = time.monotonic() + 10
            while os.sched_getscheduler(0) == os.SCHED_IDLE and time.monotonic() < deadline_s:
                time.sleep(0.001)
            seen.append(os.sched_getscheduler(0))
        return seen

    assert in_child(work) == [os.SCHED_IDLE, os.SCHED_OTHER, os.SCHED_OTHER]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_who_could_not_come_back_does_not_go():
    def work():
        os.setuid(NOBODY)
        with scheduling.giving_way():
            return [scheduling.can_come_back(), os.sched_getscheduler(0)]

    assert in_child(work) == [False, os.SCHED_OTHER]
