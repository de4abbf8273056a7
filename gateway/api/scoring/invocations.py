"""An invocation: what MLflow's protocol and those that grew from it have in common, apart from names and headers."""

from collections.abc import Awaitable, Callable, Sequence

from gateway.api.scoring.bodies import Bodies
from gateway.api.scoring.media_types import accepted, content_type
from gateway.api.scoring.walk import Ask, Headers, Reply
from gateway.routing_table import Choice
from gateway.scoring.inference import Prediction, ReadInput, Target

Headings = Sequence[tuple[bytes, bytes]]


def _says_nothing(_: Choice) -> Headings:
    return ()


class Invocation(Ask):
    """A body of any of the types that `Bodies` reads, answered in the one that Accept names."""

    def __init__(
        self, target: Target, headers: Headers, bodies: Bodies, *, says: Callable[[Choice], Headings] = _says_nothing
    ) -> None:
        """*says* is what the protocol has the answer say, in headers, of who gave it.

        Raises:
            UnsupportedMediaType: for a content type that isn't known.
        """
        self.target = target
        self._kind, self._options = content_type(headers)
        self._wanted = accepted(headers)
        self._bodies = bodies
        self._says = says

    def read(self, body: bytes) -> ReadInput | Awaitable[ReadInput]:
        return self._bodies.reader(self._kind, self._options, body)

    def reply(self, prediction: Prediction) -> Reply | Awaitable[Reply]:
        reply, said = self._bodies.write(self._wanted, prediction.answer), self._says(prediction.choice)
        return _saying(said, reply) if isinstance(reply, Reply) else _saying_later(said, reply)


def _saying(said: Headings, reply: Reply) -> Reply:
    return Reply(reply.content, reply.content_type, said) if said else reply


async def _saying_later(said: Headings, reply: Awaitable[Reply]) -> Reply:
    return _saying(said, await reply)
