"""Keeps verdicts fresh: looks every few seconds at endpoints with a challenger, where anything was counted since.

Runs in the supervisor, in a thread. Each replica has one, and whichever comes first judges; that two do at once is no
harm, as a verdict says what the sums say, which are the same for both, and the least p-value is kept by the database.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable
from operator import itemgetter
from typing import NamedTuple

import msgspec
from sqlalchemy.orm import Session

from registry import endpoints, tallies, verdicts
from registry.entities import CHAMPION, Endpoint, KeptVerdict
from registry.verdicts import Pair
from tracking.database import Database, DatabaseUnavailable
from tracking.errors import ServingError

_log = logging.getLogger(__name__)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of one challenger of one endpoint."""

    endpoint: str
    model: str
    arm: str
    version: int
    verdicts: tuple[KeptVerdict, ...]


class _Pair(NamedTuple):
    """Each of the two is an arm and its version."""

    endpoint: Endpoint
    champion: tuple[str, int]
    challenger: tuple[str, int]


class Judge:
    """*judged* is called after each round with what is kept of all challengers."""

    def __init__(
        self, database: Database, *, interval_s: float, judged: Callable[[list[Standing]], None] = lambda _: None
    ) -> None:
        self._database = database
        self._interval_s = interval_s
        self._judged = judged
        # What had been counted when it was judged last.
        self._seen: dict[_Pair, bytes] = {}
        self._database_away = False

    async def run(self) -> None:
        """Until cancelled."""
        clock, took_s = asyncio.get_running_loop().time, 0.0
        while True:
            # A challenger of many periods takes its time, and shall have a tenth of a processor at most.
            await asyncio.sleep(max(self._interval_s, 9 * took_s))
            began_s = clock()
            try:
                self._judged(await asyncio.to_thread(self.look))
                self._database_away = False
            except ServingError as error:
                # Once for each time that it goes, not at every look.
                if not self._database_away:
                    _log.warning("comparison_not_judged", extra={"reason": error.message})
                self._database_away = True
            took_s = clock() - began_s

    def look(self) -> list[Standing]:
        """Judge what has changed since the last look, unless another replica has just done so.

        Raises:
            DatabaseUnavailable: if it is away.
        """
        with self._database.reading() as session:
            pairs = [
                pair for endpoint in endpoints.endpoints_with_challengers(session) for pair in _pairs(session, endpoint)
            ]
        for pair in pairs:
            try:
                self._judge(pair)
            except DatabaseUnavailable:
                raise
            except Exception:  # An edge: one endpoint's sums must not keep all others from being judged.
                _log.exception("comparison_failed", extra={"endpoint": pair.endpoint.name})
        self._seen = {pair: self._seen[pair] for pair in pairs if pair in self._seen}
        with self._database.reading() as session:
            return [_standing(session, pair) for pair in pairs]

    def _judge(self, pair: _Pair) -> None:
        with self._database.reading() as session:
            counted = _fingerprint(session, pair.endpoint)
            judged_ms = max((kept.judged_ms for kept in _kept(session, pair)), default=0)
            is_fresh = self._database.now_ms(session) - judged_ms < self._interval_s * 1000
        if not is_fresh and self._seen.get(pair) != counted:
            self._judge_anew(pair)
            self._seen[pair] = counted

    def _judge_anew(self, pair: _Pair) -> None:
        # With scipy, half a second to import, which a replica without a challenger has no use for.
        from gateway.comparison.conclusions import conclude, kept_verdicts, look_at  # noqa: PLC0415
        from gateway.comparison.evidence import gather  # noqa: PLC0415

        with self._database.reading() as session:
            evidence = gather(session, pair.endpoint, champion=pair.champion, challenger=pair.challenger)
        # In no transaction, as it takes its time.
        look = look_at(evidence)
        versions = Pair(
            endpoint_id=pair.endpoint.id,
            champion=pair.champion[1],
            challenger=pair.challenger[1],
            from_period=evidence.from_period,
        )
        with self._database.writing() as session:
            conclusion = conclude(look, least_p=verdicts.least_mismatch_p(session, versions))
            verdicts.keep(session, versions, kept_verdicts(conclusion, now_ms=self._database.now_ms(session)))


def _pairs(session: Session, endpoint: Endpoint) -> list[_Pair]:
    """The champion with each version that isn't it; of arms that are one version with the largest."""
    versions = endpoints.versions_of_arms(session, endpoint)
    champion = versions.get(CHAMPION)
    if champion is None:
        return []
    arms: dict[int, str] = {}
    for arm, version in versions.items():
        arms.setdefault(version, arm)
    return [
        _Pair(endpoint, (CHAMPION, champion), (arm, version)) for version, arm in arms.items() if version != champion
    ]


def _fingerprint(session: Session, endpoint: Endpoint) -> bytes:
    """Of all that was counted, and of how it was split."""
    digest = hashlib.blake2b(str(endpoints.get_split(session, endpoint.id).period).encode())
    for kind, cells in sorted(tallies.read(session, endpoint.id).items()):
        for cell, content in sorted(cells.items(), key=itemgetter(0)):
            digest.update(f"{kind}{cell}".encode())
            digest.update(content)
    return digest.digest()


def _kept(session: Session, pair: _Pair) -> list[KeptVerdict]:
    versions = (pair.champion[1], pair.challenger[1])
    kept = verdicts.list_of(session, pair.endpoint.id)
    return [each for each in kept if (each.champion, each.challenger) == versions]


def _standing(session: Session, pair: _Pair) -> Standing:
    endpoint = pair.endpoint
    arm, version = pair.challenger
    kept = tuple(_kept(session, pair))
    return Standing(endpoint=endpoint.name, model=endpoint.model, arm=arm, version=version, verdicts=kept)
