"""Processes that are killed: what fails is what they held, and nothing is left behind."""

import os
import signal
import time

import psutil

from gateway.cli.server_process import ServerProcess
from loadtests.chaos.restarts import until, workers_of
from loadtests.processes import family, name

_WARM_PARENT = "gateway.pool.warm_parent"


def hosts_of(server: ServerProcess) -> set[int]:
    """The model hosts: forks of a warm parent, so they are called as it is, and aren't the supervisor's children."""
    children = set(family(server.process.pid)[1:])
    return {pid for pid in children if name(pid) == _WARM_PARENT and _parent(pid) != server.process.pid}


def _parent(pid: int) -> int | None:
    try:
        return psutil.Process(pid).ppid()
    except psutil.NoSuchProcess:
        return None


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill_worker(server: ServerProcess) -> set[int]:
    """Kill -9 a worker, and wait for its successor; the callers' ports of the connections that it held."""
    before = workers_of(server)
    victim = min(before)
    # Stopped first, so that nobody comes or goes between the look and the end.
    os.kill(victim, signal.SIGSTOP)
    held = {each.raddr.port for each in psutil.Process(victim).net_connections("tcp") if each.raddr}
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(workers_of(server) - before) == 1, "the start of another worker")
    return held


def kill_hosts(server: ServerProcess) -> float:
    """Kill -9 all model hosts, and wait until each is replaced; when they had been killed, by `time.monotonic`."""
    before = hosts_of(server)
    for host in before:
        os.kill(host, signal.SIGKILL)
    killed_s = time.monotonic()
    until(lambda: len(hosts_of(server) - before) == len(before), "the replacement of the hosts")
    return killed_s


def kill_supervisor(server: ServerProcess) -> None:
    """Kill -9 the supervisor, and wait until nothing that it had started is left."""
    below = family(server.process.pid)[1:]
    server.process.kill()
    server.process.wait()
    until(lambda: not any(map(_is_alive, below)), "the end of all processes")
