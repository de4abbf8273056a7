"""Champion against challenger for people who would rather look than read."""

from collections.abc import Callable
from urllib.parse import quote

from litestar import MediaType, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery

from gateway.api.comparison import compare_endpoint
from gateway.api.comparison_wire import ArmFigures, ComparisonAnswer
from gateway.auth import needs
from gateway.comparison.interval_words import spoken
from gateway.web.comparison_charts import bar_of, curve_of, histograms_of, shares_of
from gateway.web.errors import PAGE_ERRORS
from gateway.web.pages import Pages, page
from tracking.access.permissions import Permission
from tracking.database import Database


def _failed(arm: ArmFigures) -> str:
    return f"{arm.failures:,}" if arm.failure_rate is None else f"{arm.failures:,} ({100 * arm.failure_rate:.3g} %)"


def _time(ms: float | None) -> str:
    return "–" if ms is None else f"{ms:.3g} ms" if ms < _SECOND_MS else f"{ms / 1000:.3g} s"


_SECOND_MS = 999.5
_ARMS: tuple[tuple[str, Callable[[ArmFigures], str]], ...] = (
    ("version", lambda arm: str(arm.version)),
    ("share", lambda arm: f"{arm.share_bp / 100:g} %"),
    ("requests", lambda arm: f"{arm.requests:,}"),
    ("failed", _failed),
    ("p50", lambda arm: _time(arm.latency.p50_ms)),
    ("p90", lambda arm: _time(arm.latency.p90_ms)),
    ("p99", lambda arm: _time(arm.latency.p99_ms)),
)
"""What is said of each arm, a row each: on a telephone two columns have room, and eight have none."""


def render_comparison(pages: Pages, found: ComparisonAnswer) -> str:
    champion, challenger = found.champion, found.challenger
    curves = (curve_of(champion), curve_of(challenger))
    return pages.render(
        "comparison.html",
        found=found,
        mood="locked" if found.split.locked else found.verdict,
        bars=[
            (metric, bar_of(metric, found.minimal_effect), spoken(metric.lower, metric.upper, "+.4g"))
            for metric in found.metrics
        ],
        ratios=[
            (name, known)
            for name, ratio in (("Failures", found.failure_ratio), ("p99", found.p99_ratio))
            if (known := spoken(ratio.lower, ratio.upper, ".2f", floor=0.0))
        ],
        arms=[(name, [say(arm) for arm in (champion, challenger)]) for name, say in _ARMS],
        histograms=histograms_of(champion, challenger),
        curves=curves if any(curves) else None,
        shares=shares_of(champion, challenger),
        model_page=f"../{quote(found.endpoint, safe='')}/docs",
    )


@get(
    "/endpoints/{name:str}/comparison",
    media_type=MediaType.HTML,
    sync_to_thread=True,
    opt=needs(Permission.OBSERVE),
    exception_handlers=PAGE_ERRORS,
)
def show_comparison(
    name: FromPath[str],
    database: NamedDependency[Database],
    pages: NamedDependency[Pages],
    challenger: FromQuery[str | None] = None,
    metric: FromQuery[str | None] = None,
    minimal_effect: FromQuery[float] = 0.0,
) -> Response[str]:
    """The conclusion, and pictures of what it rests on."""
    found = compare_endpoint(database, name, challenger=challenger, metric=metric, minimal_effect=minimal_effect)
    return page(render_comparison(pages, found))


handlers = [show_comparison]
