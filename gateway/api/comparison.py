"""Champion against challenger, and how long it will take to tell them apart (docs/comparison.md)."""

from litestar import get
from litestar.di import NamedDependency
from litestar.params import FromPath, FromQuery

from gateway.api.comparison_wire import ComparisonAnswer, PlanAnswer
from gateway.auth import needs
from gateway.comparison.arms import choose_arms
from registry import endpoints, verdicts
from registry.verdicts import Pair
from tracking.access.permissions import Permission
from tracking.database import Database
from tracking.errors import InvalidParameter

_ROOT = "/api/1.0/titlebout"


class OneBoundAlone(InvalidParameter):
    def __init__(self) -> None:
        super().__init__("Rewards have two bounds or none: expected lowest_reward and highest_reward.")


class DaysUnknown(InvalidParameter):
    def __init__(self, units_a_day: float) -> None:
        super().__init__(f"With {units_a_day:g} units a day no number of days can be said; expected more than 0.")


@get(f"{_ROOT}/endpoints/{{name:str}}/comparison", sync_to_thread=True, opt=needs(Permission.OBSERVE))
def get_comparison(
    name: FromPath[str],
    database: NamedDependency[Database],
    challenger: FromQuery[str | None] = None,
    metric: FromQuery[str | None] = None,
    minimal_effect: FromQuery[float] = 0.0,
    from_period: FromQuery[int] = 1,
    champion_version: FromQuery[int | None] = None,
    challenger_version: FromQuery[int | None] = None,
    lowest_reward: FromQuery[float | None] = None,
    highest_reward: FromQuery[float | None] = None,
) -> ComparisonAnswer:
    """What is concluded now, by *metric* or by the most telling one; with versions, what was to be concluded of them.

    By default of the arms' present versions, and of the arm `challenger` or else the largest. Where all rewards lie
    within bounds, few of them say something already.
    """
    if (lowest_reward is None) != (highest_reward is None):
        raise OneBoundAlone
    return compare_endpoint(
        database,
        name,
        challenger=challenger,
        metric=metric,
        minimal_effect=minimal_effect,
        from_period=from_period,
        champion_version=champion_version,
        challenger_version=challenger_version,
        rewards_within=None if lowest_reward is None or highest_reward is None else (lowest_reward, highest_reward),
    )


def compare_endpoint(
    database: Database,
    name: str,
    *,
    challenger: str | None = None,
    metric: str | None = None,
    minimal_effect: float = 0.0,
    from_period: int = 1,
    champion_version: int | None = None,
    challenger_version: int | None = None,
    rewards_within: tuple[float, float] | None = None,
) -> ComparisonAnswer:
    """As `get_comparison`, for a page too.

    Raises:
        EndpointNotFound: if there is no such endpoint that the caller may see.
        NothingToCompare, NoChampion, NotAChallenger: see `choose_arms`.
        MetricUnknown, EffectImpossible, RewardsBeyond: see `compare_arms`.
    """
    # With scipy, 26 MiB and a quarter of a second, which most workers have no use for.
    from gateway.api.comparison_figures import compare_arms  # noqa: PLC0415
    from gateway.comparison.evidence import gather  # noqa: PLC0415

    with database.reading() as session:
        endpoint = endpoints.get_endpoint(session, name)
        one, other = choose_arms(
            name,
            endpoints.versions_of_arms(session, endpoint),
            challenger=challenger,
            champion_version=champion_version,
            challenger_version=challenger_version,
        )
        evidence = gather(session, endpoint, champion=one, challenger=other, from_period=from_period)
        pair = Pair(endpoint_id=endpoint.id, champion=one[1], challenger=other[1], from_period=evidence.from_period)
        least_p = verdicts.least_mismatch_p(session, pair)
        shares_bp = endpoints.get_split(session, endpoint.id).shares_bp
    return compare_arms(
        endpoint,
        evidence,
        shares_bp,
        least_p=least_p,
        metric=metric,
        minimal_effect=minimal_effect,
        rewards_within=rewards_within,
    )


@get(f"{_ROOT}/plan", sync_to_thread=True, opt=needs(Permission.SELF))
def get_plan(
    rate: FromQuery[float],
    difference: FromQuery[float],
    share: FromQuery[float] = 0.5,
    requests_per_unit: FromQuery[float] = 1.0,
    likeness: FromQuery[float] = 0.0,
    units_a_day: FromQuery[float | None] = None,
) -> PlanAnswer:
    """How many units show a *difference* from the champion's *rate*, where the challenger has *share* of them.

    *likeness* is the intraclass correlation of a unit's requests: 0 like strangers', 1 all the same.
    """
    from gateway.comparison.planner import plan_rates  # noqa: PLC0415  (as above)

    if units_a_day is not None and not 0 < units_a_day < float("inf"):
        raise DaysUnknown(units_a_day)
    plan = plan_rates(rate, difference, challenger_share=share, requests_per_unit=requests_per_unit, likeness=likeness)
    return PlanAnswer(
        units=plan.units,
        requests=plan.requests,
        challenger_units=plan.challenger_units,
        days=None if units_a_day is None else plan.days(units_a_day),
    )


handlers = [get_comparison, get_plan]
