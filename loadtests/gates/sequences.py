"""Draws sequences of calls from a seed, makes them one by one, and shortens the first that gets round a gate."""

import time
from collections.abc import Sequence
from random import Random

import msgspec
from sqlalchemy.orm import Session

from loadtests.gates.calls import ADMIN, Call, draw_call, draw_gate
from loadtests.gates.motifs import draw_motif
from loadtests.gates.watcher import Watcher
from loadtests.gates.world import World
from registry.errors import GatesNotMet
from tracking.errors import ServingError

CALLS_MAX = 28
_MOTIFS = 0.12
"""How often a motif comes, rather than a call."""


class Counts(msgspec.Struct):
    """Of all sequences together."""

    sequences: int = 0
    calls: int = 0
    made: int = 0
    """Those that changed something, or could have."""
    refused_by_gates: int = 0
    refused_otherwise: int = 0


class WayRound(msgspec.Struct, frozen=True):
    """A sequence whose last call let in what it might not."""

    calls: Sequence[Call]
    what: Sequence[str]


def draw_sequence(seed: str) -> tuple[Call, ...]:
    """Gates first, then whatever comes."""
    random = Random(seed)
    calls = [Call(ADMIN, "set gate", ("a", draw_gate(random))) for _ in range(random.randint(1, 3))]
    count = random.randint(CALLS_MAX // 2, CALLS_MAX)
    while len(calls) < count:
        calls += draw_motif(random) if random.random() < _MOTIFS else [draw_call(random)]
    return tuple(calls)


def find_way_round(world: World, calls: Sequence[Call], counts: Counts) -> WayRound | None:
    """Make *calls*, and undo them; what the first that let in what it might not let in."""
    with world.undone():
        watcher = Watcher(world.session)
        counts.sequences += 1
        for place, call in enumerate(calls):
            counts.calls += 1
            try:
                world.do(call)
            except GatesNotMet:
                counts.refused_by_gates += 1
            except ServingError:
                counts.refused_otherwise += 1
            else:
                counts.made += 1
                if what := watcher.look(call, world.now_ms):
                    return WayRound(calls[: place + 1], what)
    return None


def search(session: Session, sequences: int, *, seed: str, counts: Counts) -> WayRound | None:
    """Make so many *sequences*, until one gets round."""
    world = World(session)
    for number in range(sequences):
        found = find_way_round(world, draw_sequence(f"{seed}-{number}"), counts)
        if found is not None:
            return shorten(world, found)
    return None


def shorten(world: World, found: WayRound, *, within_s: float = 60) -> WayRound:
    """The same without the calls that it doesn't take."""
    until_s, place = time.monotonic() + within_s, 0
    while place < len(found.calls) and time.monotonic() < until_s:
        fewer = find_way_round(world, [*found.calls[:place], *found.calls[place + 1 :]], Counts())
        found, place = (found, place + 1) if fewer is None else (fewer, min(place, len(fewer.calls)))
    return found
