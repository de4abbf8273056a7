"""The tables of the registry: names, versions and aliases, and what routes requests to them (docs/routes.md)."""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    false,
)
from sqlalchemy.orm import Mapped, mapped_column

from tracking.schema import Base


class RegisteredModelRow(Base):
    """A name, and the last number given to a version of it."""

    __tablename__ = "registered_models"

    name: Mapped[str] = mapped_column(String(256), primary_key=True)
    description: Mapped[str | None] = mapped_column(Text)
    # Never lowered, not even when the newest version is deleted: a number in a log keeps meaning one version.
    latest_version: Mapped[int] = mapped_column(Integer, default=0)
    created_ms: Mapped[int] = mapped_column(BigInteger)
    updated_ms: Mapped[int] = mapped_column(BigInteger)


class RegisteredModelTagRow(Base):
    __tablename__ = "registered_model_tags"

    name: Mapped[str] = mapped_column(
        ForeignKey("registered_models.name", ondelete="CASCADE", onupdate="CASCADE"), primary_key=True
    )
    key: Mapped[str] = mapped_column(String(250), primary_key=True)
    value: Mapped[str] = mapped_column(Text, default="")


class ModelVersionRow(Base):
    """An immutable artifact under a number; only its description, stage, tags and status change."""

    __tablename__ = "model_versions"

    name: Mapped[str] = mapped_column(
        ForeignKey("registered_models.name", ondelete="CASCADE", onupdate="CASCADE"), primary_key=True
    )
    version: Mapped[int] = mapped_column(Integer, primary_key=True)
    source: Mapped[str] = mapped_column(Text)
    # The artifact URI that `source` came to when the version was made: `models:/m-…` resolved, never moved later.
    artifact_uri: Mapped[str] = mapped_column(Text)
    # sha256 over the manifest of the model folder; NULL until the files are there and were first read.
    digest: Mapped[str | None] = mapped_column(String(64))
    # As wide as a logged model's source run, which a version takes over.
    run_id: Mapped[str | None] = mapped_column(String(256))
    run_link: Mapped[str | None] = mapped_column(Text)
    model_id: Mapped[str | None] = mapped_column(String(64))
    user_id: Mapped[str | None] = mapped_column(String(256))
    # Who registered it, as they had signed in; `user_id` is whom the client named.
    author: Mapped[str | None] = mapped_column(String(256))
    description: Mapped[str | None] = mapped_column(Text)
    stage: Mapped[str] = mapped_column(String(20), default="None")
    status: Mapped[str] = mapped_column(String(20), default="READY")
    status_message: Mapped[str | None] = mapped_column(Text)
    created_ms: Mapped[int] = mapped_column(BigInteger)
    updated_ms: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (
        Index("ix_model_versions_run_id", "run_id"),
        Index("ix_model_versions_source", "artifact_uri"),
    )


class ModelVersionTagRow(Base):
    __tablename__ = "model_version_tags"

    name: Mapped[str] = mapped_column(String(256), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True)
    key: Mapped[str] = mapped_column(String(250), primary_key=True)
    value: Mapped[str] = mapped_column(Text, default="")

    __table_args__ = (
        ForeignKeyConstraint(
            ["name", "version"],
            ["model_versions.name", "model_versions.version"],
            ondelete="CASCADE",
            onupdate="CASCADE",
        ),
    )


class InterfaceRow(Base):
    """What a version takes and gives, once its files were read."""

    __tablename__ = "model_version_interfaces"

    name: Mapped[str] = mapped_column(String(256), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True)
    # `entities.Interface` as JSON. Beside the version and not in its row, since ten thousand columns take a megabyte.
    content: Mapped[str] = mapped_column(Text)

    __table_args__ = (
        ForeignKeyConstraint(
            ["name", "version"],
            ["model_versions.name", "model_versions.version"],
            ondelete="CASCADE",
            onupdate="CASCADE",
        ),
    )


class VersionSignatureRow(Base):
    """Somebody's word for a version: what one key signed of it."""

    __tablename__ = "model_version_signatures"

    name: Mapped[str] = mapped_column(String(256), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True)
    key_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    # A Sigstore bundle, JSON, as it came.
    bundle: Mapped[str] = mapped_column(Text)
    # Who brought it, which is not who signed it.
    author: Mapped[str] = mapped_column(String(256))
    created_ms: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (
        ForeignKeyConstraint(
            ["name", "version"],
            ["model_versions.name", "model_versions.version"],
            ondelete="CASCADE",
            onupdate="CASCADE",
        ),
    )


class AliasRow(Base):
    """Desired state: which version an alias should mean."""

    __tablename__ = "aliases"

    name: Mapped[str] = mapped_column(
        ForeignKey("registered_models.name", ondelete="CASCADE", onupdate="CASCADE"), primary_key=True
    )
    alias: Mapped[str] = mapped_column(String(256), primary_key=True)
    version: Mapped[int] = mapped_column(Integer)


