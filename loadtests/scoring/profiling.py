"""Where a server's processor time goes: by process, and within each by py-spy, which looks at it from outside."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from loadtests import processes
from loadtests.scoring.measuring import Round, one_round
from loadtests.scoring.servers import ScoringServer
from loadtests.scoring.work import Work
from loadtests.tables import heading, line

_PY_SPY = Path(".venv-profile/bin/py-spy")
_PER_S = 200
_GRACE_S = 60

HEADING = heading("process", "name", "processor s", "µs a request", "flame graph")


class NoPySpy(RuntimeError):
    def __init__(self) -> None:
        super().__init__(f"{_PY_SPY} isn't there; `make profile` installs it.")


class Share(NamedTuple):
    """One process's part in a round."""

    pid: int
    name: str
    processor_s: float
    graph: Path


def profile(work: Work, server: ScoringServer, duration_s: int, folder: Path) -> tuple[Round, list[Share]]:
    """A round of *work* while every process of *server* is watched; graphs are left in *folder*."""
    family = processes.family(server.pid)
    graphs = {pid: folder / f"{work.slug}-{number}-{pid}.svg" for number, pid in enumerate(family)}
    before_s = {pid: processes.own_processor_s(pid) for pid in family}
    folder.mkdir(parents=True, exist_ok=True)
    with _watching(graphs, duration_s):
        seen = one_round(work, server, duration_s)
    shares = [
        Share(pid, processes.name(pid), processes.own_processor_s(pid) - before_s[pid], graphs[pid]) for pid in family
    ]
    return seen, shares


def lines(seen: Round, duration_s: int, shares: list[Share]) -> list[str]:
    requests = seen.per_s * duration_s
    return [
        line(
            str(one.pid), one.name, f"{one.processor_s:.2f}", f"{1e6 * one.processor_s / requests:.0f}", str(one.graph)
        )
        for one in shares
    ]


@contextmanager
def _watching(graphs: dict[int, Path], duration_s: int) -> Iterator[None]:
    executable = shutil.which(_PY_SPY)
    if executable is None:
        raise NoPySpy
    command = [executable, "record", "--rate", str(_PER_S), "--duration", str(duration_s), "--nonblocking"]
    watchers = [
        subprocess.Popen(
            [*command, "--pid", str(pid), "--output", str(graph)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for pid, graph in graphs.items()
    ]
    try:
        yield
        for watcher in watchers:
            watcher.wait(duration_s + _GRACE_S)
    finally:
        for watcher in watchers:
            if watcher.poll() is None:
                watcher.kill()
                watcher.wait()
