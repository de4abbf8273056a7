"""What is served here, and the way to each endpoint's pages: where a browser begins."""

from collections.abc import Iterable, Mapping
from urllib.parse import quote

import msgspec
from litestar import MediaType, Response, get
from litestar.di import NamedDependency

from gateway.api.titlebout import EndpointStatus, read_status
from gateway.auth import needs
from gateway.web.errors import PAGE_ERRORS
from gateway.web.pages import Pages, page
from gateway.web.rollout_page import in_words
from registry import rollouts
from registry.entities import CHAMPION
from registry.rollout_entities import Rollout
from tracking.access.permissions import Permission
from tracking.database import Database


class ArmShown(msgspec.Struct, frozen=True):
    name: str
    share_bp: int
    serving: int | None
    desired: int | None


class RolloutShown(msgspec.Struct, frozen=True):
    version: int
    words: str


class EndpointShown(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    path: str
    stopped: bool
    arms: list[ArmShown]
    problems: list[str]
    rollout: RolloutShown | None


def render_endpoints(
    pages: Pages, epoch: int, statuses: Iterable[EndpointStatus], newest: Mapping[str, Rollout]
) -> str:
    """*newest* has the rollout of each endpoint that had one, by the endpoint's name."""
    shown = [_shown(status, newest.get(status.name)) for status in statuses]
    return pages.render("endpoints.html", epoch=epoch, endpoints=shown)


def _shown(status: EndpointStatus, rollout: Rollout | None) -> EndpointShown:
    arms = sorted(status.shares_bp, key=lambda arm: (arm != CHAMPION, arm))
    return EndpointShown(
        name=status.name,
        path=f"/endpoints/{quote(status.name, safe='')}",
        stopped=status.stopped,
        arms=[ArmShown(arm, status.shares_bp[arm], status.serving.get(arm), status.desired.get(arm)) for arm in arms],
        problems=status.problems,
        rollout=None if rollout is None else RolloutShown(rollout.version, in_words(rollout.state)),
    )


@get(
    "/endpoints",
    media_type=MediaType.HTML,
    sync_to_thread=True,
    opt=needs(Permission.OBSERVE),
    exception_handlers=PAGE_ERRORS,
)
def show_endpoints(database: NamedDependency[Database], pages: NamedDependency[Pages]) -> Response[str]:
    """Each endpoint with its arms, and the way to its pages."""
    with database.reading() as session:
        status = read_status(session, now_ms=database.now_ms(session))
        listed = rollouts.list_rollouts(session)
    # Those that run are first, and then the newest: of each endpoint the first counts.
    newest = {rollout.endpoint: rollout for rollout in reversed(listed)}
    return page(render_endpoints(pages, status.epoch, status.endpoints, newest))


handlers = [show_endpoints]
