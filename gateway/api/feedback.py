"""Feedback on predictions: what they should have been, or how good they were, by the ids that came with the answers."""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
from litestar import Request, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, RawBody
from litestar.status_codes import HTTP_200_OK

from gateway.access.identity import current_identity
from gateway.api.feedback_wire import FeedbackOperation, Given, read_feedback
from gateway.auth import needs
from gateway.feedback.judging import Item, Outcome, judge
from gateway.feedback.keeping import Kept, keep, refused
from gateway.feedback.times import DAY_MS
from gateway.kept_predictions.sampling import why_not_kept
from gateway.observability.feedback_metrics import FeedbackMetrics
from gateway.settings import Settings
from registry import endpoints, labels, prediction_keys
from registry.entities import PredictionKey
from tracking.access.permissions import Permission
from tracking.database import Database

_log = logging.getLogger(__name__)

_OURS = "/api/1.0/titlebout"
_ERRORS_MAX = 100
_ID_SHOWN = 130

Clock = Callable[[], float]


class FeedbackError(msgspec.Struct, kw_only=True):
    """An item that didn't count, and why."""

    index: int
    """Its place, from 0; of lines, empty ones aren't counted."""
    prediction_id: str
    outcome: str
    message: str


class FeedbackAnswer(msgspec.Struct, kw_only=True):
    """What became of the items; each is one of the first six."""

    accepted: int
    waiting: int
    """Until the prediction log is looked through for what was predicted; then they count, too."""
    repeated: int
    """Given before, and counted once."""
    unmatched: int
    forged: int
    refused: int
    """Too old, from the future, of the wrong type, or not the caller's to give."""
    not_compared: int
    """Of those accepted, how many no comparison counts: the split didn't choose who answered."""
    errors: list[FeedbackError]
    """The first hundred of those that are neither accepted nor waiting nor repeated."""


class EndpointFeedback(msgspec.Struct, kw_only=True):
    """How much feedback an endpoint was given so far, by what became of it."""

    endpoint: str
    counts: dict[str, int]


class PredictionKeyAnswer(msgspec.Struct, kw_only=True):
    """A key that ids are signed with, but for its secret."""

    id: str
    made_ms: int
    retired_ms: int | None


class PredictionKeys(msgspec.Struct, kw_only=True):
    keys: list[PredictionKeyAnswer]


class RotateKeys(msgspec.Struct, forbid_unknown_fields=True):
    forget_old: bool = False
    """Whether nothing counts any more that older keys have signed."""


# Which endpoints somebody may speak for is in the ids, and keys of applications are granted nothing but those.
@post(
    "/feedback",
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    operation_class=FeedbackOperation,
    opt=needs(Permission.SELF),
)
def give_feedback(
    request: Request[Any, Any, Any],
    body: RawBody,
    database: NamedDependency[Database],
    settings: NamedDependency[Settings],
    feedback_metrics: NamedDependency[FeedbackMetrics],
    clock: NamedDependency[Clock],
) -> FeedbackAnswer:
    """Take labels and rewards for predictions, in any order; what was given before counts once."""
    given, identity = read_feedback(body, request.headers.get("content-type", "")), current_identity()
    now_ms, kept_ms = int(clock() * 1000), settings.feedback_days * DAY_MS
    with database.reading() as session:
        judged, names = judge(
            session,
            given.items,
            may_ask=identity.may_ask,
            now_ms=now_ms,
            kept_ms=kept_ms,
            why_not_kept=partial(why_not_kept, share=settings.prediction_log_share),
        )
    if names:
        with database.writing() as session:
            kept = keep(session, judged)
    else:
        kept = refused(judged)
    feedback_metrics.add(Counter((names.get(one.endpoint_id or "", ""), one.outcome.value) for one in kept))
    if given.is_single and kept[0].error is not None:
        raise kept[0].error
    return _answer(given, kept)


@get(f"{_OURS}/endpoints/{{name:str}}/feedback", sync_to_thread=True, opt=needs(Permission.OBSERVE))
def get_feedback(name: FromPath[str], database: NamedDependency[Database]) -> EndpointFeedback:
    with database.reading() as session:
        endpoint = endpoints.get_endpoint(session, name)
        return EndpointFeedback(endpoint=endpoint.name, counts=labels.counts_of(session, endpoint.id))


# --- the keys that ids are signed with


_KEYS_OF_ALL = "see and change the keys of all prediction ids"


@get(f"{_OURS}/prediction-keys", sync_to_thread=True, opt=needs(Permission.ACCESS_READ, for_all=_KEYS_OF_ALL))
def list_prediction_keys(database: NamedDependency[Database]) -> PredictionKeys:
    with database.reading() as session:
        return PredictionKeys(keys=[_shown(key) for key in prediction_keys.list_keys(session)])


@post(
    f"{_OURS}/prediction-keys/rotate",
    status_code=HTTP_200_OK,
    sync_to_thread=True,
    opt=needs(Permission.ACCESS_WRITE, for_all=_KEYS_OF_ALL),
)
def rotate_prediction_keys(
    data: JSONBody[RotateKeys], database: NamedDependency[Database], clock: NamedDependency[Clock]
) -> PredictionKeyAnswer:
    """Have a new key sign, on all replicas within two seconds."""
    with database.writing() as session:
        key = prediction_keys.rotate(session, now_ms=int(clock() * 1000), forget_old=data.forget_old)
    facts = {"key": key.id, "forget_old": data.forget_old, "author": current_identity().name}
    _log.info("prediction_key_rotated", extra=facts)
    return _shown(key)


def _shown(key: PredictionKey) -> PredictionKeyAnswer:
    return PredictionKeyAnswer(id=key.id, made_ms=key.made_ms, retired_ms=key.retired_ms)


# --- answers


def _answer(given: Given, kept: Sequence[Kept]) -> FeedbackAnswer:
    counts = Counter(one.outcome for one in kept)
    named = (Outcome.ACCEPTED, Outcome.WAITING, Outcome.REPEATED, Outcome.UNMATCHED, Outcome.FORGED)
    return FeedbackAnswer(
        **{outcome.value: counts[outcome] for outcome in named},
        refused=sum(count for outcome, count in counts.items() if outcome not in named),
        not_compared=sum(one.outcome is Outcome.ACCEPTED and not one.is_compared for one in kept),
        errors=_errors(given, kept),
    )


def _errors(given: Given, kept: Sequence[Kept]) -> list[FeedbackError]:
    errors: list[FeedbackError] = []
    for index, (item, one) in enumerate(zip(given.items, kept, strict=True)):
        if one.error is None:
            continue
        if len(errors) == _ERRORS_MAX:
            break
        shown = item.prediction_id[:_ID_SHOWN] if isinstance(item, Item) else ""
        errors.append(
            FeedbackError(index=index, prediction_id=shown, outcome=one.outcome.value, message=one.error.message)
        )
    return errors


handlers = [give_feedback, get_feedback, list_prediction_keys, rotate_prediction_keys]
