"""A prediction request at the HTTP edge, whichever protocol it came in: one ASGI function, walked once.

A protocol is a `Dialect`: it says which paths are its own, reads what was asked and writes what is answered. What lies
between is the same for all of them and is here: who answers, the body and its bound, errors and their statuses, the
headers that say who answered, one metric, one log line. The prediction itself is `gateway.scoring.inference`.
"""

import logging
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from urllib.parse import quote, unquote

import msgspec
from litestar.status_codes import HTTP_200_OK
from litestar.types import HTTPScope, Receive, Send

from gateway.access.credentials import NoCredentials
from gateway.access.identity import NOBODY, Identity
from gateway.api.browser_headers import NOSNIFF
from gateway.api.request_body import read_body
from gateway.comparison.counting import ArmCounter, Counting
from gateway.comparison.single_predictions import Value, find_single
from gateway.errors import INTERNAL_MESSAGE, STATUS, error_body, headers_of, status_of
from gateway.feedback.prediction_ids import MakeId
from gateway.kept_predictions.keeping import PredictionKeeper
from gateway.observability.logs import REQUEST_ID
from gateway.observability.metrics import Metrics
from gateway.observability.prediction_log import PredictionLog
from gateway.observability.prediction_metrics import FALLBACKS, ArmMetrics
from gateway.observability.tracing import PredictionTracer, Step
from gateway.routing_table import Choice, CurrentTable
from gateway.scoring.answer_ids import AnswerIds
from gateway.scoring.batching import Deadline
from gateway.scoring.inference import EndpointNotServed, Inference, Prediction, ReadInput, Target
from gateway.scoring.shadow import Shadows
from gateway.whole_answers import find_offer
from registry.entities import Cell
from tracking.errors import ErrorCode, InvalidParameter, ServingError

_log = logging.getLogger(__name__)

_HEADER_VALUE_BYTES_MAX = 1024
_DEADLINE_HEADER = b"x-titlebout-deadline-ms"
_DEADLINE_MS_MAX = 86_400_000
_PREDICTION_ID = b"x-titlebout-prediction-id"
_HEADERS_WITH_ID = b"content-type: %s\r\nx-request-id: %s\r\n%s" + _PREDICTION_ID + b": %s\r\n"
# Arms of all endpoints, at once; each of an epoch and of a time without an epoch's change.
_KNOWN_MAX = 4096
JSON_TYPE = "application/json"

Headers = Mapping[bytes, bytes]
RawHeaders = Iterable[tuple[bytes, bytes]]
"""As the server hands them over: names in lower case, repeated ones one by one."""
ExplainMissing = Callable[[str, Identity], Awaitable[ServingError]]
"""Says to somebody why a name isn't served, which may take a question to the database; never on a prediction's way."""


class MethodNotAllowed(ServingError):
    code = ErrorCode.METHOD_NOT_ALLOWED

    def __init__(self, method: str, path: str) -> None:
        super().__init__(f"{method} is not a method of {path}; predictions are asked for by POST.")


class Reply(msgspec.Struct, frozen=True):
    """A body, its type, and what else a protocol says in headers."""

    content: bytes
    content_type: str = JSON_TYPE
    headers: Sequence[tuple[bytes, bytes]] = ()


class Ask(ABC):
    """One request of one protocol, as its path and headers put it."""

    target: Target

    @abstractmethod
    def read(self, body: bytes) -> ReadInput | Awaitable[ReadInput]:
        """What decodes *body*, once it is known who answers; to be waited for where another process does it.

        Raises:
            ServingError: for a content type that isn't known.
        """

    @abstractmethod
    def reply(self, prediction: Prediction) -> Reply | Awaitable[Reply]:
        """The answer as this protocol writes it; to be waited for as above."""


class Dialect(ABC):
    """One protocol: translates and nothing else."""

    name: str
    """In metrics and log lines."""
    paths: re.Pattern[str]
    """The paths, percent-encoded as they came, at which predictions are asked for."""
    roots: tuple[bytes, ...]
    """The first segments of those, by which all other requests are let through without a look at the rest."""

    def speaks(self, _headers: RawHeaders, /) -> bool:
        """Whether a request at one of `paths` is of this protocol, where another one has the same path."""
        return True

    @abstractmethod
    def ask(self, path: re.Match[str], headers: Headers) -> Ask:
        """What was asked for.

        Raises:
            InvalidParameter: if the path or a header names something that can't be.
        """

    def encode_error(self, code: str, message: str) -> bytes:
        """The body of an error: MLflow's, where a protocol has no other."""
        return msgspec.json.encode(error_body(code, message))

    def refuse(self, status: int, code: str, message: str, _choice: Choice | None, /) -> tuple[int, Reply]:
        """Status and answer where something went wrong; the choice is who was to answer, if it had come to that."""
        return status, Reply(self.encode_error(code, message))


