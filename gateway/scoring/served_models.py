"""What a worker can say of the models that it answers for: from its table and its memory, like a prediction.

What the caller of the request at hand may not see isn't there.
"""

from collections.abc import Mapping

import msgspec

from gateway.pool.model_pool import ModelConnection, ModelPool
from gateway.pool.processor_time import processor_s
from gateway.routing_table import CurrentTable, LiveRoute
from gateway.scoring.inference import ModelNotReady, NoSuchArm, NoTableYet, Target, VersionNotInMemory, find_route
from loaders.signature import Signature
from registry.entities import CHAMPION
from tracking.access.caller import CALLER


class ServedModel(msgspec.Struct, frozen=True):
    """One version in memory, under the name that it answers to."""

    endpoint: str
    model: str
    version: int
    arms: Mapping[str, int]
    """The versions of all arms of the endpoint."""
    flavor: str
    signature: Signature | None
    example: str
    """The body of a request that was saved with the model, as JSON; empty where there is none."""
    in_memory: tuple[int, ...]
    """All versions of its model that are."""


class ServedModels:
    """Finds a target as predictions do."""

    def __init__(self, current: CurrentTable, pool: ModelPool | None) -> None:
        """*pool* is None where nothing is served, as with the APIs alone."""
        self._current = current
        self._pool = pool

    def describe(self, target: Target) -> ServedModel:
        """The version that *target* means; a name alone means its champion.

        Raises:
            NoTableYet, EndpointNotServed, NoSuchArm: if no prediction could be asked of it.
            VersionNotInMemory, ModelNotReady: if it isn't in memory.
        """
        route, connection = self._find_connection(target)
        held = sorted(connection.key[1] for connection in self._connections() if connection.key[0] == route.model)
        description = connection.description
        return ServedModel(
            endpoint=route.name,
            model=route.model,
            version=connection.key[1],
            arms=route.arms,
            flavor=description.flavor,
            signature=connection.signature,
            example=description.example,
            in_memory=tuple(held),
        )

    def processor_time(self, target: Target) -> tuple[int, float]:
        """Which process answers for *target*, and the processor seconds that it has spent until now.

        Raises:
            As `describe`.
        """
        route, connection = self._find_connection(target)
        pid = connection.host_pid
        if pid is None:
            raise ModelNotReady(route.model, connection.key[1])
        return pid, processor_s(pid)

    def names(self) -> list[str]:
        """All endpoints that the caller may see."""
        return sorted(self._routes())

    def ensure_ready(self, target: Target) -> str:
        """The endpoint of *target*, if a prediction would find its version, whichever arm is drawn.

        Raises:
            As `describe`.
        """
        route, arm, version = self._find(target)
        if version is not None:
            drawn = {version}
        else:
            drawn = {route.arms[name] for name in ([arm] if arm else set(route.owners))}
        for wanted in sorted(drawn):
            self._connection(route, wanted)
        return route.name

    def find_versions(self, target: Target) -> tuple[str, frozenset[int] | None]:
        """The model behind *target*, and the versions of it that are meant; None for all, as by a name alone."""
        route, arm, version = self._find(target)
        if version is None and arm is not None:
            version = route.arms[arm]
        return route.model, None if version is None else frozenset({version})

    def _find_connection(self, target: Target) -> tuple[LiveRoute, ModelConnection]:
        route, arm, version = self._find(target)
        return route, self._connection(route, route.arms[arm or CHAMPION] if version is None else version)

    def _find(self, target: Target) -> tuple[LiveRoute, str | None, int | None]:
        if not self._current.received:
            raise NoTableYet
        route, arm, version = find_route(self._routes(), target)
        if arm is not None and arm not in route.arms:
            raise NoSuchArm(arm, route)
        return route, arm, version

    def _routes(self) -> Mapping[str, LiveRoute]:
        models, routes = CALLER.get().reading.models, self._current.live.routes
        if models.all:
            return routes
        return {name: route for name, route in routes.items() if route.model in models}

    def _connection(self, route: LiveRoute, version: int) -> ModelConnection:
        connection = None if self._pool is None else self._pool.find((route.model, version))
        if connection is not None:
            return connection
        if version in route.arms.values():
            raise ModelNotReady(route.model, version)
        raise VersionNotInMemory(route, version)

    def _connections(self) -> list[ModelConnection]:
        return [] if self._pool is None else list(self._pool.connections())