class EndpointRow(Base):
    """A public name and the model behind it. The id is what is hashed, so a rename moves nobody."""

    __tablename__ = "endpoints"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(256), unique=True)
    model: Mapped[str] = mapped_column(String(256), index=True)
    salt: Mapped[str] = mapped_column(String(32))
    fallback: Mapped[bool] = mapped_column(Boolean, default=False)
    stopped: Mapped[bool] = mapped_column(Boolean, default=False)
    # The champion before the one in the newest epoch, and when it stepped down: it stays warm, and rollback goes to it.
    former_champion: Mapped[int | None] = mapped_column(Integer)
    former_since_ms: Mapped[int | None] = mapped_column(BigInteger)
    created_ms: Mapped[int] = mapped_column(BigInteger)


class SplitRow(Base):
    """The shares of one period. A change adds a row; none is updated."""

    __tablename__ = "splits"

    endpoint_id: Mapped[str] = mapped_column(ForeignKey("endpoints.id", ondelete="CASCADE"), primary_key=True)
    period: Mapped[int] = mapped_column(Integer, primary_key=True)
    # {arm: basis points}, which add up to 10,000; an arm at 0 is dark.
    shares_bp: Mapped[dict[str, int]] = mapped_column(JSON)
    # Arms that were taken out of the split because their alias was deleted, with the share they had.
    dormant_bp: Mapped[dict[str, int]] = mapped_column(JSON, default=dict)
    # Bucket owners in runs, [[arm, how many buckets in a row], …], 10,000 in all.
    owners: Mapped[list[list[Any]]] = mapped_column(JSON)
    reason: Mapped[str] = mapped_column(Text)
    author: Mapped[str] = mapped_column(String(256))
    created_ms: Mapped[int] = mapped_column(BigInteger)
    # Units are assigned by another salt than in the period before.
    reshuffled: Mapped[bool] = mapped_column(Boolean, default=False, server_default=false())


class TallyRow(Base):
    """What was counted of one arm's traffic in one period, to compare arms by: sums, and no request."""

    __tablename__ = "tallies"

    endpoint_id: Mapped[str] = mapped_column(ForeignKey("endpoints.id", ondelete="CASCADE"), primary_key=True)
    # `tallies.Kind` by value.
    kind: Mapped[str] = mapped_column(String(20), primary_key=True)
    period: Mapped[int] = mapped_column(Integer, primary_key=True)
    arm: Mapped[str] = mapped_column(String(256), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)


class ShadowRow(Base):
    """The arm of an endpoint that is asked a copy of what the others answer."""

    __tablename__ = "shadows"

    endpoint_id: Mapped[str] = mapped_column(ForeignKey("endpoints.id", ondelete="CASCADE"), primary_key=True)
    arm: Mapped[str] = mapped_column(String(256))
    share_bp: Mapped[int] = mapped_column(Integer)
    keep_inputs: Mapped[int] = mapped_column(Integer)
    tolerance: Mapped[float] = mapped_column(Float(53))
    author: Mapped[str] = mapped_column(String(256))
    created_ms: Mapped[int] = mapped_column(BigInteger)


class ShadowInputRow(Base):
    """One row that a shadow answered otherwise, which may be somebody's: gone with the shadow."""

    __tablename__ = "shadow_inputs"

    endpoint_id: Mapped[str] = mapped_column(ForeignKey("shadows.endpoint_id", ondelete="CASCADE"), primary_key=True)
    # SHA-256 of the input: asked again, it is kept once.
    fingerprint: Mapped[str] = mapped_column(String(64), primary_key=True)
    # `shadows.KeptInput` as JSON.
    content: Mapped[str] = mapped_column(Text)


class PredictionKeyRow(Base):
    """What ids of predictions are signed with: the one that isn't retired, and those that still prove older ones."""

    __tablename__ = "prediction_keys"

    id: Mapped[str] = mapped_column(String(8), primary_key=True)
    # It leaves the database for the supervisors and workers of replicas, and for nobody else.
    secret: Mapped[bytes] = mapped_column(LargeBinary)
    made_ms: Mapped[int] = mapped_column(BigInteger)
    retired_ms: Mapped[int | None] = mapped_column(BigInteger)


class LabelRow(Base):
    """A prediction that was given a label, or a reward, so that neither counts twice. What was given is in the sums."""

    __tablename__ = "labels"

    # Of the prediction's id; with the row behind it where that says nothing of what was predicted.
    nonce: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    is_reward: Mapped[bool] = mapped_column(Boolean, primary_key=True)
    # Too old, the id is refused, and this row has nothing left to keep from happening.
    predicted_ms: Mapped[int] = mapped_column(BigInteger, index=True)


