"""Runs Titlebout and the genuine `mlflow server` side by side, and prints how they compare.

Both are started here, on loopback, with databases of one kind in a throw-away folder; one client sends both the same,
in turns. Prints a table in Markdown as it goes along. Nothing is asserted: a busy machine changes every number, and the
ratios least.
"""

import argparse
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import psycopg

from loadtests.effort import Effort
from loadtests.tables import heading, line, ratio
from loadtests.tracking import filling, measuring, work
from loadtests.tracking.measuring import Rates
from loadtests.tracking.servers import Genuine, Titlebout, TrackingServer

_ROWS = ("start", "writes", "search", "history", "artifacts")
_HISTORY_POINTS = 100_000
_ARTIFACT_BYTES = 200 * 1024**2


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m loadtests.tracking", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short look: fewer, shorter rounds, fewer runs")
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--rows", nargs="+", choices=_ROWS, default=list(_ROWS), help="which parts of the table")
    parser.add_argument("--only", default="", help="of the writes, those whose name holds this")
    parser.add_argument("--folder", type=Path, help="where the throw-away folder is made")
    options = parser.parse_args()
    effort = Effort(1, 2) if options.quick else Effort(3, 4)
    sizes = [1_000, 10_000] if options.quick else [1_000, 10_000, 100_000]
    with tempfile.TemporaryDirectory(prefix="titlebout-bench-", dir=options.folder) as folder:
        with _servers(Path(folder), options.database) as servers:
            print(f"\n{options.database}, {effort.rounds} x {effort.round_s} s each, in turns\n", flush=True)
            _compare(servers, options, effort, sizes)


def _compare(
    servers: Sequence[TrackingServer], options: argparse.Namespace, effort: Effort, sizes: Sequence[int]
) -> None:
    if "start" in options.rows:
        _show_starts(measuring.starts(servers, effort.rounds))
    else:
        for server in servers:
            server.start()
    if {"writes", "search"} & set(options.rows):
        _show_heading()
    if "writes" in options.rows:
        for row in work.WRITES_AND_LOOKUPS:
            if options.only in row.title:
                _show(row, measuring.rates(row, servers, effort))
    if "search" in options.rows:
        _compare_searches(servers, effort, sizes)
    if "history" in options.rows:
        _compare_histories(servers, effort)
    if "artifacts" in options.rows:
        _compare_transfers(servers, effort)


@contextmanager
def _servers(folder: Path, kind: str) -> Iterator[list[TrackingServer]]:
    """Both, stopped, with their tables made. The genuine one comes first."""
    with ExitStack() as life:
        urls = life.enter_context(_databases(folder, kind))
        servers = [Genuine(folder / "genuine", urls[0]), Titlebout(folder / "titlebout", urls[1])]
        for server in servers:
            life.callback(server.stop)
            server.start()
            server.stop()
        yield servers


@contextmanager
def _databases(folder: Path, kind: str) -> Iterator[list[str]]:
    names = ["genuine", "titlebout"]
    if kind == "sqlite":
        yield [f"sqlite:///{folder}/{name}.db" for name in names]
        return
    # Here, because only this needs the tests' own PostgreSQL.
    from tests.servers import running_postgres  # noqa: PLC0415

    with running_postgres() as url:
        with psycopg.connect(url, autocommit=True) as session:
            for name in names:
                session.execute(f"CREATE DATABASE {name}".encode())
        yield [f"{url.rpartition('/')[0]}/{name}" for name in names]


def _compare_searches(servers: Sequence[TrackingServer], effort: Effort, sizes: Sequence[int]) -> None:
    experiments = {work.create_experiment(server, "searched") for server in servers}
    # Both number experiments from 1 and have made the same ones, so the same requests go to both.
    (experiment_id,) = experiments
    filled = 0
    for size in sizes:
        for server in servers:
            filling.add_runs(server.name, server.database_url, experiment_id, filled, size - 1)
        filled = size
        _show(row := work.search(experiment_id, size), measuring.rates(row, servers, effort))
    _show(row := work.search_by_default(experiment_id, filled), measuring.rates(row, servers, effort))


