"""Runs Titlebout and other servers side by side under wrk, and prints how their predictions compare.

All are started here, on loopback, with the same models, in a throw-away folder; wrk sends each the same rows, in turns.
Prints tables in Markdown as it goes along, and at the end each figure to reach beside what was measured. A figure that
isn't reached fails nothing: a busy machine changes every number. A wrong answer ends the run.
"""

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import get_args

from loadtests.effort import Effort
from loadtests.scoring import measuring, profiling, report
from loadtests.scoring.models import FOREST, LOGISTIC, TEXT, Form
from loadtests.scoring.servers import (
    Echo,
    KeyedTitlebout,
    LoggingEcho,
    MlflowServe,
    MLServer,
    ScoringServer,
    Titlebout,
    UnbatchedTitlebout,
    UncomparedTitlebout,
)
from loadtests.scoring.work import STARTS, WORKS, Part, Work

# No model is in the echoes, and so one model's rows are enough to compare with them.
_ECHOES = {"echo": Echo, "logging-echo": LoggingEcho}
# Titlebout itself: where callers must sign in, and where arms aren't compared.
_OURS: Mapping[str, type[Titlebout]] = {"keys": KeyedTitlebout, "uncompared": UncomparedTitlebout}
_PEERS = {"mlflow": MlflowServe, "mlserver": MLServer}
_OTHERS: Mapping[str, Mapping[str, type[ScoringServer]]] = {
    LOGISTIC: {**_ECHOES, **_PEERS, **_OURS},
    FOREST: _PEERS,
    TEXT: {},
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m loadtests.scoring", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short look: one short round of each")
    parser.add_argument("--rows", nargs="+", choices=get_args(Part), default=list(get_args(Part)), help="which rows")
    parser.add_argument(
        "--beside", nargs="*", choices=_OTHERS[LOGISTIC], default=list(_OTHERS[LOGISTIC]), help="which other servers"
    )
    parser.add_argument("--form", choices=get_args(Form), default="inputs", help="what rows of iris are sent as")
    parser.add_argument(
        "--challenger",
        type=_percent,
        default=10,
        metavar="PERCENT",
        help="what Titlebout's second version gets of the requests; 0 for one version alone (default: 10)",
    )
    parser.add_argument(
        "--profile", type=Path, metavar="FOLDER", help="leave flame graphs of Titlebout's processes there"
    )
    parser.add_argument("--folder", type=Path, help="where the throw-away folder is made")
    options = parser.parse_args()
    # A run that is ended ends its servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Ended."))
    effort = Effort(1, 2) if options.quick else Effort(3, 4)
    try:
        with tempfile.TemporaryDirectory(prefix="titlebout-bench-", dir=options.folder) as folder:
            bench = _Bench(
                Path(folder), options.beside, options.form, effort, options.profile, challenger=options.challenger
            )
            bench.run(options.rows)
    except (RuntimeError, subprocess.SubprocessError) as error:
        # What went wrong is a sentence: a wrong answer, a server that didn't start, wrk or py-spy missing.
        sys.exit(str(error))


class _Bench:
    """One run: model by model, and of each model row by row."""

    def __init__(
        self,
        folder: Path,
        beside: Sequence[str],
        form: Form,
        effort: Effort,
        profiles: Path | None,
        *,
        challenger: int,
    ) -> None:
        self._folder = folder
        self._beside = beside
        self._form = form
        self._effort = effort
        self._profiles = profiles
        self._challenger = challenger
        self._goals: list[str] = []

    def run(self, parts: Sequence[Part]) -> None:
        print(
            f"{_machine()}; {self._effort.rounds} x {self._effort.round_s} s of each in turns; rows as `{self._form}`; "
            f"{100 - self._challenger} : {self._challenger} to champion and challenger",
            flush=True,
        )
        for model in (LOGISTIC, FOREST, TEXT):
            works = [work for work in WORKS if work.model == model and work.part in parts]
            with_starts = model == LOGISTIC and "start" in parts
            if works or with_starts:
                with _servers(self._folder / model, model, self._beside, self._form) as servers:
                    if with_starts:
                        self._compare_starts(servers)
                    if works:
                        self._compare_rates(servers, works)
        print(f"\n{report.GOALS_HEADING}")
        print("\n".join(self._goals), flush=True)

    def _compare_starts(self, servers: Sequence[ScoringServer]) -> None:
        found = measuring.starts(servers, self._effort.rounds, _progress)
        print(f"\n{report.STARTS_HEADING}")
        print("\n".join(report.starts_lines(found)), flush=True)
        self._goals += report.goals_lines("logistic regression", STARTS, found)

    def _compare_rates(self, servers: Sequence[ScoringServer], works: Sequence[Work]) -> None:
        for server in servers:
            _progress(f"starting {server.name}")
            server.start()
            if self._challenger and isinstance(server, Titlebout):
                server.split(self._challenger * 100)
        print(f"\n{report.RATES_HEADING}", flush=True)
        for work in works:
            found = measuring.rates(work, servers, self._effort, _progress)
            print("\n".join(report.rates_lines(work, found)), flush=True)
            self._goals += report.goals_lines(work.title, work.goals, found)
        if self._profiles:
            for work in works:
                _progress(f"{work.title}: profile of {servers[0].name}")
                self._show_profile(work, servers[0], self._profiles)

    def _show_profile(self, work: Work, server: ScoringServer, folder: Path) -> None:
        seen, shares = profiling.profile(work, server, self._effort.round_s, folder)
        print(f"\n{work.title}: {server.name}, watched, {seen.per_s:,.0f} requests/s\n\n{profiling.HEADING}")
        print("\n".join(profiling.lines(seen, self._effort.round_s, shares)), flush=True)


@contextmanager
def _servers(folder: Path, model: str, beside: Sequence[str], form: Form) -> Iterator[list[ScoringServer]]:
    """Those that serve *model*, stopped, Titlebout first."""
    files = folder / "files"
    ours: list[Titlebout] = [Titlebout(folder / "titlebout", model, files)]
    if model == TEXT:
        ours.append(UnbatchedTitlebout(folder / "unbatched", model, folder / "unbatched-files"))
    chosen = {name: kind for name, kind in _OTHERS[model].items() if name in beside}
    ours += [_OURS[name](folder / name, model, folder / f"{name}-files") for name in chosen if name in _OURS]
    others = [kind(folder / name, model, files) for name, kind in chosen.items() if name not in _OURS]
    with ExitStack() as life:
        for server in [*ours, *others]:
            life.callback(server.stop)
        for server in ours:
            _progress(f"training the {model} model for {server.name}")
            server.prepare(form)
        yield [*ours, *others]


def _percent(text: str) -> int:
    percent = int(text)
    if not 0 <= percent < 100:
        raise argparse.ArgumentTypeError("expected a whole number from 0 to 99")
    return percent


def _machine() -> str:
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{platform.machine()}, {os.cpu_count()} cores, load {load}"


def _progress(said: str) -> None:
    # Apart from the tables, so that these can be kept in a file while the progress is seen.
    print(f"  … {said}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
