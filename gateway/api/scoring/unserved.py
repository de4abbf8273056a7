"""Why a name isn't served: asked of the registry, only once a prediction has already been refused."""

from sqlalchemy.orm import Session

from gateway.scoring.inference import EndpointNotServed
from registry import endpoints, models, serving
from registry.endpoints import EndpointNotFound
from registry.entities import CHAMPION, Endpoint
from tracking.database import Database
from tracking.errors import NotFound, ServingError, TemporarilyUnavailable


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


def explain_unserved(database: Database, name: str) -> ServingError:
    """The error for a prediction that asked for *name*, which no routing table holds. Runs in a thread."""
    try:
        with database.reading() as session:
            return _explain(session, database.now_ms(session), name)
    except ServingError as error:
        return error


def _explain(session: Session, now_ms: int, name: str) -> ServingError:
    known = [endpoint.name for endpoint in endpoints.list_endpoints(session) if not endpoint.stopped]
    try:
        endpoint = endpoints.get_endpoint(session, name)
    except EndpointNotFound:
        model = models.find_model(session, name)
        return EndpointNotServed(name, known) if model is None else ModelWithoutChampion(name, list(model.aliases))
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