def _compare_histories(servers: Sequence[TrackingServer], effort: Effort) -> None:
    paths = []
    for server in servers:
        run_id = work.create_run(server, "0")["run_id"]
        filling.add_history(server.name, server.database_url, run_id, _HISTORY_POINTS)
        paths.append(work.history_path(run_id))
    seen: list[list[measuring.History]] = [[] for _ in servers]
    for _ in range(effort.rounds):
        for server, path, taken in zip(servers, paths, seen, strict=True):
            taken.append(measuring.history(server, path))
    print("\n" + heading(f"`get-history` of {_HISTORY_POINTS:,} points", servers[0].name, servers[1].name, "ratio"))
    theirs, ours = ([median(values) for values in zip(*taken, strict=True)] for taken in seen)
    for name, one, other in zip(("seconds", "memory grew by MiB", "processor s"), theirs, ours, strict=True):
        print(line(name, f"{one:.2f}", f"{other:.2f}", ratio(one, other)), flush=True)


def _compare_transfers(servers: Sequence[TrackingServer], effort: Effort) -> None:
    with tempfile.NamedTemporaryFile(prefix="titlebout-bench-", dir=servers[0].folder) as file:
        for _ in range(_ARTIFACT_BYTES // 1024**2):
            file.write(os.urandom(1024**2))
        file.flush()
        seen: list[list[measuring.Transfer]] = [[] for _ in servers]
        for number in range(effort.rounds + 1):
            for server, taken in zip(servers, seen, strict=True):
                path = work.artifact_path(f"bench/{number}.bin")
                taken.append(measuring.transfer(server, path, Path(file.name)))
    print("\n" + heading(f"{_ARTIFACT_BYTES // 1024**2} MiB artifact", servers[0].name, servers[1].name, "ratio"))
    theirs, ours = ([median(values) for values in zip(*taken, strict=True)] for taken in seen)
    for place, name in enumerate(("upload MiB/s", "download MiB/s")):
        print(line(name, f"{theirs[place]:.0f}", f"{ours[place]:.0f}", ratio(ours[place], theirs[place])))
    for place, name in enumerate(("processor s, both ways", "memory grew by MiB"), 2):
        print(line(name, f"{theirs[place]:.2f}", f"{ours[place]:.2f}", ratio(theirs[place], ours[place])), flush=True)


def _show_starts(starts: Sequence[measuring.Start]) -> None:
    theirs, ours = starts
    print(heading("start", "mlflow server", "Titlebout", "share"))
    share = f"{ours.took_s / theirs.took_s:.2f}"
    print(line("seconds to the first search", f"{theirs.took_s:.2f}", f"{ours.took_s:.2f}", share))
    share = f"{ours.memory_mib / theirs.memory_mib:.2f}"
    print(line("memory, PSS of all processes, MiB", f"{theirs.memory_mib:.0f}", f"{ours.memory_mib:.0f}", share), "\n")


def _show_heading() -> None:
    print(heading("work", "rate /s", "p50 ms", "p95 ms", "processor ms"), flush=True)


def _show(row: work.Work, both: Sequence[Rates]) -> None:
    """One line: for each number the genuine server's, ours, and how many times better ours is."""
    theirs, ours = both
    cells = [f"{theirs.per_s:.1f} : {ours.per_s:.1f} = {ratio(ours.per_s, theirs.per_s)}"]
    for name in ("p50_ms", "p95_ms", "processor_ms"):
        one, other = getattr(theirs, name), getattr(ours, name)
        cells.append(f"{one:.1f} : {other:.2f} = {ratio(one, other)}")
    print(line(f"{row.title} ({row.connections})", *cells), flush=True)


if __name__ == "__main__":
    main()
