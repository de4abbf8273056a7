"""What takes several calls in a row about one model, which chance alone seldom makes."""

from collections.abc import Callable
from random import Random

import msgspec

from loadtests.gates.calls import (
    ADMIN,
    ALIASES,
    NAMES,
    OVERRIDE,
    PROGRAM,
    PROMOTERS,
    VERSIONS,
    Call,
    draw_gate,
    draw_kinds,
    draw_name,
    draw_shares,
)
from registry.entities import CHALLENGER, CHAMPION, Gate, LoadTestNeeded, MetricNeeded, Need

COMMIT = Call(PROGRAM, "commit")
_BAD, _FAILS = 2, 4
"""Versions that are there from the beginning."""
_ACCURATE = MetricNeeded("accuracy", ">=", 0.9)


class Cast(msgspec.Struct, frozen=True):
    """Who does what to which."""

    random: Random
    by: str
    name: str
    other: str
    """Another name, of a model or of none."""
    version: int

    def to(self, alias: str, version: int) -> Call:
        return Call(self.by, "set alias", (self.name, alias, version, None))

    def past_gates(self, version: int) -> Call:
        return Call(ADMIN, "set alias", (self.name, CHAMPION, version, OVERRIDE))

    def split(self, shares_bp: dict[str, int] | None = None) -> Call:
        return Call(self.by, "split", (self.name, shares_bp or draw_shares(self.random), False, None))

    def renamed(self, what: str) -> Call:
        return Call(self.by, f"rename {what}", (self.name, self.other))


def draw_motif(random: Random) -> list[Call]:
    name = draw_name(random)
    other = random.choice([each for each in NAMES if each != name])
    return random.choice(_MOTIFS)(Cast(random, random.choice(PROMOTERS), name, other, random.choice(VERSIONS)))


def _bound(name: str, needs: Need = _ACCURATE) -> Call:
    return Call(ADMIN, "set gate", (name, Gate(name="x", needs=needs, aliases=(), share_over_bp=1_000)))


def _several_arms_of_one_version(cast: Cast) -> list[Call]:
    gates = [_bound(cast.name)] if cast.random.random() < 0.5 else []
    return [*gates, cast.to(CHALLENGER, cast.version), cast.to("canary", cast.version), cast.split()]


def _made_anew(cast: Cast) -> list[Call]:
    return [
        Call(cast.by, "stop", (cast.name,)),
        COMMIT,
        Call(cast.by, "delete model", (cast.name,)),
        Call(cast.by, "create model", (cast.name, draw_kinds(cast.random))),
        cast.to(CHAMPION, 1),
    ]


def _approved(cast: Cast) -> list[Call]:
    return [Call("ann", "approve", (cast.name, cast.version)), cast.to(cast.random.choice(ALIASES), cast.version)]


def _load_tested(cast: Cast) -> list[Call]:
    alias = cast.random.choice(ALIASES)
    gate = Gate(name="y", needs=LoadTestNeeded(7), aliases=(alias,))
    tested = Call(cast.by, "load test", (cast.name, cast.version, cast.random.random() < 0.7))
    wait = [Call(PROGRAM, "days pass", (8,))] if cast.random.random() < 0.5 else []
    return [Call(ADMIN, "set gate", (cast.name, gate)), tested, *wait, cast.to(alias, cast.version)]


def _an_arm_that_trails_its_alias(cast: Cast) -> list[Call]:
    gates = [_bound(cast.name)] if cast.random.random() < 0.5 else []
    return [cast.to(CHALLENGER, cast.version), COMMIT, cast.to(CHALLENGER, _FAILS), *gates, cast.split()]


def _a_table_that_trails_its_split(cast: Cast) -> list[Call]:
    """Of a model, or an endpoint, that takes a name with gates."""
    most, none = {CHAMPION: 5_000, CHALLENGER: 5_000}, {CHAMPION: 10_000}
    return [
        cast.to(CHALLENGER, _BAD),
        cast.split(most),
        COMMIT,
        cast.split(none),
        _bound(cast.other),
        cast.renamed(cast.random.choice(("model", "endpoint"))),
    ]


def _renamed_and_back(cast: Cast) -> list[Call]:
    back = Call(cast.by, "roll back", (cast.name,))
    return [cast.to(CHAMPION, cast.version), COMMIT, cast.renamed("model"), back]


def _renamed_whole(cast: Cast) -> list[Call]:
    """Model and endpoint, and then what the gates of the former name kept out."""
    kept_out = Call(cast.by, "set alias", (cast.other, cast.random.choice(ALIASES), cast.version, None))
    return [cast.renamed("model"), cast.renamed("endpoint"), kept_out]


def _back_behind_gates(cast: Cast) -> list[Call]:
    """To a name with gates that the champion gets through, and the one before it doesn't."""
    what = cast.random.choice(("model", "endpoint"))
    return [
        cast.past_gates(cast.version),
        COMMIT,
        cast.past_gates(1),
        COMMIT,
        Call(ADMIN, "set gate", (cast.other, draw_gate(cast.random))),
        cast.renamed(what),
        COMMIT,
        Call(cast.by, "roll back", (cast.other if what == "endpoint" else cast.name,)),
    ]


_MOTIFS: tuple[Callable[[Cast], list[Call]], ...] = (
    _several_arms_of_one_version,
    _made_anew,
    _approved,
    _load_tested,
    _an_arm_that_trails_its_alias,
    _a_table_that_trails_its_split,
    _renamed_and_back,
    _renamed_whole,
    _back_behind_gates,
)
