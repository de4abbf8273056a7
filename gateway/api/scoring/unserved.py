"""Why a name isn't served: asked of the registry, only once a prediction has already been refused."""

from collections.abc import Callable

from sqlalchemy.orm import Session

from gateway.scoring.inference import EndpointNotServed
from registry import endpoints, models, serving
from registry.entities import CHAMPION, Endpoint
from tracking.database import Database
from tracking.errors import NotFound, ServingError, TemporarilyUnavailable

MayAsk = Callable[[str, str], bool]
"""Of an endpoint's name and its model's."""


class EndpointLoading(TemporarilyUnavailable):
    def __init__(self, name: str, said: str) -> None:
        super().__init__(f"Endpoint {name!r} has not served yet: {said}.")


class EndpointStopped(NotFound):
    def __init__(self, name: str) -> None:
        super().__init__(f"Endpoint {name!r} was stopped; setting its model's champion alias starts it again.")


class ModelWithoutChampion(NotFound):
    def __init__(self, name: str, aliases: list[str]) -> None:
        said = ", ".join(sorted(aliases)) or "none"
        super().__init__(
            f"Model {name!r} has no endpoint: it never had a champion. Its aliases are: {said}. "
            f"Set one with set_registered_model_alias({name!r}, 'champion', VERSION)."
        )


def explain_unserved(database: Database, name: str, may_ask: MayAsk = lambda _endpoint, _model: True) -> ServingError:
    """The error for a request that asked for *name*, which no routing table holds. Runs in a thread.

    What is listed in it are the endpoints that the caller may see and, of those, ask.
    """
    try:
        with database.reading() as session:
            return _explain(session, database.now_ms(session), name, may_ask)
    except ServingError as error:
        return error


def _explain(session: Session, now_ms: int, name: str, may_ask: MayAsk) -> ServingError:
    known = {one.name: one for one in endpoints.list_endpoints(session) if may_ask(one.name, one.model)}
    endpoint = known.get(name)
    if endpoint is None:
        model = models.find_model(session, name)
        if model is not None:
            return ModelWithoutChampion(name, list(model.aliases))
        return EndpointNotServed(name, [one.name for one in known.values() if not one.stopped])
    if endpoint.stopped:
        return EndpointStopped(name)
    return EndpointLoading(name, _state_of_champion(session, now_ms, endpoint))


def _state_of_champion(session: Session, now_ms: int, endpoint: Endpoint) -> str:
    model = models.find_model(session, endpoint.model)
    version = model.aliases.get(CHAMPION) if model else None
    for replica in serving.list_replicas(session, now_ms=now_ms):
        for slot in replica.slots:
            if replica.live and (slot.model, slot.version) == (endpoint.model, version):
                reason = f" ({slot.reason})" if slot.reason else ""
                return f"version {version} is {slot.state}{reason}"
    return f"version {version} is waiting to be loaded"
