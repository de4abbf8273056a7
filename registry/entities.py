"""The values that come out of the registry: frozen, compared by ``==``, free of any session."""

from enum import StrEnum
from typing import Any, Literal

import msgspec

CHAMPION = "champion"
CHALLENGER = "challenger"

VersionKey = tuple[str, int]
"""(model, version)"""

OwnerRuns = tuple[tuple[str, int], ...]
"""Bucket owners in runs: (arm, how many buckets in a row), 10,000 in all."""


class ModelVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One registered version."""

    name: str
    version: int
    source: str
    artifact_uri: str
    digest: str | None = None
    run_id: str | None = None
    run_link: str | None = None
    model_id: str | None = None
    user_id: str | None = None
    """Whom the client named."""
    author: str | None = None
    """Who registered it, as they had signed in; None of what was there before that was kept."""
    description: str | None = None
    stage: str = "None"
    status: str = "READY"
    status_message: str | None = None
    created_ms: int
    updated_ms: int
    tags: dict[str, str] = {}
    aliases: tuple[str, ...] = ()


class VersionSignature(msgspec.Struct, frozen=True, kw_only=True):
    """What one key signed of a version, as it was brought."""

    name: str
    version: int
    key_id: str
    """SHA-256 of the public key's PEM."""
    bundle: str
    author: str
    """Who brought it, which is not who signed it."""
    created_ms: int


class RegisteredModel(msgspec.Struct, frozen=True, kw_only=True):
    """A registered model, with its aliases and the newest version of each stage, as MLflow lists them."""

    name: str
    description: str | None = None
    created_ms: int
    updated_ms: int
    tags: dict[str, str] = {}
    aliases: dict[str, int] = {}
    latest_versions: tuple[ModelVersion, ...] = ()


class Meaning(msgspec.Struct, frozen=True):
    """What an alias means; None: nothing."""

    version: int | None


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A public name for a model's traffic."""

    id: str
    name: str
    model: str
    salt: str
    fallback: bool = False
    stopped: bool = False
    former_champion: int | None = None
    """The champion before the present one, which a rollback goes back to."""
    former_since_ms: int | None = None
    created_ms: int


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """The shares of one period of an endpoint."""

    endpoint_id: str
    period: int
    shares_bp: dict[str, int]
    dormant_bp: dict[str, int] = {}
    owners: OwnerRuns
    reason: str
    author: str
    created_ms: int
    reshuffled: bool = False
    """Units are assigned anew, by another salt than in the period before."""


class Shadow(msgspec.Struct, frozen=True, kw_only=True):
    """An arm that is asked a copy of what others answer, so that its answers can be laid beside theirs."""

    arm: str
    share_bp: int = 10_000
    """Of the requests that other arms are given by the split, in basis points."""
    keep_inputs: int = 0
    """How many inputs are kept, those on which the answers differ most."""
    tolerance: float = 1e-6
    """How far apart two numbers may be, relative to the larger, and still agree."""


class Cell(msgspec.Struct, frozen=True, order=True):
    """Whose sums they are. A version is part of it, as an alias may move to another in the midst of a period."""

    period: int
    arm: str
    version: int


class PredictionKey(msgspec.Struct, frozen=True, kw_only=True):
    """What ids of predictions are signed with. Its secret is in no log and no answer, and not in its `repr` either."""

    id: str
    """8 hexadecimal digits."""
    secret: bytes
    made_ms: int
    retired_ms: int | None = None
    """Since when another one signs; what this one signed before goes on counting."""

    def __repr__(self) -> str:
        return f"PredictionKey({self.id})"


NO_PERIOD = 0


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """How one endpoint is answered in one epoch."""

    id: str
    name: str
    model: str
    salt: str
    fallback: bool
    period: int
    """Of the split that is in force; `NO_PERIOD` until each of its arms answers by the version that it should."""
    arms: dict[str, int]
    """Arm to the version that answers for it. Arms that own no bucket can be forced, nothing else."""
    owners: OwnerRuns
    shadow: Shadow | None = None
    """Whose arm is one of `arms`."""
    by_name: tuple[int, ...] | None = None
    """The versions that may be asked for by name, past the split; None: all, as no gate has a say in it."""


