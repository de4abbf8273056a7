"""Reach: the most of an endpoint's traffic that can come to a version, by what is desired and what is served.

More than an arm's share may. Several arms may mean one version; an arm goes on with the version that it served until
the one that its alias means is ready; and the champion answers for every arm that can't, or isn't there any more, so
all of the traffic counts as its own.
"""

from collections import Counter
from collections.abc import Mapping

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from registry import serving
from registry.entities import CHAMPION, Route
from registry.schema import AliasRow, EndpointRow, SplitRow
from registry.splits import BUCKETS


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """Who could be sent what of one model's endpoint; nothing but aliases where there is none yet."""

    endpoint_id: str | None = None
    shares_bp: Mapping[str, int] = {}
    """Of the arms, in the newest period."""
    desired: Mapping[str, int] = {}
    """Each alias, an arm or not, to the version that it means."""
    served: Mapping[str, int] = {}
    """Arm to version in the newest table."""
    served_bp: Mapping[str, int] = {}
    """Buckets of the arms there."""
    former_champion: int | None = None

    @property
    def champion(self) -> int | None:
        """The version that others are measured by: what the alias means, else what goes on in its place."""
        return self.desired.get(CHAMPION, self.served.get(CHAMPION))

    @property
    def arms(self) -> dict[str, frozenset[int]]:
        """Each arm, the champion always among them, with the versions that may answer for it now or next."""
        named = {*self.shares_bp, *self.served, CHAMPION}
        return {
            arm: frozenset(meant[arm] for meant in (self.desired, self.served) if arm in meant) for arm in sorted(named)
        }

    @property
    def versions(self) -> frozenset[int]:
        """All that may answer for an arm."""
        return frozenset().union(*self.arms.values())

    def most_bp(self, version: int) -> int:
        """The most that can come to *version* without its being asked for by name, in basis points."""
        arms = [arm for arm, versions in self.arms.items() if version in versions]
        if CHAMPION in arms:
            return BUCKETS
        return sum(self.shares_bp.get(arm, 0) for arm in arms)

    def arms_of(self, version: int) -> list[str]:
        """The arms for which *version* may answer, the largest first."""
        arms = [arm for arm, versions in self.arms.items() if version in versions]
        return sorted(arms, key=lambda arm: -self.shares_bp.get(arm, 0))

    @property
    def in_force(self) -> "Reach":
        """The same by the shares of the newest table, which trails the newest period."""
        return self.with_shares(self.served_bp)

    def with_alias(self, alias: str, version: int) -> "Reach":
        return msgspec.structs.replace(self, desired={**self.desired, alias: version})

    def with_shares(self, shares_bp: Mapping[str, int]) -> "Reach":
        return msgspec.structs.replace(self, shares_bp=shares_bp)


def reach_of(session: Session, model: str) -> Reach:
    """Who could be sent what of *model*'s endpoint."""
    aliases = select(AliasRow.alias, AliasRow.version).where(AliasRow.name == model)
    desired = dict(session.execute(aliases).all())
    endpoint = session.execute(
        select(EndpointRow.id, EndpointRow.former_champion).where(EndpointRow.model == model)
    ).first()
    if endpoint is None:
        return Reach(desired=desired)
    newest = select(SplitRow.shares_bp).where(SplitRow.endpoint_id == endpoint.id).order_by(SplitRow.period.desc())
    route = _served_route(session, endpoint.id)
    return Reach(
        endpoint_id=endpoint.id,
        shares_bp=session.scalars(newest.limit(1)).one(),
        desired=desired,
        served={} if route is None else route.arms,
        served_bp={} if route is None else _buckets(route),
        former_champion=endpoint.former_champion,
    )


def _served_route(session: Session, endpoint_id: str) -> Route | None:
    return next((route for route in serving.newest_table(session).routes if route.id == endpoint_id), None)


def _buckets(route: Route) -> Counter[str]:
    owned: Counter[str] = Counter()
    for arm, count in route.owners:
        owned[arm] += count
    return owned
