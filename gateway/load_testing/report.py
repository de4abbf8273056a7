"""The report of a load test, as it is kept beside the version and shown with it."""

from enum import StrEnum

import msgspec

from gateway.load_testing.figures import Figures, Point
from gateway.load_testing.slo import Outcome
from gateway.load_testing.slowdown import Slowdown, Slower

_FAILURES_SHOWN = 10


class Input(StrEnum):
    """Where the requests came from."""

    EXAMPLE = "example"
    """Saved with the model."""
    SIGNATURE = "signature"
    """A row made from it."""
    GIVEN = "given"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What was ordered."""

    users: int
    for_s: float
    slos: list[str]
    input: Input
    bodies: int
    """How many there were, asked one after the other."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    processors: int


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """The version beside another, which took turns with it under the same load."""

    baseline: Figures
    slower: Slower
    processor: Slowdown
    """By what the processors spent in the model's process, a request."""
    latency: Slowdown
    """By how long callers waited, in the middle of the answers."""
    window_s: float
    """A turn."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All that was asked and seen."""

    endpoint: str
    version: int
    asked: Asked
    tested: Figures
    slos: list[Outcome]
    comparison: Comparison | None = None
    series: list[Point] = []
    server: Machine
    client: Machine
    client_processor_share: float = 0.0
    """What the load took of one processor; near 1 it has itself to blame for latencies."""

    @property
    def passed(self) -> bool:
        """Whether all SLOs were kept and, if that was asked, the version isn't slower; unsure is no, as is no SLO."""
        is_as_quick = self.comparison is None or self.comparison.slower is Slower.NO
        return is_as_quick and bool(self.slos) and all(outcome.kept for outcome in self.slos)

    @property
    def against(self) -> int | None:
        return None if self.comparison is None else self.comparison.baseline.version


def lines_of(figures: Figures) -> list[str]:
    """What was seen of a version, as a terminal shows it."""
    lines = [
        f"requests   {figures.requests}  ({figures.rps:.0f}/s over {figures.seconds:.1f} s)",
        f"failures   {figures.failed}",
        *(f"  {count:>6} x {what}" for what, count in list(figures.failures.items())[:_FAILURES_SHOWN]),
    ]
    if figures.p50_ms is not None:
        quantiles = (("p50", figures.p50_ms), ("p95", figures.p95_ms), ("p99", figures.p99_ms), ("max", figures.max_ms))
        lines.append("latency    " + "  ".join(f"{name} {value:.1f} ms" for name, value in quantiles))
    if figures.processor_ms is not None:
        lines.append(f"processor  {figures.processor_ms:.3g} ms a request, in the model's process")
    return lines


def said_of_comparison(comparison: Comparison) -> str:
    """The comparison in a sentence."""
    verdict = {
        Slower.YES: "slower than",
        Slower.NO: "not slower than",
        Slower.UNSURE: "unsure whether slower than",
    }[comparison.slower]
    return (
        f"{verdict} version {comparison.baseline.version}: processor time {_said(comparison.processor)}, "
        f"latency {_said(comparison.latency)}, over {comparison.processor.pairs} pairs of turns"
    )


def _said(slowdown: Slowdown) -> str:
    if slowdown.ratio is None:
        return "unknown"
    if slowdown.low is None or slowdown.high is None:
        return f"×{slowdown.ratio:.3g}"
    return f"×{slowdown.ratio:.3g} (×{slowdown.low:.3g} to ×{slowdown.high:.3g})"