class Scoring:
    """The ASGI function of the scoring paths of all *dialects*."""

    def __init__(
        self,
        inference: Inference,
        current: CurrentTable,
        dialects: Sequence[Dialect],
        *,
        body_bytes_max: int,
        predict_timeout_s: float,
        explain_missing: ExplainMissing,
        metrics: Metrics,
        log: PredictionLog | None,
        tracer: PredictionTracer | None = None,
        answer_ids: AnswerIds | None = None,
        counting: Counting | None = None,
        shadows: Shadows | None = None,
        keeper: PredictionKeeper | None = None,
    ) -> None:
        self._inference = inference
        self._current = current
        self._by_root: dict[bytes, list[Dialect]] = {}
        for dialect in dialects:
            for root in dialect.roots:
                self._by_root.setdefault(root, []).append(dialect)
        self._body_bytes_max = body_bytes_max
        self._predict_timeout_s = predict_timeout_s
        self._explain_missing = explain_missing
        self._metrics = metrics
        self._log = log
        self._tracer = tracer
        self._answer_ids = answer_ids
        self._counting = counting
        self._shadows = shadows
        self._keeper = keeper
        self._known: dict[Choice | None, _Known] = {}
        metrics.when_forgotten = self._known.clear
        if answer_ids is not None:
            answer_ids.when_changed = self._known.clear

    def find(self, raw_path: bytes, headers: RawHeaders) -> tuple[Dialect, re.Match[str]] | None:
        """The first protocol that this is a request of, if it is one for a prediction."""
        asked = raw_path.split(b"?", 1)[0]
        dialects = self._by_root.get(asked[1:].split(b"/", 1)[0])
        if dialects is None:
            return None
        path = asked.decode("latin-1")
        for dialect in dialects:
            match = dialect.paths.fullmatch(path)
            if match is not None and dialect.speaks(headers):
                return dialect, match
        return None

    async def answer(
        self,
        dialect: Dialect,
        path: re.Match[str],
        scope: HTTPScope,
        headers: Headers,
        identity: Identity | None,
        receive: Receive,
        send: Send,
    ) -> None:
        """Answer one request, whatever becomes of it."""
        walk = Walk(time.monotonic(), identity)
        try:
            status, reply = HTTP_200_OK, await self._walk(walk, dialect, path, scope, headers, receive)
        except EndpointNotServed as error:
            status, reply = _error_reply(dialect, await self._explain_missing(error.name, identity or NOBODY), walk)
        except ServingError as error:
            status, reply = _error_reply(dialect, error, walk)
        except Exception:  # The HTTP edge: a bug of ours is a 500 with its cause in the log, never a broken connection.
            _log.exception("prediction_crashed")
            walk.failure = ErrorCode.INTERNAL_ERROR
            status, reply = dialect.refuse(500, ErrorCode.INTERNAL_ERROR, INTERNAL_MESSAGE, walk.choice)
        if walk.failed is not None:
            failed_arm = b"x-titlebout-fallback-from", header_value(walk.failed.choice.arm)
            reply = Reply(reply.content, reply.content_type, [*reply.headers, failed_arm])
        known = self._known.get(walk.choice) or self._get_to_know(walk.choice)
        prediction_id = self._prediction_id(walk, known)
        if not self._send_whole(scope, status, reply, known, prediction_id):
            await _send(send, status, reply, self._said(known, prediction_id))
        ended_s = time.monotonic()
        self._account(dialect, walk, known.metrics, status, ended_s - walk.arrived_s)
        self._count(walk, known, ended_s - walk.arrived_s)
        self._have_shadowed(walk)
        if self._keeper is not None and prediction_id is not None:
            _keep(self._keeper, walk, prediction_id)
        if self._tracer is not None:
            attributes: dict[str, str | int] = {
                "http.request.method": scope["method"],
                "url.path": scope["path"],
                "http.response.status_code": status,
                "titlebout.protocol": dialect.name,
                "titlebout.request_id": REQUEST_ID.get(),
            }
            _trace(self._tracer, headers, walk, Step("predict request", walk.arrived_s, ended_s), attributes)

    def _have_shadowed(self, walk: "Walk") -> None:
        """Offer a shadow what was asked, if the split said who answers and they did."""
        choice, prediction = walk.choice, walk.prediction
        if choice is None or choice.shadowing is None or walk.bucket is None or walk.failed is not None:
            return
        if self._shadows is not None and walk.encoded_s and prediction is not None and walk.read_input is not None:
            self._shadows.offer(choice.shadowing, prediction, walk.read_input, walk.body_bytes)

    def _prediction_id(self, walk: "Walk", known: "_Known") -> bytes | None:
        """What feedback on the answer goes by; None if it is none, or nothing signs ids just now."""
        if walk.failure is not None or known.make_id is None:
            return None
        return known.make_id(walk.bucket if walk.failed is None else None, walk.single)

    def _said(self, known: "_Known", prediction_id: bytes | None) -> RawHeaders:
        """The headers of every answer, whatever it is."""
        yield b"x-request-id", REQUEST_ID.get().encode()
        yield from known.headers
        if prediction_id is not None:
            yield _PREDICTION_ID, prediction_id
        if self._current.stale_since_s is not None:
            yield b"x-titlebout-stale-s", str(max(0, int(time.time() - self._current.stale_since_s))).encode()

    def _send_whole(
        self, scope: HTTPScope, status: int, reply: Reply, known: "_Known", prediction_id: bytes | None
    ) -> bool:
        """Send the common answer in the quick way, if the server offers one; False if it is still to be sent."""
        if status != HTTP_200_OK or reply.headers or self._current.stale_since_s is not None:
            return False
        send_whole = find_offer(scope)
        if send_whole is None:
            return False
        request_id = REQUEST_ID.get().encode()
        said = reply.content_type.encode(), request_id, known.lines
        if prediction_id is None:
            headers = b"content-type: %s\r\nx-request-id: %s\r\n%s" % said
        else:
            headers = _HEADERS_WITH_ID % (*said, prediction_id)
        return send_whole(headers, reply.content)

    async def _walk(
        self,
        walk: "Walk",
        dialect: Dialect,
        path: re.Match[str],
        scope: HTTPScope,
        headers: Headers,
        receive: Receive,
    ) -> Reply:
        if walk.identity is None:
            raise NoCredentials
        _ensure_post(scope["method"], scope["path"])
        ask = dialect.ask(path, headers)
        deadline = Deadline.after(walk.arrived_s, self._allowed_s(headers))
        body = await read_body(scope, receive, self._body_bytes_max)
        read_input = ask.read(body)
        if not callable(read_input):
            read_input = await read_input
        walk.read_input, walk.body_bytes = read_input, len(body)
        # From here to the question to the model nothing may be waited for, or the version chosen may be gone by then.
        choice, walk.bucket = self._inference.assign(ask.target, walk.identity)
        walk.unitless = ask.target.unit is None
        if choice.fallback is None or walk.bucket is None:
            return await self._answer_from(choice, walk, ask, read_input, deadline)
        return await self._answer_or_fall_back(choice, choice.fallback, walk, ask, read_input, deadline)

    async def _answer_from(
        self, choice: Choice, walk: "Walk", ask: Ask, read_input: ReadInput, deadline: Deadline
    ) -> Reply:
        walk.choice, walk.decoding_s = choice, time.monotonic()
        walk.prediction = prediction = await self._inference.predict(choice, read_input, deadline)
        walk.single = find_single(prediction.answer)
        walk.encoding_s = time.monotonic()
        reply = ask.reply(prediction)
        if not isinstance(reply, Reply):
            reply = await reply
        walk.encoded_s = time.monotonic()
        return reply

    async def _answer_or_fall_back(
        self, choice: Choice, fallback: Choice, walk: "Walk", ask: Ask, read_input: ReadInput, deadline: Deadline
    ) -> Reply:
        """The answer of *choice*, or where that fails of *fallback*, for which half of the time is kept."""
        half = Deadline.after(walk.arrived_s, deadline.allowed_s / 2)
        try:
            return await self._answer_from(choice, walk, ask, read_input, half)
        except Exception as error:  # An edge like the other: whatever is wrong with an arm, another one may answer.
            code = error.code if isinstance(error, ServingError) else ErrorCode.INTERNAL_ERROR
            if STATUS[code] < 500 or time.monotonic() >= deadline.at_s:
                raise
            trace = None if isinstance(error, ServingError) else error
            _log.warning("prediction_fell_back", extra={"code": code, "reason": str(error)}, exc_info=trace)
            walk.failed = _Failed(choice, code, time.monotonic() - walk.arrived_s)
        walk.prediction, walk.single = None, None
        return await self._answer_from(fallback, walk, ask, read_input, deadline)

    def _get_to_know(self, choice: Choice | None) -> "_Known":
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
        headers = [NOSNIFF, *_who_answers(choice)]
        lines = b"".join(b"%s: %s\r\n" % header for header in headers)
        make_id = None if choice is None or self._answer_ids is None else self._answer_ids.maker(choice)
        known = self._known[choice] = _Known(
            ArmMetrics(self._metrics, choice), headers, lines, self._counter_of(choice), make_id
        )
        return known

    def _counter_of(self, choice: Choice | None) -> ArmCounter | None:
        if self._counting is None or choice is None or not choice.is_compared:
            return None
        return self._counting.counter((choice.endpoint_id, Cell(choice.period, choice.arm, choice.version)))

    def _allowed_s(self, headers: Headers) -> float:
        """How long this request may take: what its caller says, but no longer than any may."""
        value = headers.get(_DEADLINE_HEADER)
        if value is None:
            return self._predict_timeout_s
        if not value.isdigit() or len(value) > 8 or int(value) > _DEADLINE_MS_MAX:
            raise InvalidParameter(
                f"X-Titlebout-Deadline-Ms must be a whole number from 0 to {_DEADLINE_MS_MAX}, the milliseconds that "
                "this request may take."
            )
        return min(int(value) / 1000, self._predict_timeout_s)

    def _account(self, dialect: Dialect, walk: "Walk", metrics: ArmMetrics, status: int, took_s: float) -> None:
        metrics.answered(status, took_s)
        prediction = walk.prediction
        if prediction is not None and walk.encoded_s:
            asked = prediction.asked
            metrics.decode.observe(asked.entered_s - walk.decoding_s)
            metrics.queue.observe(asked.queued_s)
            metrics.compute.observe(asked.computed_s)
            metrics.encode.observe(walk.encoded_s - walk.encoding_s)
        if walk.failure is not None:
            metrics.failed(walk.failure, took_s)
        if walk.failed is not None:
            self._account_failed(walk.failed)
        if self._log is not None:
            self._log.predicted(
                walk.choice,
                walk.bucket,
                None if walk.failed is None else walk.failed.choice.arm,
                request_id=REQUEST_ID.get(),
                protocol=dialect.name,
                status=status,
                rows=0 if prediction is None else prediction.rows,
                took_s=took_s,
            )

    def _account_failed(self, failed: "_Failed") -> None:
        choice = failed.choice
        known = self._known.get(choice) or self._get_to_know(choice)
        known.metrics.failed(failed.code, failed.took_s)
        self._metrics.number(FALLBACKS, choice.endpoint, choice.model, str(choice.version), choice.arm).add()

    def _count(self, walk: "Walk", known: "_Known", took_s: float) -> None:
        """Count the answer for comparisons, if the split said who gives it."""
        if walk.bucket is None:
            return
        failure = walk.failure
        if walk.failed is not None:
            # It speaks of the arm that failed, and not of the one that helped out.
            failure, took_s = walk.failed.code, walk.failed.took_s
            known = self._known.get(walk.failed.choice) or self._get_to_know(walk.failed.choice)
        if known.counter is not None:
            status = HTTP_200_OK if failure is None else STATUS[failure]
            single = walk.single if failure is None else None
            known.counter.note(walk.bucket, status, took_s, single, walk.unitless)


