"""Feedback: what became of predictions, joined by their ids to the arm and version that answered.

`judge` says what each item comes to and changes nothing; `gateway.feedback.keeping` then counts what hadn't
been counted before.
"""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, NamedTuple

import msgspec
from sqlalchemy.orm import Session

from gateway.comparison.sums import cluster_of
from gateway.feedback.labels import Label, NoProbabilities, RewardTooLarge, Said, WrongLabel, compare, reward
from gateway.feedback.prediction_ids import ForgedId, PredictionId, by_tag, read_id
from gateway.feedback.times import DAY_MS, ROTATION_MS, SKEW_MS, day_of
from registry import labels, prediction_keys
from registry.entities import Cell, PredictionKey
from registry.labels import Given, Period
from registry.waiting_labels import LABEL_MAX, WAITING_MAX, Place, WaitingLabel
from tracking.errors import InvalidParameter, NotFound, PermissionDenied, ServingError

MayAsk = Callable[[str, str], bool]
"""Whether somebody may ask the endpoint of this name, which the model of that name answers."""
WhyNotKept = Callable[[str], str | None]
"""Why the prediction log doesn't keep the prediction with this id, in words; None if it does."""


class Outcome(StrEnum):
    """What becomes of an item."""

    ACCEPTED = "accepted"
    WAITING = "waiting"
    """Until the prediction log has what was predicted; then it is one of the others."""
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
    row: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] | None = None
    """Which of the answer's rows the label is of, from 0; needn't be said where there is one."""


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
    def __init__(self, why_not_kept: str) -> None:
        super().__init__(
            "The answer had more than one class or one number, so that its id has none that a label could be compared "
            f"with, and {why_not_kept}; a `reward` can be given to any answer."
        )


class LabelTooLong(NotFound):
    def __init__(self) -> None:
        super().__init__(f"A label that waits for the prediction log has {LABEL_MAX:,} characters at most, as JSON.")


class TooManyWait(NotFound):
    def __init__(self) -> None:
        super().__init__(f"{WAITING_MAX:,} labels wait for the prediction log already; give this one again later.")


class NoSuchRow(NotFound):
    def __init__(self, rows: int) -> None:
        super().__init__(f"The answer had {rows} row{'s' * (rows != 1)}, counted from 0, and the label is of another.")


class RewardOfRow(InvalidParameter):
    def __init__(self) -> None:
        super().__init__("A reward is of the whole answer; `row` goes with a label.")


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
    NoProbabilities: Outcome.UNMATCHED,
    LabelTooLong: Outcome.UNMATCHED,
    TooManyWait: Outcome.UNMATCHED,
    NoSuchRow: Outcome.UNMATCHED,
    EndpointGone: Outcome.UNMATCHED,
    NotTheirs: Outcome.NOT_PERMITTED,
}


def outcome_of(error: ServingError) -> Outcome:
    """What becomes of an item for which *error* was raised."""
    return _OUTCOMES.get(type(error), Outcome.WRONG)


class Refused(msgspec.Struct, frozen=True):
    """An item that isn't counted, and why."""

    error: ServingError
    endpoint_id: str | None = None
    """Whose it would have been, if the id is ours."""

    @property
    def outcome(self) -> Outcome:
        return outcome_of(self.error)


class Joined(msgspec.Struct, frozen=True):
    """An item that is counted unless it was before."""

    endpoint_id: str
    given: Given
    said: Said
    cell: Cell | None
    """Whose sums it goes to; None if no comparison counts it, as the split didn't choose who answered."""
    cluster: int


class Waiting(msgspec.Struct, frozen=True):
    """An item that waits for the prediction log, unless it was given before."""

    given: Given
    label: WaitingLabel

    @property
    def endpoint_id(self) -> str:
        return self.label.place.endpoint_id


Judged = Joined | Waiting | Refused


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
    why_not_kept: WhyNotKept
    now_ms: int


def judge(
    session: Session,
    items: Sequence[Item | ServingError],
    *,
    may_ask: MayAsk,
    now_ms: int,
    kept_ms: int,
    why_not_kept: WhyNotKept = lambda _: "the prediction log is off",
) -> Judgement:
    """What each of *items* comes to; errors among them stay what they are. *kept_ms* is how old a prediction may be."""
    keys = {key.id: key for key in prediction_keys.list_keys(session)}
    read = [_read(item, keys, now_ms, kept_ms) for item in items]
    known = _ask(session, read, may_ask, why_not_kept, now_ms)
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


def _ask(
    session: Session, read: Sequence[_Read | Refused], may_ask: MayAsk, why_not_kept: WhyNotKept, now_ms: int
) -> _Known:
    named = {one.endpoint_id for one in read if isinstance(one, Refused) and one.endpoint_id is not None}
    ids = [one.id for one in read if isinstance(one, _Read)]
    if not ids and not named:
        return _Known({}, frozenset(), {}, why_not_kept, now_ms)
    endpoints = labels.endpoints_of(session, named | {one.endpoint_id for one in ids})
    theirs = frozenset(key for key, asked in endpoints.items() if may_ask(asked.name, asked.model))
    arms = labels.arms_of(session, {(one.endpoint_id, one.period) for one in ids})
    names = {key: asked.name for key, asked in endpoints.items()}
    by_period = {period: by_tag(those) for period, those in arms.items()}
    return _Known(names, theirs, by_period, why_not_kept, now_ms)


def _join(read: _Read, known: _Known) -> Judged:
    item, found = read
    if found.endpoint_id not in known.names:
        return Refused(EndpointGone())
    if found.endpoint_id not in known.theirs:
        return Refused(NotTheirs(), found.endpoint_id)
    try:
        if (item.label is None) == (item.reward is None):
            raise NeitherOrBoth
        if item.label is not None and found.prediction is None:
            return _waiting(item, item.label, found, known)
        said = _said(item, found)
    except ServingError as error:
        return Refused(error, found.endpoint_id)
    given = Given(found.nonce, item.reward is not None, found.at_ms)
    return Joined(found.endpoint_id, given, said, _cell(found, known), cluster_of(found.bucket or 0))


def _said(item: Item, found: PredictionId) -> Said:
    if item.label is not None and found.prediction is not None:
        if item.row:
            raise NoSuchRow(1)
        return compare(found.prediction, item.label)
    if item.row is not None:
        raise RewardOfRow
    return reward(item.reward or 0.0)


def _waiting(item: Item, label: Label, found: PredictionId, known: _Known) -> Waiting:
    why_not = known.why_not_kept(item.prediction_id)
    if why_not is not None:
        raise NothingToCompare(why_not)
    text = msgspec.json.encode(label).decode()
    if len(text) > LABEL_MAX:
        raise LabelTooLong
    given = Given(labels.nonce_of_row(found.nonce, item.row or 0), is_reward=False, predicted_ms=found.at_ms)
    waiting = WaitingLabel(
        nonce=given.nonce,
        place=Place(found.endpoint_id, day_of(found.at_ms)),
        prediction_id=item.prediction_id,
        row=item.row,
        at_ms=found.at_ms,
        label=text,
        cell=_cell(found, known),
        cluster=cluster_of(found.bucket or 0),
        since_ms=known.now_ms,
    )
    return Waiting(given, waiting)


def _cell(found: PredictionId, known: _Known) -> Cell | None:
    if found.bucket is None:
        return None
    arm = known.arms.get((found.endpoint_id, found.period), {}).get(found.arm_tag)
    return None if arm is None else Cell(found.period, arm, found.version)
