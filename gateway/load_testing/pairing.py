"""Which version's turn it is, and what turns next to each other say of the two. Pure."""

from collections.abc import Iterator, Sequence

from gateway.load_testing.plan import Turn
from gateway.load_testing.slowdown import Pair


def turns_of_pair(number: int, version: int, against: int) -> tuple[int, int]:
    """Who goes first and who second in pair *number*: by turns, so that a machine that gets slower harms both alike."""
    return (against, version) if number % 2 == 0 else (version, against)


def processor_pairs(turns: Sequence[Turn], version: int) -> list[Pair]:
    """Processor time a request. Where it isn't that of one process from first to last, a pair says nothing."""
    first = {turn.version: turn.process for turn in reversed(turns) if turn.process is not None}
    costs = [
        turn.processor_s / turn.requests
        if turn.processor_s is not None and turn.requests and turn.process == first[turn.version]
        else None
        for turn in turns
    ]
    return list(_pairs(turns, costs, version))


def latency_pairs(turns: Sequence[Turn], version: int) -> list[Pair]:
    """The latency in the middle of a turn's answers, which a few slow ones don't move."""
    return list(_pairs(turns, [turn.p50_ms for turn in turns], version))


def _pairs(turns: Sequence[Turn], costs: Sequence[float | None], version: int) -> Iterator[Pair]:
    for place in range(0, len(turns) - 1, 2):
        first, second = costs[place], costs[place + 1]
        if first is not None and second is not None:
            yield Pair(second, first) if turns[place].version == version else Pair(first, second)
