"""What gates are made of, piece by piece, each of which can be taken out: the sequences find a way round without it.

A search that finds nothing shows little unless it would find what is there to be found. `python -m loadtests.gates
--without CHECK` takes one out, and says after how many sequences that was found.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import msgspec
from sqlalchemy import delete
from sqlalchemy.orm import Session

from gateway.api import rollouts as rollouts_api
from gateway.api import titlebout as ours
from gateway.api.mlflow import registry as mlflow
from registry import endpoints, gate_needs, gates, history, load_tests, rollouts
from registry.approvals import list_approvals
from registry.entities import CHAMPION, ApprovalNeeded, LoadTest, ModelVersion
from registry.gates import Override
from registry.reach import Reach
from registry.schema import GateRow

Change = tuple[Any, str, Any]
"""Of what, which attribute, and what it is instead."""


@contextmanager
def without(check: str) -> Iterator[None]:
    """Have the block run without *check*, which is one of `CHECKS`."""
    with ExitStack() as taken_out:
        for owner, name, instead in CHECKS[check]:
            taken_out.enter_context(patch.object(owner, name, instead))
        yield


def _nothing(*_: object, **__: object) -> None:
    return None


# --- what can come to a version


def _desired_arms(reach: Reach) -> dict[str, frozenset[int]]:
    named = {*reach.shares_bp, CHAMPION}
    return {arm: frozenset({reach.desired[arm]} if arm in reach.desired else ()) for arm in named}


def _largest_arm(reach: Reach, version: int) -> int:
    arms = [arm for arm, versions in reach.arms.items() if version in versions]
    return 10_000 if CHAMPION in arms else max((reach.shares_bp.get(arm, 0) for arm in arms), default=0)


def _share_alone(reach: Reach, version: int) -> int:
    return sum(reach.shares_bp.get(arm, 0) for arm, versions in reach.arms.items() if version in versions)


# --- what a version needs


def _all_approvals(session: Session, needed: ApprovalNeeded, version: ModelVersion) -> str | None:
    return None if len(list_approvals(session, version.name, version.version)) >= needed.count else "more"


_latest_load_test = load_tests.latest


def _as_if_passed(session: Session, model: str, version: int) -> LoadTest | None:
    found = _latest_load_test(session, model, version)
    return None if found is None else msgspec.structs.replace(found, passed=True)


# --- what gates outlive


_model_was_deleted = endpoints.model_was_deleted


def _deleted_with_its_gates(session: Session, name: str) -> None:
    session.execute(delete(GateRow).where(GateRow.model == name))
    _model_was_deleted(session, name)


# --- who goes past them


def _anybodys_override(_: str, reason: str | None, now_ms: int) -> Override | None:
    return None if reason is None else Override("anybody", reason, now_ms)


def _past_gates(step: str) -> Callable[..., int]:
    take: Callable[..., int] = getattr(rollouts, step)
    return lambda session, now, act, _: take(session, now, act, Override("anybody", "a step", act.now_ms))


CHECKS: Mapping[str, tuple[Change, ...]] = {
    "gates before aliases": ((gates, "ensure_alias_may_mean", _nothing),),
    "gates before shares": ((gates, "ensure_shares_may_be", _nothing),),
    "gates before names": ((gates, "ensure_may_be_called", _nothing),),
    "gates before names in force": ((Reach, "in_force", property(lambda reach: reach)),),
    "gates before asking by name": ((gates, "open_by_name", _nothing),),
    "gates before a rollout's steps": (
        (rollouts, "_give_all", _past_gates("_give_all")),
        (rollouts, "_give_share", _past_gates("_give_share")),
    ),
    "arms of one version count together": ((Reach, "most_bp", _largest_arm),),
    "an arm counts for what it still answers from": ((Reach, "arms", property(_desired_arms)),),
    "a champion counts for everything": ((Reach, "most_bp", _share_alone),),
    "gates of an endpoint's name": ((gates, "_gates_elsewhere", lambda *_: []),),
    "gates go with a renamed model": ((gates, "follow_rename", _nothing),),
    "gates outlive a deleted model": ((endpoints, "model_was_deleted", _deleted_with_its_gates),),
    "no way back behind gates that came with a name": ((endpoints, "forget_former_champion", _nothing),),
    "a champion that is gone was there": ((history, "ever_meant", lambda *_: False),),
    "an author's own approval is none": ((gate_needs, "_why_approval_unmet", _all_approvals),),
    "load tests grow old": ((gate_needs, "_DAY_MS", 10**18),),
    "load tests are passed": ((load_tests, "latest", _as_if_passed),),
    "signatures are compared": ((gate_needs, "why_incompatible", _nothing),),
    "verdicts are looked at": ((gate_needs, "_why_verdict_unmet", _nothing),),
    "overriding takes a permission": tuple(
        (module, "override_of", _anybodys_override) for module in (mlflow, ours, rollouts_api)
    ),
}
"""By what each says."""