class Walk(msgspec.Struct, eq=False):
    """How far one request came, and when, by `time.monotonic`."""

    arrived_s: float
    identity: Identity | None = None
    choice: Choice | None = None
    bucket: int | None = None
    """Of the unit, where the split chose the arm."""
    decoding_s: float = 0.0
    prediction: Prediction | None = None
    single: Value | None = None
    """What was predicted, if that is one class or one number."""
    encoding_s: float = 0.0
    encoded_s: float = 0.0
    failure: ErrorCode | None = None
    unitless: bool = False
    failed: "_Failed | None" = None
    """Who was to answer first, where another had to help out."""
    read_input: ReadInput | None = None
    body_bytes: int = 0


def _keep(keeper: PredictionKeeper, walk: Walk, prediction_id: bytes) -> None:
    choice, prediction = walk.choice, walk.prediction
    if choice is not None and prediction is not None:
        bucket = walk.bucket if walk.failed is None else None
        keeper.keep(prediction_id, choice, bucket, prediction.rows, prediction.asked.batch, prediction.answer)


class _Failed(msgspec.Struct, frozen=True):
    """An arm that couldn't answer, why, and how long it took to find out."""

    choice: Choice
    code: ErrorCode
    took_s: float


class _Known(msgspec.Struct, frozen=True):
    """What is the same for all requests that one arm answers from one epoch, made once."""

    metrics: ArmMetrics
    headers: list[tuple[bytes, bytes]]
    lines: bytes
    """The same, as they stand in an answer."""
    counter: ArmCounter | None = None
    """What comparisons are made of; None where there is nothing to compare."""
    make_id: MakeId | None = None
    """Makes the ids that answers go out with; None while there is no key."""


