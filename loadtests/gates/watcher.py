"""Says of each call what it let in that it might not, by figures of its own: none of `registry.gates` is asked.

What stands behind a gate is an *exposure*: an alias that means a version, a share that can or does come to it, its
answering to its name. A call may add one only if what the gate needs is there, if somebody who may went past it, or if
it was there once already and the call goes back to it.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from loadtests.gates.calls import ADMIN, OVERRIDE, Call
from loadtests.gates.world import ACCURACY, DAY_MS
from registry import serving
from registry.entities import (
    CHAMPION,
    ApprovalNeeded,
    Gate,
    LoadTestNeeded,
    MetricNeeded,
    Route,
    SignatureNeeded,
)
from registry.schema import AliasRow, EndpointRow, ModelVersionRow, PinRow, SplitRow

ALL_BP = 10_000
_COMPATIBLE = {"narrow": {"narrow", "wide"}, "wide": {"narrow", "wide"}, "other": {"other"}}
"""What a champion takes, to what may come after it."""


NAMED, SERVED = "named", "served"


class Exposure(msgspec.Struct, frozen=True, cache_hash=True):
    """A version behind a gate."""

    name: str
    """Under which the gate waits."""
    gate: Gate
    source: str
    """Of the version, which no other has."""
    how: str
    """`alias NAME`, `share`, `served` or `named`."""

    def with_(self, how: str) -> "Exposure":
        return msgspec.structs.replace(self, how=how)


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """All that matters of the registry at one moment."""

    gates: Mapping[str, Mapping[str, Gate]]
    """By the name under which each waits, and its own."""
    sources: Mapping[tuple[str, int], str]
    aliases: Mapping[str, dict[str, int]]
    endpoints: Mapping[str, tuple[str, str]]
    """Model to its endpoint's id and name."""
    former: Mapping[str, int]
    """Model to the champion before."""
    shares: Mapping[str, dict[str, int]]
    """By endpoint id."""
    routes: Mapping[str, Route]
    pins: frozenset[tuple[str, int]]

    def champion(self, model: str) -> int | None:
        meant = self.aliases.get(model, {}).get(CHAMPION)
        route = self._route(model)
        return route.arms.get(CHAMPION) if meant is None and route is not None else meant

    def model_of(self, source: str) -> str:
        return next(name for (name, _), each in self.sources.items() if each == source)

    def model_behind(self, endpoint: str) -> str:
        return next(model for model, (_, name) in self.endpoints.items() if name == endpoint)

    def id_of(self, endpoint: str) -> str:
        return next((id_ for id_, name in self.endpoints.values() if name == endpoint), "")

    def ways_back(self, name: str) -> set[str]:
        """What a rollback may go to of whoever goes by *name*: the champion before, and the one that still serves."""
        models = {model for model, (_, called) in self.endpoints.items() if name in (model, called)}
        known = {(model, self.former[model]) for model in models if model in self.former}
        for model in models:
            route = self._route(model)
            known |= set() if route is None else {(model, route.arms[CHAMPION])}
        return {self.sources[key] for key in known if key in self.sources}

    def exposures(self) -> frozenset[Exposure]:
        return frozenset(self._exposures())

    def _exposures(self) -> Iterator[Exposure]:
        for model in {name for name, _ in self.sources}:
            names = {model, *self.endpoints.get(model, ())[1:]}
            behind = [(name, gate) for name in names for gate in self.gates.get(name, {}).values()]
            for called, gate in behind:
                for how, version in self._places(model, gate):
                    source = self.sources.get((model, version))
                    if source is not None:
                        yield Exposure(called, gate, source, how)

    def _places(self, model: str, gate: Gate) -> Iterator[tuple[str, int]]:
        aliases, route = self.aliases.get(model, {}), self._route(model)
        # What is served as an alias is as much its own: a promotion that isn't in force yet is taken back to it.
        for meant in (aliases, {} if route is None else route.arms):
            yield from ((f"alias {alias}", meant[alias]) for alias in gate.aliases if alias in meant)
        if gate.share_over_bp is None:
            return
        for version, most_bp in self._most_bp(model, aliases, route).items():
            if most_bp > gate.share_over_bp:
                yield "share", version
        if route is not None:
            served = Counter[int]()
            for arm, count in route.owners:
                served[route.arms[arm]] += count
            yield from ((SERVED, version) for version, count in served.items() if count > gate.share_over_bp)
            yield from ((NAMED, version) for version in self._answering_to_names(model, route))

    def _most_bp(self, model: str, aliases: Mapping[str, int], route: Route | None) -> Counter[int]:
        """The most that could come to each version until the next write: all, for whoever may stand for the others."""
        most: Counter[int] = Counter()
        shares = self.shares.get(self.endpoints.get(model, ("",))[0], {})
        served = {} if route is None else route.arms
        for arm, share_bp in shares.items():
            for version in {meant[arm] for meant in (aliases, served) if arm in meant}:
                most[version] += share_bp
        for meant in (aliases, served):
            if CHAMPION in meant:
                most[meant[CHAMPION]] = ALL_BP
        return most

    def _answering_to_names(self, model: str, route: Route) -> set[int]:
        in_memory = {*route.arms.values(), *(version for name, version in self.pins if name == model)}
        return in_memory if route.by_name is None else in_memory & {*route.by_name}

    def _route(self, model: str) -> Route | None:
        endpoint = self.endpoints.get(model)
        return None if endpoint is None else self.routes.get(endpoint[0])


