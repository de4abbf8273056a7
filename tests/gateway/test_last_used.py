"""When a version was last asked is what any worker last said of its host, for as long as there is that host."""

import socket

import pytest

from gateway.pool.messages import HostAddress, ModelDescription, Used
from gateway.settings import Settings
from gateway.workers import WorkerGroup

DESCRIPTION = ModelDescription(flavor="sklearn", predictor="predict", batchable=True, mlmodel="")


@pytest.fixture
def now_s():
    return [100.0]


@pytest.fixture
def group(tmp_path, now_s):
    with socket.socket() as listener:
        yield WorkerGroup(Settings(), listener, environment={}, metrics_dir=tmp_path, clock=lambda: now_s[0])


def host(path):
    return HostAddress(model="iris", version=1, socket=path, description=DESCRIPTION)


def test_the_last_word_of_any_worker_counts_and_is_forgotten_with_the_host(group, now_s):
    group.set_hosts([host("a"), host("b")])
    assert group.last_used_s("a") == 0.0
    group._heed(None, Used(["a", "b"]))
    now_s[0] = 107.0
    group._heed(None, Used(["b"]))
    assert (group.last_used_s("a"), group.last_used_s("b")) == (100.0, 107.0)
    group.set_hosts([host("b")])
    assert (group.last_used_s("a"), group.last_used_s("b")) == (0.0, 107.0)
