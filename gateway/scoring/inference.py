"""The life of a prediction, top to bottom: endpoint, arm, version, signature, batch, predict.

Reads one immutable routing table and memory. Never the database, never a store: with both down, predictions go on.
"""

import time
from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import msgspec

from gateway.access.identity import LOCAL, Identity
from gateway.observability.metrics import Metrics
from gateway.observability.prediction_metrics import BatchMetrics
from gateway.pool.model_pool import HostGone, ModelConnection, ModelPool, PredictionTimedOut
from gateway.routing_table import Choice, CurrentTable, LiveRoute
from gateway.scoring.batching import Asked, Batcher, Deadline, Limits
from gateway.scoring.routing import BUCKETS, bucket_of
from loaders.base import Answer, Rows
from loaders.payload import Data
from loaders.signature import Signature, enforce_rows, takes_alike
from registry.entities import CHAMPION
from registry.uri import parse_model_uri
from tracking.access.permissions import Permission
from tracking.errors import ErrorCode, InvalidParameter, NotFound, PermissionDenied, TemporarilyUnavailable

ReadInput = Callable[[], tuple[Data, Mapping[str, Any] | None]]
"""Decodes the body. Called once the version is known, because a decoder may want its signature."""


class EndpointNotServed(NotFound):
    """A name that isn't in the routing table; whoever answers the caller looks up why."""

    code = ErrorCode.RESOURCE_DOES_NOT_EXIST

    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"There is no endpoint {name!r}; there are: {', '.join(known) or 'none yet'}.")
        self.name = name


class NoTableYet(TemporarilyUnavailable):
    def __init__(self) -> None:
        super().__init__("No routing table is in force here yet; its models are being loaded.")


class EndpointNotNamed(NotFound):
    """Bare ``/invocations`` where nothing says which endpoint it means."""

    def __init__(self, known: list[str]) -> None:
        if known:
            said = f"There are several endpoints ({', '.join(known)}): ask one as /endpoints/NAME/invocations, or start"
            super().__init__(f"{said} with --model models:/NAME@champion.")
        else:
            super().__init__("There is no endpoint yet: register a model and set its alias `champion`.")


class NoSuchArm(InvalidParameter):
    def __init__(self, arm: str, route: LiveRoute) -> None:
        super().__init__(f"Endpoint {route.name!r} has no arm {arm!r}; its arms are: {', '.join(sorted(route.arms))}.")


class StageIsNoRoute(InvalidParameter):
    def __init__(self, stage: str) -> None:
        super().__init__(f"Stages such as {stage!r} are labels and route nothing; name an alias or a version.")


class VersionNotInMemory(NotFound):
    def __init__(self, route: LiveRoute, version: int) -> None:
        super().__init__(
            f"Version {version} of {route.model!r} is not in memory; nothing is loaded on demand. Give it an alias "
            "that is an arm of the endpoint, or pin it."
        )


class KeptBehindGates(PermissionDenied):
    def __init__(self, route: LiveRoute, version: int) -> None:
        super().__init__(
            f"Version {version} of {route.model!r} may take no more than a share of the traffic before a gate is met, "
            f"so only a load test asks for it by name; `titlebout gate list {route.model}` shows the gates."
        )


class ModelNotReady(TemporarilyUnavailable):
    def __init__(self, model: str, version: int) -> None:
        super().__init__(f"Version {version} of {model!r} is being brought back into memory.")


class Target(msgspec.Struct, frozen=True):
    """Whom a caller asked: an endpoint, perhaps one arm or one version of it."""

    endpoint: str | None
    """None asks for the only endpoint there is."""
    arm: str | None = None
    version: int | None = None
    unit: str | None = None
    """What is assigned to an arm; None for the request itself."""
    is_load_test: bool = False
    """Whether the caller says that it is one, and no traffic of anybody's."""


class Prediction(msgspec.Struct, frozen=True):
    """What the chosen version answered."""

    choice: Choice
    answer: Answer
    rows: int
    """How many it was asked for."""
    signature: Signature | None
    """The version's own, for protocols that name and type outputs."""
    asked: Asked
    """What the model was asked, and how long it waited and took."""


