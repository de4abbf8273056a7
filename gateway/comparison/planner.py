"""How many units it takes to see a difference, before it is begun."""

import math

import msgspec
from scipy.special import ndtri

from gateway.comparison.confidence_sequences import asymptotic_half_width
from gateway.comparison.statistics import ALPHA
from tracking.errors import InvalidParameter

POWER = 0.8
_UNITS_MAX = 1e15
_HALVINGS = 60


class PlanImpossible(InvalidParameter):
    def __init__(self, reason: str) -> None:
        super().__init__(f"That can't be planned: {reason}.")


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Units of both arms together."""

    units: int
    requests: int
    challenger_units: int

    def days(self, units_a_day: float) -> float:
        """How long it takes if so many new units come each day, over both arms."""
        return self.units / units_a_day


def plan_means(
    difference: float,
    *,
    champion_variance: float,
    challenger_variance: float,
    challenger_share: float = 0.5,
    requests_per_unit: float = 1.0,
    likeness: float = 0.0,
    alpha: float = ALPHA,
    power: float = POWER,
) -> Plan:
    """Units until *difference* is seen with *power*, by the asymptotic sequence.

    The variances are of one request's value; *likeness* is the intraclass correlation of a unit's requests, 0 where
    each is like a stranger's, 1 where one says all: r of them are worth `r / (1 + (r - 1) likeness)`.

    With n independent requests the estimate is out of the interval around 0 with that power if the difference is the
    half-width plus `z_power` standard errors. Looking before as well can only help.

    Raises:
        PlanImpossible: if the arguments make no sense, or no number is enough.
    """
    is_asked_often = 1 <= requests_per_unit < math.inf
    if not difference or not 0 < challenger_share < 1 or not 0 <= likeness <= 1 or not is_asked_often:
        raise PlanImpossible("a difference other than 0, a share and a likeness within 0 and 1, a request a unit")
    s2 = 2 * (champion_variance + challenger_variance)
    uneven = champion_variance / (1 - challenger_share) + challenger_variance / challenger_share
    n = _independent_requests(abs(difference), s2, alpha=alpha, power=power)
    # n is of an even split; the same variance takes this many at the one asked for.
    independent = n * uneven / s2
    units = math.ceil(independent * (1 + (requests_per_unit - 1) * likeness) / requests_per_unit)
    return Plan(
        units=units,
        requests=math.ceil(units * requests_per_unit),
        challenger_units=math.ceil(units * challenger_share),
    )


def plan_rates(rate: float, difference: float, **options: float) -> Plan:
    """As `plan_means`, for a rate (of failures, of right answers) that is *rate* with the champion.

    Raises:
        PlanImpossible: if *rate*, or *rate* and *difference* together, are no rate.
    """
    other = rate + difference
    if not 0 <= rate <= 1 or not 0 <= other <= 1:
        raise PlanImpossible(f"{rate:g} and {other:g} should be rates, 0 to 1")
    return plan_means(
        difference, champion_variance=rate * (1 - rate), challenger_variance=other * (1 - other), **options
    )


def _independent_requests(difference: float, s2: float, *, alpha: float, power: float) -> float:
    if s2 <= 0:
        raise PlanImpossible("where nothing varies, one request says all")

    def is_enough(n: float) -> bool:
        half = float(asymptotic_half_width(s2, n, alpha=alpha))
        return half + float(ndtri(power)) * math.sqrt(s2 / n) <= difference

    if not is_enough(_UNITS_MAX):
        raise PlanImpossible("the difference is too small for any number of units")
    too_few, enough = 0.0, math.log(_UNITS_MAX)
    for _ in range(_HALVINGS):
        middle = (too_few + enough) / 2
        too_few, enough = (too_few, middle) if is_enough(math.exp(middle)) else (middle, enough)
    return math.exp(enough)
