"""What the process that makes the load is told, and what it says: one JSON object a line."""

import msgspec

from gateway.load_testing.figures import Figures, Point
from gateway.load_testing.report import Machine
from gateway.load_testing.slowdown import Slowdown, Slower

USERS_MAX = 1_000
FOR_S_MAX = 900.0
"""What is seen of each request is kept until the end, and twice as long may be taken."""
LOAD_TEST = {"X-Titlebout-Load-Test": "1"}
"""The header by which a request says that it is nobody's traffic, so that gates on a share don't keep it out."""
PAIRS_PLANNED = 12
"""Of turns, of the version and of the one that it is compared with. While it is unsure it goes on to twice as many."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    url: str
    authorization: str | None = None
    """The header that signs in."""
    endpoint: str
    version: int
    against: int | None = None
    users: int
    for_s: float
    bodies: list[str]
    """Of requests in MLflow's protocol, asked one after the other."""
    timeout_s: float = 30.0

    @property
    def window_s(self) -> float:
        """How long a turn takes."""
        return self.for_s if self.against is None else self.for_s / (2 * PAIRS_PLANNED)


class Moment(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """How it goes."""

    doing: str
    requests: int
    failed: int
    p50_ms: float | None
    """Of the last requests, as is the other."""
    p99_ms: float | None
    left_s: float


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """A while in which one version was asked."""

    version: int
    seconds: float
    requests: int
    p50_ms: float | None
    process: str | None
    """Whose processor time it is; None if that couldn't be read, or another process answered in the end."""
    processor_s: float | None


class Seen(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """What it was, at the end."""

    tested: Figures
    series: list[Point]
    baseline: Figures | None = None
    slower: Slower | None = None
    processor: Slowdown | None = None
    latency: Slowdown | None = None
    server: Machine
    client_processor_share: float


class Impossible(msgspec.Struct, frozen=True, tag=True):
    """Why it came to nothing, for people."""

    reason: str


FromLoad = Moment | Seen | Impossible