class WaitingLabelRow(Base):
    """A label of a prediction that its id says nothing of, until the prediction log has been looked through for it."""

    __tablename__ = "waiting_labels"

    # As in `labels`, which has a row for it from now on.
    nonce: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("endpoints.id", ondelete="CASCADE"))
    # Of the prediction, by UTC, as its file is called.
    day: Mapped[str] = mapped_column(String(10))
    prediction_id: Mapped[str] = mapped_column(String(119))
    # NULL if nothing was said of rows.
    row: Mapped[int | None] = mapped_column(Integer)
    at_ms: Mapped[int] = mapped_column(BigInteger)
    # As JSON.
    label: Mapped[str] = mapped_column(Text)
    # Whose sums it goes to: all three, or none where no comparison counts it.
    period: Mapped[int | None] = mapped_column(Integer)
    arm: Mapped[str | None] = mapped_column(String(256))
    version: Mapped[int | None] = mapped_column(Integer)
    cluster: Mapped[int] = mapped_column(Integer)
    since_ms: Mapped[int] = mapped_column(BigInteger)


class FeedbackCountRow(Base):
    """How much feedback an endpoint was given, by what became of it."""

    __tablename__ = "feedback_counts"

    endpoint_id: Mapped[str] = mapped_column(ForeignKey("endpoints.id", ondelete="CASCADE"), primary_key=True)
    # `gateway.feedback.judging.Outcome` by value.
    outcome: Mapped[str] = mapped_column(String(20), primary_key=True)
    count: Mapped[int] = mapped_column(BigInteger)


class VerdictRow(Base):
    """What was concluded of two versions of an endpoint by one metric, the last time that anybody looked."""

    __tablename__ = "verdicts"

    endpoint_id: Mapped[str] = mapped_column(ForeignKey("endpoints.id", ondelete="CASCADE"), primary_key=True)
    champion: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    challenger: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    metric: Mapped[str] = mapped_column(String(50), primary_key=True)
    # The challenger's.
    arm: Mapped[str] = mapped_column(String(256))
    # The first period that counts. A later one begins the comparison anew.
    from_period: Mapped[int] = mapped_column(Integer)
    verdict: Mapped[str] = mapped_column(String(20))
    reason: Mapped[str] = mapped_column(Text)
    alike: Mapped[bool] = mapped_column(Boolean)
    difference: Mapped[float | None] = mapped_column(Float(53))
    # NULL where there is no end.
    lower: Mapped[float | None] = mapped_column(Float(53))
    upper: Mapped[float | None] = mapped_column(Float(53))
    champion_n: Mapped[float] = mapped_column(Float(53))
    challenger_n: Mapped[float] = mapped_column(Float(53))
    # The least so far, the same for all metrics of the two: it never rises.
    mismatch_p: Mapped[float] = mapped_column(Float(53))
    judged_ms: Mapped[int] = mapped_column(BigInteger)


class RolloutRow(Base):
    """A stepped change of an endpoint's split, and how far it is."""

    __tablename__ = "rollouts"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    endpoint_id: Mapped[str] = mapped_column(ForeignKey("endpoints.id", ondelete="CASCADE"), index=True)
    # The endpoint's id while it runs and NULL afterwards: of one endpoint no two run at once.
    running_on: Mapped[str | None] = mapped_column(String(32), unique=True)
    version: Mapped[int] = mapped_column(Integer)
    # `rollout_entities.RolloutState` by value.
    state: Mapped[str] = mapped_column(String(20))
    # `rollouts.Course` as JSON: all that only whoever acts on it reads.
    course: Mapped[str] = mapped_column(Text)
    revision: Mapped[int] = mapped_column(Integer, default=0)
    # Which replica acts on it, and until when by the database's clock.
    actor: Mapped[str | None] = mapped_column(String(64))
    lease_until_ms: Mapped[int] = mapped_column(BigInteger, default=0)
    author: Mapped[str] = mapped_column(String(256))
    created_ms: Mapped[int] = mapped_column(BigInteger)
    updated_ms: Mapped[int] = mapped_column(BigInteger)
    ended_ms: Mapped[int | None] = mapped_column(BigInteger)


class EpochRow(Base):
    """Serving state: one whole routing table, as JSON, and the instant from which it answers."""

    __tablename__ = "epochs"

    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    table: Mapped[str] = mapped_column("routing_table", Text)
    activate_at_ms: Mapped[int] = mapped_column(BigInteger)
    created_ms: Mapped[int] = mapped_column(BigInteger)


class ReplicaRow(Base):
    """One running Titlebout. Live as long as its lease, by the database's clock."""

    __tablename__ = "replicas"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    lease_until_ms: Mapped[int] = mapped_column(BigInteger)
    # What is in memory there, as `entities.SlotStatus`.
    slots: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)
    epoch: Mapped[int] = mapped_column(Integer, default=0)
    started_ms: Mapped[int] = mapped_column(BigInteger)


