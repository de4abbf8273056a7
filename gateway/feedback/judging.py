"""Feedback: what became of predictions, joined by their ids to the arm and version that answered.

`judge` says what each item comes to and changes nothing; `gateway.feedback.keeping` then counts what hadn't
been counted before.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec
from sqlalchemy.orm import Session

from gateway.comparison.sums import cluster_of
from gateway.feedback.labels import Label, RewardTooLarge, Said, WrongLabel, compare, reward
from gateway.feedback.prediction_ids import ForgedId, PredictionId, by_tag, read_id
from gateway.feedback.times import DAY_MS, ROTATION_MS, SKEW_MS
from registry import labels, prediction_keys
from registry.entities import Cell, PredictionKey
from registry.labels import Given, Period
from tracking.errors import InvalidParameter, NotFound, PermissionDenied, ServingError

MayAsk = Callable[[str, str], bool]
"""Whether somebody may ask the endpoint of this name, which the model of that name answers."""


class Outcome(StrEnum):
    """What becomes of an item."""

    ACCEPTED = "accepted"
    REPEATED = "repeated"
    UNMATCHED = "unmatched"
    """There is nothing that it could be joined to."""
    FORGED = "forged"
    TOO_OLD = "too_old"
    FROM_FUTURE = "from_future"
    WRONG = "wrong"
    """A label or a reward that can't be, of a prediction that can."""
    NOT_PERMITTED = "not_permitted"


class Item(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What somebody says of one prediction: what it should have been, or how good it was."""

    prediction_id: str
    label: Label | None = None
    reward: float | None = None


class TooOld(InvalidParameter):
    def __init__(self, kept_ms: int) -> None:
        super().__init__(f"This prediction is older than {kept_ms / DAY_MS:g} days, for which feedback is taken.")


class FromFuture(InvalidParameter):
    def __init__(self) -> None:
        super().__init__("This prediction is from the future, by the clock here; clocks of replicas may be apart.")


class NeitherOrBoth(InvalidParameter):
    def __init__(self) -> None:
        super().__init__("An item of feedback has a `label` or a `reward`; expected one of both.")


class NothingToCompare(NotFound):
    def __init__(self) -> None:
        super().__init__(
            "The answer had more than one class or one number, so that its id has none that a label could be compared "
            "with; a `reward` can be given to any answer."
        )


class EndpointGone(NotFound):
    def __init__(self) -> None:
        super().__init__("The endpoint that made this prediction isn't there any more.")


class NotTheirs(PermissionDenied):
    def __init__(self) -> None:
        super().__init__(
            "Feedback is taken from those who may ask the endpoint, and this prediction is of another one."
        )


_OUTCOMES: Mapping[type[ServingError], Outcome] = {
    ForgedId: Outcome.FORGED,
    TooOld: Outcome.TOO_OLD,
    FromFuture: Outcome.FROM_FUTURE,
    NeitherOrBoth: Outcome.WRONG,
    WrongLabel: Outcome.WRONG,
    RewardTooLarge: Outcome.WRONG,
    NothingToCompare: Outcome.UNMATCHED,
    EndpointGone: Outcome.UNMATCHED,
    NotTheirs: Outcome.NOT_PERMITTED,
}


class Refused(msgspec.Struct, frozen=True):
    """An item that isn't counted, and why."""

    error: ServingError
    endpoint_id: str | None = None
    """Whose it would have been, if the id is ours."""

    @property
    def outcome(self) -> Outcome:
        return _OUTCOMES.get(type(self.error), Outcome.WRONG)


class Joined(msgspec.Struct, frozen=True):
    """An item that is counted unless it was before."""

    endpoint_id: str
    given: Given
    said: Said
    cell: Cell | None
    """Whose sums it goes to; None if no comparison counts it, as the split didn't choose who answered."""
    cluster: int


Judged = Joined | Refused


class Judgement(NamedTuple):
    """What the items of one request come to, and the names of the endpoints that they are of, by their ids."""

    items: Sequence[Judged]
    names: Mapping[str, str]


# --- what each item comes to


class _Read(NamedTuple):
    item: Item
    id: PredictionId


class _Known(NamedTuple):
    """What the database says of the predictions of one request."""

    names: Mapping[str, str]
    """Of the endpoints that are there, by their ids."""
    theirs: frozenset[str]
    """Of these, the ones that who gives feedback may ask."""
    arms: Mapping[Period, Mapping[bytes, str]]
    """By their tags."""


def judge(
    session: Session, items: Sequence[Item | ServingError], *, may_ask: MayAsk, now_ms: int, kept_ms: int
) -> Judgement:
    """What each of *items* comes to; errors among them stay what they are. *kept_ms* is how old a prediction may be."""
    keys = {key.id: key for key in prediction_keys.list_keys(session)}
    read = [_read(item, keys, now_ms, kept_ms) for item in items]
    known = _ask(session, read, may_ask)
    return Judgement([_join(one, known) if isinstance(one, _Read) else one for one in read], known.names)


def _read(item: Item | ServingError, keys: Mapping[str, PredictionKey], now_ms: int, kept_ms: int) -> _Read | Refused:
    if isinstance(item, ServingError):
        return Refused(item)
    try:
        found = read_id(item.prediction_id, keys)
    except ForgedId as error:
        return Refused(error)
    retired_ms = keys[found.key_id].retired_ms
    if retired_ms is not None and found.at_ms > retired_ms + ROTATION_MS:
        return Refused(ForgedId("its key had been given up by then"))
    if found.at_ms > now_ms + SKEW_MS:
        return Refused(FromFuture(), found.endpoint_id)
    if found.at_ms < now_ms - kept_ms:
        return Refused(TooOld(kept_ms), found.endpoint_id)
    return _Read(item, found)


def _ask(session: Session, read: Sequence[_Read | Refused], may_ask: MayAsk) -> _Known:
    named = {one.endpoint_id for one in read if isinstance(one, Refused) and one.endpoint_id is not None}
    ids = [one.id for one in read if isinstance(one, _Read)]
    if not ids and not named:
        return _Known({}, frozenset(), {})
    endpoints = labels.endpoints_of(session, named | {one.endpoint_id for one in ids})
    theirs = frozenset(key for key, asked in endpoints.items() if may_ask(asked.name, asked.model))
    arms = labels.arms_of(session, {(one.endpoint_id, one.period) for one in ids})
    names = {key: asked.name for key, asked in endpoints.items()}
    return _Known(names, theirs, {period: by_tag(those) for period, those in arms.items()})


def _join(read: _Read, known: _Known) -> Judged:
    item, found = read
    if found.endpoint_id not in known.names:
        return Refused(EndpointGone())
    if found.endpoint_id not in known.theirs:
        return Refused(NotTheirs(), found.endpoint_id)
    try:
        said = _said(item, found)
    except ServingError as error:
        return Refused(error, found.endpoint_id)
    given = Given(found.nonce, item.reward is not None, found.at_ms)
    return Joined(found.endpoint_id, given, said, _cell(found, known), cluster_of(found.bucket or 0))


def _said(item: Item, found: PredictionId) -> Said:
    if (item.label is None) == (item.reward is None):
        raise NeitherOrBoth
    if item.reward is not None:
        return reward(item.reward)
    if item.label is None or found.prediction is None:
        raise NothingToCompare
    return compare(found.prediction, item.label)


def _cell(found: PredictionId, known: _Known) -> Cell | None:
    if found.bucket is None:
        return None
    arm = known.arms.get((found.endpoint_id, found.period), {}).get(found.arm_tag)
    return None if arm is None else Cell(found.period, arm, found.version)
