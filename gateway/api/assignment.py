"""What an endpoint assigned, or assigns, units by: enough to work it out elsewhere (docs/assignment.md)."""

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery

from gateway.auth import needs
from registry import endpoints, serving
from registry.entities import Route
from tracking.access.permissions import Permission
from tracking.database import Database
from tracking.errors import NotFound


class NotServedThen(NotFound):
    def __init__(self, name: str, epoch: int) -> None:
        super().__init__(f"Endpoint {name!r} is in no routing table of epoch {epoch}; the last 1,000 epochs are kept.")


class AssignmentAnswer(Route, frozen=True, kw_only=True):
    """The route of one epoch: id, salt, owners of the buckets in their order, arms with their versions."""

    epoch: int


@get("/api/1.0/titlebout/endpoints/{name:str}/assignment", sync_to_thread=True, opt=needs(Permission.OBSERVE))
def get_assignment(
    name: FromPath[str], database: NamedDependency[Database], epoch: FromQuery[int | None] = None
) -> AssignmentAnswer:
    """Of the epoch in force, or of an earlier one."""
    with database.reading() as session:
        # First of all: a table is everybody's, and this says whether the caller may know of the endpoint.
        endpoint = endpoints.get_endpoint(session, name)
        if epoch is None:
            table = serving.table_in_force(session, serving.list_replicas(session, now_ms=database.now_ms(session)))
        else:
            table = serving.table_of(session, epoch)
    route = next((route for route in table.routes if route.id == endpoint.id), None)
    if route is None:
        raise NotServedThen(name, table.epoch if epoch is None else epoch)
    return AssignmentAnswer(epoch=table.epoch, **{field: getattr(route, field) for field in Route.__struct_fields__})


handlers = [get_assignment]
