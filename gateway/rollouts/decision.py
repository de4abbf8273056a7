"""What one look at a rollout comes to: what was found, what follows from that, and what is to be done."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from registry.rollout_entities import Objective, Sample


class Standing(StrEnum):
    BROKEN = "broken"
    KEPT = "kept"
    OPEN = "open"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be said of the challenger by one guard, or by the metric."""

    name: str
    standing: Standing
    said: str
    blind: bool = False
    """So little was counted that it would be open whatever the challenger is like."""


NOTHING_COUNTED = "nothing of it has been counted for both arms"


class Ruling(StrEnum):
    GO = "go"
    STOP = "stop"
    WAIT = "wait"
    """For a person."""
    NOT_YET = "not_yet"


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What should be done, and why in a sentence."""

    ruling: Ruling
    reason: str


class Move(StrEnum):
    NOTHING = "nothing"
    NOTE = "note"
    """Keep what was seen."""
    ADVANCE = "advance"
    WAIT = "wait"
    STOP = "stop"
    ROLL_BACK = "roll_back"
    FINISH = "finish"


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What to do, why, and what that was decided by."""

    move: Move
    reason: str = ""
    evidence: Mapping[str, Any] = {}
    served_ms: int | None = None
    keeps_warm: bool = False
    """The champion before, for another while."""
    objectives: tuple[Objective, ...] = ()
    samples: tuple[Sample, ...] = ()
