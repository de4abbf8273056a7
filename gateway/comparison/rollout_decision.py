"""What one look at a rollout comes to: light, so that who acts by it needn't bring what it was worked out with."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from registry.rollout_entities import Objective, Sample


class Move(StrEnum):
    NOTHING = "nothing"
    NOTE = "note"
    """Keep what was seen."""
    KEEP_WARM = "keep_warm"
    """The champion before, for another while."""
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
    objectives: tuple[Objective, ...] = ()
    samples: tuple[Sample, ...] = ()
