"""Every setting, its environment variable, its default and its unit. docs/operations.md lists them; a test compares.

A field ``foo_s`` is read from ``TITLEBOUT_FOO_S``. Some settings are also known by MLflow's own variables, so that a
set-up written for its server starts this one. Options on the command line win over the environment.
"""

import math
import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from loaders.code_policy import CodePolicy
from tracking.encryption import Encryption, S3Encryption
from tracking.errors import InvalidParameter

ENVIRONMENT_PREFIX = "TITLEBOUT_"


class LogFormat(StrEnum):
    JSON = "json"
    TEXT = "text"


class ArtifactMode(StrEnum):
    """How clients reach the artifacts of new experiments."""

    PROXIED = "proxied"
    """Through this server, by ``mlflow-artifacts:`` URIs."""
    DIRECT = "direct"
    """Past it, by the artifact root's own URIs and with credentials of their own."""


class Access(StrEnum):
    """Whether callers have to say who they are."""

    AUTO = "auto"
    """On all addresses but loopback's."""
    REQUIRED = "required"


class Confinement(StrEnum):
    """How model hosts are kept to their own files, and from the network."""

    AUTO = "auto"
    """As far as the kernel can."""
    REQUIRED = "required"
    """Wholly; where the kernel can't, nothing is loaded."""
    OFF = "off"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the program. Bounds carry their unit as the last word of their name."""

    # --- where it listens and keeps things
    host: Annotated[str, Meta(description="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")] = 8080
    data: Annotated[
        str, Meta(min_length=1, description="Folder for the embedded database, artifacts, cache and state.")
    ] = "data"
    database_url: Annotated[
        str, Meta(description="SQLite or PostgreSQL URL; empty means `titlebout.db` in the data folder.")
    ] = ""
    artifact_root: Annotated[
        str, Meta(description="Folder or `s3://bucket/prefix`; empty means `artifacts` in the data folder.")
    ] = ""
    artifact_mode: Annotated[
        ArtifactMode,
        Meta(description="New experiments' artifacts: `proxied` through this server, or `direct` to the root."),
    ] = ArtifactMode.PROXIED
    s3_encryption: Annotated[
        S3Encryption, Meta(description="Encryption at rest asked for on every write to S3: none, AES256 or aws:kms.")
    ] = S3Encryption.AES256
    s3_kms_key_id: Annotated[
        str, Meta(description="Key for `aws:kms`, by id, ARN or alias; empty means the account's own.")
    ] = ""
    workers: Annotated[int, Meta(ge=1, le=64, description="HTTP worker processes.")] = 1
    model: Annotated[
        str, Meta(description="What bare `/invocations` serves: `models:/NAME@ALIAS`; empty means the only endpoint.")
    ] = ""
    migrate: Annotated[bool, Meta(description="Bring a PostgreSQL to this program's tables at start.")] = False

    # --- who may reach it
    access: Annotated[
        Access,
        Meta(description="Who must sign in: auto (everybody but on loopback) or required (everybody)."),
    ] = Access.AUTO
    admin_token: Annotated[
        str, Meta(description="Token of the user `admin`, 32 characters or more; empty: the first start makes one.")
    ] = ""
    session_hours: Annotated[
        int, Meta(ge=1, le=720, description="How long a browser that has signed in may go on.")
    ] = 12
    trusted_proxies: Annotated[
        str, Meta(description="Addresses or networks of proxies that say who is calling, by comma.")
    ] = ""
    user_header: Annotated[
        str,
        Meta(description="Header in which such a proxy names the user, as X-Forwarded-User; empty: it names none."),
    ] = ""
    default_grants: Annotated[
        str,
        Meta(description="What users may do whom a proxy or an issuer vouches for and nobody has added, by comma."),
    ] = ""
    oidc_issuer: Annotated[
        str, Meta(description="URL of an OpenID Connect issuer by whom people sign in; empty means none.")
    ] = ""
    oidc_client_id: Annotated[str, Meta(description="By what name the issuer knows this server.")] = ""
    oidc_client_secret: Annotated[
        str, Meta(description="By what the issuer knows that it is this server; empty for a public client.")
    ] = ""
    oidc_scopes: Annotated[str, Meta(description="What the issuer is asked for, by space.")] = "openid profile email"
    oidc_user_claim: Annotated[
        str, Meta(min_length=1, description="The claim that is a user's name here; `email` must be verified.")
    ] = "email"
    oidc_name: Annotated[
        str, Meta(min_length=1, max_length=60, description="What people call the issuer, for `Sign in with …`.")
    ] = "single sign-on"
    allowed_hosts: Annotated[
        str,
        Meta(description="Names that Host may have, by comma; empty: loopback's, on an open address any IP address."),
    ] = ""
    presigned: Annotated[
        bool, Meta(description="Sign S3 URLs for clients, which then send and take large files past this server.")
    ] = False
    presigned_endpoint_url: Annotated[
        str, Meta(description="Address of S3 as clients see it, for signed URLs; empty means this server's own.")
    ] = ""
    source_prefixes: Annotated[
        str, Meta(description="URI prefixes outside the artifact root that versions may be registered from, by comma.")
    ] = ""
    code_policy: Annotated[
        CodePolicy,
        Meta(description="Formats that run code at load (pickle, .pth, pyfunc): allow, registered, signed or deny."),
    ] = CodePolicy.REGISTERED
    trusted_keys: Annotated[
        str, Meta(description="Folder of the public keys whose signatures count where that is `signed`, or their PEM.")
    ] = ""

    webhook_allow_private: Annotated[
        bool, Meta(description="Let webhooks call private and loopback addresses, and plain http.")
    ] = False

    # --- how models answer
    acceleration: Annotated[
        bool, Meta(description="Answer by a faster predictor than the model's own where it is proven equal.")
    ] = True

    host_confinement: Annotated[
        Confinement,
        Meta(description="Keep models from the network and from other files: auto (as the kernel can), required, off."),
    ] = Confinement.AUTO
    host_threads: Annotated[
        int, Meta(ge=0, description="Threads of one prediction; 0 is OMP_NUM_THREADS, else a choice by flavor.")
    ] = 0

    # --- how arms are compared
    comparison: Annotated[
        bool, Meta(description="Give answers ids for feedback, and count what arms answer, of endpoints with several.")
    ] = True
    slow_s: Annotated[
        float,
        Meta(ge=0, description="Over it an answer counts as slow, for `slow_rate`; 0: none does."),
    ] = 0.0

    # --- what is kept of predictions
    prediction_log_share: Annotated[
        float, Meta(ge=0, le=1, description="Share of predictions that are kept, as Parquet; 0: none are.")
    ] = 0.0
    prediction_log_inputs: Annotated[
        bool, Meta(description="Keep what was asked beside what was answered; it may be personal.")
    ] = False
    prediction_log_days: Annotated[
        int, Meta(ge=1, le=3_650, description="How long what is kept of predictions stays, in days.")
    ] = 30
    prediction_log_file_s: Annotated[
        float, Meta(gt=0, description="How long a worker goes on with one file of kept predictions.")
    ] = 300.0
    prediction_log_file_bytes_max: Annotated[
        int, Meta(ge=1, description="Size of such a file before it is Parquet; then another is begun.")
    ] = 16 * 1024**2
    prediction_log_memory_bytes_max: Annotated[
        int, Meta(ge=1, description="Kept predictions that may wait in a worker to be written; over it, none are kept.")
    ] = 16 * 1024**2
    prediction_log_disk_bytes_max: Annotated[
        int, Meta(ge=1, description="Kept predictions that may wait for the artifact store, in the data folder.")
    ] = 1024**3

    # --- what it says
    log_level: Annotated[
        str,
        Meta(
            pattern="(?i)^(debug|info|warning|error|critical)$",
            description="Python's name of the lowest level that is logged.",
        ),
    ] = "INFO"
    log_format: Annotated[LogFormat, Meta(description="`json`, one object a line, or `text` for people.")] = (
        LogFormat.JSON
    )

    # --- bounds on what comes in
    body_bytes_max: Annotated[int, Meta(ge=1, description="Largest body of a prediction request.")] = 32 * 1024**2
    api_body_bytes_max: Annotated[int, Meta(ge=1, description="Largest body of a tracking or registry call.")] = (
        8 * 1024**2
    )
    artifact_bytes_max: Annotated[int, Meta(ge=1, description="Largest single artifact that may be uploaded.")] = (
        100 * 1024**3
    )
    requests_waiting_max: Annotated[
        int, Meta(ge=1, description="Predictions that may wait for one version in one worker; more are 429.")
    ] = 1024
    shadow_waiting_max: Annotated[
        int, Meta(ge=1, description="Copies that may wait for one endpoint's shadow in one worker; more are dropped.")
    ] = 256
    shadow_bytes_max: Annotated[int, Meta(ge=1, description="Bytes of such copies.")] = 16 * 1024**2
    batch_rows_max: Annotated[
        int, Meta(ge=1, description="Rows of several requests that may go to a model as one message.")
    ] = 4096
    batch_bytes_max: Annotated[int, Meta(ge=1, description="Bytes of such a message.")] = 16 * 1024**2
    frame_bytes_max: Annotated[int, Meta(ge=1, description="Largest message between a worker and a model host.")] = (
        256 * 1024**2
    )
    database_threads: Annotated[int, Meta(ge=1, description="Threads, and connections, a process has for it.")] = 8
    artifact_threads: Annotated[int, Meta(ge=1, description="Uploads and downloads that a worker moves at once.")] = 8

    # --- time
    predict_timeout_s: Annotated[float, Meta(gt=0, description="Longest wait for one prediction; then 504.")] = 60.0
    queue_wait_s: Annotated[
        float,
        Meta(gt=0, description="Longest that a prediction may be expected to wait for its turn; over it 429 at once."),
    ] = 0.5
    host_wait_s: Annotated[
        float, Meta(ge=0, description="Longest wait of a prediction for a version whose process is being replaced.")
    ] = 5.0
    load_timeout_s: Annotated[float, Meta(gt=0, description="Longest load and warm-up of one version.")] = 300.0
    acceleration_timeout_s: Annotated[
        float, Meta(gt=0, description="Longest time to convert a model and prove it; over it its own predict serves.")
    ] = 20.0
    drain_timeout_s: Annotated[float, Meta(gt=0, description="Longest wait for requests in flight at a stop.")] = 30.0
    stop_notice_s: Annotated[
        float,
        Meta(ge=0, description="How long a stop by SIGTERM first says 503 at `/ready` while requests are answered."),
    ] = 0.0
    idle_grace_s: Annotated[
        float, Meta(ge=0, description="How long a worker that ends keeps idle connections, for requests on their way.")
    ] = 5.0
    keep_alive_s: Annotated[
        float,
        Meta(gt=0, description="How long an idle connection is kept; longer than balancers in front keep theirs."),
    ] = 75.0
    poll_interval_s: Annotated[float, Meta(gt=0, description="How often a replica reads the generation.")] = 0.05
    retry_first_s: Annotated[float, Meta(gt=0, description="First pause after a failed load; it doubles.")] = 1.0
    retry_max_s: Annotated[float, Meta(gt=0, description="Longest pause between tries of a failing load.")] = 300.0
    former_champion_warm_s: Annotated[
        float, Meta(ge=0, description="How long a former champion stays in memory, for a quick rollback.")
    ] = 600.0
    feedback_days: Annotated[
        int, Meta(ge=1, le=3_650, description="How old a prediction may be that is given feedback, in days.")
    ] = 30
    comparison_interval_s: Annotated[
        float, Meta(gt=0, description="How often challengers are judged, where anything was counted of them.")
    ] = 5.0

    artifact_idle_timeout_s: Annotated[
        float, Meta(gt=0, description="Longest silence of who sends or takes an artifact; then it is broken off.")
    ] = 60.0

    webhook_timeout_s: Annotated[float, Meta(gt=0, description="Longest wait for a webhook's receiver.")] = 10.0
    webhook_tries_max: Annotated[
        int, Meta(ge=1, description="Tries to tell a webhook of one event; the pause between them doubles.")
    ] = 8

    presigned_url_s: Annotated[
        int, Meta(ge=1, le=604_800, description="Longest life of a signed URL for a whole file, up or down.")
    ] = 300
    presigned_part_url_s: Annotated[
        int, Meta(ge=1, le=604_800, description="Life of the signed URLs for the parts of one upload.")
    ] = 3600

    # --- space
    cache_bytes_max: Annotated[int, Meta(ge=1, description="Disk for fetched model artifacts.")] = 20 * 1024**3
    memory_bytes_max: Annotated[
        int, Meta(ge=0, description="Memory of all model hosts together; 0 is three quarters of the machine's.")
    ] = 0
    host_memory_bytes_max: Annotated[
        int,
        Meta(ge=0, description="Memory of one model host; over it its process is replaced. 0 is that of all hosts."),
    ] = 0

    @property
    def data_dir(self) -> Path:
        return Path(self.data).absolute()

    @property
    def cache_dir(self) -> Path:
        return self.data_dir / "cache"

    @property
    def predictions_dir(self) -> Path:
        """Where kept predictions wait for the artifact store."""
        return self.data_dir / "predictions"

    @property
    def database(self) -> str:
        return self.database_url or f"sqlite:///{self.data_dir / 'titlebout.db'}"

    @property
    def artifacts(self) -> str:
        return self.artifact_root or str(self.data_dir / "artifacts")

    @property
    def switch_lead_ms(self) -> int:
        """From the commit of an epoch to its instant: three polls, so that each replica has read it by then."""
        return int(3 * self.poll_interval_s * 1000)

    @property
    def encryption(self) -> Encryption:
        return Encryption(self.s3_encryption, self.s3_kms_key_id or None)


def environment_name(field: str) -> str:
    return ENVIRONMENT_PREFIX + field.upper()


# Fields whose values are never repeated: credentials, and URLs that may hold some.
_SECRET_ENDINGS = ("_url", "_token", "_password", "_secret")

# MLflow's own variables for the same things; the first that is set counts, ours before them.
MLFLOW_VARIABLES: dict[str, tuple[str, ...]] = {
    "database_url": ("MLFLOW_BACKEND_STORE_URI",),
    "artifact_root": ("MLFLOW_ARTIFACTS_DESTINATION", "MLFLOW_DEFAULT_ARTIFACT_ROOT"),
    "host": ("MLFLOW_HOST",),
    "port": ("MLFLOW_PORT",),
    "workers": ("MLFLOW_WORKERS",),
}


def load_settings(options: Mapping[str, Any] | None = None, environment: Mapping[str, str] = os.environ) -> Settings:
    """Settings from *options* (those that aren't None), else the environment, else the defaults.

    Raises:
        InvalidParameter: naming the variable or option and what was expected of it.
    """
    given: dict[str, Any] = {}
    for field in Settings.__struct_fields__:
        for name in (environment_name(field), *MLFLOW_VARIABLES.get(field, ())):
            if environment.get(name):
                given[field] = _convert(field, environment[name], origin=name)
                break
    if "model" not in given and environment.get("MODEL_NAME"):
        # The guide's way to say which model bare /invocations serves.
        given["model"] = f"models:/{environment['MODEL_NAME']}@{environment.get('MODEL_ALIAS') or 'champion'}"
    for field, value in (options or {}).items():
        if value is not None:
            given[field] = _convert(field, value, origin="--" + field.replace("_", "-"))
    return Settings(**given)


def _convert(field: str, value: Any, *, origin: str) -> Any:
    types = {info.name: info.type for info in msgspec.structs.fields(Settings)}
    if isinstance(value, str):
        value = value.strip()
    try:
        converted = msgspec.convert(value, types[field], strict=False)
    except msgspec.ValidationError as error:
        shown = origin if field.endswith(_SECRET_ENDINGS) else f"{origin}={value!r}"
        raise InvalidParameter(f"{shown} can't be used: {error}") from error
    if converted in {math.inf, -math.inf}:
        raise InvalidParameter(f"{origin}={value!r} can't be used: Expected a finite number")
    return converted