def _trace(
    tracer: PredictionTracer, headers: Headers, walk: Walk, whole: Step, attributes: dict[str, str | int]
) -> None:
    choice, steps = walk.choice, []
    if choice is not None:
        if walk.failed is not None:
            attributes["titlebout.fallback_from"] = walk.failed.choice.arm
        attributes |= {
            "titlebout.endpoint": choice.endpoint,
            "titlebout.model": choice.model,
            "titlebout.version": choice.version,
            "titlebout.arm": choice.arm,
            "titlebout.epoch": choice.epoch,
        }
    if walk.prediction is not None and walk.encoded_s:
        asked = walk.prediction.asked
        attributes["titlebout.rows"] = walk.prediction.rows
        steps = [
            Step("decode", walk.decoding_s, asked.entered_s),
            Step("queue", asked.entered_s, asked.sent_s),
            Step("predict", asked.sent_s, asked.answered_s),
            Step("encode", walk.encoding_s, walk.encoded_s),
        ]
    tracer.record(headers, whole, steps, attributes=attributes, failure=walk.failure)


def header_text(headers: Headers, name: bytes) -> str | None:
    """The header *name*, percent-decoded, or None if it isn't there or empty.

    Raises:
        InvalidParameter: if it is longer than any name or unit is.
    """
    value = headers.get(name)
    if not value:
        return None
    if len(value) > _HEADER_VALUE_BYTES_MAX:
        raise InvalidParameter(f"{name.decode()} is longer than {_HEADER_VALUE_BYTES_MAX} bytes.")
    # Names that aren't ASCII come percent-encoded; whatever else the bytes are, they still mean one unit.
    return unquote(value.decode("utf-8", "surrogateescape"))


