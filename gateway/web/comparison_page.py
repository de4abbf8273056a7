"""Champion against challenger for people who would rather look than read."""

from urllib.parse import quote

from litestar import MediaType, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery

from gateway.api.comparison import compare_endpoint
from gateway.api.comparison_wire import ComparisonAnswer
from gateway.auth import needs
from gateway.comparison.interval_words import spoken
from gateway.web.comparison_charts import bar_of, curve_of, histograms_of, shares_of
from gateway.web.errors import PAGE_ERRORS
from gateway.web.pages import Pages, page
from tracking.access.permissions import Permission
from tracking.database import Database


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
