"""Shares and buckets: which arm owns which of the 10,000 buckets, and how few move when the shares change.

Pure functions. A unit's bucket is fixed by its name; the owner of the bucket is stored with the split, so a change of
shares moves only the buckets that must move, from arms that shrink to arms that grow, lowest bucket first.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from registry.entities import OwnerRuns
from tracking.errors import InvalidParameter

BUCKETS = 10_000
"""One bucket is one basis point."""


class SharesDoNotAddUp(InvalidParameter):
    def __init__(self, shares_bp: Mapping[str, int]) -> None:
        said = ", ".join(f"{arm}={share}" for arm, share in shares_bp.items())
        total = sum(shares_bp.values())
        super().__init__(f"The shares {said} add up to {total} basis points; expected {BUCKETS} (100 %), none below 0.")


def check_shares(shares_bp: Mapping[str, int]) -> None:
    """Raise `SharesDoNotAddUp` unless *shares_bp* are whole basis points that make 100 %."""
    if any(share < 0 for share in shares_bp.values()) or sum(shares_bp.values()) != BUCKETS:
        raise SharesDoNotAddUp(shares_bp)


def all_to(arm: str) -> OwnerRuns:
    return ((arm, BUCKETS),)


def move_buckets(owners: OwnerRuns, shares_bp: Mapping[str, int]) -> OwnerRuns:
    """Give each arm as many buckets as its share says, moving the fewest.

    Each arm that shrinks gives up its lowest buckets; they go, in ascending order, to the arms that grow, in the order
    of their names. Arms that keep their share keep their buckets.
    """
    check_shares(shares_bp)
    buckets = expand(owners)
    held = Counter(buckets)
    surplus = {arm: count - shares_bp.get(arm, 0) for arm, count in held.items()}
    growing = [arm for arm in sorted(shares_bp) for _ in range(shares_bp[arm] - held.get(arm, 0))]
    takers = iter(growing)
    for bucket, owner in enumerate(buckets):
        if surplus[owner] > 0:
            surplus[owner] -= 1
            buckets[bucket] = next(takers)
    return as_runs(buckets)


def hand_over(owners: OwnerRuns, absent: Iterable[str], to: str) -> OwnerRuns:
    """The same buckets, with those of the *absent* arms owned by *to*."""
    gone = frozenset(absent)
    return _merged((to if arm in gone else arm, count) for arm, count in owners)


def expand(owners: OwnerRuns) -> list[str]:
    """The owner of each bucket, 10,000 names."""
    return [arm for arm, count in owners for _ in range(count)]


def as_runs(buckets: Sequence[str]) -> OwnerRuns:
    return tuple((arm, len(list(run))) for arm, run in groupby(buckets))


def _merged(runs: Iterable[tuple[str, int]]) -> OwnerRuns:
    return tuple((arm, sum(count for _, count in group)) for arm, group in groupby(runs, key=lambda run: run[0]))