def version_number(text: str | None) -> int | None:
    """The version that a part of a path names.

    Raises:
        InvalidParameter: if it is no number.
    """
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise InvalidParameter(f"{text!r} is no version; expected a number.")
    return int(text)


def header_value(name: str) -> bytes:
    """A name as a header can carry it: itself where it is printable ASCII, else percent-encoded UTF-8."""
    return name.encode() if name.isascii() and name.isprintable() else quote(name).encode()


def _ensure_post(method: str, path: str) -> None:
    if method != "POST":
        raise MethodNotAllowed(method, path)


def _who_answers(choice: Choice | None) -> list[tuple[bytes, bytes]]:
    if choice is None:
        return []
    return [
        (b"x-titlebout-model", header_value(choice.model)),
        (b"x-titlebout-version", str(choice.version).encode()),
        (b"x-titlebout-arm", header_value(choice.arm)),
        (b"x-titlebout-epoch", str(choice.epoch).encode()),
    ]


def _error_reply(dialect: Dialect, error: ServingError, walk: Walk) -> tuple[int, Reply]:
    status = status_of(error)
    walk.failure = error.code
    message = error.message
    if status >= 500:
        _log.warning("prediction_failed", extra={"code": error.code, "reason": error.message})
    if error.code in {ErrorCode.INTERNAL_ERROR, ErrorCode.INVALID_STATE}:
        message = "The model's code failed on this input; the log has its words under the request id."
    headers = [(name.lower().encode(), value.encode()) for name, value in headers_of(error).items()]
    status, reply = dialect.refuse(status, error.code, message, walk.choice)
    return status, Reply(reply.content, reply.content_type, [*reply.headers, *headers])


async def _send(send: Send, status: int, reply: Reply, said: RawHeaders) -> None:
    headers = [
        (b"content-type", reply.content_type.encode()),
        (b"content-length", str(len(reply.content)).encode()),
        *said,
        *reply.headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.content, "more_body": False})