class Watcher:
    """Follows one sequence, call by call."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._approvals: defaultdict[str, set[str]] = defaultdict(set)
        self._load_tests: dict[str, tuple[int, bool]] = {}
        self._verdicts: dict[tuple[str, str, str], str] = {}
        self._lineage: dict[str, set[str]] = {}
        """Model to all names that it ever had."""
        self._had_champion: set[str] = set()
        self._rollouts: dict[str, tuple[frozenset[str], bool]] = {}
        """Endpoint's id to what its arms meant before the newest, and whether somebody who may had it pass gates by."""
        self._gates: dict[str, dict[str, Gate]] = {}
        """By what was set and renamed, and not as the registry has them: one that it has lost holds all the same."""
        self._now = read_standing(session, {})
        self._learn_names(None)
        self._ever = set(self._now.exposures())

    def look(self, call: Call, now_ms: int) -> list[str]:
        """What *call*, which was just made, did that it might not."""
        if call.what in {"set gate", "remove gate"} and call.by != ADMIN:
            return ["somebody changed a gate who may not"]
        self._learn_gates(call)
        before, self._now = self._now, read_standing(self._session, self._gates)
        self._learn_word(call, before, now_ms)
        after = self._now.exposures()
        # Whether one is asked by its name the next table says, whatever has changed since this one.
        came = {each for each in after - before.exposures() if each.how != NAMED or _is_for_pins(each, call)}
        if call.what == "commit":
            came |= {each for each in after if each.how == NAMED}
        wrong = [each for each in came if not self._is_lawful(each, call, before, now_ms)]
        self._ever |= {each for each in came if each.how != NAMED}
        self._learn_names(call)
        return [f"gate {each.gate} of {each.name}: {each.source} by {each.how}" for each in wrong]

    def _is_lawful(self, each: Exposure, call: Call, before: Standing, now_ms: int) -> bool:
        if call.what == "set gate" or (
            call.what == "rename model" and self._now.model_of(each.source) != call.given[1]
        ):
            # It moves no version, or another model's: what is behind a gate that is new was there before.
            return True
        if each.how == NAMED and each.with_("share") in self._now.exposures():
            return True
        if each.how == SERVED:
            # The table follows what was desired, whenever it can.
            desired = each.with_("share")
            return bool(self._were_there(desired, call)) or self._is_lawful(desired, call, before, now_ms)
        return (
            self._goes_past(call, before)
            or (self._goes_back(call, each, before) and bool(self._were_there(each, call)))
            or (call.what == "rename model" and bool(self._were_there(each, call)))
            or self._is_met(each, call, before, now_ms)
        )

    def _were_there(self, each: Exposure, call: Call) -> set[Exposure]:
        """The same as *each* under any name that its model ever had."""
        model = self._now.model_of(each.source)
        names = {each.name, *self._lineage.get(model, ())}
        if call.what == "rename model":
            names |= {call.given[0], *self._lineage.get(call.given[0], ())}
        return self._ever & {msgspec.structs.replace(each, name=name) for name in names}

    def _goes_past(self, call: Call, before: Standing) -> bool:
        if call.by == ADMIN and OVERRIDE in call.given:
            return True
        return call.what in {"take a step", "end rollout"} and self._rollout(call, before)[1]

    def _goes_back(self, call: Call, each: Exposure, before: Standing) -> bool:
        if call.what == "roll back":
            return True
        is_put_back = call.what in {"take a step", "end rollout"} and call.given[1] in {"stop", "roll back", "abort"}
        if is_put_back and each.source in self._rollout(call, before)[0]:
            # Gates that came since are passed by for what was there before, and the history says so.
            self._ever.add(each)
        return is_put_back

    def _rollout(self, call: Call, before: Standing) -> tuple[frozenset[str], bool]:
        return self._rollouts.get(before.id_of(call.given[0]), (frozenset(), False))

    # --- whether what a gate needs is there

    def _is_met(self, each: Exposure, call: Call, before: Standing, now_ms: int) -> bool:
        needs, (_, accuracy, takes, _, author) = each.gate.needs, each.source.split("-")
        match needs:
            case MetricNeeded():
                return ACCURACY[accuracy] >= needs.value
            case ApprovalNeeded():
                return len(self._approvals[each.source] - {author}) >= needs.count
            case LoadTestNeeded():
                at_ms, passed = self._load_tests.get(each.source, (0, False))
                return passed and now_ms - at_ms <= needs.within_days * DAY_MS
        if call.what in {"rename model", "rename endpoint"}:
            # Under this name nobody came before it, or it may not come after them.
            return each.name not in self._had_champion
        model = self._now.model_of(each.source)
        champion = before.champion(model)
        if champion is None:
            return self._had_champion.isdisjoint({model, *self._lineage.get(model, ())})
        reference = before.sources[model, champion]
        if reference == each.source:
            return True
        if isinstance(needs, SignatureNeeded):
            return takes in _COMPATIBLE[reference.split("-")[2]]
        said = self._verdicts.get((before.endpoints[model][0], reference, each.source))
        return said == "better" or (needs.verdict == "not_worse" and said == "alike")

    # --- what it knows by what was done

    def _learn_word(self, call: Call, before: Standing, now_ms: int) -> None:
        match call.what, call.given:
            case "set gate", (name, gate):
                # The way back to who was champion is nobody's to close.
                for source in self._now.ways_back(name):
                    self._ever |= {Exposure(name, gate, source, how) for how in (f"alias {CHAMPION}", "share")}
            case "approve", (name, version):
                self._approvals[self._now.sources[name, version]].add(call.by)
            case "withdraw", (name, version) if (name, version) in self._now.sources:
                self._approvals[self._now.sources[name, version]].discard(call.by)
            case "load test", (name, version, passed):
                self._load_tests[self._now.sources[name, version]] = (now_ms, passed)
            case "judge", (name, verdict):
                model = before.model_behind(name)
                aliases = before.aliases[model]
                champion = before.sources[model, aliases[CHAMPION]]
                for version in aliases.values():
                    self._verdicts[before.id_of(name), champion, before.sources[model, version]] = verdict
            case "roll out", (name, _, _, override):
                aliases = before.aliases[before.model_behind(name)]
                meant = frozenset(before.sources[before.model_behind(name), version] for version in aliases.values())
                self._rollouts[before.id_of(name)] = (meant, call.by == ADMIN and override is not None)

    def _learn_gates(self, call: Call) -> None:
        match call.what, call.given:
            case "set gate", (name, gate):
                self._gates = {**self._gates, name: {**self._gates.get(name, {}), gate.name: gate}}
            case "rename model", (old, new):
                # Both names keep theirs.
                self._gates = {**self._gates, new: {**self._gates.get(old, {}), **self._gates.get(new, {})}}

    def _learn_names(self, call: Call | None) -> None:
        match call:
            case Call(what="rename model", given=(old, new)):
                self._lineage[new] = {new} | self._lineage.pop(old, {old})
            case Call(what="delete model", given=(name,)):
                self._lineage.pop(name, None)
        self._had_champion |= {model for model, aliases in self._now.aliases.items() if CHAMPION in aliases}