class Inference:
    """Answers predictions from the current table with the models in memory.

    *patience_s* is the longest that a host may take for one message before it counts as stuck.
    """

    def __init__(
        self, current: CurrentTable, pool: ModelPool, *, limits: Limits, patience_s: float, metrics: Metrics
    ) -> None:
        self._current = current
        self._pool = pool
        self._limits = limits
        self._patience_s = patience_s
        self._metrics = metrics
        # One for each connection, and gone with it.
        self._batchers: dict[ModelConnection, Batcher] = {}
        self._random = Random()  # noqa: S311  (it shares traffic out, and keeps no secret)

    def choose(self, target: Target, identity: Identity = LOCAL) -> Choice:
        """Who answers *target*; see `assign`."""
        return self.assign(target, identity)[0]

    def assign(self, target: Target, identity: Identity = LOCAL) -> tuple[Choice, int | None]:
        """Who answers *target*, from the table in force at this instant, if *identity* may ask; and by which bucket.

        There is no bucket where the caller named an arm or a version: no split gave it to them.

        Raises:
            NoTableYet: before the first table is in force.
            NotPermitted, NotForKey, RateExceeded: if it may not.
            EndpointNotServed, EndpointNotNamed: if the table has no such endpoint, or several and none is named.
            NoSuchArm: if it has, but not the arm that was asked for.
            VersionNotInMemory: if a version was asked for by number and isn't held.
            KeptBehindGates: if an arm or a version was named that may take no more than its share, and by no load test.
        """
        if not self._current.received:
            raise NoTableYet
        live = self._current.live
        routes = live.routes if identity is LOCAL else live.routes_for(identity, identity.may_ask)
        try:
            route, arm, version = find_route(routes, target)
        except EndpointNotServed as error:
            # Why it isn't served is told to those only who may ask it.
            if identity is not LOCAL:
                identity.ensure_may_score(error.name, error.name, arm=None, version=None, now_s=time.monotonic())
            raise
        except EndpointNotNamed:
            if identity.key is None:
                identity.caller(Permission.SCORE)
            raise
        if identity is not LOCAL:
            identity.ensure_may_say(route.model, arm=arm, version=version, now_s=time.monotonic())
        if version is not None:
            # By number, whatever the split says; only what is in memory answers.
            if self._pool.find((route.model, version)) is None and version not in route.arms.values():
                raise VersionNotInMemory(route, version)
            if not (target.is_load_test and identity.may_load_test(route.model)):
                _ensure_open_by_name(route, version)
            return Choice(route.name, route.model, version, "", live.epoch, route.id, route.period), None
        bucket = None
        if arm is None:
            bucket = self._bucket(route, target.unit)
            arm = route.owners[bucket]
        elif arm not in route.arms:
            raise NoSuchArm(arm, route)
        else:
            _ensure_open_by_name(route, route.arms[arm])
        return route.choice(arm), bucket

    def _bucket(self, route: LiveRoute, unit: str | None) -> int:
        if unit is not None:
            return bucket_of(route.id, route.salt, unit)
        # A unit of its own, which nobody will see again: its bucket is as good as drawn.
        return int(self._random.random() * BUCKETS)

    async def predict(self, choice: Choice, read_input: ReadInput, deadline: Deadline) -> Prediction:
        """The chosen version's answer.

        Raises:
            ModelNotReady: if the version lost its process, and isn't back in time.
            BadInput: naming the field that the signature refuses.
            PredictionTimedOut: at *deadline*, wherever the request is by then.
            As `Batcher.ask` and its answers, for the rest.
        """
        connection = await self._connection(choice, deadline)
        if time.monotonic() >= deadline.at_s:
            raise PredictionTimedOut(connection.key, deadline.allowed_s)
        data, params = read_input()
        rows, accepted = enforce_rows(connection.signature, data, params)
        while True:
            asked = self._batcher(connection).ask(rows, accepted, deadline)
            try:
                return Prediction(choice, await asked.answer, asked.rows, connection.signature, asked)
            except HostGone:
                if asked.sent_s:
                    raise  # It may be what ended the host.
            connection = await self._connection(choice, deadline)

    def read_again(self, choice: Choice, before: Prediction, read_input: ReadInput) -> tuple[Rows, Mapping[str, Any]]:
        """What another version answered *before*, as *choice*'s version takes it; it must be in memory now.

        Raises:
            ModelNotReady: if it isn't.
            BadInput: naming the field that its signature refuses.
        """
        signature = self._present(choice).signature
        if takes_alike(signature, before.signature):
            return before.asked.batch, before.asked.params
        return enforce_rows(signature, *read_input())

    def ask_now(self, choice: Choice, rows: Rows, params: Mapping[str, Any], deadline: Deadline) -> Asked:
        """Ask *choice*'s version, which must be in memory now.

        Raises:
            ModelNotReady: if it isn't.
            As `Batcher.ask` and its answers, for the rest.
        """
        return self._batcher(self._present(choice)).ask(rows, params, deadline)

    def may_join(self, choice: Choice) -> bool:
        """Whether *choice*'s version may be asked for rows of several requests at once."""
        connection = self._pool.find((choice.model, choice.version))
        return connection is not None and connection.description.batchable

    def _present(self, choice: Choice) -> ModelConnection:
        connection = self._pool.find((choice.model, choice.version))
        if connection is None:
            raise ModelNotReady(choice.model, choice.version)
        return connection

    @property
    def somebody_waits(self) -> bool:
        """Whether a request, for whichever version, waits for the one before to be answered."""
        return any(batcher.waiting for batcher in self._batchers.values())

    def is_idle(self, choice: Choice) -> bool:
        """Whether *choice*'s version has nothing to answer for this worker."""
        connection = self._pool.find((choice.model, choice.version))
        batcher = None if connection is None else self._batchers.get(connection)
        return batcher is None or batcher.is_idle

    def _batcher(self, connection: ModelConnection) -> Batcher:
        batcher = self._batchers.get(connection)
        if batcher is None:
            counts = BatchMetrics(self._metrics, *connection.key)
            batcher = self._batchers[connection] = Batcher(
                connection, self._limits, patience_s=self._patience_s, sent=counts.sent
            )
            connection.when_gone(self._forget)
        return batcher

    def _forget(self, connection: ModelConnection) -> None:
        self._batchers.pop(connection, None)

    async def _connection(self, choice: Choice, deadline: Deadline) -> ModelConnection:
        key = choice.model, choice.version
        connection = self._pool.find(key) or await self._pool.find_back(key, deadline.at_s)
        if connection is None:
            raise ModelNotReady(choice.model, choice.version)
        return connection


