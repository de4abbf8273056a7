"""A report of a load test that nobody ran."""

import msgspec

from gateway.load_testing.figures import Figures, Point
from gateway.load_testing.report import Asked, Comparison, Input, Machine, Report
from gateway.load_testing.slo import judge, parse_slo
from gateway.load_testing.slowdown import Slowdown, Slower

MACHINE = Machine(name="here", processors=2)
FIGURES = Figures(
    version=1, seconds=2.0, requests=200, failed=0, rps=100.0, mean_ms=4.0, p50_ms=3.0, p90_ms=5.0, p95_ms=6.0,
    p99_ms=9.0, max_ms=12.0, processor_ms=1.0,
)  # fmt: skip
REPORT = Report(
    endpoint="iris",
    version=1,
    asked=Asked(users=5, for_s=2.0, slos=["p99=50ms"], input=Input.EXAMPLE, bodies=1),
    tested=FIGURES,
    slos=[judge(parse_slo("p99=50ms"), FIGURES)],
    series=[Point(0.0, 100, 0, 3.0, 9.0), Point(1.0, 100, 0, 3.0, 8.0)],
    server=MACHINE,
    client=MACHINE,
)


def compared(slower: Slower) -> Report:
    by = Slowdown(slower=slower, ratio=1.3, low=1.2, high=1.4, pairs=12)
    baseline = msgspec.structs.replace(FIGURES, version=7)
    comparison = Comparison(baseline=baseline, slower=slower, processor=by, latency=by, window_s=1.0)
    return msgspec.structs.replace(REPORT, comparison=comparison)
