"""How far a rollout is, what it goes by, and what a person can do about it."""

from urllib.parse import quote

from litestar import MediaType, Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath

from gateway.auth import needs
from gateway.web.errors import PAGE_ERRORS
from gateway.web.instants import minute_of
from gateway.web.pages import Pages, page
from registry import rollouts
from registry.rollout_entities import Rollout, RolloutState
from registry.rollouts import NoRollout
from tracking.access.permissions import Permission
from tracking.database import Database

_WORDS = {
    RolloutState.RUNNING: "under way",
    RolloutState.WAITING: "waits for a person",
    RolloutState.PAUSED: "paused",
    RolloutState.WATCHING: "champion, and watched",
    RolloutState.SUCCEEDED: "rolled out",
    RolloutState.STOPPED: "stopped and put back",
    RolloutState.ABORTED: "aborted and put back",
    RolloutState.ROLLED_BACK: "rolled back",
}
_MOODS = {
    RolloutState.WATCHING: "better",
    RolloutState.SUCCEEDED: "better",
    RolloutState.STOPPED: "worse",
    RolloutState.ROLLED_BACK: "worse",
}
_UNITS_S = {"d": 86_400, "h": 3_600, "m": 60}


def in_words(state: RolloutState) -> str:
    return _WORDS[state]


def duration(seconds: float) -> str:
    """As the command line takes it: ``10m``."""
    unit = next((unit for unit, size in _UNITS_S.items() if seconds >= size and seconds % size == 0), "s")
    return f"{seconds / _UNITS_S.get(unit, 1):g}{unit}"


def render_rollout(pages: Pages, endpoint: str, rollout: Rollout | None) -> str:
    facts = {} if rollout is None else _facts(rollout)
    return pages.render(
        "rollout.html", endpoint=endpoint, path=f"/endpoints/{quote(endpoint, safe='')}", rollout=rollout, **facts
    )


def _facts(rollout: Rollout) -> dict[str, object]:
    spec = rollout.spec
    return {
        "words": in_words(rollout.state),
        "mood": _MOODS.get(rollout.state, ""),
        "began": minute_of(rollout.created_ms),
        "ended": None if rollout.ended_ms is None else minute_of(rollout.ended_ms),
        "steps": list(enumerate(spec.steps_bp, start=1)),
        "asked": [
            ("each step", f"{duration(spec.every_s)}, and {spec.requests_min:,} requests at least"),
            ("guards", ", ".join(spec.guards) or "none"),
            ("metric", _said_of_metric(rollout)),
            ("as champion", f"watched for {duration(spec.watch_s)}, of which {spec.budget:.2%} may fail"),
        ],
    }


def _said_of_metric(rollout: Rollout) -> str:
    spec = rollout.spec
    margin = f", {spec.margin:g} less is put up with" if spec.margin else ""
    return f"{spec.metric}{margin}" if spec.metric else "none"


@get(
    "/endpoints/{name:str}/rollout",
    media_type=MediaType.HTML,
    sync_to_thread=True,
    opt=needs(Permission.OBSERVE),
    exception_handlers=PAGE_ERRORS,
)
def show_rollout(
    name: FromPath[str], database: NamedDependency[Database], pages: NamedDependency[Pages]
) -> Response[str]:
    """The rollout that runs, else the one that ran last, if there was one."""
    with database.reading() as session:
        try:
            rollout = rollouts.newest(session, name)
        except NoRollout:
            rollout = None
    return page(render_rollout(pages, name, rollout))


handlers = [show_rollout]
