"""A picture of a load test: latency over time, with the failures marked. SVG, drawn here: it is two lines and dots.

Colours and sizes are attributes and no styles, so that it shows under any content security policy.
"""

from collections.abc import Callable, Sequence

from gateway.load_testing.figures import Point
from gateway.load_testing.report import Report

_WIDTH, _HEIGHT = 720, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 28, 32
_P50, _P99, _FAILED, _GRID = "#4c9be8", "#d98324", "#c9372c", "#8a909966"
_LINES = 4

Place = Callable[[float], float]


def draw(report: Report) -> str:
    """The picture of *report*, which says of itself that nothing was answered where nothing was."""
    points = report.series
    title = f"Latency of version {report.version} of {report.endpoint} over the load test"
    body = _chart(points) if points else _text(_WIDTH / 2, _HEIGHT / 2, "nothing was answered", anchor="middle")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="currentColor">'
        f"<title>{_escaped(title)}</title>{body}</svg>\n"
    )


def _chart(points: Sequence[Point]) -> str:
    top_ms = _round_up(max(max(point.p99_ms, point.p50_ms) for point in points))
    end_s = max(points[-1].at_s, 1.0)

    def x(at_s: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * at_s / end_s

    def y(latency_ms: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * min(latency_ms / top_ms, 1.0)

    failed = [point for point in points if point.failed]
    legend = [("p50", _P50), ("p99", _P99), *([("failures", _FAILED)] if failed else [])]
    return "".join(
        [
            *(_level(top_ms * line / _LINES, y) for line in range(_LINES + 1)),
            *(_text(x(at_s), _HEIGHT - 12, f"{at_s:g} s", anchor="middle") for at_s in (0.0, end_s / 2, end_s)),
            _line([(x(point.at_s), y(point.p50_ms)) for point in points], _P50),
            _line([(x(point.at_s), y(point.p99_ms)) for point in points], _P99),
            *(_mark(x(point.at_s), y(point.p99_ms), point.failed) for point in failed),
            *(_key(place, name, colour) for place, (name, colour) in enumerate(legend)),
        ]
    )


def _level(latency_ms: float, y: Place) -> str:
    at = y(latency_ms)
    line = f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="{_GRID}"/>'
    return line + _text(_LEFT - 6, at + 4, f"{latency_ms:g} ms", anchor="end")


def _line(places: Sequence[tuple[float, float]], colour: str) -> str:
    if len(places) == 1:
        ((x, y),) = places
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>'
    drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def _mark(x: float, y: float, failed: int) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{_FAILED}"><title>{failed} failed</title></circle>'


def _key(place: int, name: str, colour: str) -> str:
    x = _LEFT + 80 * place
    return f'<rect x="{x}" y="8" width="10" height="10" fill="{colour}"/>' + _text(x + 15, 17, name)


def _text(x: float, y: float, text: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{_escaped(text)}</text>'


def _round_up(value: float) -> float:
    """The next number that people read off an axis: 1, 2, 4, 5 or 10 times a power of ten."""
    power = 1e-3
    while power * 10 < value:
        power *= 10
    return next((power * step for step in (1, 2, 4, 5) if power * step >= value), power * 10)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
