"""Which routing table comes next: a pure decision over what is served, what is desired and what is ready."""

from collections.abc import Collection, Iterable, Mapping

import msgspec

from registry.entities import CHAMPION, NO_PERIOD, DesiredRoute, Route, RoutingTable, VersionKey
from registry.splits import hand_over


def next_routes(
    current: RoutingTable, desired: Iterable[DesiredRoute], ready: Collection[VersionKey]
) -> tuple[Route, ...]:
    """The routes to serve now, by name, given the versions that are READY on every live replica.

    An arm moves to the version its alias means once that version is ready; until then, and for as long as its load
    fails, it stays on the version it served. So a bad artifact never takes anything from what serves. An arm that
    never served gives its buckets to the champion meanwhile, and an endpoint whose champion was never ready isn't
    there yet.
    """
    served = {route.id: route for route in current.routes}
    routes = (_next_route(served.get(wish.endpoint.id), wish, ready) for wish in desired)
    return tuple(sorted((route for route in routes if route is not None), key=lambda route: route.name))


def _next_route(served: Route | None, wish: DesiredRoute, ready: Collection[VersionKey]) -> Route | None:
    endpoint, split = wish.endpoint, wish.split
    before: Mapping[str, int] = served.arms if served and served.model == endpoint.model else {}
    arms: dict[str, int] = {}
    for arm in split.shares_bp:
        wanted = wish.versions.get(arm)
        if wanted is not None and (endpoint.model, wanted) in ready:
            arms[arm] = wanted
        elif arm in before and (wanted is not None or arm == CHAMPION):
            # Not ready yet, or a champion whose alias was deleted: what served last goes on.
            arms[arm] = before[arm]
    if CHAMPION not in arms:
        # A renamed model is loaded again under its new name; until then the endpoint answers as it did, but for what
        # gates say now.
        return None if served is None else msgspec.structs.replace(served, by_name=wish.by_name)
    absent = [arm for arm in split.shares_bp if arm not in arms]
    shadow = wish.shadow if wish.shadow is not None and wish.shadow.arm in arms else None
    return Route(
        id=endpoint.id,
        name=endpoint.name,
        model=endpoint.model,
        salt=endpoint.salt,
        fallback=endpoint.fallback,
        period=_period(served, wish, arms),
        arms=arms,
        owners=hand_over(split.owners, absent, CHAMPION),
        shadow=shadow,
        by_name=wish.by_name,
    )


def _period(served: Route | None, wish: DesiredRoute, arms: Mapping[str, int]) -> int:
    """That of the split once each arm answers for its share, by the version that it should be.

    An arm that moves to another version later takes the period with it: what it did before stays counted.
    """
    split = wish.split
    shared = [arm for arm, share in split.shares_bp.items() if share]
    if any(arm not in arms for arm in shared):
        return NO_PERIOD
    has_begun = served is not None and served.period == split.period
    is_as_wished = all(arms[arm] == wish.versions.get(arm, arms[arm]) for arm in shared)
    return split.period if has_begun or is_as_wished else NO_PERIOD
