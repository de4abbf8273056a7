"""The routing table as a worker uses it: immutable, indexed by name, swapped whole."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import msgspec

from registry.entities import CHAMPION, NO_PERIOD, OwnerRuns, Route, RoutingTable, Shadow
from registry.splits import expand


class Choice(msgspec.Struct, frozen=True, cache_hash=True):
    """Who answers, and from which epoch."""

    endpoint: str
    model: str
    version: int
    arm: str
    """Empty when a version was asked for by number."""
    epoch: int
    endpoint_id: str = ""
    period: int = 0
    """Of the split."""
    is_compared: bool = False
    """Whether the arm is one of several."""
    fallback: "Choice | None" = None
    """Who answers where this arm fails, if that is wanted: the champion."""
    shadowing: "Shadowing | None" = None
    """Who is asked a copy of what this arm is given by the split."""


class Shadowing(msgspec.Struct, frozen=True):
    """A shadow as those see it whom it is compared with."""

    choice: Choice
    """The shadow itself."""
    wish: Shadow
    is_dark: bool
    """Whether its arm is given nothing by the split."""


class LiveRoute:
    """One endpoint, ready to be answered from."""

    __slots__ = (
        *("_by_name", "_choices", "_shadowing", "arms", "epoch", "fallback"),
        *("id", "model", "name", "owners", "period", "salt"),
    )

    def __init__(self, route: Route, epoch: int) -> None:
        self.epoch = epoch
        self.id = route.id
        self.name = route.name
        self.model = route.model
        self.salt = route.salt
        self.period = route.period
        self.fallback = route.fallback
        self.arms = MappingProxyType(dict(route.arms))
        # One entry a bucket, so that a look-up is an index; the names are shared, not copied.
        self.owners = tuple(expand(route.owners))
        self._by_name = route.by_name
        self._choices: dict[str, Choice] = {}
        self._shadowing = None if route.shadow is None else self._find_shadowing(route.shadow, route.owners)

    @property
    def champion(self) -> int:
        return self.arms[CHAMPION]

    def is_open_by_name(self, version: int) -> bool:
        """Whether *version* may be asked past the split, by its number or its arm; else a gate bounds what it takes."""
        return self._by_name is None or version in self._by_name

    def choice(self, arm: str) -> Choice:
        """What it means that *arm*, which is one of `arms`, answers; the same object each time."""
        return self._choices.get(arm) or self._choices.setdefault(arm, self._make_choice(arm))

    def _make_choice(self, arm: str) -> Choice:
        version = self.arms[arm]
        # Another try of the same version would fail alike.
        falls_back = self.fallback and version != self.champion
        # Nor would the shadow's arm be a shadow of itself, or its version of the same.
        is_shadowed = self._shadowing is not None and version != self._shadowing.choice.version
        return msgspec.structs.replace(
            self._bare_choice(arm),
            fallback=self.choice(CHAMPION) if falls_back else None,
            shadowing=self._shadowing if is_shadowed else None,
        )

    def _bare_choice(self, arm: str) -> Choice:
        return Choice(
            self.name,
            self.model,
            self.arms[arm],
            arm,
            self.epoch,
            endpoint_id=self.id,
            period=self.period,
            is_compared=len(self.arms) > 1 and self.period != NO_PERIOD,
        )

    def _find_shadowing(self, wish: Shadow, owners: OwnerRuns) -> Shadowing:
        return Shadowing(self._bare_choice(wish.arm), wish, is_dark=all(arm != wish.arm for arm, _ in owners))


# Callers whose view of one table is remembered.
_VIEWS_MAX = 1_000


class LiveTable:
    """All endpoints of one epoch."""

    __slots__ = ("_views", "epoch", "routes", "table")

    def __init__(self, table: RoutingTable) -> None:
        self.table = table
        self.epoch = table.epoch
        self.routes: Mapping[str, LiveRoute] = MappingProxyType(
            {route.name: LiveRoute(route, table.epoch) for route in table.routes}
        )
        self._views: dict[object, Mapping[str, LiveRoute]] = {}

    def routes_for(self, who: object, may_ask: Callable[[str, str], bool]) -> Mapping[str, LiveRoute]:
        """The routes whose endpoint and model *may_ask* lets through.

        Worked out once for *who*, since each prediction of theirs asks for it, and forgotten with the table.
        """
        view = self._views.get(who)
        if view is None:
            if len(self._views) >= _VIEWS_MAX:
                self._views.clear()
            view = {name: route for name, route in self.routes.items() if may_ask(name, route.model)}
            self._views[who] = view
        return view

    def find(self, name: str) -> LiveRoute | None:
        return self.routes.get(name)

    @property
    def versions(self) -> frozenset[tuple[str, int]]:
        """(model, version) of every arm of every endpoint."""
        return frozenset((route.model, version) for route in self.routes.values() for version in route.arms.values())


class CurrentTable:
    """What a worker answers from now. Replaced whole on the event loop, so a request sees one table from end to end."""

    def __init__(self) -> None:
        self.live = LiveTable(RoutingTable())
        self.received = False
        self.stale_since_s: float | None = None
        """When the database was last heard of, by epoch seconds, if it is away now."""
        self.stopping = False
        """Whether requests should go elsewhere because the replica is about to stop; it answers until it does."""

    def switch(self, table: LiveTable) -> None:
        """Answer from *table*, unless a newer one is already in force."""
        if table.epoch >= self.live.epoch:
            self.live = table
            self.received = True

    def reason_not_ready(self) -> str | None:
        """Why this worker shouldn't be sent predictions, or None."""
        if self.stopping:
            return "It is being stopped."
        return (
            None
            if self.received
            else "No routing table is in force yet: its models are being loaded, or the database can't be reached."
        )
