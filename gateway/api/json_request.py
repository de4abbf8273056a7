"""Reads the JSON bodies of the APIs: UTF-8, and each key once.

msgspec, which parses them, lets the last of two equal keys count without a word. Which one is meant is a guess, and
readers guess differently, so such a body is refused.
"""

import json
from typing import Any

import msgspec
from litestar import Request

from tracking.errors import BadRequest

_ENCODER = msgspec.json.Encoder()


class DuplicateKey(BadRequest):
    def __init__(self, key: str) -> None:
        super().__init__(f"The body has the key {key[:100]!r} twice in one object.")


class NotUtf8(BadRequest):
    def __init__(self) -> None:
        super().__init__("The body isn't UTF-8.")


class JSONRequest(Request[Any, Any, Any]):
    async def json(self) -> Any:
        try:
            value = await super().json()
        except UnicodeDecodeError as error:
            raise NotUtf8 from error
        check_unique_keys(await self.body(), value)
        return value


def check_unique_keys(body: bytes, value: Any) -> None:
    """Nothing, if *body*, which was read as *value*, has no key twice in one object.

    Raises:
        DuplicateKey: naming the first that is found.
    """
    # Each key has its colon. Those within texts are on both sides, unless the body writes one as \u003a; so a colon
    # that *value* lost was a key's. On a batch of 100 metrics (9 KB) this costs 29 µs, and the reader below 200 µs.
    if b"\\u003" not in body and body.count(b":") == _ENCODER.encode(value).count(b":"):
        return
    json.loads(body, object_pairs_hook=_refuse_duplicates)


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise DuplicateKey(key)
        seen.add(key)
