"""Carries rollouts on, in the supervisor of each replica; of one rollout exactly one of them acts.

Whoever has its lease looks at it, and does what follows by a function of `registry.rollouts`, which does it only if the
rollout is still what was looked at. The lease spares the others the looking; that nothing is done twice doesn't hang
on it. A replica that dies is followed by another once its lease has run out.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import assert_never

from sqlalchemy.orm import Session

from gateway.rollouts.decision import Decision, Move
from registry import rollouts
from registry.errors import GatesNotMet
from registry.rollout_entities import Rollout
from registry.rollouts import Act, RolloutMoved
from tracking.access.caller import PROGRAM
from tracking.database import Database
from tracking.errors import ServingError

_log = logging.getLogger(__name__)

_INTERVAL_S = 1.0
LEASE_MS = 5_000


class RolloutActor:
    """*name* is the replica's, *lead_ms* how far ahead an epoch begins, *warm_s* how long a former champion stays.

    *looked* is told at each look of all that run, whoever acts on them.
    """

    def __init__(
        self,
        database: Database,
        *,
        name: str,
        lead_ms: int,
        warm_s: float,
        now_ms: Callable[[Session], int] | None = None,
        looked: Callable[[Sequence[Rollout]], None] = lambda _: None,
    ) -> None:
        self._database = database
        self._name = name
        self._lead_ms = lead_ms
        self._warm_ms = int(warm_s * 1000)
        # The database's, the one clock that all replicas share; tests have one of their own.
        self._now_ms = now_ms or database.now_ms
        self._looked = looked

    async def run(self) -> None:
        """Act until cancelled."""
        while True:
            await asyncio.sleep(_INTERVAL_S)
            try:
                await asyncio.to_thread(self.look)
            except ServingError as error:
                _log.debug("rollouts_not_read", extra={"reason": error.reason})
            except Exception:
                # An edge, too: without this loop every rollout would stand still until the next start.
                _log.exception("rollout_look_failed")

    def look(self) -> None:
        """Look once at all that run, and do what is to be done. In a thread, as it asks the database."""
        with self._database.reading() as session:
            running = rollouts.list_running(session)
        self._looked(running)
        for rollout in running:
            try:
                self._carry_on(rollout)
            except RolloutMoved:
                # Somebody was quicker: a person, or a replica that thinks that this one is dead.
                continue
            except ServingError as error:
                _log.warning("rollout_not_judged", extra={"endpoint": rollout.endpoint, "reason": error.reason})
            except Exception:
                # An edge: a bug that one rollout meets must not keep the others waiting.
                _log.exception("rollout_look_failed", extra={"endpoint": rollout.endpoint})

    def _carry_on(self, seen: Rollout) -> None:
        if not self._may_act(seen):
            return
        # With scipy, half a second to import, which a replica without a rollout has no use for.
        from gateway.rollouts.looks import decide  # noqa: PLC0415

        with self._database.reading() as session:
            decision = decide(session, seen, now_ms=self._now_ms(session), warm_ms=self._warm_ms)
        try:
            self._do(seen, decision)
        except GatesNotMet as error:
            # Undone with its transaction; the gate's words are what a person should read.
            waiting = Decision(move=Move.WAIT, reason=error.message, evidence=decision.evidence)
            self._do(seen, waiting)

    def _may_act(self, seen: Rollout) -> bool:
        with self._database.reading() as session:
            now_ms = self._now_ms(session)
        if seen.actor == self._name and seen.lease_until_ms - now_ms > LEASE_MS / 2:
            return True
        if seen.actor not in {self._name, None} and seen.lease_until_ms >= now_ms:
            return False
        with self._database.writing() as session:
            now_ms = self._now_ms(session)
            return rollouts.claim(session, seen, self._name, now_ms=now_ms, lease_ms=LEASE_MS)

    def _do(self, seen: Rollout, decision: Decision) -> None:
        if decision.move is Move.NOTHING:
            return
        with self._database.writing() as session:
            done = self._done(session, seen, decision)
        if done is not None:
            _tell(done)

    def _done(self, session: Session, seen: Rollout, decision: Decision) -> Rollout | None:
        now_ms = self._now_ms(session)
        act = Act(author=PROGRAM.name, now_ms=now_ms, reason=decision.reason, evidence=decision.evidence)
        match decision.move:
            case Move.ADVANCE:
                return rollouts.advance(session, seen, act)
            case Move.WAIT:
                return rollouts.wait(session, seen, act)
            case Move.STOP:
                return rollouts.stop(session, seen, act)
            case Move.ROLL_BACK:
                return rollouts.roll_back(session, seen, act, lead_ms=self._lead_ms)
            case Move.FINISH:
                return rollouts.finish(session, seen, act)
            case Move.NOTE:
                rollouts.note(
                    session,
                    seen,
                    now_ms=now_ms,
                    reason=decision.reason or None,
                    served_ms=decision.served_ms,
                    keeps_warm=decision.keeps_warm,
                    objectives=decision.objectives,
                    samples=decision.samples,
                    evidence=decision.evidence,
                )
            case Move.NOTHING:
                pass
            case _:
                assert_never(decision.move)
        return None


def _tell(rollout: Rollout) -> None:
    said = {"endpoint": rollout.endpoint, "version": rollout.version, "state": rollout.state.value}
    _log.info("rollout_acted", extra={**said, "step": rollout.step, "reason": rollout.reason})
