"""What was measured, in Markdown: a line for each server, and a line for each figure to reach."""

from collections.abc import Mapping, Sequence

from loadtests.scoring.measuring import Rates, Start
from loadtests.scoring.servers import ECHO, MLFLOW, TITLEBOUT
from loadtests.scoring.work import Figure, Goal, Work
from loadtests.tables import heading, line, ratio

_FIGURES: Mapping[Figure, str] = {
    "per_s": "requests/s",
    "rows_per_s": "rows/s",
    "p99_ms": "p99, ms",
    "processor_us": "processor time a request, µs",
    "start_s": "start to first prediction, s",
    "memory_mib": "memory after it, MiB",
}

RATES_HEADING = heading(
    "work",
    "server",
    "requests/s (least to most)",
    "rows/s",
    "p50 ms",
    "p99 ms",
    "processor µs a request",
    "errors",
    "requests/s against mlflow",
    "processor time against echo",
)
STARTS_HEADING = heading("server", "start to first prediction, s", "memory (PSS), MiB", "start, memory against mlflow")
GOALS_HEADING = heading("work", "figure", "Titlebout : other", "ratio", "to reach", "")


def rates_lines(work: Work, found: Mapping[str, Rates]) -> list[str]:
    return [
        line(
            work.title,
            name,
            f"{rates.per_s:,.0f} ({rates.per_s_least:,.0f} to {rates.per_s_most:,.0f})",
            f"{rates.rows_per_s:,.0f}",
            f"{rates.p50_ms:.2f}",
            f"{rates.p99_ms:.2f}",
            f"{rates.processor_us:,.0f}",
            str(rates.errors),
            ratio(rates.per_s, found[MLFLOW].per_s) if MLFLOW in found else "-",
            ratio(rates.processor_us, found[ECHO].processor_us) if ECHO in found else "-",
        )
        for name, rates in found.items()
    ]


def starts_lines(found: Mapping[str, Start]) -> list[str]:
    lines = []
    for name, start in found.items():
        shares = "-"
        if theirs := found.get(MLFLOW):
            shares = f"{start.start_s / theirs.start_s:.2f}, {start.memory_mib / theirs.memory_mib:.2f}"
        lines.append(line(name, f"{start.start_s:.2f}", f"{start.memory_mib:.0f}", shares))
    return lines


def goals_lines(title: str, goals: Sequence[Goal], found: Mapping[str, Rates] | Mapping[str, Start]) -> list[str]:
    """A line for each of *goals* whose server was measured."""
    lines = []
    for goal in goals:
        if goal.beside not in found:
            continue
        ours, theirs = (float(getattr(found[name], goal.figure)) for name in (TITLEBOUT, goal.beside))
        times = ours / theirs
        lines.append(
            line(
                title,
                f"{_FIGURES[goal.figure]}, against {goal.beside}",
                f"{_short(ours)} : {_short(theirs)}",
                f"{times:.2f} x",
                goal.said,
                "reached" if goal.reached(times) else "NOT REACHED",
            )
        )
    return lines


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