def _is_for_pins(each: Exposure, call: Call) -> bool:
    """Whether *call* is a pin that the gate should have kept out; one for a load test can't, which pins by itself."""
    return call.what == "pin" and not isinstance(each.gate.needs, LoadTestNeeded)


def read_standing(session: Session, gates: Mapping[str, Mapping[str, Gate]]) -> Standing:
    """The rows as they are, by no function that anything else goes by, where these *gates* hold."""
    session.flush()
    ask = session.connection().execute
    aliases: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for name, alias, version in ask(_ALIASES):
        aliases[name][alias] = version
    rows = ask(_ENDPOINTS).all()
    return Standing(
        gates=gates,
        sources={(name, version): source for name, version, source in ask(_SOURCES)},
        aliases=aliases,
        endpoints={model: (id_, name) for id_, name, model, _ in rows},
        former={model: former for _, _, model, former in rows if former is not None},
        shares={id_: json.loads(shares) if isinstance(shares, str) else shares for id_, shares in ask(_SHARES)},
        routes={route.id: route for route in serving.newest_table(session).routes},
        pins=frozenset((name, version) for name, version in ask(_PINS)),
    )


# Built once, and asked after every call.
_ALIASES = select(AliasRow.name, AliasRow.alias, AliasRow.version)
_SOURCES = select(ModelVersionRow.name, ModelVersionRow.version, ModelVersionRow.source)
_ENDPOINTS = select(EndpointRow.id, EndpointRow.name, EndpointRow.model, EndpointRow.former_champion)
_SHARES = select(SplitRow.endpoint_id, SplitRow.shares_bp).order_by(SplitRow.period)
_PINS = select(PinRow.model, PinRow.version)