class PinRow(Base):
    """Somebody's wish to keep a version in memory."""

    __tablename__ = "pins"

    model: Mapped[str] = mapped_column(String(256), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True)
    author: Mapped[str] = mapped_column(String(256))
    created_ms: Mapped[int] = mapped_column(BigInteger)


class GenerationRow(Base):
    """One row, one number, raised with every change that routing depends on: all that a replica polls."""

    __tablename__ = "generation"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    value: Mapped[int] = mapped_column(BigInteger)


class GateRow(Base):
    """What must hold before an alias moves. Without a foreign key: a gate outlives its model."""

    __tablename__ = "gates"

    model: Mapped[str] = mapped_column(String(256), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    # `entities.Gate` as JSON.
    spec: Mapped[str] = mapped_column(Text)
    author: Mapped[str] = mapped_column(String(256))
    created_ms: Mapped[int] = mapped_column(BigInteger)


class ApprovalRow(Base):
    """Somebody's word for a version, which goes with the version."""

    __tablename__ = "approvals"

    name: Mapped[str] = mapped_column(String(256), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True)
    author: Mapped[str] = mapped_column(String(256), primary_key=True)
    reason: Mapped[str | None] = mapped_column(Text)
    created_ms: Mapped[int] = mapped_column(BigInteger)

    __table_args__ = (
        ForeignKeyConstraint(
            ["name", "version"],
            ["model_versions.name", "model_versions.version"],
            ondelete="CASCADE",
            onupdate="CASCADE",
        ),
    )


class LoadTestRow(Base):
    """What a version did under load, which goes with the version."""

    __tablename__ = "load_tests"

    name: Mapped[str] = mapped_column(String(256), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    digest: Mapped[str] = mapped_column(String(64))
    at_ms: Mapped[int] = mapped_column(BigInteger)
    author: Mapped[str] = mapped_column(String(256))
    passed: Mapped[bool] = mapped_column(Boolean)
    against: Mapped[int | None] = mapped_column(Integer)
    # JSON, of a form that its readers know.
    report: Mapped[str] = mapped_column(Text)

    __table_args__ = (
        ForeignKeyConstraint(
            ["name", "version"],
            ["model_versions.name", "model_versions.version"],
            ondelete="CASCADE",
            onupdate="CASCADE",
        ),
    )


class HistoryRow(Base):
    """One change of what is served. Added, and never altered: a trigger refuses it."""

    __tablename__ = "history"

    # Given under the lock of the generation, so that there is no gap.
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at_ms: Mapped[int] = mapped_column(BigInteger)
    author: Mapped[str] = mapped_column(String(256))
    # `entities.Action` by value.
    action: Mapped[str] = mapped_column(String(30))
    # No foreign key: what was done to a model outlives it.
    model: Mapped[str] = mapped_column(String(256))
    alias: Mapped[str | None] = mapped_column(String(256))
    version: Mapped[int | None] = mapped_column(Integer)
    reason: Mapped[str | None] = mapped_column(Text)
    # JSON text, kept to the letter, because it is hashed.
    details: Mapped[str] = mapped_column(Text)
    hash: Mapped[str] = mapped_column(String(64))

    __table_args__ = (Index("ix_history_model", "model", "seq"),)


class WebhookRow(Base):
    """Somebody who wants to be told of changes to the registry."""

    __tablename__ = "webhooks"

    webhook_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    name: Mapped[str] = mapped_column(String(63))
    url: Mapped[str] = mapped_column(Text)
    # `webhook_events.WebhookEvent` by value.
    events: Mapped[list[str]] = mapped_column(JSON)
    description: Mapped[str | None] = mapped_column(Text)
    # Kept as it is, because every delivery is signed with it. It leaves the database for nothing else.
    secret: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(10))
    created_ms: Mapped[int] = mapped_column(BigInteger)
    updated_ms: Mapped[int] = mapped_column(BigInteger)


class WebhookDeliveryRow(Base):
    """The outbox: what is still to be told to one webhook, written in the transaction of the change itself."""

    __tablename__ = "webhook_deliveries"

    # The receiver sees it, the same at every try, and can tell a repetition by it.
    delivery_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    webhook_id: Mapped[str] = mapped_column(ForeignKey("webhooks.webhook_id", ondelete="CASCADE"), index=True)
    event: Mapped[str] = mapped_column(String(64))
    # JSON text of the event's own data.
    data: Mapped[str] = mapped_column(Text)
    tries: Mapped[int] = mapped_column(Integer, default=0)
    # Not before this instant; a replica that takes a delivery puts it into the future for as long as a try may take.
    due_ms: Mapped[int] = mapped_column(BigInteger, default=0, index=True)
    first_tried_ms: Mapped[int | None] = mapped_column(BigInteger)
