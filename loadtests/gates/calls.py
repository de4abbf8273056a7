"""Which calls there are, drawn from so few names that they meet each other."""

from collections.abc import Callable
from random import Random
from typing import Any

import msgspec

from registry import gate_words
from registry.entities import CHALLENGER, CHAMPION, Gate

NAMES = ("a", "b", "c")
"""Models, and endpoints."""
ALIASES = (CHAMPION, CHALLENGER, "canary")
VERSIONS = (1, 2, 3, 4)
PROMOTERS = ("eve", "ann")
ADMIN = "boss"
PEOPLE = (*PROMOTERS, ADMIN)
PROGRAM = "titlebout"
"""What replicas and clocks do by themselves."""
OVERRIDE = "it burns"

_SHARES = (0, 500, 600, 1_000, 1_001, 5_000, 9_500, 10_000)
_NEEDS = ("accuracy >= 0.9", "approval", "signature", "load test within 7d", "accuracy better", "accuracy not worse")
_BOUNDS = (None, None, 0, 1_000, 1_000, 5_000)


class Call(msgspec.Struct, frozen=True):
    """One call: by whom, to what, with what."""

    by: str
    what: str
    given: tuple[Any, ...] = ()

    def __str__(self) -> str:
        return f"{self.by}: {self.what} {' '.join(map(str, self.given))}"


def draw_call(random: Random) -> Call:
    what = random.choices(tuple(_KINDS), _WEIGHTS)[0]
    _, people, draw = _KINDS[what]
    return Call(random.choice(people), what, draw(random))


def draw_gate(random: Random) -> Gate:
    bound = random.choice(_BOUNDS)
    needs = gate_words.read(random.choice(_NEEDS))
    assert needs is not None  # for the type checker
    aliases = tuple(random.sample(ALIASES, random.randint(1 if bound is None else 0, 2)))
    return Gate(name=random.choice("xyz"), needs=needs, aliases=aliases, share_over_bp=bound)


def draw_shares(random: Random) -> dict[str, int]:
    first, second = random.choice(_SHARES), random.choice((0, 0, 0, 500, 600))
    arms = {CHALLENGER: first, "canary": min(second, 10_000 - first)}
    return {CHAMPION: 10_000 - sum(arms.values()), **arms}


def draw_kinds(random: Random) -> tuple[str, ...]:
    """By what each will be known: whether it is accurate, what it takes, and whether it loads."""
    return tuple(
        random.choice(("good", "bad"))
        + " "
        + random.choice(("narrow", "wide", "other"))
        + " "
        + random.choice(("loads", "loads", "fails"))
        for _ in range(random.randint(1, 3))
    )


def draw_name(random: Random) -> str:
    # Mostly of those that are there from the beginning, and of them mostly the one with gates.
    return random.choices(NAMES, (5, 3, 1))[0]


def _version(random: Random) -> tuple[str, int]:
    return draw_name(random), random.choice(VERSIONS)


def _override(random: Random) -> str | None:
    return OVERRIDE if random.random() < 0.1 else None


_Draw = Callable[[Random], tuple[Any, ...]]
_KINDS: dict[str, tuple[int, tuple[str, ...], _Draw]] = {
    "set alias": (26, PEOPLE, lambda r: (draw_name(r), r.choice(ALIASES), r.choice(VERSIONS), _override(r))),
    "delete alias": (4, PEOPLE, lambda r: (draw_name(r), r.choice(ALIASES))),
    "split": (14, PEOPLE, lambda r: (draw_name(r), draw_shares(r), r.random() < 0.1, _override(r))),
    "commit": (16, (PROGRAM,), lambda _: ()),
    "roll back": (4, PEOPLE, lambda r: (draw_name(r),)),
    "pin": (4, PEOPLE, _version),
    "unpin": (1, PEOPLE, _version),
    "stop": (3, PEOPLE, lambda r: (draw_name(r),)),
    "rename endpoint": (3, PEOPLE, lambda r: tuple(r.sample(NAMES, 2))),
    "rename model": (4, PEOPLE, lambda r: tuple(r.sample(NAMES, 2))),
    "delete model": (3, PEOPLE, lambda r: (draw_name(r),)),
    "create model": (3, PROMOTERS, lambda r: (draw_name(r), draw_kinds(r))),
    "create version": (2, PROMOTERS, lambda r: (draw_name(r), draw_kinds(r)[:1])),
    "delete version": (1, PEOPLE, _version),
    "call it a prompt": (1, PEOPLE, lambda r: (draw_name(r), r.choice(("true", "false")))),
    "approve": (3, PEOPLE, _version),
    "withdraw": (1, PEOPLE, _version),
    "set gate": (1, PEOPLE, lambda r: (draw_name(r), draw_gate(r))),
    "remove gate": (1, PROMOTERS, lambda r: (draw_name(r), r.choice("xyz"))),
    "load test": (3, PROMOTERS, lambda r: (*_version(r), r.random() < 0.7)),
    "judge": (3, (PROGRAM,), lambda r: (draw_name(r), r.choice(("better", "not_yet", "alike")))),
    "days pass": (1, (PROGRAM,), lambda r: (r.choice((1, 8)),)),
    "shadow": (1, PEOPLE, lambda r: (draw_name(r), r.choice(ALIASES))),
    "roll out": (
        3,
        PEOPLE,
        lambda r: (draw_name(r), r.choice(VERSIONS), r.choice(((500, 10_000), (10_000,))), _override(r)),
    ),
    "take a step": (
        4,
        (PROGRAM,),
        lambda r: (draw_name(r), r.choice(("advance", "advance", "stop", "roll back", "finish"))),
    ),
    "end rollout": (2, PEOPLE, lambda r: (draw_name(r), r.choice(("abort", "promote", "resume")), _override(r))),
}
_WEIGHTS = tuple(weight for weight, _, _ in _KINDS.values())
