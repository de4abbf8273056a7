"""A rollout as a value: what was asked, how far it is, and what it goes back to."""

from enum import StrEnum
from typing import Any, Literal

import msgspec

from registry.entities import CHALLENGER
from registry.splits import BUCKETS
from tracking.errors import InvalidParameter

STEPS_MAX = 50
GUARDS_MAX = 20
GUARD_LENGTH_MAX = 100
_EVERY_S_MAX = 30 * 86_400.0
_WATCH_S_MAX = 30 * 86_400.0
_PATIENCE = 10
"""How many times a step's time it waits for requests, unless told otherwise."""

ARM = CHALLENGER
"""The arm that carries the version: there is one for it already, and people look for it there."""


class RolloutState(StrEnum):
    """RUNNING -> WATCHING -> SUCCEEDED is the way of a good one.

    RUNNING may become WAITING or PAUSED and come back; each of the three may end in STOPPED or ABORTED. WATCHING may
    end in ROLLED_BACK or ABORTED. What has ended stays so.
    """

    RUNNING = "running"
    WAITING = "waiting"
    """For a person: what is to be judged can't be."""
    PAUSED = "paused"
    """By a person. It is watched all the same, and stopped if it is bad."""
    WATCHING = "watching"
    """The version is champion."""
    SUCCEEDED = "succeeded"
    STOPPED = "stopped"
    """It was found to be bad, and all is as before."""
    ABORTED = "aborted"
    ROLLED_BACK = "rolled_back"
    """It was found to be bad as champion, and the champion before is champion again."""


class RolloutSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody asks of a rollout."""

    steps_bp: tuple[int, ...]
    """Shares, in basis points. The last, all of it, is the promotion."""
    every_s: float = 600.0
    """How long each step is looked at, at least."""
    guards: tuple[str, ...] = ("failures",)
    """As people write them: ``failures``, ``p99=1.2x``. What they mean is for the judge to know."""
    metric: str | None = None
    margin: float = 0.0
    """A loss of the metric that is put up with, in its unit."""
    on_undecided: Literal["go", "wait"] = "go"
    """What to do when the time is over and the metric is neither surely worse nor surely not."""
    requests_min: int = 100
    """The challenger's, in a step."""
    patience_s: float | None = None
    """How long to wait for so many before a person is asked; None: ten times `every_s`."""
    watch_s: float = 3_600.0
    """How long the new champion is watched."""
    budget: float = 0.001
    """Which part of its requests may fail then."""

    def share_bp(self, step: int) -> int:
        """The share at *step*, which counts from 1; at 0 the version is being loaded."""
        return self.steps_bp[step - 1] if step else 0

    @property
    def longest_step_s(self) -> float:
        return self.every_s * _PATIENCE if self.patience_s is None else self.patience_s


class Before(msgspec.Struct, frozen=True, kw_only=True):
    """What a rollout found, and puts back if it must."""

    champion: int
    challenger: int | None
    """What the alias meant; None if there was none."""
    shares_bp: dict[str, int]


class Objective(msgspec.Struct, frozen=True, kw_only=True):
    """What the new champion is held to: which part of its requests may be bad, and what bad is."""

    name: str
    budget: float
    limit_s: float | None = None
    """Slower is bad; None: a failure is."""


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """Requests of the new champion up to an instant, and for each objective those that were bad."""

    at_ms: int
    requests: float
    bad: tuple[float, ...]


class Watch(msgspec.Struct, frozen=True, kw_only=True):
    """The new champion, from the flip on."""

    began_ms: int
    period: int
    """The first of which it is champion."""
    objectives: tuple[Objective, ...] = ()
    """None until what the champion before was like has been looked at."""
    samples: tuple[Sample, ...] = ()


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """A stepped change of an endpoint's split, watched."""

    id: str
    endpoint: str
    endpoint_id: str
    model: str
    version: int
    spec: RolloutSpec
    before: Before
    state: RolloutState
    step: int
    """0 while the version is brought into memory; else counted from 1."""
    reason: str
    """What was said last."""
    author: str
    period: int = 0
    """The split's at this step."""
    first_period: int = 0
    """From which on requests are compared; 0 before the first step."""
    step_ms: int
    """When this step began."""
    served_ms: int | None = None
    """Since when it has been in force; None if it isn't yet."""
    watch: Watch | None = None
    override: str | None = None
    """Why its author passes by gates that aren't met."""
    evidence: dict[str, Any] = {}
    """What was seen last of this step, as the entries of the history have it; empty until it was looked at."""
    actor: str | None = None
    """Which replica acts on it."""
    lease_until_ms: int = 0
    """Until when nobody else may."""
    revision: int = 0
    """Raised by every change, so that nobody acts on what isn't so any more."""
    created_ms: int
    updated_ms: int
    ended_ms: int | None = None

    @property
    def share_bp(self) -> int:
        return self.spec.share_bp(self.step)

    @property
    def steps_left(self) -> int:
        return len(self.spec.steps_bp) - self.step


class StepsWrong(InvalidParameter):
    def __init__(self, steps_bp: tuple[int, ...]) -> None:
        said = ", ".join(f"{share / 100:g}" for share in steps_bp[:STEPS_MAX]) or "none"
        super().__init__(
            f"The steps are {said} %; expected 1 to {STEPS_MAX} shares that rise and end with 100, such as "
            "1, 5, 25, 50, 100."
        )


def check_spec(spec: RolloutSpec) -> None:
    """Raise `InvalidParameter` for what can't be carried out, whatever the guards and the metric mean."""
    steps = spec.steps_bp
    rising = all(a < b for a, b in zip((0, *steps), steps, strict=False))
    if not steps or len(steps) > STEPS_MAX or not rising or steps[-1] != BUCKETS:
        raise StepsWrong(steps)
    if len(spec.guards) > GUARDS_MAX or any(len(guard) > GUARD_LENGTH_MAX for guard in spec.guards):
        raise InvalidParameter(f"At most {GUARDS_MAX} guards of {GUARD_LENGTH_MAX} characters are watched.")
    # Written so that NaN is out of each.
    for name, value, least, most in (
        ("every_s", spec.every_s, 1.0, _EVERY_S_MAX),
        ("watch_s", spec.watch_s, 0.0, _WATCH_S_MAX),
        ("patience_s", spec.longest_step_s, spec.every_s, _EVERY_S_MAX * _PATIENCE),
        ("requests_min", spec.requests_min, 0, 10**9),
        ("margin", spec.margin, 0.0, 1e9),
        ("budget", spec.budget, 1e-6, 0.5),
    ):
        if not least <= value <= most:
            raise InvalidParameter(f"{name!r} is {value:g}; expected {least:g} to {most:g}.")
