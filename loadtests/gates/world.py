"""A registry to make calls in: by people of some permissions, through the handlers that HTTP requests come to.

All of it is in one transaction that is never committed, so that thousands of sequences begin alike; each call is a
savepoint of it, as it would be a transaction of its own.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from litestar.handlers import HTTPRouteHandler
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from gateway.access.identity import IDENTITY, Identity
from gateway.api import gates as gates_api
from gateway.api import rollouts as rollouts_api
from gateway.api import shadows as shadows_api
from gateway.api import titlebout as ours
from gateway.api.mlflow import registry as mlflow
from gateway.api.mlflow import registry_wire as wire
from gateway.auth import FOR_ALL, admit, permission_of
from gateway.settings import Settings
from loadtests.gates.calls import ADMIN, PROGRAM, PROMOTERS, Call
from registry import endpoints, epochs, interfaces, load_tests, models, rollouts, serving, verdicts, versions
from registry.entities import CHALLENGER, CHAMPION, Field, Interface, KeptVerdict, SlotStatus
from registry.rollout_entities import RolloutSpec
from registry.rollouts import Act
from registry.schema import ModelVersionRow
from registry.sources import Claim, SourcePolicy
from tracking import experiments, runs
from tracking.access.caller import CALLER, set_caller
from tracking.access.caller import PROGRAM as AS_PROGRAM
from tracking.access.grants import Grant
from tracking.access.permissions import Permission
from tracking.entities import Metric
from tracking.errors import Conflict

BEGAN_MS = 1_700_000_000_000
DAY_MS = 86_400_000
ACCURACY = {"good": 0.95, "bad": 0.5}
INPUTS = {
    "narrow": (Field("x", "double"),),
    "wide": (Field("x", "double"), Field("y", "double", required=False)),
    "other": (Field("z", "double"),),
}
_PROMOTER = (Grant("publisher"), Grant("promoter"))
_IDENTITIES = {name: Identity(name, _PROMOTER) for name in PROMOTERS} | {ADMIN: Identity(ADMIN, (Grant("admin"),))}
NO_FILES: Any = None
"""For what would be read of a store if versions weren't known already."""
_SOURCES = "s3://shared/"


class NothingToDo(Conflict):
    """A call of the program's that there is no occasion for."""


