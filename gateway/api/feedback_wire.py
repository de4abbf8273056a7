"""Feedback as it comes in: one item, a list of them, or a line for each."""

from collections.abc import Sequence
from typing import Any

import msgspec
from litestar.openapi.spec import OpenAPIMediaType, Operation, RequestBody, Schema
from litestar.openapi.spec.enums import OpenAPIType

from gateway.api.json_request import DuplicateKey, check_unique_keys
from gateway.feedback.judging import Item
from tracking.errors import BadRequest, ErrorCode, InvalidParameter, ServingError, TooLarge

ITEMS_MAX = 10_000
"""Of one request. Each takes some 20 µs, during which other calls of the APIs wait for their turn."""
_JSON = frozenset({"", "application/json"})
_LINES = frozenset({"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"})

_ITEM = msgspec.json.Decoder(Item)


class Bulk(msgspec.Struct, forbid_unknown_fields=True):
    feedback: list[msgspec.Raw]


_BULK = msgspec.json.Decoder(Bulk)
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


class UnknownFeedbackType(ServingError):
    code = ErrorCode.UNSUPPORTED_MEDIA_TYPE

    def __init__(self, name: str) -> None:
        super().__init__(
            f"Content-Type {name[:100]!r} is not accepted here; expected application/json or application/x-ndjson."
        )


class TooManyItems(TooLarge):
    def __init__(self) -> None:
        super().__init__(f"One request takes {ITEMS_MAX:,} items of feedback at most; send the rest in another one.")


class UnreadableItem(InvalidParameter):
    pass


class Given(msgspec.Struct, frozen=True):
    """What a body holds; what can't be read of several is an error in its place."""

    items: Sequence[Item | ServingError]
    is_single: bool = False


def read_feedback(body: bytes, content_type: str) -> Given:
    """The items of *body*.

    Raises:
        UnknownFeedbackType: for any other content type.
        TooManyItems: if there are more than `ITEMS_MAX`.
        BadRequest: if it is no JSON, or holds no item.
        UnreadableItem: if it is one item, and not as it must be.
    """
    name = content_type.partition(";")[0].strip().lower()
    if name in _LINES:
        return Given(_read_lines(body))
    if name not in _JSON:
        raise UnknownFeedbackType(name)
    return _read_json(body)


def _read_lines(body: bytes) -> Sequence[Item | ServingError]:
    if body.count(b"\n") > 2 * ITEMS_MAX:
        raise TooManyItems
    lines = [line for line in body.split(b"\n") if line.strip()]
    if len(lines) > ITEMS_MAX:
        raise TooManyItems
    return _read_all(lines)


def _read_json(body: bytes) -> Given:
    # Not the items yet: a number out of range in one of them is the fault of that one.
    try:
        members = _MEMBERS.decode(body)
    except msgspec.ValidationError:
        raise BadRequest(
            "A JSON object is expected in the body: one item of feedback, or a list of them as `feedback`."
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"The body can't be read as JSON: {error}.") from None
    if "feedback" not in members:
        return Given([_read_one(body)], is_single=True)
    try:
        raws = _BULK.decode(body).feedback
    except msgspec.ValidationError as error:
        raise UnreadableItem(f"The body can't be read: {error}.") from None
    if len(raws) > ITEMS_MAX:
        raise TooManyItems
    # One colon is the key's own. Of two lists the first would be lost without a word.
    if body.count(b":") > 1 + bytes(members["feedback"]).count(b":"):
        raise DuplicateKey("feedback")
    return Given(_read_all([bytes(raw) for raw in raws]))


def _read_all(texts: Sequence[bytes]) -> Sequence[Item | ServingError]:
    """Those that can be read, and an error in the place of each other."""
    if not texts:
        raise BadRequest("There is no item of feedback in the body.")
    try:
        return _read_at_once(texts)
    except (ServingError, msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        return [_try_one(text) for text in texts]


def _read_at_once(texts: Sequence[bytes]) -> Sequence[Item]:
    """All of them, as they mostly can be; a few times as quick."""
    joined = b"\n".join(texts)
    items = _ITEM.decode_lines(joined)
    if len(items) != len(texts):
        raise UnreadableItem("A line holds something else than one item.")
    check_unique_keys(b"[" + joined.replace(b"\n", b",") + b"]", items)
    return items


def _try_one(text: bytes) -> Item | ServingError:
    try:
        return _read_one(text)
    except ServingError as error:
        return error


def _read_one(text: bytes) -> Item:
    try:
        item = _ITEM.decode(text)
        check_unique_keys(text, item)
    except msgspec.ValidationError as error:
        raise UnreadableItem(f"This item of feedback can't be read: {error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        raise UnreadableItem("This item of feedback can't be read as JSON.") from None
    return item


# --- in the OpenAPI document

_ID = Schema(type=OpenAPIType.STRING, description="The header X-Titlebout-Prediction-Id of the answer.")
_LABEL = Schema(
    description="What it should have been: the class, the number, or whether it came true.",
    type=[OpenAPIType.STRING, OpenAPIType.NUMBER, OpenAPIType.BOOLEAN],
)
_REWARD = Schema(type=OpenAPIType.NUMBER, description="How good the answer was, in place of a label.")
_ROW = Schema(
    type=OpenAPIType.INTEGER,
    minimum=0,
    description="Which row of the answer the label is of, from 0; needn't be said where there is one.",
)
_ITEM_SCHEMA = Schema(
    type=OpenAPIType.OBJECT,
    properties={"prediction_id": _ID, "label": _LABEL, "row": _ROW, "reward": _REWARD},
    required=["prediction_id"],
)
_BULK_SCHEMA = Schema(
    type=OpenAPIType.OBJECT,
    properties={"feedback": Schema(type=OpenAPIType.ARRAY, items=_ITEM_SCHEMA, max_items=ITEMS_MAX)},
    required=["feedback"],
)


class FeedbackOperation(Operation):
    """Says what the body holds, which the handler takes as it comes."""

    def __init__(self, **known: Any) -> None:
        content = {
            "application/json": OpenAPIMediaType(schema=Schema(any_of=[_ITEM_SCHEMA, _BULK_SCHEMA])),
            "application/x-ndjson": OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING)),
        }
        super().__init__(**known | {"request_body": RequestBody(content=content, required=True)})