def _ensure_open_by_name(route: LiveRoute, version: int) -> None:
    if not route.is_open_by_name(version):
        raise KeptBehindGates(route, version)


def find_route(routes: Mapping[str, LiveRoute], target: Target) -> tuple[LiveRoute, str | None, int | None]:
    """The route, and the arm or the version if one was named beside it or in it, as in ``iris@challenger``.

    *routes* are those that the caller may know of: to them, no other is there.

    Raises:
        EndpointNotServed, EndpointNotNamed: if *routes* have no such endpoint, or several and none is named.
    """
    if target.endpoint is None:
        if len(routes) == 1:
            return next(iter(routes.values())), target.arm, target.version
        raise EndpointNotNamed(sorted(routes))
    route = routes.get(target.endpoint)
    if route is not None:
        return route, target.arm, target.version
    # `models:/NAME@ALIAS`, quoted or not; a whole name comes first, since nothing forbids an @ in one.
    reference = parse_model_uri(target.endpoint, routes.__contains__)
    route = routes.get(reference.name)
    if route is None:
        raise EndpointNotServed(reference.name, sorted(routes))
    if reference.stage is not None:
        raise StageIsNoRoute(reference.stage)
    # `@champion` is the endpoint itself, split and all; another alias pins its arm.
    pinned = None if reference.alias == CHAMPION else reference.alias
    version = reference.version if target.version is None else target.version
    return route, target.arm or pinned, version