class World:
    """Two models with their first champions, and what is done with them."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.now_ms = BEGAN_MS
        self.made = 0
        self._policy = SourcePolicy(locate=lambda _: None, prefixes=(_SOURCES.rstrip("/"),))
        set_caller(session, AS_PROGRAM)
        experiments.ensure_default_experiment(session, now_ms=BEGAN_MS)
        self._runs = {kind: self._run(accuracy) for kind, accuracy in ACCURACY.items()}
        first = ("good narrow loads", "bad narrow loads", "bad other loads", "good wide fails")
        for name in ("a", "b"):
            self.do(Call("ann", "create model", (name, first)))
            for alias in (CHAMPION, CHALLENGER):
                self.do(Call("ann", "set alias", (name, alias, 1, None)))
        self.do(Call(PROGRAM, "commit"))
        self._made_first = self.made

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Have the block begin with the world as it was made, and leave it so."""
        everything = self.session.begin_nested()
        try:
            yield
        finally:
            everything.rollback()
            self.session.expunge_all()
            self.now_ms, self.made = BEGAN_MS, self._made_first

    def do(self, call: Call) -> None:
        """Make *call*.

        Raises:
            ServingError: if it is refused, and nothing has changed.
        """
        identity = _IDENTITIES.get(call.by)
        IDENTITY.set(identity)
        CALLER.set(AS_PROGRAM)
        set_caller(self.session, AS_PROGRAM)
        with self.session.begin_nested():
            _DO[call.what](self, *call.given)

    # --- a database of which nothing is committed, and a clock

    @contextmanager
    def writing(self) -> Iterator[Session]:
        set_caller(self.session, CALLER.get())
        yield self.session

    reading = writing

    def database_now_ms(self, _: Session) -> int:
        return self.now_ms

    # --- through handlers

    def _ask(self, handler: object, **given: Any) -> Any:
        """What becomes of a request that was decoded to *given*, from the guard on."""
        route = cast("HTTPRouteHandler", handler)
        permission = permission_of(route)
        assert permission is not None  # for the type checker: the program wouldn't start
        admit(permission, route.opt.get(FOR_ALL))
        return cast("Callable[..., Any]", route.fn)(database=_Database(self), **given)

    def set_alias(self, name: str, alias: str, version: int, override: str | None) -> None:
        asked = wire.SetAlias(name=name, alias=alias, version=str(version), override=override)
        self._ask(mlflow.set_alias, data=asked, clock=self.clock, artifact_store=NO_FILES)

    def delete_alias(self, name: str, alias: str) -> None:
        self._ask(mlflow.delete_alias, data=wire.DeleteAlias(name=name, alias=alias), clock=self.clock)

    def split(self, name: str, shares_bp: dict[str, int], reshuffle: bool, override: str | None) -> None:
        shares = {arm: share for arm, share in shares_bp.items() if share or arm == CHAMPION}
        asked = ours.ChangeSplit(shares_bp=shares, reshuffle=reshuffle, override=override)
        self._ask(ours.change_split, name=name, data=asked, clock=self.clock)

    def roll_back(self, name: str) -> None:
        self._ask(ours.roll_back, name=name, settings=Settings(data="none"))

    def pin(self, name: str, version: int) -> None:
        self._ask(ours.pin_version, model=name, version=version, clock=self.clock, artifact_store=NO_FILES)

    def unpin(self, name: str, version: int) -> None:
        self._ask(ours.unpin_version, model=name, version=version, clock=self.clock)

    def stop(self, name: str) -> None:
        self._ask(ours.stop_endpoint, name=name, clock=self.clock)

    def rename_endpoint(self, name: str, new_name: str) -> None:
        self._ask(ours.rename_endpoint, name=name, data=ours.RenameEndpoint(name=new_name), clock=self.clock)

    def rename_model(self, name: str, new_name: str) -> None:
        asked = wire.RenameRegisteredModel(name=name, new_name=new_name)
        self._ask(mlflow.rename_registered_model, data=asked, clock=self.clock)

    def delete_model(self, name: str) -> None:
        self._ask(mlflow.delete_registered_model, data=wire.DeleteRegisteredModel(name=name), clock=self.clock)

    def delete_version(self, name: str, version: int) -> None:
        asked = wire.DeleteModelVersion(name=name, version=str(version))
        self._ask(mlflow.delete_model_version, data=asked, clock=self.clock)

    def call_it_a_prompt(self, name: str, value: str) -> None:
        asked = wire.SetRegisteredModelTag(name=name, key=models.PROMPT_TAG, value=value)
        self._ask(mlflow.set_registered_model_tag, data=asked)

    def approve(self, name: str, version: int) -> None:
        self._ask(gates_api.approve, name=name, version=version, data=gates_api.Approve(), clock=self.clock)

    def withdraw(self, name: str, version: int) -> None:
        self._ask(gates_api.withdraw, name=name, version=version, clock=self.clock)

    def set_gate(self, name: str, gate: Any) -> None:
        asked = gates_api.PutGate(needs=gate.needs, aliases=gate.aliases, share_over_bp=gate.share_over_bp)
        self._ask(
            gates_api.set_gate, name=name, gate_name=gate.name, data=asked, clock=self.clock, artifact_store=NO_FILES
        )

    def remove_gate(self, name: str, gate: str) -> None:
        self._ask(gates_api.remove_gate, name=name, gate_name=gate, clock=self.clock)

    def shadow(self, name: str, arm: str) -> None:
        self._ask(shadows_api.set_shadow, name=name, data=shadows_api.SetShadow(arm=arm), clock=self.clock)

    # --- what takes more than a handler

    def create_model(self, name: str, kinds: tuple[str, ...]) -> None:
        admit(Permission.REGISTRY_WRITE)
        set_caller(self.session, CALLER.get())
        models.create_model(self.session, name, now_ms=self.now_ms)
        self.create_version(name, kinds)

    def create_version(self, name: str, kinds: tuple[str, ...]) -> None:
        """Register versions whose files have been read: the source says which is which, and of what kind."""
        admit(Permission.REGISTRY_WRITE)
        set_caller(self.session, CALLER.get())
        for kind in kinds:
            self.made += 1
            accuracy, takes, loads = kind.split()
            # It says of itself all that there is to know, so that whoever watches need not ask the registry.
            source = f"{_SOURCES}{self.made}-{accuracy}-{takes}-{loads}-{current_name()}"
            claim = Claim(source=source, run_id=self._runs[accuracy])
            made = versions.create_version(self.session, name, claim, policy=self._policy, now_ms=self.now_ms)
            key, digest = (name, made.version), f"{self.made:064x}"
            row = (ModelVersionRow.name == name) & (ModelVersionRow.version == made.version)
            self.session.execute(update(ModelVersionRow).where(row).values(digest=digest))
            interfaces.keep(self.session, *key, digest, Interface(inputs=INPUTS[takes]))

    def load_test(self, name: str, version: int, passed: bool) -> None:
        found = versions.get_version(self.session, name, version)
        assert found.digest is not None  # for the type checker
        load_tests.keep(
            self.session,
            name,
            version,
            digest=found.digest,
            passed=passed,
            report="{}",
            author=current_name(),
            now_ms=self.now_ms,
        )

    def commit(self) -> None:
        """Bring up what loads, and commit tables until there is none to come: the reconciler looks again after each."""
        row = ModelVersionRow
        known = self.session.execute(select(row.name, row.version, row.source, row.digest)).all()
        slots = [
            SlotStatus(model=name, version=version, state="READY", digest=digest)
            for name, version, source, digest in known
            if "-loads-" in source
        ]
        serving.heartbeat(self.session, "replica", slots=slots, epoch=0, now_ms=self.now_ms, lease_ms=1_000_000_000)
        while epochs.commit_epoch(self.session, now_ms=self.now_ms, lead_ms=1) is not None:
            continue

    def judge(self, name: str, verdict: str) -> None:
        """Conclude something of the champion and each version that is compared with it."""
        endpoint = endpoints.get_endpoint(self.session, name)
        aliases = models.get_model(self.session, endpoint.model).aliases
        champion = aliases.get(CHAMPION)
        others = sorted({version for version in aliases.values() if version != champion})
        if champion is None or not others:
            raise NothingToDo("There is nobody to compare with.")
        for version in others:
            pair = verdicts.Pair(endpoint_id=endpoint.id, champion=champion, challenger=version)
            kept = KeptVerdict(
                champion=champion,
                challenger=version,
                arm=CHALLENGER,
                metric="accuracy",
                from_period=1,
                verdict="better" if verdict == "better" else "not_yet",
                reason="so it was drawn",
                alike=verdict == "alike",
                champion_n=1,
                challenger_n=1,
                mismatch_p=1,
                judged_ms=self.now_ms,
            )
            verdicts.keep(self.session, pair, [kept])

    def days_pass(self, days: int) -> None:
        self.now_ms += days * DAY_MS

    def roll_out(self, name: str, version: int, steps_bp: tuple[int, ...], override: str | None) -> None:
        spec = RolloutSpec(steps_bp=steps_bp)
        asked = rollouts_api.StartRollout(endpoint=name, version=version, spec=spec, override=override)
        self._ask(rollouts_api.start_rollout, data=asked, artifact_store=NO_FILES)

    def take_a_step(self, name: str, step: str) -> None:
        running = next((each for each in rollouts.list_running(self.session) if each.endpoint == name), None)
        if running is None:
            raise NothingToDo("There is no rollout.")
        act = Act(author=PROGRAM, now_ms=self.now_ms)
        match step:
            case "advance":
                rollouts.advance(self.session, running, act)
            case "stop":
                rollouts.stop(self.session, running, act)
            case "roll back":
                rollouts.roll_back(self.session, running, act, lead_ms=1)
            case "finish":
                rollouts.finish(self.session, running, act)

    def end_rollout(self, name: str, how: str, override: str | None) -> None:
        match how:
            case "abort":
                settings = Settings(data="none")
                self._ask(rollouts_api.abort_rollout, name=name, data=rollouts_api.Word(), settings=settings)
            case "promote":
                asked = rollouts_api.Promote(override=override)
                self._ask(rollouts_api.promote_rollout, name=name, data=asked, artifact_store=NO_FILES)
            case "resume":
                self._ask(rollouts_api.resume_rollout, name=name, data=rollouts_api.Word(), artifact_store=NO_FILES)

    def clock(self) -> float:
        return self.now_ms / 1000

    def _run(self, accuracy: float) -> str:
        run_id = runs.create_run(self.session, "0", start_time_ms=BEGAN_MS).info.run_id
        metric = Metric(key="accuracy", value=accuracy, timestamp_ms=BEGAN_MS, step=0)
        runs.log_metric(self.session, run_id, metric)
        return run_id


class _Database:
    """What handlers take for one."""

    def __init__(self, world: World) -> None:
        self.writing = self.reading = world.writing
        self.now_ms = world.database_now_ms


def current_name() -> str:
    identity = IDENTITY.get()
    return PROGRAM if identity is None else identity.name


_DO: dict[str, Callable[..., None]] = {
    what.replace("_", " "): getattr(World, what)
    for what in (
        *("set_alias", "delete_alias", "split", "commit", "roll_back", "pin", "unpin", "stop", "rename_endpoint"),
        *("rename_model", "delete_model", "create_model", "create_version", "delete_version", "call_it_a_prompt"),
        *("approve", "withdraw", "set_gate", "remove_gate", "load_test", "judge", "days_pass", "shadow"),
        *("roll_out", "take_a_step", "end_rollout"),
    )
}
