"""Which two arms of an endpoint are compared, as whoever asks has said it."""

from collections.abc import Mapping

from registry.entities import CHALLENGER, CHAMPION
from tracking.errors import InvalidParameter, NotFound


class NothingToCompare(NotFound):
    def __init__(self, endpoint: str) -> None:
        super().__init__(
            f"Endpoint {endpoint!r} has one arm, so there is nothing to compare: set the alias `{CHALLENGER}`, and "
            "give it a share of the traffic with `titlebout split`."
        )


class NoChampion(NotFound):
    def __init__(self, endpoint: str) -> None:
        super().__init__(f"Endpoint {endpoint!r} has no alias `{CHAMPION}` now, so there is nothing to compare with.")


class NotAChallenger(InvalidParameter):
    def __init__(self, endpoint: str, arm: str, arms: Mapping[str, int]) -> None:
        known = ", ".join(sorted(set(arms) - {CHAMPION})) or "none"
        super().__init__(f"{arm!r} is no challenger of endpoint {endpoint!r}; expected one of its arms: {known}.")


Answerers = tuple[tuple[str, int], tuple[str, int]]
"""Champion and challenger, each an arm and its version."""


def choose_arms(
    endpoint: str,
    versions: Mapping[str, int],
    *,
    challenger: str | None = None,
    champion_version: int | None = None,
    challenger_version: int | None = None,
) -> Answerers:
    """The champion, and the challenger that was named: else the arm `challenger`, else the one with the largest share.

    *versions* are those of the arms now, the largest share first; others can be named, to see what was once compared.

    Raises:
        NothingToCompare, NoChampion: if the endpoint's arms don't make a pair.
        NotAChallenger: if *challenger* is no arm, or is the champion.
    """
    others = [arm for arm in versions if arm != CHAMPION]
    if challenger is not None and challenger_version is None and challenger not in others:
        raise NotAChallenger(endpoint, challenger, versions)
    if challenger == CHAMPION:
        raise NotAChallenger(endpoint, challenger, versions)
    arm = challenger or (CHALLENGER if CHALLENGER in others or challenger_version else next(iter(others), None))
    if arm is None:
        raise NothingToCompare(endpoint)
    old = versions.get(CHAMPION) if champion_version is None else champion_version
    new = versions[arm] if challenger_version is None else challenger_version
    if old is None:
        raise NoChampion(endpoint)
    return (CHAMPION, old), (arm, new)