class RoutingTable(msgspec.Struct, frozen=True, kw_only=True):
    """What requests are answered from: immutable, numbered by its epoch."""

    epoch: int = 0
    activate_at_ms: int = 0
    routes: tuple[Route, ...] = ()


class DesiredRoute(msgspec.Struct, frozen=True, kw_only=True):
    """What an endpoint should be, by its aliases and its split."""

    endpoint: Endpoint
    split: Split
    versions: dict[str, int]
    """Arm to the version that its alias means now; an arm whose alias is gone is missing."""
    shadow: Shadow | None = None
    by_name: tuple[int, ...] | None = None


class SlotStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One version in one replica's memory, as others see it."""

    model: str
    version: int
    state: str
    reason: str | None = None
    """Why it failed, in a sentence for people."""
    since_ms: int = 0
    flavor: str | None = None
    predictor: str | None = None
    predictor_reason: str | None = None
    """Why that one answers and not a faster."""
    digest: str | None = None
    """Of the bytes that are in memory: a model that was deleted and made anew has old versions' numbers again."""
    memory_bytes: int | None = None
    """What its host takes for itself."""
    confinement: dict[str, str] | None = None
    """What its host is held to: how kept from files and network, most memory, threads."""
    next_try_ms: int | None = None
    """When a load that failed is tried again."""


class Replica(msgspec.Struct, frozen=True, kw_only=True):
    """A running Titlebout as the others see it."""

    id: str
    live: bool
    slots: tuple[SlotStatus, ...]
    epoch: int

    @property
    def ready(self) -> dict[VersionKey, str | None]:
        """The digest of each version that is READY."""
        return {(slot.model, slot.version): slot.digest for slot in self.slots if slot.state == "READY"}


class Rollback(msgspec.Struct, frozen=True, kw_only=True):
    """A way back that was taken."""

    endpoint: str
    model: str
    version: int
    """What the champion alias means again."""
    left: int
    """What it meant before."""
    epoch: int
    """The routing table that answers so."""


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    model: str
    version: int
    author: str
    created_ms: int


class Action(StrEnum):
    """What an entry of the history says was done."""

    ALIAS_SET = "alias_set"
    ALIAS_DELETED = "alias_deleted"
    SPLIT_CHANGED = "split_changed"
    """A period began: by a split, or because something else changed what the arms are."""
    SHADOW_CHANGED = "shadow_changed"
    FALLBACK_CHANGED = "fallback_changed"
    ENDPOINT_RENAMED = "endpoint_renamed"
    ENDPOINT_STOPPED = "endpoint_stopped"
    ENDPOINT_STARTED = "endpoint_started"
    PINNED = "pinned"
    UNPINNED = "unpinned"
    GATE_SET = "gate_set"
    GATE_REMOVED = "gate_removed"
    GATES_OVERRIDDEN = "gates_overridden"
    APPROVED = "approved"
    APPROVAL_WITHDRAWN = "approval_withdrawn"
    LOAD_TESTED = "load_tested"
    MODEL_RENAMED = "model_renamed"
    MODEL_DELETED = "model_deleted"
    VERSION_DELETED = "version_deleted"
    ROLLOUT_STARTED = "rollout_started"
    ROLLOUT_STEPPED = "rollout_stepped"
    ROLLOUT_WAITING = "rollout_waiting"
    ROLLOUT_PAUSED = "rollout_paused"
    ROLLOUT_RESUMED = "rollout_resumed"
    ROLLOUT_PROMOTED = "rollout_promoted"
    ROLLOUT_STOPPED = "rollout_stopped"
    ROLLOUT_ABORTED = "rollout_aborted"
    ROLLOUT_ROLLED_BACK = "rollout_rolled_back"
    ROLLOUT_ENDED = "rollout_ended"


class HistoryEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One change: who made it, when, why, and what followed from what."""

    seq: int
    """Counted from 1, with no gap."""
    at_ms: int
    author: str
    action: str
    """An `Action`; text, since an older replica may read what a newer one wrote."""
    model: str
    """As it was called then."""
    alias: str | None = None
    version: int | None = None
    reason: str | None = None
    details: dict[str, Any]
    hash: str


Comparator = Literal[">=", ">", "<=", "<"]
VerdictAsked = Literal["better", "not_worse"]


class MetricNeeded(msgspec.Struct, frozen=True, tag="metric", tag_field="kind", forbid_unknown_fields=True):
    """The newest value of a metric of the version's run compares so."""

    metric: str
    comparator: Comparator
    value: float


class ApprovalNeeded(msgspec.Struct, frozen=True, tag="approval", tag_field="kind", forbid_unknown_fields=True):
    """So many have approved the version who didn't register it."""

    count: int = 1


class SignatureNeeded(msgspec.Struct, frozen=True, tag="signature", tag_field="kind", forbid_unknown_fields=True):
    """Whoever asks the present champion can ask the version in the same way, and finds in its answers what they did."""


class LoadTestNeeded(msgspec.Struct, frozen=True, tag="load_test", tag_field="kind", forbid_unknown_fields=True):
    """The newest load test of the version's files was passed, so many days ago at most."""

    within_days: int = 14


class VerdictNeeded(msgspec.Struct, frozen=True, tag="comparison", tag_field="kind", forbid_unknown_fields=True):
    """The comparison with the present champion has concluded so by this metric, so many hours ago at most."""

    metric: str
    verdict: VerdictAsked = "better"
    within_hours: int | None = None


Need = MetricNeeded | ApprovalNeeded | SignatureNeeded | LoadTestNeeded | VerdictNeeded


class Gate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What must hold of a version before one of *aliases* means it, or more of the traffic than *share_over_bp* is its.

    Until then it isn't pinned for such a gate either, nor asked for by name (docs/decisions/0025).
    """

    name: str
    needs: Need
    aliases: tuple[str, ...] = (CHAMPION,)
    share_over_bp: int | None = None
    """In basis points; None: shares don't matter."""


class Field(msgspec.Struct, frozen=True):
    """One input, output or param of a version."""

    name: str | None
    """None where a signature gives no names, and goes by positions."""
    type: str
    """MLflow's name of a column's or param's type, or numpy's of a tensor's."""
    shape: tuple[int, ...] | None = None
    """Of a tensor; -1 where any length goes."""
    required: bool = True


class Interface(msgspec.Struct, frozen=True, kw_only=True):
    """What a version takes and gives, by its signature; a side that is empty was left open by the model's author."""

    inputs: tuple[Field, ...] = ()
    outputs: tuple[Field, ...] = ()
    params: tuple[Field, ...] = ()


class Approval(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody's word for a version."""

    author: str
    reason: str | None = None
    created_ms: int


class KeptVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What is concluded of a challenger by one metric, as of when it was last judged."""

    champion: int
    """The version, as is `challenger`."""
    challenger: int
    arm: str
    """The challenger's."""
    metric: str
    from_period: int
    """The first period of the split that counts."""
    verdict: str
    """`better`, `worse` or `not_yet`."""
    reason: str
    alike: bool = False
    """No difference is left to be found."""
    difference: float | None = None
    """Challenger minus champion; None while there is none."""
    lower: float | None = None
    """Of the interval that it lies in, whenever one looks; None: it has no end, as with `upper`."""
    upper: float | None = None
    champion_n: float
    challenger_n: float
    mismatch_p: float
    """The least p-value so far of "requests fall on the arms as the split says", the same for all metrics."""
    judged_ms: int


class LoadTest(msgspec.Struct, frozen=True, kw_only=True):
    """That a version was put under load, and whether it kept what was asked of it."""

    model: str
    version: int
    number: int
    """Of this version's, counted from 1."""
    digest: str
    """Of the version's files, when it was tested."""
    at_ms: int
    author: str
    passed: bool
    against: int | None = None
    """The version that it was compared with."""
